create or replace view transparency.payout_hhi as
with amounts as (
  select 'payouts'::text as basis, p.ledger_id, s.code as asset, g.beneficial_owner_id as owner_id, sum(p.amount) as x
    from payouts.payouts p join identity.agents g on g.agent_id = p.payee_id join ledger.assets s on s.asset_id = p.asset_id
   where p.state = 'confirmed' group by p.ledger_id, s.code, g.beneficial_owner_id
  union all
  select 'earned', t.ledger_id, s.code, g.beneficial_owner_id, sum(l.amount)
    from splits.legs l join splits.settlements t on t.ledger_id = l.ledger_id and t.order_id = l.order_id
    join identity.agents g on g.agent_id = l.payee_id join ledger.assets s on s.asset_id = t.asset_id
   group by t.ledger_id, s.code, g.beneficial_owner_id
  union all
  select 'offered_capacity', a.ledger_id, null, a.beneficial_owner_id, sum(a.max_concurrency)
    from market.capability_ads a where a.active group by a.ledger_id, a.beneficial_owner_id),
sums as (
  select a.basis, a.ledger_id, a.asset, count(*) as owners, sum(a.x) as total,
         -- Sum of squares first, one division last: 10,000 * sum(x^2) / (sum x)^2.
         10000 * sum(a.x * a.x) / (sum(a.x) * sum(a.x)) as hhi, max(a.x) as largest
    from amounts a where a.x > 0 group by a.basis, a.ledger_id, a.asset)
select h.ledger_id, h.basis, h.asset, h.owners, h.total, round(h.hhi, 2) as hhi, round(h.largest / h.total, 6) as largest_share,
       case when h.hhi > 1800 then 'highly concentrated (above 1,800)'
            when h.hhi >= 1000 then 'moderately concentrated (1,000 to 1,800)'
            else 'unconcentrated (below 1,000)' end as guidelines_2023,
       case when h.hhi > 2500 then 'highly concentrated (above 2,500)'
            when h.hhi >= 1500 then 'moderately concentrated (1,500 to 2,500)'
            else 'unconcentrated (below 1,500)' end as guidelines_2010
  from sums h;
comment on view transparency.payout_hhi is
  'Herfindahl-Hirschman index, sum of (100 * share)^2, 0 to 10,000, by beneficial owner and not by node. basis: payouts (confirmed, minor units), earned (settlement legs, minor units), offered_capacity (concurrent orders of active ads; asset NULL). Beside it how the US merger guidelines of 2023 and of 2010 would label it. Nothing traded: no row.';
