-- What a verifier must know to judge an order's output: which artifacts, how much was ordered, how much was claimed.
-- Rows in quarantine are part of the case: they were signed, and a claim beyond the ticket is a finding of its own.
create or replace function market.read_case(p_actor uuid, p_ledger_id integer, p_order_id uuid)
returns table (order_id uuid, state text, cause text, work_class text, work_units bigint, input_hash bytea, output_hash bytea,
  metered_units bigint, over_limit_rows bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select o.order_id, o.state, o.cause, r.work_class, o.work_units, o.input_hash, o.output_hash,
    (select m.work_units from metering.rows m where m.ledger_id = a.ledger_id and m.attempt_id = a.attempt_id order by m.row_seq desc limit 1),
    (select count(*) from metering.quarantine q where q.ledger_id = a.ledger_id and q.attempt_id = a.attempt_id and q.reason = 'over_limit')
    from market.orders o
    join market.rfqs r on r.ledger_id = o.ledger_id and r.rfq_id = o.rfq_id
    left join metering.attempts a on a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id
   where o.ledger_id = p_ledger_id and o.order_id = p_order_id
     and exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'verifier' and k.revoked_at is null);
end $$;
comment on function market.read_case(uuid, integer, uuid) is
  'An order as its judge needs it; only for verifiers. metered_units: newest accepted metering row, NULL without one. over_limit_rows: signed rows in quarantine that claim more than the ticket allows.';
