-- The account of a holder, if it has been opened.
create or replace function ledger.find_account(p_ledger_id integer, p_asset_id integer, p_purpose text, p_owner uuid, p_ref uuid)
returns uuid
language sql stable security invoker parallel safe set search_path = pg_catalog, pg_temp as $$
  select a.account_id from ledger.accounts a
   where a.ledger_id = p_ledger_id and a.account_id = ledger.account_id(p_ledger_id, p_asset_id, p_purpose, p_owner, p_ref)
$$;
comment on function ledger.find_account(integer, integer, text, uuid, uuid) is
  'Id of the account of (asset, purpose, owner, ref); NULL when it was never opened. Raises nothing.';
