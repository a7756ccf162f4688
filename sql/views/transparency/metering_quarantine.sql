create or replace view transparency.metering_quarantine as
select q.ledger_id, q.reason, count(*) as rows, count(distinct q.attempt_id) as attempts, min(q.received_at) as first_at, max(q.received_at) as last_at
  from metering.quarantine q group by q.ledger_id, q.reason;
comment on view transparency.metering_quarantine is
  'Metering rows that were signed but not believed, by reason; they are kept as evidence and never billed.';
