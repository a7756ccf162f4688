create or replace view transparency.fill_rate as
select r.ledger_id,
       (r.opened_at at time zone 'UTC')::date as day,
       r.work_class,
       count(*) as rfqs_opened,
       count(*) filter (where r.state = 'ordered') as rfqs_ordered,
       count(*) filter (where r.state = 'expired') as rfqs_expired,
       count(*) filter (where r.state = 'cancelled') as rfqs_cancelled,
       count(*) filter (where r.state = 'open') as rfqs_open,
       count(*) filter (where not exists (select from market.rfq_invitations i
                                           where i.ledger_id = r.ledger_id and i.rfq_id = r.rfq_id)) as rfqs_without_provider,
       round(count(*) filter (where r.state = 'ordered')::numeric
             / nullif(count(*) filter (where r.state in ('ordered', 'expired')), 0), 6) as fill_rate
  from market.rfqs r
 group by r.ledger_id, day, r.work_class;
comment on view transparency.fill_rate is
  'fill_rate = RFQs that became an order / RFQs that were ordered or expired, by UTC day of opening and work class; NULL where none has ended either way. Cancelled RFQs count on neither side. rfqs_without_provider: routing found nobody eligible.';
