-- The other direction of base.us. A double holds whole microseconds exactly up to 2^53 of them (the year 2255); what lies
-- beyond is no moment of any business here.
create or replace function base.from_us(p_us bigint) returns timestamptz
language sql stable parallel safe as $$
  select case when p_us between -9007199254740992 and 9007199254740992 then to_timestamp(0) + p_us * interval '1 microsecond' end
$$;
comment on function base.from_us(bigint) is 'Moment of Unix microseconds, exact; NULL beyond 2^53 of them on either side.';
