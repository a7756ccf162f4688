-- An RFQ ended: its open offers lapse, except the accepted one, and their providers are told.
create or replace function market.lapse_offers(p_ctx base.command_context, p_rfq_id uuid, p_except_offer_id uuid,
  out transitions jsonb, out providers uuid[])
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_offer record;
  v_state text;
begin
  transitions := '[]';
  providers := '{}';
  for v_offer in
    select o.offer_id, o.provider_id from market.offers o
     where o.ledger_id = p_ctx.ledger_id and o.rfq_id = p_rfq_id and o.state = 'open' and o.offer_id is distinct from p_except_offer_id
     order by o.offer_id
  loop
    v_state := base.move(p_ctx, 'offer', v_offer.offer_id, 'open', 'lapse');
    update market.offers o set state = v_state where o.ledger_id = p_ctx.ledger_id and o.offer_id = v_offer.offer_id;
    perform market.tell(p_ctx, v_offer.provider_id, 9::smallint, 'rfq_closed', p_rfq_id);
    transitions := transitions || base.transition_fact('offer', v_offer.offer_id, 'open', 'lapse', v_state);
    providers := providers || v_offer.provider_id;
  end loop;
end $$;
comment on function market.lapse_offers(base.command_context, uuid, uuid) is
  'Lapses the open offers of an RFQ but one (NULL: all) and tells their providers; returns the transitions'' facts and whom it told.';
