-- Nothing was told about a period after it had been closed, and periods were closed one after the other. What carries no
-- event time of its own happened when it was recorded, and no period is closed ahead of ledger time.
create or replace view ledger.audit_periods as
select t.ledger_id, p.ends_at, 'told_after_closing' as problem, t.transfer_id::text as found, format('none before it after command %s', p.seq) as expected
  from ledger.transfers t
  join ledger.periods p on p.ledger_id = t.ledger_id and p.seq < t.seq and t.effective_at < p.ends_at
union all
select q.ledger_id, q.ends_at, 'closed_out_of_order', q.seq::text, format('after command %s', q.before)
  from (select p.ledger_id, p.ends_at, p.seq, lag(p.seq) over (partition by p.ledger_id order by p.ends_at) as before from ledger.periods p) as q
 where q.seq <= q.before;
comment on view ledger.audit_periods is
  'Empty when healthy. One row per transfer that was recorded after the closing of the period that its event time is in, and per period that was closed before an earlier one. Reads every transfer.';
