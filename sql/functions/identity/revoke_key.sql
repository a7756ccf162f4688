-- Ends a key. An agent revokes its own keys; the operator may revoke any but its own.
create or replace function identity.revoke_key(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key record;
  v_reason text := p_args ->> 'reason';
begin
  if v_reason is null or v_reason not in ('lost', 'compromised', 'retired') then
    return base.refusal('UI102', 'agent', p_ctx.actor_id, 'reason must be lost, compromised or retired');
  end if;
  select k.agent_id, k.purpose, k.revoked_at into v_key from identity.keys k
   where k.key_id = decode(p_args ->> 'key_id', 'hex');
  if not found then
    return base.refusal('UI402', 'agent', p_ctx.actor_id, 'there is no such key');
  end if;
  if v_key.agent_id <> p_ctx.actor_id and not exists (
    select from identity.keys k where k.key_id = p_ctx.key_id and k.purpose = 'operator') then
    return base.refusal('UI302', 'agent', p_ctx.actor_id, 'only its own agent or the operator may revoke a key');
  end if;
  if v_key.purpose in ('operator', 'service', 'receipt', 'verifier') then
    return base.refusal('UI303', 'agent', p_ctx.actor_id, 'the house''s own keys are rotated, not revoked');
  end if;
  if v_key.revoked_at is not null then
    return row('ok', 'agent', v_key.agent_id, jsonb_build_object('key_id', p_args ->> 'key_id', 'exists', true), null)::base.outcome;
  end if;
  update identity.keys k set revoked_at = p_ctx.at, revoked_seq = p_ctx.seq, revoked_reason = v_reason
   where k.key_id = decode(p_args ->> 'key_id', 'hex');
  return row('ok', 'agent', v_key.agent_id, jsonb_build_object('key_id', p_args ->> 'key_id', 'reason', v_reason), null)::base.outcome;
end $$;
comment on function identity.revoke_key(base.command_context, jsonb) is
  'Handler of kind revoke_key. Refuses UI102 reason, UI302 not yours, UI303 house key, UI402 unknown.';
