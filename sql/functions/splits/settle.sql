-- The money of one settlement: legs by the newest policy from the order's escrow to each payee's payable account, the rest
-- back to the buyer's wallet, all in one journal. The caller has checked and moved the order.
create or replace function splits.settle(p_ctx base.command_context, p_order market.orders, p_paid numeric) returns jsonb
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
  v_split record;
  v_parts numeric[];
  v_items ledger.transfer_input[] := '{}';
  v_legs jsonb := '[]';
  i integer;
begin
  select s.policy_id, s.roles, s.payees, s.shares_ppm into v_split from splits.settle_shares(p_order) s;
  if v_split.policy_id is null then
    raise exception using errcode = 'UP901', message = format('ledger %s has no split policy', p_order.ledger_id);
  end if;
  v_parts := splits.allocate(p_paid, v_split.shares_ppm);
  for i in 1 .. array_length(v_parts, 1) loop
    if v_parts[i] > 0 then
      v_items := v_items || market.plain_item(p_ctx, i, p_order.escrow_account_id,
        ledger.open_account(p_ctx, p_order.asset_id, 'payable', v_split.payees[i], null), p_order.asset_id, v_parts[i], v_split.roles[i]);
      v_legs := v_legs || jsonb_build_object('n', i, 'role', v_split.roles[i], 'payee_id', v_split.payees[i], 'amount', v_parts[i]::text);
    end if;
  end loop;
  if p_order.held > p_paid then
    v_items := v_items || market.plain_item(p_ctx, 0, p_order.escrow_account_id,
      ledger.account_id(p_ctx.ledger_id, p_order.asset_id, 'wallet', p_order.buyer_id, null), p_order.asset_id, p_order.held - p_paid, 'refund');
  end if;
  perform market.post(p_ctx, v_journal, v_items);
  insert into splits.settlements (ledger_id, order_id, journal_id, policy_id, asset_id, held, paid, refunded, seq, at)
  values (p_ctx.ledger_id, p_order.order_id, v_journal, v_split.policy_id, p_order.asset_id, p_order.held, p_paid,
    p_order.held - p_paid, p_ctx.seq, p_ctx.at);
  insert into splits.legs (ledger_id, order_id, n, role, payee_id, amount, transfer_id, payable_id)
  select p_ctx.ledger_id, p_order.order_id, u.n, u.role, u.payee_id, u.amount,
         base.derive_id(p_ctx.command_id, 'transfer', u.n::integer), base.derive_id(p_ctx.command_id, 'payable', u.n::integer)
    from unnest(v_split.roles, v_split.payees, v_parts) with ordinality as u (role, payee_id, amount, n) where u.amount > 0;
  insert into payouts.payables (ledger_id, payable_id, payee_id, asset_id, amount, order_id, leg_n, seq, at)
  select p_ctx.ledger_id, base.derive_id(p_ctx.command_id, 'payable', u.n::integer), u.payee_id, p_order.asset_id, u.amount,
         p_order.order_id, u.n, p_ctx.seq, p_ctx.at
    from unnest(v_split.payees, v_parts) with ordinality as u (payee_id, amount, n) where u.amount > 0;
  return jsonb_build_object('journal_id', v_journal, 'policy_id', v_split.policy_id, 'legs', v_legs);
end $$;
comment on function splits.settle(base.command_context, market.orders, numeric) is
  'Posts a settlement''s journal and writes settlement, legs and payables; returns journal_id, policy_id and legs for the receipt. Raises UP901 without a policy, UL901 when the books refuse.';

-- Who holds each role of the newest policy in this order. A role that nobody holds passes its share to the provider.
create or replace function splits.settle_shares(p_order market.orders, out policy_id integer, out roles text[], out payees uuid[], out shares_ppm integer[])
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_holder record;
begin
  select max(p.policy_id) into policy_id from splits.policies p where p.ledger_id = p_order.ledger_id;
  select r.creator_id as creator, r.referrer_id as referrer, identity.agent_with_purpose('operator') as operator into v_holder
    from market.rfqs r where r.ledger_id = p_order.ledger_id and r.rfq_id = p_order.rfq_id;
  select array_agg(s.role order by s.n), array_agg(s.payee_id order by s.n), array_agg(
      case when s.payee_id is null then 0 when s.role = 'provider' then s.share_ppm + s.unheld_ppm else s.share_ppm end order by s.n)
    into roles, payees, shares_ppm
    from (select h.n, h.role, h.share_ppm, h.payee_id, (coalesce(sum(h.share_ppm) filter (where h.payee_id is null) over (), 0))::integer as unheld_ppm
            from (select s.n, s.role, s.share_ppm, case s.role when 'creator' then v_holder.creator when 'provider' then p_order.provider_id
                         when 'operator' then v_holder.operator else v_holder.referrer end as payee_id
                    from splits.policy_shares s where s.ledger_id = p_order.ledger_id and s.policy_id = settle_shares.policy_id) h) s;
end $$;
comment on function splits.settle_shares(market.orders) is
  'Roles, payees and shares (ppm, summing to 1,000,000) of an order under the newest policy, in written order. policy_id NULL: there is none.';
