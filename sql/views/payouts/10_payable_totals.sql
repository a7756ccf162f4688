create or replace view payouts.payable_totals as
select p.ledger_id, p.payee_id, s.code as asset, s.scale,
       count(*) filter (where y.state is null) as open_payables,
       coalesce(sum(p.amount) filter (where y.state is null), 0) as open_minor,
       coalesce(sum(p.amount) filter (where y.state = 'reserved'), 0) as reserved_minor,
       coalesce(sum(p.amount) filter (where y.state = 'confirmed'), 0) as paid_minor,
       min(p.at) filter (where y.state is null) as oldest_open_at
  from payouts.payables p
  join ledger.assets s on s.asset_id = p.asset_id
  left join payouts.payout_items i on i.ledger_id = p.ledger_id and i.payable_id = p.payable_id and not i.released
  left join payouts.payouts y on y.ledger_id = i.ledger_id and y.payout_id = i.payout_id
 group by p.ledger_id, p.payee_id, s.code, s.scale;
comment on view payouts.payable_totals is
  'What each payee is owed, by payable: open (in no payout), reserved (in a payout that the rail has not answered) and paid. Minor units.';
