-- What says that it takes something back against what was taken back.
create or replace view ledger.audit_reversals as
select coalesce(r.ledger_id, t.ledger_id) as ledger_id, coalesce(r.transfer_id, t.transfer_id) as transfer_id, v.problem, v.found, v.expected
  from ledger.reversals r
  full join (select * from ledger.transfers where reverses_id is not null) as t on t.ledger_id = r.ledger_id and t.transfer_id = r.transfer_id
  left join ledger.transfers o on o.ledger_id = coalesce(r.ledger_id, t.ledger_id) and o.transfer_id = coalesce(r.reversed_id, t.reverses_id)
  cross join lateral (values
    ('reversal_missing', 'none', 'a row of ledger.reversals', r.transfer_id is null),
    ('transfer_missing', 'none', 'a transfer that reverses', t.transfer_id is null),
    ('reversed_id_differs', r.reversed_id::text, t.reverses_id::text, r.reversed_id <> t.reverses_id),
    ('command_differs', r.seq::text, t.seq::text, r.seq <> t.seq),
    ('reversed_transfer_missing', 'none', coalesce(r.reversed_id, t.reverses_id)::text, o.transfer_id is null),
    ('reversed_transfer_not_posted', o.kind, 'plain or post_pending', o.kind not in ('plain', 'post_pending')),
    ('reversed_transfer_later', format('%s/%s', o.seq, o.item), format('before %s/%s', t.seq, t.item), (o.seq, o.item) >= (t.seq, t.item)),
    ('accounts_not_mirrored', format('%s to %s', t.debit_account_id, t.credit_account_id), format('%s to %s', o.credit_account_id, o.debit_account_id),
      t.debit_account_id <> o.credit_account_id or t.credit_account_id <> o.debit_account_id),
    ('amount_differs', t.amount::text, o.amount::text, t.amount <> o.amount),
    ('asset_differs', t.asset_id::text, o.asset_id::text, t.asset_id <> o.asset_id))
    as v (problem, found, expected, wrong)
 where v.wrong;
comment on view ledger.audit_reversals is
  'Empty when healthy. One row per reversal and problem: what was found, what was expected. Transfers and ledger.reversals that do not name each other, reversed transfers that are missing, later or never posted, accounts, amounts or assets that do not mirror. Reads every transfer.';
