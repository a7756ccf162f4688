-- A settlement's legs. Buyer and provider see all of them; any other payee sees its own.
create or replace function splits.read_settlement(p_actor uuid, p_ledger_id integer, p_order_id uuid)
returns table (order_id uuid, journal_id uuid, policy_id integer, policy_name text, asset_id integer, held numeric, paid numeric,
  refunded numeric, settled_at timestamptz, n smallint, role text, payee_id uuid, amount numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select s.order_id, s.journal_id, s.policy_id, p.name, s.asset_id, s.held, s.paid, s.refunded, s.at, l.n, l.role, l.payee_id, l.amount
    from splits.settlements s
    join market.orders o on o.ledger_id = s.ledger_id and o.order_id = s.order_id
    join splits.policies p on p.ledger_id = s.ledger_id and p.policy_id = s.policy_id
    left join splits.legs l on l.ledger_id = s.ledger_id and l.order_id = s.order_id
     and (p_actor in (o.buyer_id, o.provider_id) or l.payee_id = p_actor)
   where s.ledger_id = p_ledger_id and s.order_id = p_order_id and (p_actor in (o.buyer_id, o.provider_id) or l.payee_id = p_actor)
   order by l.n;
end $$;
comment on function splits.read_settlement(uuid, integer, uuid) is
  'One row per leg (a single row with NULL leg columns when nothing was paid); buyer and provider see every leg, another payee only its own. Amounts in minor units.';
