-- Files that a store has and no row explains: an upload that was cut off before it was recorded, or a database that a restore
-- made older than the store. Nobody may read them, and only the operator's erasure of the artifact removes them.
create or replace function artifacts.unknown(p_ledger_id integer, p_hashes bytea[]) returns setof bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select h.hash from unnest(p_hashes) as h (hash)
   where not exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = h.hash)
$$;
comment on function artifacts.unknown(integer, bytea[]) is 'Those of p_hashes that nobody has ever been recorded to have uploaded.';
