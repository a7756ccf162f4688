-- Whether the store must lose an artifact by what the log says, asked before its uploads are marked: as long as they are
-- not, the work that is left is found again. Bytes that no row knows go at an erasure of everybody's, never at one agent's
-- word for itself: nobody could say that they are its own.
create or replace function artifacts.erases_bytes(p_ledger_id integer, p_hash bytea) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return not exists (
      select from artifacts.uploads u
       where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.erased_at is null
         and not exists (select from artifacts.erasures e
                          where e.ledger_id = u.ledger_id and e.artifact_hash = u.artifact_hash and e.seq > u.after_seq
                            and coalesce(e.agent_id, u.agent_id) = u.agent_id))
    and (exists (select from artifacts.uploads u where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash)
      or exists (select from artifacts.erasures e
                  where e.ledger_id = p_ledger_id and e.artifact_hash = p_hash and e.agent_id is null));
end $$;
comment on function artifacts.erases_bytes(integer, bytea) is
  'true: by the log nobody holds the artifact any more, so its bytes must go; then artifacts.apply_erasure is due.';
