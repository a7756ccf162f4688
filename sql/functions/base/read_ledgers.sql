-- What a client must know before it can ask anything: the ledger, its time, its assets.
create or replace function base.read_ledgers()
returns table (ledger_id integer, name text, origin text, last_seq bigint, last_time timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.ledger_id, l.name, l.origin, l.last_seq, l.last_time from base.ledgers l order by l.ledger_id
$$;
comment on function base.read_ledgers() is 'Public: every ledger with its newest seq and ledger time.';
