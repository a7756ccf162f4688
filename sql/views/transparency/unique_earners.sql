create or replace view transparency.unique_earners as
with earned as (
  select l.ledger_id, s.asset_id, l.payee_id from splits.legs l
    join splits.settlements s on s.ledger_id = l.ledger_id and s.order_id = l.order_id
   group by l.ledger_id, s.asset_id, l.payee_id),
paid as (
  select p.ledger_id, p.asset_id, p.payee_id from payouts.payouts p where p.state = 'confirmed'
   group by p.ledger_id, p.asset_id, p.payee_id),
active as (
  select x.ledger_id, x.asset_id, count(distinct x.agent_id) as participants from (
    select o.ledger_id, o.asset_id, o.buyer_id as agent_id from market.orders o
    union all select o.ledger_id, o.asset_id, o.provider_id from market.orders o
    union all select e.ledger_id, e.asset_id, e.payee_id from earned e) x
   group by x.ledger_id, x.asset_id)
select a.ledger_id, s.code as asset,
       (select count(*) from earned e where e.ledger_id = a.ledger_id and e.asset_id = a.asset_id) as unique_earners,
       (select count(*) from paid p where p.ledger_id = a.ledger_id and p.asset_id = a.asset_id) as unique_paid_earners,
       (select count(distinct g.beneficial_owner_id) from paid p join identity.agents g on g.agent_id = p.payee_id
         where p.ledger_id = a.ledger_id and p.asset_id = a.asset_id) as unique_paid_owners,
       a.participants as active_participants,
       round((select count(*) from paid p where p.ledger_id = a.ledger_id and p.asset_id = a.asset_id)::numeric
             / nullif(a.participants, 0), 6) as payout_breadth
  from active a join ledger.assets s on s.asset_id = a.asset_id;
comment on view transparency.unique_earners is
  'Per asset: unique_earners (payees with a settlement leg), unique_paid_earners (payees with a confirmed, so positive, payout; unique_paid_owners counts their beneficial owners), active_participants (buyers, providers and payees of orders), payout_breadth = unique_paid_earners / active_participants. No order: no row.';
