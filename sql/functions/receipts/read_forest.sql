-- The forest's name and head: the log over all ledgers' checkpoints.
create or replace function receipts.read_forest()
returns table (origin text, size bigint, root bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select f.origin, l.size, l.root from receipts.forests f join receipts.logs l on l.ledger_id = f.ledger_id
$$;
comment on function receipts.read_forest() is 'Public: name, size and root of the forest; no row: there is none yet.';
