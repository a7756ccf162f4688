create or replace view market.audit_transitions as
with steps as (
  select t.ledger_id, t.machine, t.subject_id, t.seq, t.n, t.from_state, t.event, t.to_state,
         lag(t.to_state, 1, '') over w as came_from, lead(t.seq) over w is null as newest
    from base.transitions t where t.machine in ('rfq', 'offer', 'order', 'payout')
  window w as (partition by t.ledger_id, t.machine, t.subject_id order by t.seq, t.n)),
states as (
  select r.ledger_id, 'rfq' as machine, r.rfq_id as subject_id, r.state from market.rfqs r
  union all select f.ledger_id, 'offer', f.offer_id, f.state from market.offers f
  union all select o.ledger_id, 'order', o.order_id, o.state from market.orders o
  union all select p.ledger_id, 'payout', p.payout_id, p.state from payouts.payouts p)
select s.ledger_id, s.machine, s.subject_id, s.seq, 'the step does not start where the last one ended' as problem,
       format('%s by %s from %L, but it was %L', s.to_state, s.event, s.from_state, s.came_from) as detail
  from steps s where s.from_state <> s.came_from
union all
select coalesce(x.ledger_id, s.ledger_id), coalesce(x.machine, s.machine), coalesce(x.subject_id, s.subject_id), s.seq,
       'the state is not what the last step made it', format('state %L, last step to %L', x.state, s.to_state)
  from states x
  full join (select * from steps where newest) s on s.ledger_id = x.ledger_id and s.machine = x.machine and s.subject_id = x.subject_id
 where x.state is distinct from s.to_state;
comment on view market.audit_transitions is
  'Empty when healthy. RFQs, offers, orders and payouts whose chain of transitions is broken, or whose state is not what their last transition made it (a missing side shows as NULL).';
