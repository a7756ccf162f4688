-- The answer to a step that this very order has already taken with the same content.
create or replace function market.order_again(p_order market.orders) returns base.outcome
language sql stable parallel safe as $$
  select row('ok', 'order', p_order.order_id, jsonb_build_object('order_id', p_order.order_id, 'state', p_order.state,
    'cause', p_order.cause, 'exists', true), null)::base.outcome
$$;
comment on function market.order_again(market.orders) is 'ok with "exists" and the order''s present state.';
