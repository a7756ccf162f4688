-- The first command of a ledger: assets, keys, the default split policy, the market's settings. Only as seq 1.
create or replace function base.genesis(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_item jsonb;
  v_agent uuid;
  v_code text;
begin
  if p_ctx.seq <> 1 then
    return base.refusal('UB602', 'agent', p_ctx.actor_id, 'this ledger has had its genesis');
  end if;
  for v_item in select * from jsonb_array_elements(p_args -> 'keys') loop
    v_agent := (v_item ->> 'agent_id')::uuid;
    insert into identity.agents (agent_id, ledger_id, seq, registered_at, beneficial_owner_id)
    values (v_agent, p_ctx.ledger_id, p_ctx.seq, p_ctx.at, v_agent) on conflict do nothing;
    insert into identity.keys (key_id, agent_id, public_key, purpose, ledger_id, seq, valid_from)
    values (decode(v_item ->> 'key_id', 'hex'), v_agent, decode(v_item ->> 'public_key', 'hex'), v_item ->> 'purpose',
      p_ctx.ledger_id, p_ctx.seq, p_ctx.at) on conflict do nothing;
  end loop;
  if not exists (select from identity.keys k where k.key_id = p_ctx.key_id and k.purpose = 'operator') then
    raise exception using errcode = 'UB902', message = 'genesis must be signed by the operator key that it registers';
  end if;
  for v_item in select * from jsonb_array_elements(p_args -> 'assets') loop
    insert into ledger.assets (asset_id, code, scale)
    values ((v_item ->> 'asset_id')::integer, v_item ->> 'code', (v_item ->> 'scale')::smallint) on conflict do nothing;
  end loop;
  insert into market.settings (ledger_id, default_providers, max_providers, acceptance_window_ms, ticket_grace_ms)
  values (p_ctx.ledger_id, 3, 16, 30000, 1000);
  v_code := splits.create_policy(p_ctx, p_args -> 'default_policy');
  if v_code is not null then
    raise exception using errcode = 'UB903', message = 'the default split policy is not valid: ' || v_code;
  end if;
  return row('ok', 'ledger', p_ctx.actor_id, jsonb_build_object('origin', p_args ->> 'origin', 'ledger_id', p_ctx.ledger_id,
    'assets', p_args -> 'assets', 'keys', p_args -> 'keys', 'policy', p_args -> 'default_policy'), null)::base.outcome;
end $$;
comment on function base.genesis(base.command_context, jsonb) is
  'Handler of kind genesis. Refuses UB602 after seq 1; raises UB902, UB903 when the operator''s own input is broken.';
