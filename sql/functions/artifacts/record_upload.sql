-- Remembers who has proven to hold which bytes by uploading them. Upkeep of the erasable store, not a command: time comes
-- from the caller, nothing here is replayed.
-- Whoever sends bytes that an erasure is just about to take has uploaded them after it: that upload stays.
create or replace function artifacts.record_upload(p_actor uuid, p_ledger_id integer, p_hash bytea, p_size_bytes bigint, p_at timestamptz)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_after bigint := coalesce((select max(e.seq) from artifacts.erasures e where e.ledger_id = p_ledger_id and e.artifact_hash = p_hash), 0);
begin
  if not exists (select from identity.agents a where a.agent_id = p_actor) then
    raise exception using errcode = 'UM405', message = 'only a registered agent may upload artifacts: register first';
  end if;
  insert into artifacts.uploads as u (ledger_id, artifact_hash, agent_id, size_bytes, uploaded_at, after_seq)
  values (p_ledger_id, p_hash, p_actor, p_size_bytes, p_at, v_after)
  on conflict (ledger_id, artifact_hash, agent_id) do update
    set erased_at = null, uploaded_at = excluded.uploaded_at, size_bytes = excluded.size_bytes, after_seq = excluded.after_seq
    where u.erased_at is not null or u.after_seq < excluded.after_seq;
  return found;
end $$;
comment on function artifacts.record_upload(uuid, integer, bytea, bigint, timestamptz) is
  'Records that p_actor uploaded p_size_bytes of hash p_hash (32 bytes). true: new, or back after erasure; false: it was there. Raises UM405 for an unregistered actor.';
