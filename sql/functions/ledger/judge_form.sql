-- What can be said of a new item without looking at the books. The amount is judged here, before any cast to numeric(28,0)
-- could round it. p_flags: balancing 3, closing 12; NULL amount: all that can be spared (balancing), nothing (closing).
create or replace function ledger.judge_form(p_item ledger.transfer_input, p_at timestamptz, p_open_from timestamptz) returns text
language sql immutable parallel safe as $$
  select case
    when p_item.kind in ('plain', 'pending') then case
      when p_item.debit_account_id is null or p_item.debit_account_id = '00000000-0000-0000-0000-000000000000' then 'debit_account_id_must_not_be_zero'
      when p_item.debit_account_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' then 'debit_account_id_must_not_be_int_max'
      when p_item.credit_account_id is null or p_item.credit_account_id = '00000000-0000-0000-0000-000000000000' then 'credit_account_id_must_not_be_zero'
      when p_item.credit_account_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' then 'credit_account_id_must_not_be_int_max'
      when p_item.debit_account_id = p_item.credit_account_id then 'accounts_must_be_different'
      when p_item.pending_id is not null then 'pending_id_must_be_zero'
      when p_item.kind = 'plain' and p_item.timeout_ms <> 0 then 'timeout_reserved_for_pending_transfer'
      when p_item.kind = 'plain' and p_item.flags & 12 <> 0 then 'closing_transfer_must_be_pending'
      when p_item.timeout_ms < 0 then 'timeout_must_not_be_negative'
      when p_item.timeout_ms > 0 and p_item.flags & 12 <> 0 then 'closing_transfer_must_not_time_out'
      when p_item.reverses_id is not null and p_item.kind <> 'plain' then 'reversal_must_be_plain'
      when p_item.reverses_id is not null and p_item.flags <> 0 then 'flags_are_mutually_exclusive'
      when p_item.reverses_id = p_item.transfer_id then 'reverses_id_must_be_different'
      when p_item.amount is null and coalesce(p_item.flags, 0) = 0 then 'amount_must_not_be_zero'
      when p_item.amount = 0 and coalesce(p_item.flags, 0) & 12 = 0 then 'amount_must_not_be_zero'
      when p_item.amount = 'NaN' or p_item.amount <> trunc(p_item.amount) then 'amount_must_be_whole'
      when p_item.amount < 0 then 'amount_must_not_be_negative'
      when p_item.amount > 9999999999999999999999999999 then 'overflows_amount'
      when p_item.asset_id is null or p_item.asset_id = 0 then 'asset_must_not_be_zero'
      when p_item.reason is null or p_item.reason = '' then 'reason_must_not_be_empty'
      when p_item.effective_at is not null and p_item.kind <> 'plain' then 'effective_at_reserved_for_posting'
      when p_item.effective_at > p_at then 'effective_at_must_not_advance'
      when p_item.effective_at < p_open_from then 'effective_at_in_closed_period'
      else 'ok' end
    when p_item.flags <> 0 then 'flags_are_mutually_exclusive'
    when p_item.pending_id is null or p_item.pending_id = '00000000-0000-0000-0000-000000000000' then 'pending_id_must_not_be_zero'
    when p_item.pending_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' then 'pending_id_must_not_be_int_max'
    when p_item.pending_id = p_item.transfer_id then 'pending_id_must_be_different'
    when p_item.timeout_ms <> 0 then 'timeout_reserved_for_pending_transfer'
    when p_item.reverses_id is not null then 'reversal_must_be_plain'
    when p_item.amount = 0 then 'amount_must_not_be_zero'
    when p_item.amount = 'NaN' or p_item.amount <> trunc(p_item.amount) then 'amount_must_be_whole'
    when p_item.amount < 0 then 'amount_must_not_be_negative'
    when p_item.amount > 9999999999999999999999999999 then 'overflows_amount'
    when p_item.effective_at is not null and p_item.kind <> 'post_pending' then 'effective_at_reserved_for_posting'
    when p_item.effective_at > p_at then 'effective_at_must_not_advance'
    when p_item.effective_at < p_open_from then 'effective_at_in_closed_period'
    else 'ok' end
$$;
comment on function ledger.judge_form(ledger.transfer_input, timestamptz, timestamptz) is
  'Result of a new item as far as its own fields, ledger time and the end of the last closed period decide it; ok: go on.';
