-- May this transfer take that one back? NULL kind of the reversed one: there is no such transfer.
create or replace function ledger.judge_reversal(p_debit uuid, p_credit uuid, p_amount numeric, p_old_kind text, p_old_debit uuid,
  p_old_credit uuid, p_old_amount numeric, p_already boolean) returns text
language sql immutable parallel safe as $$
  select case
    when p_old_kind is null then 'reversed_transfer_not_found'
    when p_old_kind not in ('plain', 'post_pending') then 'reversed_transfer_not_posted'
    when p_debit <> p_old_credit or p_credit <> p_old_debit then 'reversal_must_mirror_accounts'
    when p_amount <> p_old_amount then 'reversal_has_different_amount'
    when p_already then 'reversed_transfer_already_reversed'
    else 'ok' end
$$;
comment on function ledger.judge_reversal(uuid, uuid, numeric, text, uuid, uuid, numeric, boolean) is
  'Result of a reversal against the transfer that it takes back.';
