-- The pages against the transfers they file: each entry is there, in order, of this account, none is missing, and the closing
-- balances are the sums.
create or replace view ledger.audit_pages as
with entries as (
  select p.ledger_id, p.account_id, p.last_seq, p.last_item, i.n, i.id, p.entries, t.seq, t.item,
         t.transfer_id is null as missing, t.transfer_id is not null and p.account_id not in (t.debit_account_id, t.credit_account_id) as foreign_entry,
         lag(t.seq * 1048576 + t.item) over w >= t.seq * 1048576 + t.item as disordered,
         i.n = p.entries and (t.seq, t.item) is distinct from (p.last_seq, p.last_item) as last_differs,
         i.n = p.entries and (sum(m.dp) over w, sum(m.dpo) over w, sum(m.cp) over w, sum(m.cpo) over w)
           is distinct from (p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted) as closing_differs
    from ledger.entry_pages p
    cross join lateral unnest(p.transfer_ids) with ordinality as i (id, n)
    left join ledger.transfers t on t.ledger_id = p.ledger_id and t.transfer_id = i.id
    left join lateral ledger.move_of(t, p.account_id) as m on t.transfer_id is not null
  window w as (partition by p.ledger_id, p.account_id order by p.last_seq, p.last_item, i.n)),
counted as (
  select coalesce(f.ledger_id, e.ledger_id) as ledger_id, coalesce(f.account_id, e.account_id) as account_id, f.n as filed, e.n as entries
    from (select p.ledger_id, p.account_id, sum(p.entries) as n from ledger.entry_pages p group by p.ledger_id, p.account_id) as f
    full join (
      select t.ledger_id, s.account_id, count(*) as n
        from ledger.paged w join ledger.transfers t on t.ledger_id = w.ledger_id and t.seq <= w.through_seq
        cross join lateral (values (t.debit_account_id), (t.credit_account_id)) as s (account_id)
       group by t.ledger_id, s.account_id) as e on e.ledger_id = f.ledger_id and e.account_id = f.account_id)
select e.ledger_id, e.account_id, e.last_seq, e.last_item, e.id as transfer_id, v.problem
  from entries e
  cross join lateral (values ('transfer_missing', e.missing), ('transfer_of_another_account', e.foreign_entry), ('out_of_order', e.disordered),
    ('last_entry_differs', e.last_differs), ('closing_balances_differ', e.closing_differs)) as v (problem, wrong)
 where v.wrong
union all
select c.ledger_id, c.account_id, null, null, null, format('%s entries filed of %s', coalesce(c.filed, 0), coalesce(c.entries, 0))
  from counted c where c.filed is distinct from c.entries;
comment on view ledger.audit_pages is
  'Empty when healthy. One row per page entry and problem, and one per account whose pages hold fewer or more entries than it has transfers up to ledger.paged.through_seq. Reads every page and transfer.';
