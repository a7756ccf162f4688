-- The newest signed checkpoint.
create or replace function receipts.read_checkpoint(p_ledger_id integer)
returns table (size bigint, root bytea, note text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.size, c.root, c.note from receipts.checkpoints c where c.ledger_id = p_ledger_id order by c.size desc limit 1
$$;
comment on function receipts.read_checkpoint(integer) is 'Public: the newest signed checkpoint of the ledger''s log.';
