-- The one way in which all of an order's held money goes back: a legal move to refunded, and in the same journal the
-- transfer from escrow to the buyer's wallet.
create or replace function market.refund_order(p_ctx base.command_context, p_order market.orders, p_event text, p_cause text) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text := base.move(p_ctx, 'order', p_order.order_id, p_order.state, p_event);
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
begin
  if v_state is null then
    return market.order_state_refusal(p_order, p_event);
  end if;
  perform market.post(p_ctx, v_journal, array[market.plain_item(p_ctx, 1, p_order.escrow_account_id,
    ledger.account_id(p_ctx.ledger_id, p_order.asset_id, 'wallet', p_order.buyer_id, null), p_order.asset_id, p_order.held, 'refund')]);
  update market.orders o
     set state = v_state, cause = p_cause, paid = 0, refunded = o.held, closed_at = p_ctx.at, closed_seq = p_ctx.seq,
         judged_at = case when p_event = 'judge_invalid' then p_ctx.at else o.judged_at end
   where o.ledger_id = p_ctx.ledger_id and o.order_id = p_order.order_id;
  perform market.tell(p_ctx, p_order.provider_id, 1::smallint, 'closed', p_order.order_id);
  perform market.tell(p_ctx, p_order.buyer_id, 2::smallint, 'closed', p_order.order_id);
  return market.order_moved(p_order, p_event, v_state, jsonb_build_object('cause', p_cause, 'journal_id', v_journal,
    'asset_id', p_order.asset_id, 'held', p_order.held::text, 'paid', '0', 'refunded', p_order.held::text),
    array[p_order.provider_id, p_order.buyer_id]);
end $$;
comment on function market.refund_order(base.command_context, market.orders, text, text) is
  'Closes an order with a full refund and its cause. Refuses UM604 when the move is not legal; raises UL901 when the books refuse.';
