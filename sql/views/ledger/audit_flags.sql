-- What an account's row says of itself beside its balances: its limits are those of its purpose, its id is that of its holder, and
-- it is closed by an open closing hold or not at all.
create or replace view ledger.audit_flags as
select a.ledger_id, a.account_id, v.problem
  from ledger.accounts a
  join ledger.account_purposes u on u.purpose = a.purpose
  left join ledger.holds h on h.ledger_id = a.ledger_id and h.transfer_id = a.closed_by
  left join ledger.transfers t on t.ledger_id = a.ledger_id and t.transfer_id = a.closed_by
  -- Whoever embeds the books without commands opens accounts by rules of its own.
  cross join lateral (select exists (select from base.commands c where c.ledger_id = a.ledger_id) as by_command) as l
  cross join lateral (values
    ('limits_are_not_those_of_its_purpose', l.by_command and (a.debits_must_not_exceed_credits, a.credits_must_not_exceed_debits)
      <> (u.debits_must_not_exceed_credits, u.credits_must_not_exceed_debits)),
    ('id_is_not_that_of_its_holder', l.by_command and a.account_id <> ledger.account_id(a.ledger_id, a.asset_id, a.purpose, a.owner_id, a.ref_id)),
    ('closed_without_a_hold', a.closed <> (a.closed_by is not null)),
    ('closed_by_no_open_closing_hold', a.closed_by is not null and (h.state = 'pending'
      and (t.flags & 4 <> 0 and t.debit_account_id = a.account_id
           or t.flags & 8 <> 0 and t.credit_account_id = a.account_id)) is not true)) as v (problem, wrong)
 where v.wrong
union all
select t.ledger_id, s.account_id, 'open_despite_a_closing_hold'
  from ledger.holds h
  join ledger.transfers t on t.ledger_id = h.ledger_id and t.transfer_id = h.transfer_id
  cross join lateral (values (t.flags & 4, t.debit_account_id), (t.flags & 8, t.credit_account_id)) as s (closes, account_id)
  join ledger.accounts a on a.ledger_id = t.ledger_id and a.account_id = s.account_id
 where h.state = 'pending' and s.closes <> 0 and a.closed_by is distinct from t.transfer_id;
comment on view ledger.audit_flags is
  'Empty when healthy. One row per account whose limits, holder or closure are not what they must be. Limits and ids are checked in ledgers that have a command log.';
