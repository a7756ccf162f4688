create or replace view transparency.orders_live as
select o.ledger_id, o.order_id, o.state, o.cause, r.work_class, s.code as asset, o.held as held_minor, o.work_units, o.ordered_at,
       o.ticket_expires_at, o.judge_by, base.us(l.last_time) / 1000 - base.us(o.ordered_at) / 1000 as age_ms
  from market.orders o
  join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
  join ledger.assets s on s.asset_id = o.asset_id
  join base.ledgers l on l.ledger_id = o.ledger_id
 where o.state in ('ordered', 'running', 'reported', 'disputed', 'accepted');
comment on view transparency.orders_live is
  'Orders that are not closed, without their parties. age_ms is measured to the ledger''s newest time, not to the clock.';
