-- The service's word that a provider's live connection came or went. A late "gone" of an older connection must not hide a
-- newer one: only the connection that is on record can end.
create or replace function market.record_presence(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_agent uuid := market.arg_uuid(p_args, 'agent_id');
  v_connection uuid := market.arg_uuid(p_args, 'connection_id');
  v_reachable boolean;
  v_old market.presence;
  v_facts jsonb;
begin
  if v_agent is null or v_connection is null or jsonb_typeof(p_args -> 'reachable') is distinct from 'boolean' then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'agent_id, connection_id and reachable (true or false) are needed');
  end if;
  if not exists (select from identity.agents a where a.agent_id = v_agent) then
    return base.refusal('UM405', 'agent', p_ctx.actor_id, format('agent %s is not registered', v_agent));
  end if;
  v_reachable := (p_args ->> 'reachable')::boolean;
  select * into v_old from market.presence p where p.ledger_id = p_ctx.ledger_id and p.provider_id = v_agent;
  v_facts := jsonb_build_object('agent_id', v_agent, 'reachable', v_reachable, 'connection_id', v_connection);
  if v_old.connection_id = v_connection and v_old.reachable = v_reachable then
    return row('ok', 'agent', v_agent, v_facts || '{"exists": true}', null)::base.outcome;
  end if;
  if not v_reachable and v_old.connection_id is distinct from v_connection then
    return row('ok', 'agent', v_agent, v_facts || '{"stale": true}', null)::base.outcome;
  end if;
  if v_old.provider_id is null then
    insert into market.presence (ledger_id, provider_id, reachable, connection_id, seq, since)
    values (p_ctx.ledger_id, v_agent, v_reachable, v_connection, p_ctx.seq, p_ctx.at);
  else
    update market.presence p set reachable = v_reachable, connection_id = v_connection, seq = p_ctx.seq, since = p_ctx.at
     where p.ledger_id = p_ctx.ledger_id and p.provider_id = v_agent;
  end if;
  insert into market.presence_events (ledger_id, seq, provider_id, reachable, connection_id, at)
  values (p_ctx.ledger_id, p_ctx.seq, v_agent, v_reachable, v_connection, p_ctx.at);
  return row('ok', 'agent', v_agent, v_facts, null)::base.outcome;
end $$;
comment on function market.record_presence(base.command_context, jsonb) is
  'Handler of kind record_presence. A "gone" of a connection that is not the one on record is kept as fact ("stale") and changes nothing. Refuses UM101 malformed, UM405 unknown agent.';
