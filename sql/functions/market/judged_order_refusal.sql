-- What a buyer's judgement must satisfy: its own order, and the very output that was reported, so that nobody can swap it.
create or replace function market.judged_order_refusal(p_ctx base.command_context, p_args jsonb, p_order market.orders) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_hash bytea := market.arg_hex(p_args, 'output_hash', 32);
begin
  if market.arg_uuid(p_args, 'order_id') is null or v_hash is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'order_id must be a uuid and output_hash the 32 bytes of a BLAKE3 hash');
  elsif p_order.order_id is null then
    return base.refusal('UM403', 'agent', p_ctx.actor_id, format('there is no order %s', p_args ->> 'order_id'));
  elsif p_order.buyer_id <> p_ctx.actor_id then
    return base.refusal('UM301', 'agent', p_ctx.actor_id, 'only the order''s buyer may judge its output');
  elsif p_order.output_hash <> v_hash then
    return base.refusal('UM502', 'order', p_order.order_id, format('the order''s output_hash is %s', encode(p_order.output_hash, 'hex')));
  end if;
  return null;
end $$;
comment on function market.judged_order_refusal(base.command_context, jsonb, market.orders) is
  'UM101, UM301, UM403 or UM502; a NULL outcome: the actor is the buyer and names the reported output, or none was reported yet.';
