-- The answer to a step of an order: its fact, and whom to wake. Stable, as jsonb_build_object is, and without a pinned
-- search_path: so it is inlined, and not parsed anew on every call.
create or replace function market.order_moved(p_order market.orders, p_event text, p_state text, p_facts jsonb, p_wake uuid[]) returns base.outcome
language sql stable parallel safe as $$
  select row('ok', 'order', p_order.order_id, jsonb_build_object('order_id', p_order.order_id, 'state', p_state,
    'transitions', jsonb_build_array(base.transition_fact('order', p_order.order_id, p_order.state, p_event, p_state))) || p_facts,
    p_wake)::base.outcome
$$;
comment on function market.order_moved(market.orders, text, text, jsonb, uuid[]) is
  'ok with order_id, the new state, the transition from the order''s old state, and p_facts.';
