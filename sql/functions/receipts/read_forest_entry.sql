-- The leaf that holds a ledger's checkpoint of a size; without a size its newest one.
create or replace function receipts.read_forest_entry(p_ledger_id integer, p_size bigint)
returns table (entry_index bigint, ledger_id integer, size bigint, root bytea, leaf text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.entry_index, e.logged_ledger_id, e.size, e.root, receipts.append_forest_text(b.origin, e.size, e.root)
    from receipts.forest_entries e join base.ledgers b on b.ledger_id = e.logged_ledger_id
   where e.logged_ledger_id = p_ledger_id and (p_size is null or e.size = p_size) order by e.size desc limit 1
$$;
comment on function receipts.read_forest_entry(integer, bigint) is
  'Public: the forest''s leaf of a ledger''s checkpoint of p_size leaves (NULL: the newest); no row: it is not in the forest.';
