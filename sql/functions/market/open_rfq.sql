-- Opens an RFQ and invites whom routing chose. With nobody eligible it is still opened: it may expire, and the fill rate
-- must count that.
create or replace function market.open_rfq(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_fault text := market.open_rfq_fault(p_args);
  v_new market.rfqs;
  v_old market.rfqs;
  v_settings market.settings;
  v_refusal base.outcome;
  v_invited uuid[];
begin
  if v_fault is not null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, v_fault);
  end if;
  v_new := row(p_ctx.ledger_id, market.arg_uuid(p_args, 'rfq_id'), p_ctx.actor_id, p_args ->> 'work_class',
    nullif(p_args ->> 'region', ''), market.arg_hex(p_args, 'input_hash', 32), market.arg_int(p_args, 'work_units'),
    market.arg_int(p_args, 'asset_id'), base.parse_amount(p_args ->> 'max_price'), market.arg_int(p_args, 'max_duration_ms'),
    market.arg_uuid(p_args, 'creator_id'), market.arg_uuid(p_args, 'referrer_id'), p_ctx.at,
    p_ctx.at + market.ms(market.arg_int(p_args, 'valid_for_ms')), 'open', p_ctx.seq);
  select * into v_old from market.rfqs r where r.ledger_id = p_ctx.ledger_id and r.rfq_id = v_new.rfq_id;
  if found then
    return market.open_rfq_again(p_ctx, v_old, v_new);
  end if;
  v_refusal := market.open_rfq_refusal(p_ctx, v_new);
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  select * into strict v_settings from market.settings s where s.ledger_id = p_ctx.ledger_id;
  v_new.state := base.move(p_ctx, 'rfq', v_new.rfq_id, '', 'open_rfq');
  insert into market.rfqs select v_new.*;
  with invited as (
    insert into market.rfq_invitations (ledger_id, rfq_id, provider_id, rank)
    select p_ctx.ledger_id, v_new.rfq_id, r.provider_id, r.rank
      from market.route(p_ctx.ledger_id, v_new.rfq_id, v_new.buyer_id, v_new.work_class, v_new.region, v_new.asset_id,
        v_new.work_units, v_new.max_price, least(coalesce(nullif(market.arg_int(p_args, 'max_providers'), 0),
        v_settings.default_providers), v_settings.max_providers)::integer) r
    returning provider_id, rank),
  told as (
    insert into market.feed_events (ledger_id, agent_id, seq, n, kind, subject_id, at)
    select p_ctx.ledger_id, i.provider_id, p_ctx.seq, 1, 'rfq', v_new.rfq_id, p_ctx.at from invited i)
  select coalesce(array_agg(i.provider_id order by i.rank), '{}') into v_invited from invited i;
  return row('ok', 'rfq', v_new.rfq_id, jsonb_build_object('rfq_id', v_new.rfq_id, 'buyer_id', v_new.buyer_id,
    'work_class', v_new.work_class, 'region', v_new.region, 'input_hash', encode(v_new.input_hash, 'hex'),
    'work_units', v_new.work_units::text, 'asset_id', v_new.asset_id, 'max_price', v_new.max_price::text,
    'max_duration_ms', v_new.max_duration_ms, 'creator_id', v_new.creator_id, 'referrer_id', v_new.referrer_id,
    'expires_at_us', base.us(v_new.expires_at), 'invited', to_jsonb(v_invited),
    'transitions', jsonb_build_array(base.transition_fact('rfq', v_new.rfq_id, '', 'open_rfq', v_new.state))),
    v_invited)::base.outcome;
end $$;
comment on function market.open_rfq(base.command_context, jsonb) is
  'Handler of kind open_rfq. Refuses UM101 malformed, UB105 id out of window, UM405 creator or referrer not registered, UM406 unknown asset, UM501 same id with other content. facts.invited lists the invited providers, best first; it may be empty.';

create or replace function market.open_rfq_fault(p_args jsonb) returns text
language plpgsql immutable parallel safe as $$
begin
  return case
    when market.arg_uuid(p_args, 'rfq_id') is null then 'rfq_id must be a UUIDv7'
    when coalesce(p_args ->> 'work_class' !~ '^[a-z0-9][a-z0-9.-]{0,63}$', true) then 'work_class must be 1 to 64 of a-z, 0-9, . and -'
    when market.arg_given(p_args, 'region') and p_args ->> 'region' !~ '^[a-z0-9-]{1,32}$' then 'region must be empty or 1 to 32 of a-z, 0-9 and -'
    when market.arg_hex(p_args, 'input_hash', 32) is null then 'input_hash must be the 32 bytes of the input''s BLAKE3 hash'
    when coalesce(market.arg_int(p_args, 'work_units') < 1, true) then 'work_units must be above 0, at most 18 digits'
    when coalesce(market.arg_int(p_args, 'asset_id') not between 1 and 2147483647, true) then 'asset_id must name an asset'
    when coalesce(base.parse_amount(p_args ->> 'max_price') = 0, true) then 'max_price must be whole minor units above 0, at most 28 digits'
    when coalesce(market.arg_int(p_args, 'valid_for_ms') not between 1 and 3600000, true) then 'valid_for_ms must be 1 to 3600000 (an hour)'
    when coalesce(market.arg_int(p_args, 'max_duration_ms') not between 1 and 86400000, true) then 'max_duration_ms must be 1 to 86400000 (a day)'
    when market.arg_given(p_args, 'creator_id') and market.arg_uuid(p_args, 'creator_id') is null then 'creator_id must be empty or an agent id'
    when market.arg_given(p_args, 'referrer_id') and market.arg_uuid(p_args, 'referrer_id') is null then 'referrer_id must be empty or an agent id'
    when market.arg_given(p_args, 'max_providers') and coalesce(market.arg_int(p_args, 'max_providers') not between 0 and 1000, true)
      then 'max_providers must be 0 (the market''s default) to 1000'
  end;
end $$;
comment on function market.open_rfq_fault(jsonb) is 'What is wrong with the arguments, for a person; NULL: nothing.';

create or replace function market.open_rfq_refusal(p_ctx base.command_context, p_rfq market.rfqs) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not base.id_in_window(p_rfq.rfq_id, p_ctx.at) then
    return base.refusal('UB105', 'agent', p_ctx.actor_id, 'rfq_id must be a UUIDv7 made within 24 hours of now');
  end if;
  if not exists (select from ledger.assets s where s.asset_id = p_rfq.asset_id) then
    return base.refusal('UM406', 'agent', p_ctx.actor_id, format('there is no asset %s', p_rfq.asset_id));
  end if;
  if p_rfq.creator_id is not null and not exists (select from identity.agents a where a.agent_id = p_rfq.creator_id) then
    return base.refusal('UM405', 'agent', p_ctx.actor_id, format('creator %s is not registered', p_rfq.creator_id));
  end if;
  if p_rfq.referrer_id is not null and not exists (select from identity.agents a where a.agent_id = p_rfq.referrer_id) then
    return base.refusal('UM405', 'agent', p_ctx.actor_id, format('referrer %s is not registered', p_rfq.referrer_id));
  end if;
  return null;
end $$;
comment on function market.open_rfq_refusal(base.command_context, market.rfqs) is 'UB105, UM405 or UM406; a NULL outcome: none.';

create or replace function market.open_rfq_again(p_ctx base.command_context, p_old market.rfqs, p_new market.rfqs) returns base.outcome
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
  select case when d.field is null
    then row('ok', 'rfq', p_old.rfq_id, jsonb_build_object('rfq_id', p_old.rfq_id, 'state', p_old.state, 'exists', true), null)::base.outcome
    else base.refusal('UM501', 'agent', p_ctx.actor_id, format('rfq %s exists with another %s', p_old.rfq_id, d.field)) end
  from (select case
    when p_old.buyer_id <> p_new.buyer_id then 'buyer'
    when p_old.work_class <> p_new.work_class then 'work_class'
    when p_old.region is distinct from p_new.region then 'region'
    when p_old.input_hash <> p_new.input_hash then 'input_hash'
    when p_old.work_units <> p_new.work_units then 'work_units'
    when p_old.asset_id <> p_new.asset_id then 'asset_id'
    when p_old.max_price <> p_new.max_price then 'max_price'
    when p_old.expires_at - p_old.opened_at <> p_new.expires_at - p_new.opened_at then 'valid_for_ms'
    when p_old.max_duration_ms <> p_new.max_duration_ms then 'max_duration_ms'
    when p_old.creator_id is distinct from p_new.creator_id then 'creator_id'
    when p_old.referrer_id is distinct from p_new.referrer_id then 'referrer_id' end as field) as d
$$;
comment on function market.open_rfq_again(base.command_context, market.rfqs, market.rfqs) is
  'Same content again: ok with "exists". Other content: UM501, naming the first field that differs (max_providers is not compared: it is not kept).';
