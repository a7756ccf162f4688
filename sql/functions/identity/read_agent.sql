-- An agent and its keys, one row per key. Public: ids and public keys are made to be seen, names are not stored.
create or replace function identity.read_agent(p_agent_id uuid)
returns table (agent_id uuid, ledger_id integer, registered_at timestamptz, beneficial_owner_id uuid, key_id bytea,
  public_key bytea, purpose text, valid_from timestamptz, revoked_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select a.agent_id, a.ledger_id, a.registered_at, a.beneficial_owner_id, k.key_id, k.public_key, k.purpose, k.valid_from, k.revoked_at
    from identity.agents a join identity.keys k on k.agent_id = a.agent_id
   where a.agent_id = p_agent_id order by k.valid_from, k.key_id
$$;
comment on function identity.read_agent(uuid) is 'Public: an agent with its keys, one row per key; no row for an unknown agent.';
