-- Follows the log: files the next transfers of a ledger under the accounts they touched. Derived upkeep, not a command: it adds
-- no fact, and whoever reads gets the same answer whether it ran or not, only sooner. One statement sorts a few ten thousand
-- transfers by account at once, which costs a third of what two B-trees kept up row by row do, and not in the poster's session.
create or replace function ledger.page_entries(p_ledger_id integer, p_transfers integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set work_mem = '128MB' set enable_seqscan = off as $$
declare
  v_from bigint;
  v_to bigint;
  v_paged integer;
begin
  insert into ledger.paged (ledger_id, through_seq) values (p_ledger_id, 0) on conflict do nothing;
  -- Whoever pages already may go on alone.
  select p.through_seq into v_from from ledger.paged p where p.ledger_id = p_ledger_id for update skip locked;
  if not found or coalesce(p_transfers, 0) < 1 then
    return 0;
  end if;
  -- The command of the last transfer that fits. Commands are paged whole: what is visible of one is all of it.
  v_to := (select t.seq from ledger.transfers t where t.ledger_id = p_ledger_id and t.seq > v_from
            order by t.ledger_id, t.seq offset p_transfers - 1 limit 1);
  if v_to is null then
    return 0;
  end if;
  with moves as materialized (
    select t.transfer_id, t.seq * 1048576 + t.item as pos, t.debit_account_id, t.credit_account_id,
           case t.kind when 'plain' then null when 'pending' then t.amount
             when 'post_pending' then -(select h.amount from ledger.holds h where h.ledger_id = t.ledger_id and h.transfer_id = t.pending_id)
             else -t.amount end as pending,
           case when t.kind in ('plain', 'post_pending') then t.amount end as posted
      from ledger.transfers t
     where t.ledger_id = p_ledger_id and t.seq > v_from and t.seq <= v_to),
  entries as (
    select x.account_id, x.pos, x.transfer_id, x.dp, x.dpo, x.cp, x.cpo,
           (row_number() over (partition by x.account_id order by x.pos) - 1) / 100 as page
      from (select m.debit_account_id as account_id, m.pos, m.transfer_id, m.pending as dp, m.posted as dpo, null::numeric as cp, null::numeric as cpo
              from moves m
            union all
            select m.credit_account_id, m.pos, m.transfer_id, null, null, m.pending, m.posted from moves m) as x),
  -- What comes out of the window is in order, and array_agg keeps it.
  pages as (
    select e.account_id, e.page, max(e.pos) as pos, count(*)::integer as entries, array_agg(e.transfer_id) as transfer_ids,
           coalesce(sum(e.dp), 0) as dp, coalesce(sum(e.dpo), 0) as dpo, coalesce(sum(e.cp), 0) as cp, coalesce(sum(e.cpo), 0) as cpo
      from entries e group by e.account_id, e.page),
  added as (
    insert into ledger.entry_pages (ledger_id, account_id, last_seq, last_item, entries, transfer_ids,
      debits_pending, debits_posted, credits_pending, credits_posted)
    select p_ledger_id, g.account_id, g.pos >> 20, (g.pos & 1048575)::integer, g.entries, g.transfer_ids,
           coalesce(b.debits_pending, 0) + sum(g.dp) over w, coalesce(b.debits_posted, 0) + sum(g.dpo) over w,
           coalesce(b.credits_pending, 0) + sum(g.cp) over w, coalesce(b.credits_posted, 0) + sum(g.cpo) over w
      from pages g
      left join lateral (
        select p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted from ledger.entry_pages p
         where p.ledger_id = p_ledger_id and p.account_id = g.account_id
         order by p.ledger_id desc, p.account_id desc, p.last_seq desc, p.last_item desc limit 1) as b on true
    window w as (partition by g.account_id order by g.page))
  select count(*) into v_paged from moves;
  update ledger.paged p set through_seq = v_to where p.ledger_id = p_ledger_id;
  return v_paged;
end $$;
comment on function ledger.page_entries(integer, integer) is
  'Files the next p_transfers transfers, rounded up to whole commands, under their accounts, if there are so many; returns how many it filed (0: not yet enough, or another session is at it). Raises nothing.';
