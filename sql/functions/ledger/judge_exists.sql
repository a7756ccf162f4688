-- The id was posted before: the same content answers exists, anything else names the first field that differs. A balancing
-- transfer's amount was cut to what could be spared, so a retry may ask for as much as the first time or more.
create or replace function ledger.judge_exists(p_item ledger.transfer_input, p_old ledger.transfers, p_hold_amount numeric,
  p_hold_reason text) returns text
language sql immutable parallel safe as $$
  select case
    when p_item.kind <> p_old.kind or coalesce(p_item.flags, 0) <> p_old.flags then 'exists_with_different_flags'
    when p_item.pending_id is distinct from p_old.pending_id then 'exists_with_different_pending_id'
    when p_item.reverses_id is distinct from p_old.reverses_id then 'exists_with_different_reverses_id'
    when coalesce(p_item.timeout_ms, 0) <> coalesce((extract(epoch from p_old.timeout_at - p_old.at) * 1000)::bigint, 0)
      then 'exists_with_different_timeout'
    when p_item.kind in ('plain', 'pending') then case
      when p_item.debit_account_id is distinct from p_old.debit_account_id then 'exists_with_different_debit_account_id'
      when p_item.credit_account_id is distinct from p_old.credit_account_id then 'exists_with_different_credit_account_id'
      when p_old.flags & 3 <> 0 and (p_item.amount < p_old.amount or p_item.amount > 9999999999999999999999999999 or p_item.amount <> trunc(p_item.amount))
        then 'exists_with_different_amount'
      when p_old.flags & 3 = 0 and coalesce(p_item.amount, case when p_old.flags <> 0 then 0 end) is distinct from p_old.amount
        then 'exists_with_different_amount'
      when p_item.asset_id is distinct from p_old.asset_id then 'exists_with_different_asset'
      when p_item.reason is distinct from p_old.reason then 'exists_with_different_reason'
      when nullif(p_item.effective_at, p_old.at) is distinct from p_old.effective_at then 'exists_with_different_effective_at'
      else 'exists' end
    when nullif(p_item.debit_account_id, '00000000-0000-0000-0000-000000000000') <> p_old.debit_account_id
      then 'exists_with_different_debit_account_id'
    when nullif(p_item.credit_account_id, '00000000-0000-0000-0000-000000000000') <> p_old.credit_account_id
      then 'exists_with_different_credit_account_id'
    when coalesce(p_item.amount, p_hold_amount) is distinct from p_old.amount then 'exists_with_different_amount'
    when p_item.asset_id <> 0 and p_item.asset_id <> p_old.asset_id then 'exists_with_different_asset'
    when coalesce(nullif(p_item.reason, ''), p_hold_reason) is distinct from p_old.reason then 'exists_with_different_reason'
    when nullif(p_item.effective_at, p_old.at) is distinct from p_old.effective_at then 'exists_with_different_effective_at'
    else 'exists' end
$$;
comment on function ledger.judge_exists(ledger.transfer_input, ledger.transfers, numeric, text) is
  'exists, or exists_with_different_<first differing field>. Journal, command and linkage belong to the request, not to the transfer, and are not compared.';
