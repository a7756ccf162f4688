-- Every balance column is recomputed from the transfers alone. A post also releases its hold's whole amount.
create or replace view ledger.audit_accounts as
with moves as (
  select t.ledger_id, t.debit_account_id, t.credit_account_id,
         case t.kind when 'pending' then t.amount when 'plain' then 0 when 'post_pending' then -p.amount else -t.amount end as pending,
         case when t.kind in ('plain', 'post_pending') then t.amount else 0 end as posted
    from ledger.transfers t
    left join ledger.transfers p on t.kind = 'post_pending' and p.ledger_id = t.ledger_id and p.transfer_id = t.pending_id),
sums as (
  select s.ledger_id, s.account_id, sum(s.dp) as dp, sum(s.dpo) as dpo, sum(s.cp) as cp, sum(s.cpo) as cpo
    from (select m.ledger_id, m.debit_account_id as account_id, m.pending as dp, m.posted as dpo, 0 as cp, 0 as cpo from moves m
          union all
          select m.ledger_id, m.credit_account_id, 0, 0, m.pending, m.posted from moves m) as s
   group by s.ledger_id, s.account_id)
select coalesce(a.ledger_id, s.ledger_id) as ledger_id, coalesce(a.account_id, s.account_id) as account_id, v.column_name,
       v.stored, v.expected
  from ledger.accounts a
  full join sums s on s.ledger_id = a.ledger_id and s.account_id = a.account_id
  cross join lateral (values
    ('debits_pending', a.debits_pending, coalesce(s.dp, 0)),
    ('debits_posted', a.debits_posted, coalesce(s.dpo, 0)),
    ('credits_pending', a.credits_pending, coalesce(s.cp, 0)),
    ('credits_posted', a.credits_posted, coalesce(s.cpo, 0))) as v (column_name, stored, expected)
 where v.stored is distinct from v.expected;
comment on view ledger.audit_accounts is
  'Empty when healthy. One row per balance column that is not the sum of the account''s transfers: what is stored, what the transfers say. stored NULL: transfers name an account that does not exist. Reads every transfer.';
