-- The accepted metering of an order, for its buyer, its provider and verifiers.
create or replace function metering.read_rows(p_actor uuid, p_ledger_id integer, p_order_id uuid, p_after_row_seq integer, p_limit integer)
returns table (attempt_id uuid, run_ticket_id uuid, row_seq integer, prev_hash bytea, row_hash bytea, kernel_ns bigint, wall_ns bigint,
  bytes_in bigint, bytes_out bigint, peak_vram_bytes bigint, energy_mj bigint, work_units bigint, attestation_level smallint,
  payload bytea, head_envelope bytea, received_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select r.attempt_id, r.run_ticket_id, r.row_seq, r.prev_hash, r.row_hash, r.kernel_ns, r.wall_ns, r.bytes_in, r.bytes_out,
    r.peak_vram_bytes, r.energy_mj, r.work_units, r.attestation_level, r.payload, r.head_envelope, r.received_at
    from market.orders o
    join metering.attempts a on a.ledger_id = o.ledger_id and a.run_ticket_id = o.run_ticket_id
    join metering.rows r on r.ledger_id = a.ledger_id and r.attempt_id = a.attempt_id and r.row_seq > coalesce(p_after_row_seq, -1)
   where o.ledger_id = p_ledger_id and o.order_id = p_order_id
     and (p_actor in (o.buyer_id, o.provider_id)
       or exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'verifier' and k.revoked_at is null))
   order by r.row_seq limit p_limit;
end $$;
comment on function metering.read_rows(uuid, integer, uuid, integer, integer) is
  'Accepted metering rows of an order after a row_seq (NULL: from the start), in order; only for its buyer, its provider and verifiers. Counters are cumulative; payload is the exact signed MeteringRow.';
