-- One signature over the last row's hash reaches back only as far as the rows are consecutive and linked.
create or replace function metering.run_signed_from(p_rows jsonb) returns integer
language plpgsql immutable parallel safe security invoker set search_path = pg_catalog, pg_temp as $$
declare
  i integer := jsonb_array_length(p_rows) - 1;
begin
  while i > 0 and market.arg_int(p_rows -> (i - 1), 'seq') = market.arg_int(p_rows -> i, 'seq') - 1
    and p_rows -> (i - 1) ->> 'row_hash' = p_rows -> i ->> 'prev_hash'
  loop
    i := i - 1;
  end loop;
  return i;
end $$;
comment on function metering.run_signed_from(jsonb) is 'Index (from 0) of the first row that the head''s signature covers.';
