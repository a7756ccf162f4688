-- The two halves of what crosses, held against each other where both ledgers are in this database, and each half against its
-- transfer. Value that was sent and has not arrived is in flight, not wrong: finance.crossings shows it.
create or replace view ledger.audit_crossings as
select i.ledger_id, i.group_id, v.problem, v.found, v.expected
  from ledger.crossings i
  left join ledger.crossings o on o.ledger_id = i.peer_ledger_id and o.group_id = i.group_id and o.direction = 'out'
  cross join lateral (values
    ('never_sent', 'none', format('sent by ledger %s', i.peer_ledger_id),
      o.group_id is null and exists (select from base.ledgers l where l.ledger_id = i.peer_ledger_id)),
    ('peer_differs', format('arrived in ledger %s', i.ledger_id), format('sent to ledger %s', o.peer_ledger_id), o.peer_ledger_id <> i.ledger_id),
    ('asset_differs', i.asset_id::text, o.asset_id::text, o.asset_id <> i.asset_id),
    ('amount_differs', i.amount::text, o.amount::text, o.amount <> i.amount)) as v (problem, found, expected, wrong)
 where i.direction = 'in' and v.wrong
union all
select x.ledger_id, x.group_id, v.problem, v.found, v.expected
  from ledger.crossings x
  left join ledger.transfers t on t.ledger_id = x.ledger_id and t.transfer_id = x.transfer_id
  cross join lateral (select ledger.account_id(x.ledger_id, x.asset_id, 'clearing', null, ledger.peer_ref(x.peer_ledger_id)) as account_id) as c
  cross join lateral (values
    ('transfer_missing', 'none', x.transfer_id::text, t.transfer_id is null),
    ('transfer_of_another_command', t.seq::text, x.seq::text, t.seq <> x.seq),
    ('transfer_amount_differs', t.amount::text, x.amount::text, t.amount <> x.amount),
    ('transfer_asset_differs', t.asset_id::text, x.asset_id::text, t.asset_id <> x.asset_id),
    ('debit_account_differs', t.debit_account_id::text, case x.direction when 'out' then x.account_id else c.account_id end::text,
      t.debit_account_id <> case x.direction when 'out' then x.account_id else c.account_id end),
    ('credit_account_differs', t.credit_account_id::text, case x.direction when 'out' then c.account_id else x.account_id end::text,
      t.credit_account_id <> case x.direction when 'out' then c.account_id else x.account_id end)) as v (problem, found, expected, wrong)
 where v.wrong
union all
select a.ledger_id, null, 'clearing_balance_differs', format('account %s: %s', a.account_id, a.credits_posted - a.debits_posted), s.crossed::text
  from ledger.accounts a
  cross join lateral (
    select coalesce(sum(case x.direction when 'out' then x.amount else -x.amount end), 0) as crossed
      from ledger.crossings x
     where x.ledger_id = a.ledger_id and x.asset_id = a.asset_id and ledger.peer_ref(x.peer_ledger_id) = a.ref_id) as s
 where a.purpose = 'clearing' and a.credits_posted - a.debits_posted <> s.crossed;
comment on view ledger.audit_crossings is
  'Empty when healthy. One row per half and problem: what was found, what was expected. Arrivals that were never sent, halves that name another peer, asset or amount, transfers that are missing or differ, clearing accounts that are not the sum of their crossings (group_id NULL).';
