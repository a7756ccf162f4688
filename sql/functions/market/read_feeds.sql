-- Feeds of agents, each after a cursor of its own, with what each kind of event needs to become a frame. The cursor is seq: rows
-- of one seq are never parted, so a reader that continues from the last seq it saw has neither gap nor double. Many agents in
-- one call, because whatever commits at once makes news for many, and a call costs more than a row. Pages are short and
-- everything is looked up by key: no plan that walks a whole table is worth a thought, whatever the statistics say.
create or replace function market.read_feeds(p_ledger_id integer, p_actors uuid[], p_afters bigint[], p_limit integer)
returns table (
  agent_id uuid, seq bigint, n smallint, kind text, subject_id uuid, at timestamptz,
  rfq_id uuid, offer_id uuid, order_id uuid, payout_id uuid, state text, cause text, asset_id integer,
  work_class text, region text, work_units bigint, max_price numeric, opened_at timestamptz, expires_at timestamptz,
  max_duration_ms bigint, input_hash bytea, output_hash bytea, provider_id uuid, provider_key_id bytea,
  price_per_unit numeric, price numeric, held numeric, run_ticket_id uuid, issued_at timestamptz, nonce bytea,
  judge_by timestamptz, paid numeric, refunded numeric, earned numeric, amount numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off as $$
#variable_conflict use_column
begin
  return query
  with page as (
    select a.agent_id, f.seq, f.n, f.kind, f.subject_id, f.at
      from unnest(p_actors, p_afters) as a (agent_id, after)
     cross join lateral (select e.seq, e.n, e.kind, e.subject_id, e.at from market.feed_events e
                          where e.ledger_id = p_ledger_id and e.agent_id = a.agent_id and e.seq > a.after
                          order by e.seq fetch first (p_limit) rows with ties) f)
  select p.agent_id, p.seq, p.n, p.kind, p.subject_id, p.at,
    q.rfq_id, f.offer_id, o.order_id, y.payout_id,
    -- What happened is told as of the event; what can still be acted on (rfq, offer, ticket), as it stands now.
    coalesce(m.to_state, o.state, f.state, q.state, y.state),
    case when coalesce(m.to_state, o.state) in ('disputed', 'refunded') then o.cause end,
    coalesce(o.asset_id, q.asset_id, y.asset_id),
    q.work_class, q.region, q.work_units, q.max_price, q.opened_at,
    case p.kind when 'ticket' then t.expires_at when 'offer' then f.expires_at else q.expires_at end,
    q.max_duration_ms, case when p.kind in ('ticket', 'order', 'closed') then o.input_hash end, o.output_hash,
    coalesce(o.provider_id, case when p.kind = 'offer' then f.provider_id end), o.provider_key_id,
    coalesce(o.price_per_unit, case when p.kind = 'offer' then f.price_per_unit end), case when p.kind = 'offer' then f.price end, o.held,
    o.run_ticket_id, t.issued_at, t.nonce, o.judge_by,
    case when p.kind = 'closed' then o.paid end, case when p.kind = 'closed' then o.refunded end,
    case when p.kind = 'closed' then coalesce((select sum(l.amount) from splits.legs l
      where l.ledger_id = p_ledger_id and l.order_id = p.subject_id and l.payee_id = p.agent_id), 0) end,
    y.amount
  from page p
  left join market.orders o on o.ledger_id = p_ledger_id and o.order_id = p.subject_id and p.kind in ('ticket', 'order', 'closed')
  left join market.run_tickets t on t.ledger_id = p_ledger_id and t.run_ticket_id = o.run_ticket_id and p.kind = 'ticket'
  left join market.offers f on f.ledger_id = p_ledger_id and p.kind in ('offer', 'ticket', 'order', 'closed')
   and f.offer_id = case p.kind when 'offer' then p.subject_id else o.offer_id end
  left join market.rfqs q on q.ledger_id = p_ledger_id
   and q.rfq_id = case when p.kind in ('rfq', 'rfq_closed') then p.subject_id else f.rfq_id end
  left join payouts.payouts y on y.ledger_id = p_ledger_id and y.payout_id = p.subject_id and p.kind = 'payout'
  left join lateral (
    select x.to_state from base.transitions x
     where x.ledger_id = p_ledger_id and x.seq = p.seq and x.subject_id = p.subject_id and p.kind in ('order', 'closed', 'payout') order by x.n desc limit 1) m on true
  order by p.agent_id, p.seq, p.n;
end $$;
comment on function market.read_feeds(integer, uuid[], bigint[], integer) is
  'Feed events of each of p_actors, named once, with a seq above its place in p_afters, about p_limit of them for each (a seq is never parted), agent by agent in log order; nothing for an actor that is null. state of rfq, offer and ticket events is the present one, of all others as of the event. Filled by kind: rfq, rfq_closed: the RFQ. offer: its price and expiry, and the RFQ. ticket: everything the signed run ticket states (held is its max_spend, expires_at the ticket''s). order, closed: state and cause as of the event, output_hash, judge_by; closed also paid, refunded and what this agent earned. payout: amount. Amounts in minor units.';
