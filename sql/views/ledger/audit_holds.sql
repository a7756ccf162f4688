-- The fate of each pending transfer, as its hold states it, against the transfers that made and ended it.
create or replace view ledger.audit_holds as
with checked as (
  select coalesce(h.ledger_id, t.ledger_id) as ledger_id, coalesce(h.transfer_id, t.transfer_id) as transfer_id, v.problem, v.found, v.expected
    from ledger.holds h
    full join (select * from ledger.transfers where kind = 'pending') as t on t.ledger_id = h.ledger_id and t.transfer_id = h.transfer_id
    left join ledger.transfers e on e.ledger_id = h.ledger_id and e.transfer_id = h.ended_by
    cross join lateral (values
      ('hold_missing', 'none', 'a hold', h.transfer_id is null),
      ('pending_transfer_missing', 'none', 'a pending transfer', t.transfer_id is null),
      ('debit_account_differs', h.debit_account_id::text, t.debit_account_id::text, h.debit_account_id <> t.debit_account_id),
      ('credit_account_differs', h.credit_account_id::text, t.credit_account_id::text, h.credit_account_id <> t.credit_account_id),
      ('amount_differs', h.amount::text, t.amount::text, h.amount <> t.amount),
      ('timeout_differs', coalesce(h.timeout_at::text, 'never'), coalesce(t.timeout_at::text, 'never'),
        h.transfer_id is not null and t.transfer_id is not null and h.timeout_at is distinct from t.timeout_at),
      ('end_missing', h.ended_by::text, 'a transfer', h.ended_by is not null and e.transfer_id is null),
      ('end_of_another_hold', e.pending_id::text, h.transfer_id::text, e.transfer_id is not null and e.pending_id is distinct from h.transfer_id),
      ('state_differs', h.state, case e.kind when 'post_pending' then 'posted' when 'void_pending' then 'voided' when 'expire_pending' then 'expired' else 'pending' end,
        h.state <> case e.kind when 'post_pending' then 'posted' when 'void_pending' then 'voided' when 'expire_pending' then 'expired' else 'pending' end))
      as v (problem, found, expected, wrong)
   where v.wrong)
select * from checked
union all
select h.ledger_id, h.transfer_id, 'end_not_recorded', h.state, format('%s by %s', e.kind, e.transfer_id)
  from ledger.transfers e
  join ledger.holds h on h.ledger_id = e.ledger_id and h.transfer_id = e.pending_id
 where h.ended_by is distinct from e.transfer_id;
comment on view ledger.audit_holds is
  'Empty when healthy. One row per hold and problem: what was found, what was expected. Pending transfers without a hold, holds that differ from their transfer, ends that are missing, of another hold, of another kind, or not recorded. Reads every transfer.';
