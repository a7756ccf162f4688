-- Which of these the store must not have: uploaded once, and withdrawn or erased by everybody since. What no row knows is left
-- alone: after a restore it may be newer than the database.
create or replace function artifacts.unheld(p_ledger_id integer, p_hashes bytea[]) returns setof bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select h.hash from unnest(p_hashes) as h (hash)
   where exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = h.hash)
     and not exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = h.hash and u.erased_at is null)
$$;
comment on function artifacts.unheld(integer, bytea[]) is 'Those of p_hashes that were uploaded once and that nobody holds any more.';
