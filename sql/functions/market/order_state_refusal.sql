-- A step that is no legal move from where the order stands.
create or replace function market.order_state_refusal(p_order market.orders, p_event text) returns base.outcome
language sql stable parallel safe as $$
  select base.refusal('UM604', 'order', p_order.order_id, format('the order is %s: %s is not possible', p_order.state, p_event))
$$;
comment on function market.order_state_refusal(market.orders, text) is 'UM604, naming the order''s state.';
