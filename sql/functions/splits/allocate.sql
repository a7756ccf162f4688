-- Divides an amount by shares, exactly: the floor of each part first, then one unit each in written order to those with a
-- share, until nothing is left.
create or replace function splits.allocate(p_amount numeric, p_shares_ppm integer[]) returns numeric[]
language plpgsql immutable strict parallel safe security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_parts numeric[] := '{}';
  v_rest numeric := p_amount;
  v_part numeric;
  v_share integer;
  v_n integer := 0;
begin
  foreach v_share in array p_shares_ppm loop
    v_part := div(p_amount * v_share, 1000000);
    v_parts := v_parts || v_part;
    v_rest := v_rest - v_part;
  end loop;
  -- Each floor loses less than one unit, so the rest is smaller than the number of non-zero shares: one pass suffices.
  foreach v_share in array p_shares_ppm loop
    v_n := v_n + 1;
    if v_rest > 0 and v_share > 0 then
      v_parts[v_n] := v_parts[v_n] + 1;
      v_rest := v_rest - 1;
    end if;
  end loop;
  if v_rest <> 0 then
    raise exception using errcode = 'UP902', message = format('shares %s do not divide %s: %s left over', p_shares_ppm, p_amount, v_rest),
      hint = 'The shares must sum to 1,000,000 and the amount be whole and not negative.';
  end if;
  return v_parts;
end $$;
comment on function splits.allocate(numeric, integer[]) is
  'Parts of p_amount (whole minor units) by shares in parts per million that sum to 1,000,000: floor, then +1 in written order, never to a zero share. The parts sum to the amount. Raises UP902 when they cannot.';
