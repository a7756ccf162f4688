-- May this post or void end that hold? NULL kind of the hold: there is no such transfer.
create or replace function ledger.judge_end(p_kind text, p_debit uuid, p_credit uuid, p_asset_id integer, p_amount numeric,
  p_hold_kind text, p_hold_debit uuid, p_hold_credit uuid, p_hold_asset_id integer, p_hold_amount numeric, p_hold_state text,
  p_hold_due boolean) returns text
language sql immutable parallel safe as $$
  select case
    when p_hold_kind is null then 'pending_transfer_not_found'
    when p_hold_kind <> 'pending' then 'pending_transfer_not_pending'
    when p_debit <> p_hold_debit then 'pending_transfer_has_different_debit_account_id'
    when p_credit <> p_hold_credit then 'pending_transfer_has_different_credit_account_id'
    when p_asset_id <> 0 and p_asset_id <> p_hold_asset_id then 'pending_transfer_has_different_asset'
    when p_amount > p_hold_amount then 'exceeds_pending_transfer_amount'
    when p_kind = 'void_pending' and p_amount < p_hold_amount then 'pending_transfer_has_different_amount'
    when p_hold_state = 'posted' then 'pending_transfer_already_posted'
    when p_hold_state = 'voided' then 'pending_transfer_already_voided'
    when p_hold_state = 'expired' or p_hold_due then 'pending_transfer_expired'
    else 'ok' end
$$;
comment on function ledger.judge_end(text, uuid, uuid, integer, numeric, text, uuid, uuid, integer, numeric, text, boolean) is
  'Result of a post or void against its pending transfer.';
