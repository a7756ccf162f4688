-- Leaves of the forest in order, each with its exact data: public, for whoever follows every ledger of this house at once.
create or replace function receipts.read_forest_entries(p_from bigint, p_count integer)
returns table (entry_index bigint, ledger_id integer, size bigint, root bytea, leaf text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.entry_index, e.logged_ledger_id, e.size, e.root, receipts.append_forest_text(b.origin, e.size, e.root)
    from receipts.forest_entries e join base.ledgers b on b.ledger_id = e.logged_ledger_id
   where e.entry_index >= p_from and e.entry_index < p_from + p_count order by e.entry_index
$$;
comment on function receipts.read_forest_entries(bigint, integer) is 'Public: p_count leaves of the forest from p_from on, with their exact data.';
