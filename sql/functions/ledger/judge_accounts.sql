-- Are the accounts there, of one asset, and open?
create or replace function ledger.judge_accounts(p_asset_id integer, p_debit_asset_id integer, p_credit_asset_id integer,
  p_debit_closed boolean, p_credit_closed boolean) returns text
language sql immutable parallel safe as $$
  select case
    when p_debit_asset_id is null then 'debit_account_not_found'
    when p_credit_asset_id is null then 'credit_account_not_found'
    when p_debit_asset_id <> p_credit_asset_id then 'accounts_must_have_the_same_asset'
    when p_asset_id <> p_debit_asset_id then 'transfer_must_have_the_same_asset_as_accounts'
    when p_debit_closed then 'debit_account_already_closed'
    when p_credit_closed then 'credit_account_already_closed'
    else 'ok' end
$$;
comment on function ledger.judge_accounts(integer, integer, integer, boolean, boolean) is
  'Result as far as existence, asset and closure of the two accounts decide it. NULL asset of an account: it does not exist.';
