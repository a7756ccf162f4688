-- Makes an order of an offer: the RFQ is decided, the other offers lapse, the order's maximum moves from the buyer's
-- wallet into the order's own escrow account, and the run ticket is issued. From here on only moves of the order release it.
create or replace function market.accept_offer(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_offer market.offers;
  v_rfq market.rfqs;
  v_order market.orders;
  v_refusal base.outcome;
  v_wallet uuid;
  v_lapsed record;
  v_rfq_state text;
  v_offer_state text;
begin
  select * into v_offer from market.offers o
   where o.ledger_id = p_ctx.ledger_id and o.offer_id = market.arg_uuid(p_args, 'offer_id');
  select * into v_rfq from market.rfqs r where r.ledger_id = p_ctx.ledger_id and r.rfq_id = v_offer.rfq_id;
  v_refusal := market.accept_offer_refusal(p_ctx, p_args, v_offer, v_rfq);
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  v_wallet := ledger.account_id(p_ctx.ledger_id, v_rfq.asset_id, 'wallet', v_rfq.buyer_id, null);
  v_order := market.accept_offer_order(p_ctx, v_offer, v_rfq);
  v_rfq_state := base.move(p_ctx, 'rfq', v_rfq.rfq_id, v_rfq.state, 'accept_offer');
  v_offer_state := base.move(p_ctx, 'offer', v_offer.offer_id, v_offer.state, 'accept_offer');
  v_order.state := base.move(p_ctx, 'order', v_order.order_id, '', 'accept_offer');
  update market.rfqs r set state = v_rfq_state where r.ledger_id = p_ctx.ledger_id and r.rfq_id = v_rfq.rfq_id;
  update market.offers o set state = v_offer_state where o.ledger_id = p_ctx.ledger_id and o.offer_id = v_offer.offer_id;
  v_order.escrow_account_id := ledger.open_account(p_ctx, v_order.asset_id, 'escrow', v_order.buyer_id, v_order.order_id);
  perform market.post(p_ctx, base.derive_id(p_ctx.command_id, 'journal', 0),
    array[market.plain_item(p_ctx, 1, v_wallet, v_order.escrow_account_id, v_order.asset_id, v_order.held, 'escrow')]);
  insert into market.orders select v_order.*;
  insert into market.run_tickets (ledger_id, run_ticket_id, order_id, nonce, issued_at, expires_at, max_duration_ms)
  values (p_ctx.ledger_id, v_order.run_ticket_id, v_order.order_id, decode(p_ctx.recorded ->> 'ticket_nonce', 'hex'),
    p_ctx.at, v_order.ticket_expires_at, v_rfq.max_duration_ms);
  select l.transitions, l.providers into v_lapsed from market.lapse_offers(p_ctx, v_rfq.rfq_id, v_offer.offer_id) l;
  perform market.tell(p_ctx, v_order.provider_id, 1::smallint, 'ticket', v_order.order_id);
  perform market.tell(p_ctx, v_order.buyer_id, 2::smallint, 'order', v_order.order_id);
  return row('ok', 'order', v_order.order_id, jsonb_build_object('order_id', v_order.order_id, 'rfq_id', v_order.rfq_id,
    'offer_id', v_order.offer_id, 'buyer_id', v_order.buyer_id, 'provider_id', v_order.provider_id,
    'provider_key_id', encode(v_order.provider_key_id, 'hex'), 'asset_id', v_order.asset_id,
    'price_per_unit', v_order.price_per_unit::text, 'work_units', v_order.work_units::text, 'held', v_order.held::text,
    'run_ticket_id', v_order.run_ticket_id, 'ticket_nonce', p_ctx.recorded ->> 'ticket_nonce',
    'ticket_expires_at_us', base.us(v_order.ticket_expires_at), 'journal_id', base.derive_id(p_ctx.command_id, 'journal', 0),
    'transitions', jsonb_build_array(
      base.transition_fact('rfq', v_rfq.rfq_id, v_rfq.state, 'accept_offer', v_rfq_state),
      base.transition_fact('offer', v_offer.offer_id, v_offer.state, 'accept_offer', v_offer_state),
      base.transition_fact('order', v_order.order_id, '', 'accept_offer', v_order.state)) || v_lapsed.transitions),
    v_lapsed.providers || v_order.provider_id || v_order.buyer_id)::base.outcome;
end $$;
comment on function market.accept_offer(base.command_context, jsonb) is
  'Handler of kind accept_offer; takes the ticket''s nonce from recorded.ticket_nonce (16 bytes, hex). Refuses UM101 malformed, UM301 not the RFQ''s buyer, UM402 unknown offer, UM601 RFQ not open, UM602 offer expired, UM606 provider withdrew, UM701 spend cap below the price, UM702 wallet too small. Raises UM901 without a nonce, UL901 when the books refuse.';

create or replace function market.accept_offer_refusal(p_ctx base.command_context, p_args jsonb, p_offer market.offers, p_rfq market.rfqs)
returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cap numeric := base.parse_amount(p_args ->> 'spend_cap');
  v_spendable numeric;
begin
  if market.arg_uuid(p_args, 'offer_id') is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'offer_id must be a uuid');
  elsif coalesce(v_cap = 0, true) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'spend_cap must be whole minor units above 0, at most 28 digits');
  elsif p_offer.offer_id is null then
    return base.refusal('UM402', 'agent', p_ctx.actor_id, format('there is no offer %s', p_args ->> 'offer_id'));
  elsif p_rfq.buyer_id <> p_ctx.actor_id then
    return base.refusal('UM301', 'agent', p_ctx.actor_id, 'only the buyer who opened the RFQ may accept its offers');
  elsif p_offer.state = 'accepted' then
    return (select row('ok', 'order', o.order_id, jsonb_build_object('order_id', o.order_id, 'offer_id', o.offer_id,
        'run_ticket_id', o.run_ticket_id, 'held', o.held::text, 'state', o.state, 'exists', true), null)::base.outcome
      from market.orders o where o.ledger_id = p_ctx.ledger_id and o.rfq_id = p_rfq.rfq_id);
  elsif p_rfq.state <> 'open' then
    return base.refusal('UM601', 'rfq', p_rfq.rfq_id, format('the RFQ is %s', p_rfq.state));
  elsif p_ctx.at >= p_offer.expires_at then
    return base.refusal('UM602', 'rfq', p_rfq.rfq_id, 'the offer has expired: choose another or open a new RFQ');
  elsif not exists (select from market.capability_ads a where a.ledger_id = p_ctx.ledger_id and a.provider_id = p_offer.provider_id
                      and a.work_class = p_rfq.work_class and a.active)
     or not exists (select from identity.keys k where k.key_id = p_offer.provider_key_id and k.revoked_at is null) then
    return base.refusal('UM606', 'rfq', p_rfq.rfq_id, 'the provider has withdrawn its ad or its key: choose another offer');
  elsif v_cap < p_offer.price then
    return base.refusal('UM701', 'rfq', p_rfq.rfq_id, format('budget exceeded: the offer costs %s, the spend cap is %s', p_offer.price, v_cap));
  end if;
  v_spendable := ledger.spendable(p_ctx.ledger_id,
    ledger.account_id(p_ctx.ledger_id, p_rfq.asset_id, 'wallet', p_rfq.buyer_id, null), p_ctx.at);
  if coalesce(v_spendable, 0) < p_offer.price then
    return base.refusal('UM702', 'rfq', p_rfq.rfq_id, format('insufficient funds: the offer costs %s, the wallet can spend %s',
      p_offer.price, coalesce(v_spendable, 0)));
  end if;
  if coalesce(p_ctx.recorded ->> 'ticket_nonce' !~ '^[0-9a-f]{32}$', true) then
    raise exception using errcode = 'UM901', message = 'no ticket nonce was recorded with the command';
  end if;
  return null;
end $$;
comment on function market.accept_offer_refusal(base.command_context, jsonb, market.offers, market.rfqs) is
  'Why the offer cannot be accepted, or the order that it already became; a NULL outcome: nothing is in the way.';

create or replace function market.accept_offer_order(p_ctx base.command_context, p_offer market.offers, p_rfq market.rfqs) returns market.orders
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_order market.orders;
begin
  v_order.ledger_id := p_ctx.ledger_id;
  v_order.order_id := base.derive_id(p_ctx.command_id, 'order', 0);
  v_order.rfq_id := p_rfq.rfq_id;
  v_order.offer_id := p_offer.offer_id;
  v_order.buyer_id := p_rfq.buyer_id;
  v_order.provider_id := p_offer.provider_id;
  v_order.provider_key_id := p_offer.provider_key_id;
  v_order.asset_id := p_rfq.asset_id;
  v_order.price_per_unit := p_offer.price_per_unit;
  v_order.work_units := p_rfq.work_units;
  -- The spend cap is not below the price, so the smaller of the two is the price.
  v_order.held := p_offer.price;
  v_order.run_ticket_id := base.derive_id(p_ctx.command_id, 'run_ticket', 0);
  v_order.input_hash := p_rfq.input_hash;
  v_order.ordered_at := p_ctx.at;
  v_order.ticket_expires_at := p_ctx.at + market.ms(p_rfq.max_duration_ms);
  v_order.seq := p_ctx.seq;
  return v_order;
end $$;
comment on function market.accept_offer_order(base.command_context, market.offers, market.rfqs) is
  'The order that an offer becomes, without its state and escrow account.';
