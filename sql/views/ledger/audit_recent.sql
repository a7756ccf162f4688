-- The audit that is cheap enough for every minute: each account's row against its last page and the tail, which is all of its
-- history, and each transfer since the last healthy audit against its accounts and its hold.
create or replace view ledger.audit_recent as
with tail as (
  select t.ledger_id, s.account_id, sum(m.dp) as dp, sum(m.dpo) as dpo, sum(m.cp) as cp, sum(m.cpo) as cpo
    from base.ledgers l
    join ledger.transfers t on t.ledger_id = l.ledger_id
     and t.seq > coalesce((select w.through_seq from ledger.paged w where w.ledger_id = l.ledger_id), 0)
    cross join lateral (values (t.debit_account_id), (t.credit_account_id)) as s (account_id)
    cross join lateral ledger.move_of(t, s.account_id) as m
   group by t.ledger_id, s.account_id),
accounts as (
  select a.ledger_id, a.account_id, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted,
         coalesce(b.debits_pending, 0) + coalesce(t.dp, 0) as dp, coalesce(b.debits_posted, 0) + coalesce(t.dpo, 0) as dpo,
         coalesce(b.credits_pending, 0) + coalesce(t.cp, 0) as cp, coalesce(b.credits_posted, 0) + coalesce(t.cpo, 0) as cpo
    from ledger.accounts a
    left join tail t on t.ledger_id = a.ledger_id and t.account_id = a.account_id
    left join lateral (
      select p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted from ledger.entry_pages p
       where p.ledger_id = a.ledger_id and p.account_id = a.account_id
       order by p.ledger_id desc, p.account_id desc, p.last_seq desc, p.last_item desc limit 1) as b on true),
recent as (
  select t.* from base.ledgers l
    join ledger.transfers t on t.ledger_id = l.ledger_id
     and t.seq > coalesce((select u.through_seq from ledger.audited u where u.ledger_id = l.ledger_id), 0))
select c.ledger_id, 'account ' || c.account_id as subject,
       format('has %s/%s %s/%s, its transfers say %s/%s %s/%s', c.debits_pending, c.debits_posted, c.credits_pending, c.credits_posted,
         c.dp, c.dpo, c.cp, c.cpo) as problem
  from accounts c
 where (c.debits_pending, c.debits_posted, c.credits_pending, c.credits_posted) is distinct from (c.dp, c.dpo, c.cp, c.cpo)
union all
select t.ledger_id, 'account ' || t.account_id, 'does not exist, and transfers name it'
  from tail t where not exists (select from ledger.accounts a where a.ledger_id = t.ledger_id and a.account_id = t.account_id)
union all
select r.ledger_id, 'transfer ' || r.transfer_id, v.problem
  from recent r
  left join ledger.accounts d on d.ledger_id = r.ledger_id and d.account_id = r.debit_account_id
  left join ledger.accounts c on c.ledger_id = r.ledger_id and c.account_id = r.credit_account_id
  left join ledger.holds h on r.kind <> 'plain' and h.ledger_id = r.ledger_id and h.transfer_id = coalesce(r.pending_id, r.transfer_id)
  cross join lateral (values
    ('is not of its accounts'' asset', r.asset_id is distinct from d.asset_id or r.asset_id is distinct from c.asset_id),
    ('has no hold', r.kind <> 'plain' and h.transfer_id is null),
    ('did not end the hold that it names', r.pending_id is not null and h.ended_by is distinct from r.transfer_id),
    ('ended a hold of other accounts', r.pending_id is not null
      and (h.debit_account_id, h.credit_account_id) is distinct from (r.debit_account_id, r.credit_account_id)),
    ('moved more than its hold', r.pending_id is not null and r.amount > h.amount),
    ('differs from its hold', r.kind = 'pending' and (h.amount, h.debit_account_id, h.credit_account_id, h.timeout_at)
      is distinct from (r.amount, r.debit_account_id, r.credit_account_id, r.timeout_at))) as v (problem, wrong)
 where v.wrong;
comment on view ledger.audit_recent is
  'Empty when healthy, and fast: reads the accounts, the transfers that are not paged yet, and those posted since the last healthy audit (ledger.audited). One row per account or transfer and problem.';
