create or replace view market.audit_tickets as
select a.ledger_id, a.attempt_id, a.run_ticket_id, 'attempt does not match its ticket''s order' as problem,
       format('order %s of provider %s; the ticket''s order is %s of provider %s', a.order_id, a.provider_id, o.order_id, o.provider_id) as detail
  from metering.attempts a
  left join market.orders o on o.ledger_id = a.ledger_id and o.run_ticket_id = a.run_ticket_id
 where o.order_id is distinct from a.order_id or o.provider_id is distinct from a.provider_id or o.started_at is distinct from a.started_at
    or a.started_at >= o.ticket_expires_at
union all
select o.ledger_id, null, o.run_ticket_id, 'order has a started state and no attempt', format('order %s is %s', o.order_id, o.state)
  from market.orders o
 where (o.started_at is not null or o.state in ('running', 'reported', 'disputed', 'accepted', 'settled'))
   and not exists (select from metering.attempts a where a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id);
comment on view market.audit_tickets is
  'Empty when healthy. Attempts that do not belong to their ticket''s order or started after it expired, and started orders without an attempt.';
