-- Judges the rows of one run, in order of seq. A lost row heals, because counters are cumulative: a gap is accepted, a
-- link that is there and wrong is not.
create or replace function metering.record_run(p_ctx base.command_context, p_run jsonb, p_tally metering.tally) returns metering.tally
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer := jsonb_array_length(p_run -> 'rows');
  v_signed_from integer := metering.run_signed_from(p_run -> 'rows');
  v_order market.orders;
  v_row metering.rows;
  v_json jsonb;
  v_verdict text;
  v_tally metering.tally := p_tally;
  i integer;
begin
  select * into strict v_order from market.orders o
   where o.ledger_id = p_ctx.ledger_id and o.run_ticket_id = market.arg_uuid(p_run, 'run_ticket_id');
  for i in 0 .. v_count - 1 loop
    v_json := p_run -> 'rows' -> i;
    v_row := row(p_ctx.ledger_id, market.arg_uuid(v_json, 'attempt_id'), market.arg_int(v_json, 'seq'), v_order.run_ticket_id,
      market.arg_hex(v_json, 'prev_hash', 32), market.arg_hex(v_json, 'row_hash', 32), market.arg_int(v_json, 'kernel_ns'),
      market.arg_int(v_json, 'wall_ns'), market.arg_int(v_json, 'bytes_in'), market.arg_int(v_json, 'bytes_out'),
      market.arg_int(v_json, 'peak_vram_bytes'), market.arg_int(v_json, 'energy_mj'), market.arg_int(v_json, 'work_units'),
      market.arg_int(v_json, 'attestation_level'), decode(v_json ->> 'payload', 'hex'),
      case when i = v_count - 1 then decode(p_run ->> 'head_envelope', 'hex') end, p_ctx.seq, p_ctx.at);
    v_verdict := metering.judge_row(v_row, v_order, i >= v_signed_from);
    case v_verdict
      when 'accepted' then v_tally.accepted := v_tally.accepted + 1;
      when 'duplicate' then v_tally.duplicate := v_tally.duplicate + 1;
      when 'other_content' then v_tally.other_content := v_tally.other_content + 1;
      when 'broken_chain' then v_tally.broken_chain := v_tally.broken_chain + 1;
      when 'counter_fell' then v_tally.counter_fell := v_tally.counter_fell + 1;
      when 'over_limit' then v_tally.over_limit := v_tally.over_limit + 1;
      when 'after_cutoff' then v_tally.after_cutoff := v_tally.after_cutoff + 1;
    end case;
    if v_verdict = 'accepted' then
      insert into metering.rows select v_row.*;
    elsif v_verdict <> 'duplicate' then
      insert into metering.quarantine (ledger_id, seq, n, attempt_id, row_seq, row_hash, reason, payload, head_envelope, received_at)
      values (p_ctx.ledger_id, p_ctx.seq, v_tally.other_content + v_tally.broken_chain + v_tally.counter_fell + v_tally.over_limit
        + v_tally.after_cutoff, v_row.attempt_id, v_row.row_seq, v_row.row_hash, v_verdict, v_row.payload, v_row.head_envelope,
        p_ctx.at);
    end if;
  end loop;
  return v_tally;
end $$;
comment on function metering.record_run(base.command_context, jsonb, metering.tally) is
  'Stores or quarantines each row of a well-formed run and adds to the tally.';
