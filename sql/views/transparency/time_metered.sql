create or replace view transparency.time_metered as
with newest as (
  select distinct on (m.ledger_id, m.attempt_id) m.ledger_id, m.attempt_id, m.kernel_ns, m.wall_ns, m.work_units, m.energy_mj,
         m.bytes_in, m.bytes_out, m.attestation_level
    from metering.rows m order by m.ledger_id, m.attempt_id, m.row_seq desc)
select a.ledger_id, r.work_class, n.attestation_level, count(*) as attempts,
       sum(n.kernel_ns::numeric) as kernel_ns, sum(n.wall_ns::numeric) as wall_ns, sum(n.work_units::numeric) as work_units,
       sum(n.energy_mj::numeric) as energy_mj, sum(n.bytes_in::numeric) as bytes_in, sum(n.bytes_out::numeric) as bytes_out,
       round(sum(n.kernel_ns::numeric) / 3600000000000, 9) as kernel_hours,
       round(sum(n.wall_ns::numeric) / 3600000000000, 9) as wall_hours
  from newest n
  join metering.attempts a on a.ledger_id = n.ledger_id and a.attempt_id = n.attempt_id
  join market.orders o on o.ledger_id = a.ledger_id and o.run_ticket_id = a.run_ticket_id
  join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
 group by a.ledger_id, r.work_class, n.attestation_level;
comment on view transparency.time_metered is
  'Accepted metering, the newest row of each attempt (counters are cumulative), by work class and attestation level (0 self-reported, 1 metered, 2 hardware, 3 proven). Includes attempts that were refunded later; quarantined rows never count.';
