create or replace view transparency.latency_segments as
with spans as (
  select o.ledger_id, r.opened_at, f.offered_at, o.started_at, o.reported_at, o.judged_at, o.closed_at
    from market.orders o
    join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
    join market.offers f on f.ledger_id = o.ledger_id and f.offer_id = o.offer_id
   where o.state = 'settled'),
ends as (
  select o.ledger_id, count(*) filter (where o.state = 'refunded') as refunded, count(*) as closed
    from market.orders o where o.closed_at is not null group by o.ledger_id)
select s.ledger_id, g.n as segment_n, g.segment, count(*) as orders,
       round(percentile_disc(0.5) within group (order by g.us) / 1000.0, 3) as p50_ms,
       round(percentile_disc(0.95) within group (order by g.us) / 1000.0, 3) as p95_ms,
       round(max(g.us) / 1000.0, 3) as max_ms,
       round(e.refunded::numeric / nullif(e.closed, 0), 6) as failure_rate
  from spans s
  join ends e on e.ledger_id = s.ledger_id
 cross join lateral (values
   (1, 'discover', base.us(s.offered_at) - base.us(s.opened_at)),
   (2, 'contract', base.us(s.started_at) - base.us(s.offered_at)),
   (3, 'execute', base.us(s.reported_at) - base.us(s.started_at)),
   (4, 'verify', base.us(s.judged_at) - base.us(s.reported_at)),
   (5, 'settle', base.us(s.closed_at) - base.us(s.judged_at)),
   (6, 'total', base.us(s.closed_at) - base.us(s.opened_at))) as g (n, segment, us)
 group by s.ledger_id, g.n, g.segment, e.refunded, e.closed;
comment on view transparency.latency_segments is
  'RFQ to settlement of settled orders, by ledger time: discover (RFQ opened to the accepted offer), contract (to the ticket redeemed), execute (to the output reported), verify (to the judgement), settle (to the payables posted), total. p50 and p95 are observed values (percentile_disc), in milliseconds. failure_rate = refunded / closed orders of the ledger, the same on each row. No settled order: no row. Filter simulated calendars by reading base.commands.simulated.';
