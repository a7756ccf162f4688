-- Key of a key id: what signature checks need. Public keys are public.
create or replace function identity.read_key(p_key_id bytea)
returns table (agent_id uuid, public_key bytea, purpose text, revoked boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select k.agent_id, k.public_key, k.purpose, k.revoked_at is not null from identity.keys k where k.key_id = p_key_id
$$;
comment on function identity.read_key(bytea) is 'Public: the agent, public key, purpose and state of a key id.';
