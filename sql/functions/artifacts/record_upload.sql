-- Remembers who has proven to hold which bytes by uploading them. Upkeep of the erasable store, not a command: time comes
-- from the caller, nothing here is replayed.
-- Whoever sends bytes that an erasure is just about to take has uploaded them after it: that upload stays.
create or replace function artifacts.record_upload(p_actor uuid, p_ledger_id integer, p_hash bytea, p_size_bytes bigint, p_at timestamptz)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_after bigint := coalesce((select max(e.seq) from artifacts.erasures e where e.ledger_id = p_ledger_id and e.artifact_hash = p_hash), 0);
  -- Not by whether a row changed: that would tell of the erasure of somebody else's upload.
  v_was_stored boolean := exists (
    select from artifacts.uploads u
     where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.agent_id = p_actor and u.erased_at is null
       and not exists (select from artifacts.erasures e
                        where e.ledger_id = u.ledger_id and e.artifact_hash = u.artifact_hash and e.seq > u.after_seq
                          and coalesce(e.agent_id, u.agent_id) = u.agent_id));
begin
  if not exists (select from identity.agents a where a.agent_id = p_actor) then
    raise exception using errcode = 'UM405', message = 'only a registered agent may upload artifacts: register first';
  end if;
  insert into artifacts.uploads as u (ledger_id, artifact_hash, agent_id, size_bytes, uploaded_at, after_seq)
  values (p_ledger_id, p_hash, p_actor, p_size_bytes, p_at, v_after)
  on conflict (ledger_id, artifact_hash, agent_id) do update
    set erased_at = null, uploaded_at = excluded.uploaded_at, size_bytes = excluded.size_bytes, after_seq = excluded.after_seq
    where u.erased_at is not null or u.after_seq < excluded.after_seq;
  return not v_was_stored;
end $$;
comment on function artifacts.record_upload(uuid, integer, bytea, bigint, timestamptz) is
  'Records that p_actor uploaded p_size_bytes of hash p_hash (32 bytes). true: new, or back after the erasure of its own upload; false: it had it stored. Raises UM405 for an unregistered actor.';
