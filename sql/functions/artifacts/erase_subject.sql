-- Says that contents are erased, for the sake of an agent, an order or an artifact: whose uploads of which bytes. What is
-- still needed is not erased. Replayed like every command, so it judges by the log alone and never looks at uploads: which
-- bytes are whose has been found out before (artifacts.plan_erasure). The operator may erase anybody's; an agent its own
-- uploads only, and is told of nobody else's orders.
-- Its receipt is about the agent that is erased, or about the operator: never about an order, whose own chain of receipts
-- ended when it closed, and judges of evidence know no later step.
create or replace function artifacts.erase_subject(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_kind text := p_args ->> 'subject_kind';
  v_subject uuid := market.arg_uuid(p_args, 'subject_id');
  v_is_operator boolean := exists (select from identity.keys k where k.key_id = p_ctx.key_id and k.purpose = 'operator');
  v_obstacle text[];
begin
  if coalesce(v_kind, '') not in ('agent', 'order', 'artifact') or (v_kind = 'artifact') <> (v_subject is null) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'subject: name an agent, an order, or nobody but the artifact itself');
  end if;
  if jsonb_typeof(p_args -> 'items') is distinct from 'array' or jsonb_array_length(p_args -> 'items') not between 1 and 1000
     or exists (select from jsonb_array_elements(p_args -> 'items') as i (item)
                 where market.arg_hex(i.item, 'artifact_hash', 32) is null
                    or (i.item ->> 'agent_id' is not null and market.arg_uuid(i.item, 'agent_id') is null))
     or exists (select from jsonb_array_elements(p_args -> 'items') as i (item) group by i.item ->> 'artifact_hash' having count(*) > 1) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'items: 1 to 1000 different hashes, each everybody''s or one agent''s upload');
  end if;
  if not v_is_operator and (v_kind <> 'agent' or v_subject <> p_ctx.actor_id
     or exists (select from jsonb_array_elements(p_args -> 'items') as i (item) where market.arg_uuid(i.item, 'agent_id') is distinct from p_ctx.actor_id)) then
    return base.refusal('UM304', 'agent', p_ctx.actor_id, 'an agent erases its own uploads, each item naming itself; only the operator erases others''');
  end if;
  v_obstacle := artifacts.erase_subject_obstacle(p_ctx.ledger_id, v_kind, v_subject, case when v_is_operator then
    (select array_agg(market.arg_hex(i.item, 'artifact_hash', 32)) from jsonb_array_elements(p_args -> 'items') as i (item)) end);
  if v_obstacle is not null then
    return base.refusal(v_obstacle[1], 'agent', p_ctx.actor_id, v_obstacle[2]);
  end if;
  insert into artifacts.erasures (ledger_id, seq, artifact_hash, agent_id, subject_kind, subject_id, at)
  select p_ctx.ledger_id, p_ctx.seq, market.arg_hex(i.item, 'artifact_hash', 32), market.arg_uuid(i.item, 'agent_id'), v_kind, v_subject, p_ctx.at
    from jsonb_array_elements(p_args -> 'items') as i (item);
  return row('ok', 'agent', case v_kind when 'agent' then v_subject else p_ctx.actor_id end,
    jsonb_build_object('subject_kind', v_kind, 'subject_id', v_subject, 'items', jsonb_array_length(p_args -> 'items')), null)::base.outcome;
end $$;
comment on function artifacts.erase_subject(base.command_context, jsonb) is
  'Handler of kind erase_subject (subject_kind, subject_id, items: artifact_hash, agent_id). Refuses UM101 fields, UM304 not its own, UM403 order, UM405 agent, UM608 contents that are still needed.';

-- Nothing is erased while an order may still be executed, judged or settled by it.
create or replace function artifacts.erase_subject_obstacle(p_ledger_id integer, p_kind text, p_subject uuid, p_hashes bytea[]) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_found record;
begin
  if p_kind = 'order' then
    select o.order_id, o.state, o.closed_at is null as live into v_found from market.orders o where o.ledger_id = p_ledger_id and o.order_id = p_subject;
    if not found then
      return array['UM403', 'there is no such order'];
    elsif v_found.live then
      return array['UM608', format('the order is %s: its contents are needed until it is settled or refunded', v_found.state)];
    end if;
  elsif p_kind = 'agent' then
    if not exists (select from identity.agents a where a.agent_id = p_subject) then
      return array['UM405', 'nobody has registered under this id'];
    end if;
    select o.order_id, o.state into v_found from market.orders o
     where o.ledger_id = p_ledger_id and o.closed_at is null and p_subject in (o.buyer_id, o.provider_id) order by o.order_id limit 1;
    if found then
      return array['UM608', format('order %s of this agent is %s: its contents are needed until it is settled or refunded', v_found.order_id, v_found.state)];
    end if;
    select r.rfq_id into v_found from market.rfqs r
     where r.ledger_id = p_ledger_id and r.buyer_id = p_subject and r.state = 'open' order by r.rfq_id limit 1;
    if found then
      return array['UM608', format('RFQ %s of this agent is open: it must be cancelled or run out first', v_found.rfq_id)];
    end if;
  end if;
  select o.order_id, o.state into v_found from market.orders o
   where o.ledger_id = p_ledger_id and o.closed_at is null and (o.input_hash = any (p_hashes) or o.output_hash = any (p_hashes))
   order by o.order_id limit 1;
  if found then
    return array['UM608', format('order %s is %s and names one of these artifacts: it is needed until then', v_found.order_id, v_found.state)];
  end if;
  return null;
end $$;
comment on function artifacts.erase_subject_obstacle(integer, text, uuid, bytea[]) is
  'Code and message of what stands in the way of erasing, or NULL: UM403 no such order, UM405 no such agent, UM608 still needed.';
