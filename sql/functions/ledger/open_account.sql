-- Finds or opens the account of a holder. The limit flags come from the purpose, so no caller can open a wallet that may
-- go below zero.
create or replace function ledger.open_account(p_ctx base.command_context, p_asset_id integer, p_purpose text, p_owner uuid, p_ref uuid)
returns uuid
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := ledger.account_id(p_ctx.ledger_id, p_asset_id, p_purpose, p_owner, p_ref);
begin
  -- Looked up first: almost every call finds it, and a speculative insert costs ten times as much.
  perform from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id = v_id;
  if found then
    return v_id;
  end if;
  insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, ref_id,
    debits_must_not_exceed_credits, credits_must_not_exceed_debits, seq, opened_at)
  select p_ctx.ledger_id, v_id, s.asset_id, u.purpose, p_owner, p_ref,
    u.debits_must_not_exceed_credits, u.credits_must_not_exceed_debits, p_ctx.seq, p_ctx.at
  from ledger.account_purposes u, ledger.assets s where u.purpose = p_purpose and s.asset_id = p_asset_id;
  if not found then
    raise exception using errcode = 'UL902', message = format('no account can be opened for purpose %s in asset %s: one of them does not exist',
      coalesce(p_purpose, 'NULL'), coalesce(p_asset_id::text, 'NULL'));
  end if;
  return v_id;
end $$;
comment on function ledger.open_account(base.command_context, integer, text, uuid, uuid) is
  'Id of the account of (asset, purpose, owner, ref), opened when it is the first time. Raises UL902 for an unknown purpose or asset: check them first.';
