create or replace view transparency.outcomes as
select o.ledger_id, s.code as asset, o.state, o.cause, count(*) as orders, sum(o.held) as held_minor, sum(o.paid) as paid_minor,
       sum(o.refunded) as refunded_minor,
       round(count(*)::numeric / sum(count(*)) over (partition by o.ledger_id, s.code), 6) as share_of_orders
  from market.orders o join ledger.assets s on s.asset_id = o.asset_id
 group by o.ledger_id, s.code, o.state, o.cause;
comment on view transparency.outcomes is
  'Orders by state and, where disputed or refunded, by cause; amounts in minor units, paid and refunded NULL while open.';
