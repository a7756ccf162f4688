create or replace view finance.exported_transfers as
select t.ledger_id, t.seq, t.item, t.at, t.effective_at, coalesce(t.effective_at, t.at) as event_at, t.transfer_id, t.kind,
       t.flags & 1 <> 0 as balancing_debit, t.flags & 2 <> 0 as balancing_credit,
       t.flags & 4 <> 0 as closing_debit, t.flags & 8 <> 0 as closing_credit,
       t.debit_account_id, d.purpose as debit_purpose, d.owner_id as debit_owner_id, d.ref_id as debit_ref_id,
       t.credit_account_id, c.purpose as credit_purpose, c.owner_id as credit_owner_id, c.ref_id as credit_ref_id,
       s.code as asset, s.scale, t.amount as amount_minor, t.pending_id, t.timeout_at, t.journal_id, t.reverses_id, t.reason
  from ledger.transfers t
  join ledger.accounts d on d.ledger_id = t.ledger_id and d.account_id = t.debit_account_id
  join ledger.accounts c on c.ledger_id = t.ledger_id and c.account_id = t.credit_account_id
  join ledger.assets s on s.asset_id = t.asset_id;
comment on view finance.exported_transfers is
  'Every transfer with both its accounts and its asset spelled out: what econ export reads. Only kinds plain and post_pending move balances. at: record time; event_at: when it happened, which is earlier where effective_at says so. amount_minor: whole minor units; scale: decimal places of the asset.';
