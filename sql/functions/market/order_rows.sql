-- Orders as their parties see them: one reading for a single order and for a page of them.
create or replace function market.order_rows(p_actor uuid, p_ledger_id integer, p_order_ids uuid[])
returns table (order_id uuid, rfq_id uuid, offer_id uuid, buyer_id uuid, provider_id uuid, asset_id integer, work_class text,
  price_per_unit numeric, work_units bigint, held numeric, run_ticket_id uuid, attempt_id uuid, input_hash bytea, output_hash bytea,
  state text, cause text, ordered_at timestamptz, ticket_expires_at timestamptz, started_at timestamptz, reported_at timestamptz,
  judge_by timestamptz, judged_at timestamptz, closed_at timestamptz, metered_units bigint, billed_units bigint, paid numeric,
  refunded numeric, earned numeric)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select o.order_id, o.rfq_id, o.offer_id, o.buyer_id, o.provider_id, o.asset_id, r.work_class, o.price_per_unit, o.work_units, o.held,
    o.run_ticket_id, a.attempt_id, o.input_hash, o.output_hash, o.state, o.cause, o.ordered_at, o.ticket_expires_at, o.started_at,
    o.reported_at, o.judge_by, o.judged_at, o.closed_at,
    (select m.work_units from metering.rows m where m.ledger_id = a.ledger_id and m.attempt_id = a.attempt_id order by m.row_seq desc limit 1),
    o.billed_units, o.paid, o.refunded,
    case when o.closed_at is not null then coalesce((select sum(l.amount) from splits.legs l
      where l.ledger_id = o.ledger_id and l.order_id = o.order_id and l.payee_id = p_actor), 0) end
  from market.orders o
  join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
  left join metering.attempts a on a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id
  where o.ledger_id = p_ledger_id and o.order_id = any (p_order_ids) and p_actor in (o.buyer_id, o.provider_id)
  order by o.order_id desc;
end $$;
comment on function market.order_rows(uuid, integer, uuid[]) is 'The orders among p_order_ids that p_actor may see, newest id first.';
