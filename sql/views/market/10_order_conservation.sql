create or replace view market.order_conservation as
with moved_in as (
  select t.ledger_id, t.credit_account_id as account_id, sum(t.amount) as amount from ledger.transfers t
    join ledger.accounts a on a.ledger_id = t.ledger_id and a.account_id = t.credit_account_id and a.purpose = 'escrow'
   where t.kind = 'plain' group by t.ledger_id, t.credit_account_id),
moved_out as (
  select t.ledger_id, t.debit_account_id as account_id,
         coalesce(sum(t.amount) filter (where c.purpose = 'payable'), 0) as to_payees,
         coalesce(sum(t.amount) filter (where c.purpose = 'wallet'), 0) as to_buyer,
         coalesce(sum(t.amount) filter (where c.purpose not in ('payable', 'wallet')), 0) as elsewhere
    from ledger.transfers t
    join ledger.accounts a on a.ledger_id = t.ledger_id and a.account_id = t.debit_account_id and a.purpose = 'escrow'
    join ledger.accounts c on c.ledger_id = t.ledger_id and c.account_id = t.credit_account_id
   where t.kind = 'plain' group by t.ledger_id, t.debit_account_id)
select o.ledger_id, o.order_id, o.state, s.code as asset, o.held as held_minor, o.paid as paid_minor, o.refunded as refunded_minor,
       coalesce(i.amount, 0) as escrow_in_minor, coalesce(u.to_payees, 0) as escrow_to_payees_minor,
       coalesce(u.to_buyer, 0) as escrow_to_buyer_minor,
       o.held - coalesce(i.amount, 0) as held_difference_minor,
       coalesce(o.paid, 0) - coalesce(u.to_payees, 0) as paid_difference_minor,
       coalesce(o.refunded, 0) - coalesce(u.to_buyer, 0) as refunded_difference_minor,
       coalesce(u.elsewhere, 0) as strayed_minor,
       case when o.closed_at is not null then o.held - o.paid - o.refunded end as conservation_difference_minor
  from market.orders o
  join ledger.assets s on s.asset_id = o.asset_id
  left join moved_in i on i.ledger_id = o.ledger_id and i.account_id = o.escrow_account_id
  left join moved_out u on u.ledger_id = o.ledger_id and u.account_id = o.escrow_account_id;
comment on view market.order_conservation is
  'Per order: what was held, paid and refunded, beside what the transfers of its escrow account say. held = paid + refunded once closed; every *_difference_minor and strayed_minor must be 0. Minor units.';
