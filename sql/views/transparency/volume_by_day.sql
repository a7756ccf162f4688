create or replace view transparency.volume_by_day as
select o.ledger_id,
       (o.closed_at at time zone 'UTC')::date as day,
       s.code as asset,
       s.scale,
       r.work_class,
       count(*) filter (where o.state = 'settled') as orders_settled,
       count(*) filter (where o.state = 'refunded') as orders_refunded,
       sum(o.held) as held_minor,
       sum(o.paid) as paid_minor,
       sum(o.refunded) as refunded_minor,
       round(sum(o.paid) / power(10::numeric, s.scale), s.scale) as paid,
       sum(o.billed_units) as work_units_paid,
       round(sum(o.paid) / nullif(sum(o.billed_units), 0), 4) as paid_minor_per_unit
  from market.orders o
  join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
  join ledger.assets s on s.asset_id = o.asset_id
 where o.closed_at is not null
 group by o.ledger_id, day, s.code, s.scale, r.work_class;
comment on view transparency.volume_by_day is
  'Closed orders per UTC day of ledger time, asset and work class. *_minor are whole minor units (divide by 10^scale); paid is in units of the asset. held_minor = paid_minor + refunded_minor. A day without closed orders has no row; paid_minor_per_unit is NULL where no unit was paid.';
