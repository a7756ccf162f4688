-- Every signed metering row of an order's attempt, in quarantine or not, for those who may see its evidence. In the order
-- of the chain; a signature stands on the last row of the run that it covers.
create or replace function receipts.read_evidence_rows(p_actor uuid, p_ledger_id integer, p_order_id uuid)
returns table (row_seq integer, payload bytea, head_envelope bytea, quarantine_reason text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select u.row_seq, u.payload, u.head_envelope, u.reason
    from market.orders o
    join metering.attempts a on a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id
    cross join lateral (
      select r.row_seq, r.payload, r.head_envelope, null::text as reason, r.seq, 0 as n from metering.rows r
       where r.ledger_id = a.ledger_id and r.attempt_id = a.attempt_id
      union all
      select q.row_seq, q.payload, q.head_envelope, q.reason, q.seq, q.n from metering.quarantine q
       where q.ledger_id = a.ledger_id and q.attempt_id = a.attempt_id) u
   where o.ledger_id = p_ledger_id and o.order_id = p_order_id
     and (p_actor in (o.buyer_id, o.provider_id)
       or exists (select from identity.keys k where k.agent_id = p_actor and k.purpose in ('operator', 'verifier') and k.revoked_at is null))
   order by u.row_seq, u.seq, u.n
$$;
comment on function receipts.read_evidence_rows(uuid, integer, uuid) is
  'Exact signed metering rows of an order; quarantine_reason NULL: accepted. Only for its buyer, its provider, the operator and verifiers.';
