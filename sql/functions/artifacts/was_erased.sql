-- Told to those who could have read it, and to nobody else: that the operator has erased these bytes.
create or replace function artifacts.was_erased(p_actor uuid, p_ledger_id integer, p_hash bytea) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return exists (select from artifacts.erasures e where e.ledger_id = p_ledger_id and e.artifact_hash = p_hash)
    and artifacts.may_read_related(p_actor, p_ledger_id, p_hash, false);
end $$;
comment on function artifacts.was_erased(uuid, integer, bytea) is
  'true: the operator has erased an upload of this artifact at some time, and p_actor uploaded it, or is the other party of an order that names it, or a verifier. Whether it has come back since is may_read''s to say.';
