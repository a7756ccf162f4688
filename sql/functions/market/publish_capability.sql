-- Publishes, changes or withdraws the provider's ad of one work class. Routing reads only this table, so what an ad says
-- is checked here once. The beneficial owner is the registered one: an ad cannot invent an owner to win diversity.
create or replace function market.publish_capability(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ad jsonb := p_args -> 'ad';
  v_new market.capability_ads;
  v_old market.capability_ads;
  v_owner uuid;
  v_fault text;
begin
  select a.beneficial_owner_id into v_owner from identity.agents a where a.agent_id = p_ctx.actor_id;
  v_fault := market.publish_capability_fault(v_ad, v_owner);
  if v_fault is not null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, v_fault);
  end if;
  v_new := row(p_ctx.ledger_id, p_ctx.actor_id, v_ad ->> 'work_class', p_ctx.key_id, v_ad ->> 'region',
    market.arg_int(v_ad, 'device_count'), v_ad ->> 'device_kind', market.arg_int(v_ad, 'asset_id'),
    base.parse_amount(v_ad ->> 'price_per_unit'), market.arg_int(v_ad, 'max_concurrency'), market.arg_int(v_ad, 'max_work_units'),
    v_owner, (v_ad ->> 'active')::boolean, p_ctx.seq, p_ctx.at);
  if not exists (select from ledger.assets s where s.asset_id = v_new.asset_id) then
    return base.refusal('UM406', 'agent', p_ctx.actor_id, format('there is no asset %s', v_new.asset_id));
  end if;
  select * into v_old from market.capability_ads a
   where a.ledger_id = v_new.ledger_id and a.provider_id = v_new.provider_id and a.work_class = v_new.work_class;
  if not found then
    insert into market.capability_ads select v_new.*;
  else
    update market.capability_ads a set provider_key_id = v_new.provider_key_id, region = v_new.region,
      device_count = v_new.device_count, device_kind = v_new.device_kind, asset_id = v_new.asset_id,
      price_per_unit = v_new.price_per_unit, max_concurrency = v_new.max_concurrency, max_work_units = v_new.max_work_units,
      beneficial_owner_id = v_new.beneficial_owner_id, active = v_new.active, seq = v_new.seq, published_at = v_new.published_at
     where a.ledger_id = v_new.ledger_id and a.provider_id = v_new.provider_id and a.work_class = v_new.work_class;
  end if;
  return row('ok', 'agent', p_ctx.actor_id, jsonb_build_object('provider_id', v_new.provider_id, 'work_class', v_new.work_class,
    'region', v_new.region, 'device_count', v_new.device_count, 'device_kind', v_new.device_kind, 'asset_id', v_new.asset_id,
    'price_per_unit', v_new.price_per_unit::text, 'max_concurrency', v_new.max_concurrency,
    'max_work_units', v_new.max_work_units::text, 'beneficial_owner_id', v_new.beneficial_owner_id, 'active', v_new.active,
    'exists', v_old.provider_id is not null), null)::base.outcome;
end $$;
comment on function market.publish_capability(base.command_context, jsonb) is
  'Handler of kind publish_capability. Refuses UM101 a field is missing or out of bounds, UM406 unknown asset.';

create or replace function market.publish_capability_fault(p_ad jsonb, p_owner uuid) returns text
language plpgsql immutable parallel safe as $$
begin
  return case
    when jsonb_typeof(p_ad) is distinct from 'object' then 'ad is missing'
    when coalesce(p_ad ->> 'work_class' !~ '^[a-z0-9][a-z0-9.-]{0,63}$', true) then 'work_class must be 1 to 64 of a-z, 0-9, . and -'
    when coalesce(p_ad ->> 'region' !~ '^[a-z0-9-]{1,32}$', true) then 'region must be 1 to 32 of a-z, 0-9 and -'
    when coalesce(p_ad ->> 'device_kind' !~ '^[ -~]{1,64}$', true) then 'device_kind must be 1 to 64 printable ASCII characters'
    when coalesce(market.arg_int(p_ad, 'device_count') not between 1 and 1000000, true) then 'device_count must be 1 to 1000000'
    when coalesce(market.arg_int(p_ad, 'asset_id') not between 1 and 2147483647, true) then 'asset_id must name an asset'
    when coalesce(base.parse_amount(p_ad ->> 'price_per_unit') = 0, true) then 'price_per_unit must be whole minor units above 0, at most 28 digits'
    when coalesce(market.arg_int(p_ad, 'max_concurrency') not between 1 and 100000, true) then 'max_concurrency must be 1 to 100000'
    when coalesce(market.arg_int(p_ad, 'max_work_units') < 1, true) then 'max_work_units must be above 0, at most 18 digits'
    when jsonb_typeof(p_ad -> 'active') is distinct from 'boolean' then 'active must be true or false'
    when market.arg_given(p_ad, 'beneficial_owner_id') and market.arg_uuid(p_ad, 'beneficial_owner_id') is distinct from p_owner
      then 'beneficial_owner_id must be empty or the owner that this agent was registered with'
  end;
end $$;
comment on function market.publish_capability_fault(jsonb, uuid) is 'What is wrong with an ad, for a person; NULL: nothing.';
