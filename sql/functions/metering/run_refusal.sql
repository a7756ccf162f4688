-- Whether a run's rows can be read at all, belong to its attempt and end in what its head signs.
create or replace function metering.run_refusal(p_ctx base.command_context, p_run jsonb, p_attempt metering.attempts) returns base.outcome
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_row jsonb;
  v_last bigint := -1;
begin
  if market.arg_uuid(p_run, 'run_ticket_id') is distinct from p_attempt.run_ticket_id then
    return base.refusal('UE102', 'order', p_attempt.order_id, 'the run''s run_ticket_id is not its attempt''s');
  elsif coalesce(p_run ->> 'head_envelope' !~ '^([0-9a-f]{2})+$' or length(p_run ->> 'head_envelope') > 8192, true) then
    return base.refusal('UE101', 'order', p_attempt.order_id, 'head_envelope must be 1 to 4096 bytes');
  end if;
  for v_row in select * from jsonb_array_elements(p_run -> 'rows') loop
    if market.arg_uuid(v_row, 'attempt_id') is distinct from p_attempt.attempt_id
       or market.arg_uuid(v_row, 'run_ticket_id') is distinct from p_attempt.run_ticket_id then
      return base.refusal('UE102', 'order', p_attempt.order_id, 'a row names another attempt or run ticket than its run');
    elsif coalesce(market.arg_int(v_row, 'seq') not between 0 and 2147483647, true) then
      return base.refusal('UE101', 'order', p_attempt.order_id, 'seq of a row must be 0 to 2147483647');
    elsif market.arg_int(v_row, 'seq') <= v_last then
      return base.refusal('UE102', 'order', p_attempt.order_id, 'the rows of a run must be in ascending order of seq');
    elsif market.arg_hex(v_row, 'prev_hash', 32) is null or market.arg_hex(v_row, 'row_hash', 32) is null then
      return base.refusal('UE101', 'order', p_attempt.order_id, 'prev_hash and row_hash of a row must be 32 bytes');
    elsif coalesce(v_row ->> 'payload' !~ '^([0-9a-f]{2})+$' or length(v_row ->> 'payload') > 8192, true) then
      return base.refusal('UE101', 'order', p_attempt.order_id, 'payload of a row must be 1 to 4096 bytes');
    elsif coalesce(market.arg_int(v_row, 'attestation_level') not between 0 and 3, true) then
      return base.refusal('UE101', 'order', p_attempt.order_id, 'attestation_level must be 0 to 3');
    -- A NULL among them makes the sum NULL.
    elsif coalesce(0 > least(market.arg_int(v_row, 'kernel_ns'), market.arg_int(v_row, 'wall_ns'), market.arg_int(v_row, 'bytes_in'),
        market.arg_int(v_row, 'bytes_out'), market.arg_int(v_row, 'peak_vram_bytes'), market.arg_int(v_row, 'energy_mj'),
        market.arg_int(v_row, 'work_units')) or market.arg_int(v_row, 'kernel_ns') + market.arg_int(v_row, 'wall_ns')
        + market.arg_int(v_row, 'bytes_in') + market.arg_int(v_row, 'bytes_out') + market.arg_int(v_row, 'peak_vram_bytes')
        + market.arg_int(v_row, 'energy_mj') + market.arg_int(v_row, 'work_units') is null, true) then
      return base.refusal('UE101', 'order', p_attempt.order_id, 'the counters of a row must be whole numbers of at most 18 digits');
    end if;
    v_last := market.arg_int(v_row, 'seq');
  end loop;
  if market.arg_int(p_run -> 'head', 'last_seq') is distinct from v_last
     or p_run -> 'head' ->> 'last_row_hash' is distinct from v_row ->> 'row_hash' then
    return base.refusal('UE103', 'order', p_attempt.order_id, 'the signed head must name the run''s last row');
  end if;
  return null;
end $$;
comment on function metering.run_refusal(base.command_context, jsonb, metering.attempts) is
  'UE101, UE102 or UE103; a NULL outcome: the run is well formed.';
