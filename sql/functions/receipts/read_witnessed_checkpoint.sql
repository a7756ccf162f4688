-- The newest checkpoint that a witness has cosigned, with the lines of all that did.
create or replace function receipts.read_witnessed_checkpoint(p_ledger_id integer)
returns table (size bigint, root bytea, note text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.size, c.root, c.note || (select string_agg(s.line, '' order by s.witness)
      from receipts.cosignatures s where s.ledger_id = c.ledger_id and s.size = c.size)
    from receipts.checkpoints c
   where c.ledger_id = p_ledger_id
     and c.size = (select max(s.size) from receipts.cosignatures s where s.ledger_id = p_ledger_id)
$$;
comment on function receipts.read_witnessed_checkpoint(integer) is
  'Public: the newest checkpoint of a log (0: the forest) that a witness cosigned; no row: none is.';
