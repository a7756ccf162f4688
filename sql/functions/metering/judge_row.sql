-- What a signed row counts for, against what is stored of its attempt.
create or replace function metering.judge_row(p_row metering.rows, p_order market.orders, p_signed boolean) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_prev metering.rows;
  v_next metering.rows;
begin
  -- The newest row up to this seq: the same one, or the one before it.
  select * into v_prev from metering.rows r
   where r.ledger_id = p_row.ledger_id and r.attempt_id = p_row.attempt_id and r.row_seq <= p_row.row_seq
   order by r.row_seq desc limit 1;
  if v_prev.row_seq = p_row.row_seq then
    return case when v_prev.row_hash = p_row.row_hash then 'duplicate' else 'other_content' end;
  elsif not p_signed then
    return 'broken_chain';
  elsif p_order.state <> 'running' then
    return 'after_cutoff';
  elsif p_row.row_seq = 0 and p_row.prev_hash <> decode(repeat('00', 32), 'hex') then
    return 'broken_chain';
  elsif v_prev.row_seq = p_row.row_seq - 1 and v_prev.row_hash <> p_row.prev_hash then
    return 'broken_chain';
  elsif metering.counters_fell(v_prev, p_row) then
    return 'counter_fell';
  end if;
  -- A late row that fills a gap must fit what came after it, too.
  select * into v_next from metering.rows r
   where r.ledger_id = p_row.ledger_id and r.attempt_id = p_row.attempt_id and r.row_seq > p_row.row_seq
   order by r.row_seq limit 1;
  if v_next.row_seq = p_row.row_seq + 1 and v_next.prev_hash <> p_row.row_hash then
    return 'broken_chain';
  elsif metering.counters_fell(p_row, v_next) then
    return 'counter_fell';
  elsif p_row.work_units > p_order.work_units then
    return 'over_limit';
  end if;
  return 'accepted';
end $$;
comment on function metering.judge_row(metering.rows, market.orders, boolean) is
  'accepted, duplicate, or the reason for quarantine, in this order: other_content, broken_chain (not covered by the signature), after_cutoff, broken_chain, counter_fell, over_limit.';
