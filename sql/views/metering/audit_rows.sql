create or replace view metering.audit_rows as
with chain as (
  select m.*, lag(m.row_seq) over w as before_seq, lag(m.row_hash) over w as before_hash, lag(m.kernel_ns) over w as before_kernel_ns,
         lag(m.wall_ns) over w as before_wall_ns, lag(m.bytes_in) over w as before_bytes_in, lag(m.bytes_out) over w as before_bytes_out,
         lag(m.peak_vram_bytes) over w as before_peak_vram_bytes, lag(m.energy_mj) over w as before_energy_mj,
         lag(m.work_units) over w as before_work_units, lead(m.row_seq) over w is null as newest
    from metering.rows m window w as (partition by m.ledger_id, m.attempt_id order by m.row_seq))
select c.ledger_id, c.attempt_id, c.row_seq, 'the chain is broken' as problem,
       format('prev_hash %s, the row before has %s', encode(c.prev_hash, 'hex'), encode(c.before_hash, 'hex')) as detail
  from chain c
 where (c.before_seq = c.row_seq - 1 and c.prev_hash <> c.before_hash) or (c.row_seq = 0 and c.prev_hash <> decode(repeat('00', 32), 'hex'))
union all
select c.ledger_id, c.attempt_id, c.row_seq, 'a cumulative counter fell', format('work_units %s after %s', c.work_units, c.before_work_units)
  from chain c
 where c.kernel_ns < c.before_kernel_ns or c.wall_ns < c.before_wall_ns or c.bytes_in < c.before_bytes_in or c.bytes_out < c.before_bytes_out
    or c.peak_vram_bytes < c.before_peak_vram_bytes or c.energy_mj < c.before_energy_mj or c.work_units < c.before_work_units
union all
select c.ledger_id, c.attempt_id, c.row_seq, 'more units than ordered, another ticket, or received outside the run',
       format('work_units %s of %s, received %s', c.work_units, o.work_units, c.received_at)
  from chain c
  join metering.attempts a on a.ledger_id = c.ledger_id and a.attempt_id = c.attempt_id
  left join market.orders o on o.ledger_id = a.ledger_id and o.run_ticket_id = a.run_ticket_id
 where o.order_id is null or c.run_ticket_id <> a.run_ticket_id or c.work_units > o.work_units or c.received_at < o.started_at
    or c.received_at > coalesce(o.reported_at, o.closed_at, 'infinity')
union all
select c.ledger_id, c.attempt_id, c.row_seq, 'the newest row is not covered by a signed head', 'head_envelope is missing'
  from chain c
 where c.newest and c.head_envelope is null
   -- A run may end in a row that cannot be believed; its signature covers the accepted rows before it all the same.
   and not exists (select from metering.quarantine q where q.ledger_id = c.ledger_id and q.attempt_id = c.attempt_id
                      and q.seq = c.seq and q.row_seq > c.row_seq and q.head_envelope is not null);
comment on view metering.audit_rows is
  'Empty when healthy. Accepted rows with a broken link, a falling counter, too many units, a wrong ticket or time, or no signature at the end.';
