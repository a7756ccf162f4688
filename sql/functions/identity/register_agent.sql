-- Registers an agent by its first key. Rust has verified that the request is signed by that very key (proof of possession)
-- and computed key_id and agent_id from it. Grants no money and no purpose beyond buyer, provider and payee.
create or replace function identity.register_agent(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_purpose text := p_args -> 'key' ->> 'purpose';
  v_key_id bytea := decode(p_args -> 'key' ->> 'key_id', 'hex');
  v_agent uuid := (p_args -> 'key' ->> 'agent_id')::uuid;
  v_owner uuid := coalesce((p_args ->> 'beneficial_owner_id')::uuid, v_agent);
  v_old record;
begin
  if v_key_id is distinct from p_ctx.key_id or v_agent is distinct from p_ctx.actor_id then
    return base.refusal('UI204', 'agent', p_ctx.actor_id, 'a registration must be signed by the key that it registers');
  end if;
  if v_purpose is null or v_purpose not in ('buyer', 'provider', 'payee') then
    return base.refusal('UI101', 'agent', p_ctx.actor_id, 'purpose must be buyer, provider or payee');
  end if;
  select k.purpose, k.revoked_at, a.beneficial_owner_id into v_old
    from identity.keys k join identity.agents a on a.agent_id = k.agent_id where k.key_id = v_key_id;
  if found then
    if v_old.purpose <> v_purpose or v_old.beneficial_owner_id <> v_owner then
      return base.refusal('UI501', 'agent', v_agent, format('this key is registered with another %s',
        case when v_old.purpose <> v_purpose then 'purpose' else 'beneficial owner' end));
    end if;
    return row('ok', 'agent', v_agent, jsonb_build_object('agent_id', v_agent, 'key_id', p_args -> 'key' ->> 'key_id',
      'purpose', v_purpose, 'exists', true), null)::base.outcome;
  end if;
  if v_owner <> v_agent and not exists (select from identity.agents a where a.agent_id = v_owner) then
    return base.refusal('UI401', 'agent', v_agent, 'the beneficial owner is not registered: register it first');
  end if;
  insert into identity.agents (agent_id, ledger_id, seq, registered_at, name_commitment, beneficial_owner_id)
  values (v_agent, p_ctx.ledger_id, p_ctx.seq, p_ctx.at, decode(p_args ->> 'name_commitment', 'hex'), v_owner);
  insert into identity.keys (key_id, agent_id, public_key, purpose, ledger_id, seq, valid_from)
  values (v_key_id, v_agent, decode(p_args -> 'key' ->> 'public_key', 'hex'), v_purpose, p_ctx.ledger_id, p_ctx.seq, p_ctx.at);
  return row('ok', 'agent', v_agent, jsonb_build_object('agent_id', v_agent, 'key_id', p_args -> 'key' ->> 'key_id',
    'purpose', v_purpose, 'public_key', p_args -> 'key' ->> 'public_key', 'beneficial_owner_id', v_owner), null)::base.outcome;
end $$;
comment on function identity.register_agent(base.command_context, jsonb) is
  'Handler of kind register_agent. Refuses UI101 purpose, UI204 not self-signed, UI401 unknown owner, UI501 registered otherwise.';
