-- A payee's payouts, newest first.
create or replace function payouts.read_payouts(p_actor uuid, p_ledger_id integer, p_after uuid, p_limit integer)
returns table (payout_id uuid, asset_id integer, amount numeric, rail text, state text, reserved_at timestamptz, closed_at timestamptz,
  rail_reference text, failure text, payables integer)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select p.payout_id, p.asset_id, p.amount, p.rail, p.state, p.reserved_at, p.closed_at, p.rail_reference, p.failure,
    (select count(*) from payouts.payout_items i where i.ledger_id = p.ledger_id and i.payout_id = p.payout_id)::integer
    from payouts.payouts p
   where p.ledger_id = p_ledger_id and p.payee_id = p_actor
     and p.payout_id < coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   order by p.payout_id desc limit p_limit;
end $$;
comment on function payouts.read_payouts(uuid, integer, uuid, integer) is
  'Up to p_limit payouts of payee p_actor, newest id first; p_after is the last id of the page before (NULL: the first page). Amounts in minor units.';
