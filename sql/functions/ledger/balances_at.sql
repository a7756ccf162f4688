-- All accounts' balances at a moment, for trial balances: one lookup of the page before and after the moment per account, and the
-- tail once for all of them.
create or replace function ledger.balances_at(p_ledger_id integer, p_at timestamptz, p_by text)
returns table (account_id uuid, debits_pending numeric, debits_posted numeric, credits_pending numeric, credits_posted numeric)
language plpgsql stable security invoker as $$
#variable_conflict use_column
declare
  v_seq constant bigint := ledger.seq_at(p_ledger_id, p_at);
  v_through constant bigint := coalesce((select w.through_seq from ledger.paged w where w.ledger_id = p_ledger_id), 0);
begin
  if p_at is null or p_at >= (select l.last_time from base.ledgers l where l.ledger_id = p_ledger_id) then
    return query select a.account_id, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
      from ledger.accounts a where a.ledger_id = p_ledger_id;
    return;
  end if;
  return query
  with opened as (select a.account_id from ledger.accounts a where a.ledger_id = p_ledger_id),
  moved as (
    select o.account_id, m.dp, m.dpo, m.cp, m.cpo
      from opened o
      cross join lateral (
        select p.transfer_ids from ledger.entry_pages p
         where p.ledger_id = p_ledger_id and p.account_id = o.account_id and p.last_seq > v_seq
         order by p.ledger_id, p.account_id, p.last_seq, p.last_item limit 1) as g
      cross join lateral unnest(g.transfer_ids) as i (id)
      join ledger.transfers t on t.ledger_id = p_ledger_id and t.transfer_id = i.id and t.seq <= v_seq
      cross join lateral ledger.move_of(t, o.account_id) as m
    union all
    select s.account_id, m.dp, m.dpo, m.cp, m.cpo
      from ledger.transfers t
      cross join lateral (values (t.debit_account_id), (t.credit_account_id)) as s (account_id)
      cross join lateral ledger.move_of(t, s.account_id) as m
     where t.ledger_id = p_ledger_id and t.seq > v_through and t.seq <= v_seq
    union all
    -- By event time: what was told later and had happened by then.
    select s.account_id, 0, m.dpo, 0, m.cpo
      from ledger.transfers t
      cross join lateral (values (t.debit_account_id), (t.credit_account_id)) as s (account_id)
      cross join lateral ledger.move_of(t, s.account_id) as m
     where p_by = 'event' and t.ledger_id = p_ledger_id and t.effective_at is not null and t.effective_at <= p_at and t.seq > v_seq),
  sums as (
    select m.account_id, sum(m.dp) as dp, sum(m.dpo) as dpo, sum(m.cp) as cp, sum(m.cpo) as cpo from moved m group by m.account_id)
  select o.account_id, coalesce(b.debits_pending, 0) + coalesce(s.dp, 0), coalesce(b.debits_posted, 0) + coalesce(s.dpo, 0),
         coalesce(b.credits_pending, 0) + coalesce(s.cp, 0), coalesce(b.credits_posted, 0) + coalesce(s.cpo, 0)
    from opened o
    left join sums s on s.account_id = o.account_id
    left join lateral (
      select p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted from ledger.entry_pages p
       where p.ledger_id = p_ledger_id and p.account_id = o.account_id and p.last_seq <= v_seq
       order by p.ledger_id desc, p.account_id desc, p.last_seq desc, p.last_item desc limit 1) as b on true;
end $$;
comment on function ledger.balances_at(integer, timestamptz, text) is
  'Balances of every account at p_at (NULL: now), minor units. p_by record: as the books stood then; event: with what was told later of events up to p_at (posted columns; reservations as recorded).';
