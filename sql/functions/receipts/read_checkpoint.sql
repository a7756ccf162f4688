-- The newest signed checkpoint, with the lines of the witnesses that have cosigned it so far.
create or replace function receipts.read_checkpoint(p_ledger_id integer)
returns table (size bigint, root bytea, note text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.size, c.root, c.note || coalesce((select string_agg(s.line, '' order by s.witness)
      from receipts.cosignatures s where s.ledger_id = c.ledger_id and s.size = c.size), '')
    from receipts.checkpoints c where c.ledger_id = p_ledger_id order by c.size desc limit 1
$$;
comment on function receipts.read_checkpoint(integer) is
  'Public: the newest signed checkpoint of a log (0: the forest), with its witnesses'' lines.';
