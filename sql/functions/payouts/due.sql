-- What the payout scheduler can act on: money that is open, and reserves that wait for the rail. The payable accounts'
-- balances say who has something open, so the history of payables is not read.
create or replace function payouts.due(p_ledger_id integer, p_limit integer)
returns table (action text, payee_id uuid, asset_id integer, amount numeric, payout_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query (
    select 'reserve', a.owner_id, a.asset_id, a.credits_posted - a.debits_posted - a.debits_pending, null::uuid
      from ledger.accounts a
     where a.ledger_id = p_ledger_id and a.purpose = 'payable' and a.credits_posted > a.debits_posted + a.debits_pending
     order by a.asset_id, a.owner_id limit p_limit)
  union all (
    select 'confirm', p.payee_id, p.asset_id, p.amount, p.payout_id
      from payouts.payouts p where p.ledger_id = p_ledger_id and p.state = 'reserved' order by p.reserved_at limit p_limit);
end $$;
comment on function payouts.due(integer, integer) is
  'Up to p_limit rows of each action: reserve (payee with open payables, their sum) and confirm (a reserved payout). Amounts in minor units.';
