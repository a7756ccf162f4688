-- An invited provider's offer. It never outlives its RFQ, so that the RFQ's timer cannot cut a valid offer short.
create or replace function market.submit_offer(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'offer_id');
  v_rfq_id uuid := market.arg_uuid(p_args, 'rfq_id');
  v_unit numeric := base.parse_amount(p_args ->> 'price_per_unit');
  v_valid_ms bigint := market.arg_int(p_args, 'valid_for_ms');
  v_rfq market.rfqs;
  v_old market.offers;
  v_expires timestamptz;
  v_state text;
begin
  if v_id is null or v_rfq_id is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'offer_id and rfq_id must be uuids');
  elsif coalesce(v_unit = 0, true) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'price_per_unit must be whole minor units above 0, at most 28 digits');
  elsif coalesce(v_valid_ms not between 1 and 3600000, true) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'valid_for_ms must be 1 to 3600000 (an hour)');
  end if;
  select * into v_rfq from market.rfqs r where r.ledger_id = p_ctx.ledger_id and r.rfq_id = v_rfq_id;
  if not found then
    return base.refusal('UM401', 'agent', p_ctx.actor_id, format('there is no RFQ %s', v_rfq_id));
  end if;
  if not exists (select from market.rfq_invitations i
                  where i.ledger_id = p_ctx.ledger_id and i.rfq_id = v_rfq_id and i.provider_id = p_ctx.actor_id) then
    return base.refusal('UM302', 'agent', p_ctx.actor_id, 'this provider was not invited to the RFQ');
  end if;
  select * into v_old from market.offers o where o.ledger_id = p_ctx.ledger_id and o.offer_id = v_id;
  if not found then
    select * into v_old from market.offers o
     where o.ledger_id = p_ctx.ledger_id and o.rfq_id = v_rfq_id and o.provider_id = p_ctx.actor_id;
  end if;
  if found then
    return market.submit_offer_again(p_ctx, v_old, v_id, v_rfq_id, v_unit, least(v_old.offered_at + market.ms(v_valid_ms), v_rfq.expires_at));
  elsif not base.id_in_window(v_id, p_ctx.at) then
    return base.refusal('UB105', 'agent', p_ctx.actor_id, 'offer_id must be a UUIDv7 made within 24 hours of now');
  elsif v_rfq.state <> 'open' then
    return base.refusal('UM601', 'rfq', v_rfq_id, format('the RFQ is %s', v_rfq.state));
  elsif p_ctx.at >= v_rfq.expires_at then
    return base.refusal('UM607', 'rfq', v_rfq_id, 'the RFQ has expired');
  elsif v_unit * v_rfq.work_units > v_rfq.max_price then
    return base.refusal('UM703', 'rfq', v_rfq_id, format('%s for the whole order is above the RFQ''s max_price of %s',
      v_unit * v_rfq.work_units, v_rfq.max_price));
  end if;
  v_expires := least(p_ctx.at + market.ms(v_valid_ms), v_rfq.expires_at);
  v_state := base.move(p_ctx, 'offer', v_id, '', 'submit_offer');
  insert into market.offers (ledger_id, offer_id, rfq_id, provider_id, provider_key_id, price_per_unit, price, offered_at, expires_at, state, seq)
  values (p_ctx.ledger_id, v_id, v_rfq_id, p_ctx.actor_id, p_ctx.key_id, v_unit, v_unit * v_rfq.work_units, p_ctx.at, v_expires, v_state, p_ctx.seq);
  perform market.tell(p_ctx, v_rfq.buyer_id, 1::smallint, 'offer', v_id);
  return row('ok', 'rfq', v_rfq_id, jsonb_build_object('offer_id', v_id, 'rfq_id', v_rfq_id, 'provider_id', p_ctx.actor_id,
    'price_per_unit', v_unit::text, 'price', (v_unit * v_rfq.work_units)::text, 'expires_at_us', base.us(v_expires),
    'transitions', jsonb_build_array(base.transition_fact('offer', v_id, '', 'submit_offer', v_state))),
    array[v_rfq.buyer_id])::base.outcome;
end $$;
comment on function market.submit_offer(base.command_context, jsonb) is
  'Handler of kind submit_offer. Refuses UM101 malformed, UB105 id out of window, UM302 not invited, UM401 unknown RFQ, UM501 same id or second offer with other content, UM601 RFQ not open, UM607 RFQ expired, UM703 above max_price.';

create or replace function market.submit_offer_again(p_ctx base.command_context, p_old market.offers, p_id uuid, p_rfq_id uuid,
  p_unit numeric, p_expires_at timestamptz) returns base.outcome
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
  select case
    when p_old.provider_id <> p_ctx.actor_id
      then base.refusal('UM501', 'agent', p_ctx.actor_id, format('offer %s exists with another provider', p_id))
    when p_old.rfq_id <> p_rfq_id
      then base.refusal('UM501', 'agent', p_ctx.actor_id, format('offer %s exists for another RFQ', p_id))
    when p_old.offer_id <> p_id
      then base.refusal('UM501', 'rfq', p_rfq_id, format('this provider has already made offer %s to the RFQ', p_old.offer_id))
    when p_old.price_per_unit <> p_unit
      then base.refusal('UM501', 'rfq', p_rfq_id, format('offer %s exists with another price_per_unit', p_id))
    when p_old.expires_at <> p_expires_at
      then base.refusal('UM501', 'rfq', p_rfq_id, format('offer %s exists with another valid_for_ms', p_id))
    else row('ok', 'rfq', p_rfq_id, jsonb_build_object('offer_id', p_id, 'rfq_id', p_rfq_id, 'state', p_old.state,
      'expires_at_us', base.us(p_old.expires_at), 'exists', true), null)::base.outcome end
$$;
comment on function market.submit_offer_again(base.command_context, market.offers, uuid, uuid, numeric, timestamptz) is
  'Same content again: ok with "exists", the expiry stays the first one''s. Other content: UM501, naming what differs.';
