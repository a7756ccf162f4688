-- A payee's statement: every payable it ever earned, and the payout that carries it.
create or replace function payouts.read_statement(p_actor uuid, p_ledger_id integer, p_after uuid, p_limit integer)
returns table (payable_id uuid, earned_at timestamptz, order_id uuid, role text, asset_id integer, asset text, scale smallint, amount numeric,
  payout_id uuid, payout_state text, paid_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select p.payable_id, p.at, p.order_id, l.role, p.asset_id, s.code, s.scale, p.amount, y.payout_id, y.state,
    case when y.state = 'confirmed' then y.closed_at end
    from payouts.payables p
    join ledger.assets s on s.asset_id = p.asset_id
    join splits.legs l on l.ledger_id = p.ledger_id and l.order_id = p.order_id and l.n = p.leg_n
    left join payouts.payout_items i on i.ledger_id = p.ledger_id and i.payable_id = p.payable_id and not i.released
    left join payouts.payouts y on y.ledger_id = i.ledger_id and y.payout_id = i.payout_id
   where p.ledger_id = p_ledger_id and p.payee_id = p_actor
     and p.payable_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
   order by p.payable_id limit p_limit;
end $$;
comment on function payouts.read_statement(uuid, integer, uuid, integer) is
  'Up to p_limit payables of p_actor, oldest id first; p_after is the last id of the page before (NULL: the first page). payout columns are NULL while it is open. amount in minor units of the asset; divide by 10^scale to print.';
