-- New ids are UUIDv7 near ledger time, so that a partition by id can one day be closed for good.
create or replace function base.id_in_window(p_id uuid, p_at timestamptz) returns boolean
language sql stable parallel safe as $$
  select coalesce(
    substring(p_id::text from 15 for 1) = '7'
    and substring(p_id::text from 20 for 1) in ('8', '9', 'a', 'b')
    and abs(('x' || lpad(replace(substring(p_id::text from 1 for 13), '-', ''), 16, '0'))::bit(64)::bigint
      - (extract(epoch from p_at) * 1000)::bigint) <= 86400000, false)
$$;
comment on function base.id_in_window(uuid, timestamptz) is 'true: a UUIDv7 within 24 hours of the given ledger time. NULL id: false.';
