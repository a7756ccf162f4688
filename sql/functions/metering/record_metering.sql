-- Stores signed runs of metering rows. Rust has recomputed every row_hash from the row's exact bytes and checked the head's
-- signature by the request's key; here it is judged what the rows may count for. What was signed but cannot be believed is
-- quarantined as evidence and never billed; what was not signed refuses the whole command.
create or replace function metering.record_metering(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_runs jsonb := p_args -> 'runs';
  v_refusal base.outcome;
  v_run jsonb;
  v_tally metering.tally;
  v_attempt metering.attempts;
  v_order_id uuid;
  v_one boolean := true;
  v_attempts jsonb := '{}';
begin
  v_refusal := metering.record_metering_refusal(p_ctx, v_runs);
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  v_tally := row(0, 0, 0, 0, 0, 0, 0);
  for v_run in select r.value from jsonb_array_elements(v_runs) with ordinality as r (value, n) order by r.n loop
    v_tally := metering.record_run(p_ctx, v_run, v_tally);
    select * into strict v_attempt from metering.attempts a
     where a.ledger_id = p_ctx.ledger_id and a.attempt_id = market.arg_uuid(v_run, 'attempt_id');
    v_one := v_one and v_attempt.order_id = coalesce(v_order_id, v_attempt.order_id);
    v_order_id := v_attempt.order_id;
    v_attempts := v_attempts || jsonb_build_object(v_attempt.attempt_id::text, jsonb_build_object('order_id', v_order_id, 'work_units',
      (select r.work_units::text from metering.rows r where r.ledger_id = p_ctx.ledger_id and r.attempt_id = v_attempt.attempt_id
        order by r.row_seq desc limit 1)));
  end loop;
  return row('ok', case when v_one then 'order' else 'agent' end, case when v_one then v_order_id else p_ctx.actor_id end,
    jsonb_build_object('accepted', v_tally.accepted, 'duplicate', v_tally.duplicate, 'quarantined', jsonb_build_object(
      'other_content', v_tally.other_content, 'broken_chain', v_tally.broken_chain, 'counter_fell', v_tally.counter_fell,
      'over_limit', v_tally.over_limit, 'after_cutoff', v_tally.after_cutoff), 'attempts', v_attempts), null)::base.outcome;
end $$;
comment on function metering.record_metering(base.command_context, jsonb) is
  'Handler of kind record_metering. facts count rows accepted, duplicate, and quarantined by reason, and name each attempt''s order and newest work units. Refuses UE101 malformed, UE102 a row names another ticket, attempt or order of rows, UE103 the head is not the last row''s, UE201 bad head signature, UE301 another provider''s attempt, UE401 unknown attempt, UE701 more than 100 runs or 1,000 rows.';

create or replace function metering.record_metering_refusal(p_ctx base.command_context, p_runs jsonb) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_run jsonb;
  v_attempt metering.attempts;
  v_rows integer := 0;
  v_fault base.outcome;
begin
  if jsonb_typeof(p_runs) is distinct from 'array' or jsonb_array_length(p_runs) = 0 then
    return base.refusal('UE101', 'agent', p_ctx.actor_id, 'runs must name at least one run');
  elsif jsonb_array_length(p_runs) > 100 then
    return base.refusal('UE701', 'agent', p_ctx.actor_id, 'at most 100 runs at a time: send the rest in another command');
  end if;
  for v_run in select * from jsonb_array_elements(p_runs) loop
    if jsonb_typeof(v_run -> 'rows') is distinct from 'array' or jsonb_array_length(v_run -> 'rows') = 0 then
      return base.refusal('UE101', 'agent', p_ctx.actor_id, 'each run must have at least one row');
    end if;
    v_rows := v_rows + jsonb_array_length(v_run -> 'rows');
    if v_rows > 1000 then
      return base.refusal('UE701', 'agent', p_ctx.actor_id, 'at most 1000 rows at a time: send the rest in another command');
    elsif v_run -> 'signature_valid' is distinct from 'true' then
      return base.refusal('UE201', 'agent', p_ctx.actor_id, 'a run''s head is not signed by the key that signed the request');
    end if;
    select * into v_attempt from metering.attempts a
     where a.ledger_id = p_ctx.ledger_id and a.attempt_id = market.arg_uuid(v_run, 'attempt_id');
    if not found then
      return base.refusal('UE401', 'agent', p_ctx.actor_id, 'attempt_id names no attempt: start it first');
    elsif v_attempt.provider_id <> p_ctx.actor_id then
      return base.refusal('UE301', 'agent', p_ctx.actor_id, 'only the provider that runs an attempt may meter it');
    end if;
    v_fault := metering.run_refusal(p_ctx, v_run, v_attempt);
    if v_fault.code is not null then
      return v_fault;
    end if;
  end loop;
  return null;
end $$;
comment on function metering.record_metering_refusal(base.command_context, jsonb) is 'The first thing wrong with the runs; a NULL outcome: nothing.';
