-- An uploader withdraws its bytes. The store may delete them once nobody else has uploaded the same.
create or replace function artifacts.record_erasure(p_actor uuid, p_ledger_id integer, p_hash bytea, p_at timestamptz) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update artifacts.uploads u set erased_at = p_at
   where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.agent_id = p_actor and u.erased_at is null;
  if not found then
    raise exception using errcode = 'UM407', message = 'this agent has no stored upload of that artifact';
  end if;
  return not exists (select from artifacts.uploads u
                      where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.erased_at is null);
end $$;
comment on function artifacts.record_erasure(uuid, integer, bytea, timestamptz) is
  'Marks p_actor''s upload erased. true: no other agent holds the same bytes, so the store must delete them now. Raises UM407 when there is nothing to erase.';
