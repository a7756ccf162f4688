-- The log's head: what the next checkpoint states.
create or replace function receipts.read_log(p_ledger_id integer)
returns table (size bigint, root bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.size, l.root from receipts.logs l where l.ledger_id = p_ledger_id
$$;
comment on function receipts.read_log(integer) is 'Public: size and root of the ledger''s Merkle log.';
