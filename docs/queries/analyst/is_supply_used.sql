-- Offered capacity beside what was metered, per work class.
select s.work_class, sum(s.providers) as providers, sum(s.providers_reachable) as reachable, sum(s.concurrent_orders_reachable) as slots,
       (select sum(m.work_units) from transparency.time_metered m where m.ledger_id = s.ledger_id and m.work_class = s.work_class) as units_metered,
       (select sum(m.wall_hours) from transparency.time_metered m where m.ledger_id = s.ledger_id and m.work_class = s.work_class) as wall_hours
  from transparency.supply s
 group by s.ledger_id, s.work_class
 order by s.work_class;
