-- Which of these the store must not have: uploaded once, and withdrawn or erased by everybody since; or known to no row and
-- erased as such; or uploaded to a ledger that there is not, where no erasure would find it. Whatever else no row knows is
-- left alone: after a restore it may be newer than the database.
create or replace function artifacts.unheld(p_ledger_id integer, p_hashes bytea[]) returns setof bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select h.hash from unnest(p_hashes) as h (hash)
   where case when exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = h.hash)
     then not exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = h.hash and u.erased_at is null)
       or not exists (select from base.ledgers l where l.ledger_id = p_ledger_id)
     else exists (select from artifacts.erasures e
                   where e.ledger_id = p_ledger_id and e.artifact_hash = h.hash and e.agent_id is null)
     end
$$;
comment on function artifacts.unheld(integer, bytea[]) is
  'Those of p_hashes that were uploaded once and that nobody holds any more, that were erased without a row, or that were uploaded to no ledger.';
