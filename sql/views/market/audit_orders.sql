create or replace view market.audit_orders as
select c.ledger_id, c.order_id, 'order does not match its escrow transfers' as problem,
       format('held %s, in %s; paid %s, to payees %s; refunded %s, to buyer %s; strayed %s', c.held_minor, c.escrow_in_minor, c.paid_minor,
         c.escrow_to_payees_minor, c.refunded_minor, c.escrow_to_buyer_minor, c.strayed_minor) as detail
  from market.order_conservation c
 where c.held_difference_minor <> 0 or c.paid_difference_minor <> 0 or c.refunded_difference_minor <> 0 or c.strayed_minor <> 0
    or c.conservation_difference_minor <> 0
union all
select o.ledger_id, o.order_id, 'escrow account is not this order''s, or holds another balance',
       format('account %s: expected balance %s, found %s', o.escrow_account_id, case when o.closed_at is null then o.held else 0 end,
         a.credits_posted - a.debits_posted)
  from market.orders o left join ledger.accounts a on a.ledger_id = o.ledger_id and a.account_id = o.escrow_account_id
 where a.account_id is null or a.purpose <> 'escrow' or a.ref_id is distinct from o.order_id or a.owner_id is distinct from o.buyer_id
    or a.asset_id <> o.asset_id or a.debits_pending <> 0 or a.credits_pending <> 0
    or a.credits_posted - a.debits_posted <> case when o.closed_at is null then o.held else 0 end
union all
select a.ledger_id, a.ref_id, 'escrow account without an order', format('account %s', a.account_id)
  from ledger.accounts a
 where a.purpose = 'escrow' and not exists (select from market.orders o where o.ledger_id = a.ledger_id and o.escrow_account_id = a.account_id)
union all
select o.ledger_id, o.order_id, 'order differs from its RFQ, offer or ticket',
       format('rfq %s is %s, offer %s is %s', r.rfq_id, r.state, f.offer_id, f.state)
  from market.orders o
  left join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
  left join market.offers f on f.ledger_id = o.ledger_id and f.offer_id = o.offer_id
  left join market.run_tickets t on t.ledger_id = o.ledger_id and t.run_ticket_id = o.run_ticket_id
 where r.state is distinct from 'ordered' or f.state is distinct from 'accepted' or t.order_id is distinct from o.order_id
    or r.buyer_id <> o.buyer_id or f.provider_id <> o.provider_id or f.rfq_id <> o.rfq_id or r.work_units <> o.work_units
    or r.asset_id <> o.asset_id or f.price_per_unit <> o.price_per_unit or o.held > f.price or r.input_hash <> o.input_hash
    or f.provider_key_id <> o.provider_key_id or t.expires_at <> o.ticket_expires_at
union all
select o.ledger_id, o.order_id, 'paid is not billed units at the agreed price',
       format('%s units at %s, held %s, paid %s', o.billed_units, o.price_per_unit, o.held, o.paid)
  from market.orders o
 where o.state = 'settled' and (o.billed_units is null or o.billed_units > o.work_units
    or o.paid <> least(o.billed_units * o.price_per_unit, o.held)
    or o.billed_units > coalesce((select max(m.work_units) from metering.attempts a
         join metering.rows m on m.ledger_id = a.ledger_id and m.attempt_id = a.attempt_id
        where a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id), 0))
union all
select o.ledger_id, o.order_id, 'settled without a settlement, or a settlement without a settled order', format('order is %s', o.state)
  from market.orders o
 where (o.state = 'settled') <> exists (select from splits.settlements s where s.ledger_id = o.ledger_id and s.order_id = o.order_id);
comment on view market.audit_orders is
  'Empty when healthy. Each row names an order that disagrees with its escrow, its RFQ, offer and ticket, its metering or its settlement, and what was expected.';
