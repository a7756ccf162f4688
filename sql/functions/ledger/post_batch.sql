-- ledger.post_transfers for large batches, with columns for arguments. What a set can settle, a set settles; only the rest is
-- judged one by one (ledger.judge). The results are those of judging all of it in order.
--
-- An item is *clean* when nothing about it depends on the items around it:
--   · it is plain or pending, well formed, without flags, not a reversal, told without an event time of its own;
--   · its id was neither posted nor spent before (most are higher than any the ledger has seen, which needs no lookup), occurs
--     once in the batch, and no other item of the batch names it;
--   · both its accounts are *certain*: open, of its asset, and so funded that they could bear every debit of the batch without
--     any of its credits. Then no order and no subset of the items could break their limits.
-- One UPDATE adds the clean items to their accounts and finds, by what it does not update, the accounts that are not certain.
-- Items on those, and the rest of their chains, are taken back out of the sums and judged in order with whatever was not clean
-- to begin with. Clean items commute with everything, so this is the outcome of the order in which they were given.
--
-- ledger.post_prepare does what needs no look at the books, so a caller may do it before it takes the ledger's lock.
create or replace function ledger.post_batch(p_ctx base.command_context, p_journal_id uuid, p_journal_ids uuid[], p_ids uuid[],
  p_kinds text[], p_debits uuid[], p_credits uuid[], p_assets integer[], p_amounts numeric[], p_reasons text[],
  p_pending_ids uuid[], p_timeouts_ms bigint[], p_linked boolean[], p_flags smallint[], p_reverses uuid[], p_effective timestamptz[],
  p_prepared ledger.prepared)
returns text[]
-- The pipeline's session turns hash joins off; the lists of items that are joined here would then meet in nested loops.
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_hashjoin = on set work_mem = '64MB' as $$
declare
  v_n constant integer := cardinality(p_ids);
  s ledger.prepared := p_prepared;
  v_above constant uuid := greatest(
    (select t.transfer_id from ledger.transfers t where t.ledger_id = p_ctx.ledger_id order by t.ledger_id desc, t.transfer_id desc limit 1),
    (select f.transfer_id from ledger.failed_transfers f where f.ledger_id = p_ctx.ledger_id order by f.ledger_id desc, f.transfer_id desc limit 1));
  v_known integer[];
  v_missed ledger.missed;
  v_pulled integer[];
  v_judged ledger.judged;
  v_results text[];
begin
  -- Prepared for another moment, or not at all.
  if s.at is distinct from p_ctx.at then
    s := ledger.post_prepare(p_ctx.at, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons, p_pending_ids, p_timeouts_ms,
      p_linked, p_flags, p_reverses, p_effective, null);
  end if;
  if s.lowest <= v_above then
    v_known := array(select i.n::integer from unnest(p_ids) with ordinality as i (id, n)
      where i.id <= v_above
        and (exists (select from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.transfer_id = i.id)
             or exists (select from ledger.failed_transfers f where f.ledger_id = p_ctx.ledger_id and f.transfer_id = i.id)));
    if cardinality(v_known) > 0 then
      s := ledger.post_prepare(p_ctx.at, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons, p_pending_ids, p_timeouts_ms,
        p_linked, p_flags, p_reverses, p_effective, v_known);
    end if;
  end if;
  -- A small ledger is read in physical order and its rows are updated in that order: half the time of a lookup for each.
  if (select c.reltuples from pg_catalog.pg_class c where c.oid = 'ledger.accounts'::regclass) <= 12 * v_n then
    v_missed := ledger.post_batch_apply_scan(p_ctx.ledger_id, s);
  else
    v_missed := ledger.post_batch_apply_lookup(p_ctx.ledger_id, s);
  end if;
  if s.hard is null and v_missed.ids is null then
    insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, timeout_at,
      journal_id, reason, seq, item, at)
    select p_ctx.ledger_id, i.id, i.kind, i.debit, i.credit, i.asset, i.amount,
           case when i.timeout_ms > 0 then p_ctx.at + i.timeout_ms * interval '1 millisecond' end,
           coalesce(i.journal, p_journal_id), i.reason, p_ctx.seq, i.n + o.items, p_ctx.at
      from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                   unnest(p_assets) as asset, unnest(p_amounts) as amount, unnest(p_timeouts_ms) as timeout_ms,
                   unnest(p_journal_ids) as journal, unnest(p_reasons) as reason, generate_series(1, v_n) as n) as i
           cross join (select coalesce((select max(t.item) from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.seq = p_ctx.seq), 0) as items offset 0) as o;
    v_results := array_fill('ok'::text, array[v_n]);
  else
    v_pulled := ledger.post_batch_pull(p_ctx.ledger_id, p_debits, p_credits, p_assets, p_amounts, p_linked, s, v_missed);
    v_judged := ledger.judge(p_ctx, array(
      select row(i.id, i.kind, i.debit, i.credit, i.asset, i.amount, i.pending_id, i.timeout_ms, i.linked, i.reason, i.flags, i.reverses,
                 i.effective)::ledger.transfer_input
        from unnest(p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_pending_ids, p_timeouts_ms, p_linked, p_reasons, p_flags,
               p_reverses, p_effective) with ordinality
               as i (id, kind, debit, credit, asset, amount, pending_id, timeout_ms, linked, reason, flags, reverses, effective, n)
       where i.n in (select unnest(v_pulled)) order by i.n));
    perform ledger.post_batch_write(p_ctx, p_journal_id, p_journal_ids, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons,
      p_timeouts_ms, v_pulled, v_judged);
    v_results := array(
      select coalesce(j.result, 'ok') from generate_series(1, v_n) as i (n)
        left join unnest(v_pulled, v_judged.results) as j (n, result) on j.n = i.n order by i.n);
  end if;
  if s.any_pending then
    insert into ledger.holds (ledger_id, transfer_id, debit_account_id, credit_account_id, amount, timeout_at)
    select p_ctx.ledger_id, i.id, i.debit, i.credit, i.amount, case when i.timeout_ms > 0 then p_ctx.at + i.timeout_ms * interval '1 millisecond' end
      from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                   unnest(p_amounts) as amount, unnest(p_timeouts_ms) as timeout_ms, generate_series(1, v_n) as n) as i
     where i.kind = 'pending' and i.n not in (select unnest(v_pulled));
  end if;
  -- Where each transfer is a journal of its own, only expiries need a row.
  if 'ok' = any (v_results) and (p_journal_ids is distinct from p_ids or v_judged.journal_id is not null) then
    insert into ledger.journals (ledger_id, journal_id, seq)
    select distinct p_ctx.ledger_id, j.journal, p_ctx.seq
      from (select p_journal_id as journal where p_journal_ids is null
            union all
            select coalesce(i.journal, p_journal_id) from unnest(p_journal_ids, p_ids, v_results) as i (journal, id, result)
             where p_journal_ids is not null and i.result = 'ok' and coalesce(i.journal, p_journal_id) <> i.id
            union all
            -- An expiry belongs to its hold's journal.
            select o.expiry_of from unnest(v_judged.journal_id) as o (expiry_of) where o.expiry_of is not null) as j
    on conflict do nothing;
  end if;
  return v_results;
end $$;
comment on function ledger.post_batch(base.command_context, uuid, uuid[], uuid[], text[], uuid[], uuid[], integer[], numeric[], text[],
  uuid[], bigint[], boolean[], smallint[], uuid[], timestamptz[], ledger.prepared) is
  'Posts a batch given as columns; one result per item, in order, as ledger.post_transfers. Arrays have the same length or are NULL where no item uses them; p_journal_ids NULL: all belong to p_journal_id; p_prepared: what ledger.post_prepare said of the same columns, or NULL. The caller holds the ledger''s row lock.';

-- Adds the sums to every account that is certain, and names those that are not. Debits count against a limit before any
-- credit does. Twice two statements, for their plans' sake: this function reads all accounts, in physical order, the next looks
-- each up; and a batch of nothing but clean plain transfers, the common case, adds two sums instead of six.
create or replace function ledger.post_batch_apply_scan(p_ledger_id integer, p_sums ledger.prepared) returns ledger.missed
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set enable_nestloop = off set enable_mergejoin = off set enable_hashjoin = on set enable_seqscan = on set work_mem = '64MB' as $$
declare
  v_applied ledger.missed;
begin
  if p_sums.posted is null then
    with applied as (
      update ledger.accounts a
         set debits_posted = a.debits_posted + s.d, credits_posted = a.credits_posted + s.c
        from (select unnest(p_sums.ids) as id, unnest(p_sums.assets) as asset, unnest(p_sums.debits_posted) as d, unnest(p_sums.credits_posted) as c) as s
       where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
         and a.debits_pending + a.debits_posted + s.d
               <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
         and a.credits_pending + a.credits_posted + s.c
               <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
      returning a.account_id, a.asset_id)
    select array_agg(a.account_id), array_agg(a.asset_id) into v_applied.ids, v_applied.assets from applied a;
  else
    with applied as (
      update ledger.accounts a
         set debits_pending = a.debits_pending + s.dp, debits_posted = a.debits_posted + s.dpo,
             credits_pending = a.credits_pending + s.cp, credits_posted = a.credits_posted + s.cpo
        from (select unnest(p_sums.ids) as id, unnest(p_sums.assets) as asset, unnest(p_sums.debits_posted) as dpo,
                     unnest(p_sums.debits_pending) as dp, unnest(p_sums.debits_extra) as dx, unnest(p_sums.credits_posted) as cpo,
                     unnest(p_sums.credits_pending) as cp, unnest(p_sums.credits_extra) as cx) as s
       where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
         and a.debits_pending + a.debits_posted + s.dp + s.dpo + s.dx
               <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
         and a.credits_pending + a.credits_posted + s.cp + s.cpo + s.cx
               <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
      returning a.account_id, a.asset_id)
    select array_agg(a.account_id), array_agg(a.asset_id) into v_applied.ids, v_applied.assets from applied a;
  end if;
  return ledger.post_batch_missed(p_sums, v_applied);
end $$;
comment on function ledger.post_batch_apply_scan(integer, ledger.prepared) is
  'Adds a batch''s sums to the certain accounts; returns the (account, asset) pairs of the others, NULL when there is none. For ledgers with few accounts: reads them all.';

-- The same by lookups, in the order of the index, for ledgers with far more accounts than the batch has items.
create or replace function ledger.post_batch_apply_lookup(p_ledger_id integer, p_sums ledger.prepared) returns ledger.missed
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off set work_mem = '64MB' as $$
declare
  v_applied ledger.missed;
begin
  if p_sums.posted is null then
    with applied as (
      update ledger.accounts a
         set debits_posted = a.debits_posted + s.d, credits_posted = a.credits_posted + s.c
        from (select unnest(p_sums.ids) as id, unnest(p_sums.assets) as asset, unnest(p_sums.debits_posted) as d, unnest(p_sums.credits_posted) as c order by 1) as s
       where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
         and a.debits_pending + a.debits_posted + s.d
               <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
         and a.credits_pending + a.credits_posted + s.c
               <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
      returning a.account_id, a.asset_id)
    select array_agg(a.account_id), array_agg(a.asset_id) into v_applied.ids, v_applied.assets from applied a;
  else
    with applied as (
      update ledger.accounts a
         set debits_pending = a.debits_pending + s.dp, debits_posted = a.debits_posted + s.dpo,
             credits_pending = a.credits_pending + s.cp, credits_posted = a.credits_posted + s.cpo
        from (select unnest(p_sums.ids) as id, unnest(p_sums.assets) as asset, unnest(p_sums.debits_posted) as dpo,
                     unnest(p_sums.debits_pending) as dp, unnest(p_sums.debits_extra) as dx, unnest(p_sums.credits_posted) as cpo,
                     unnest(p_sums.credits_pending) as cp, unnest(p_sums.credits_extra) as cx order by 1) as s
       where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
         and a.debits_pending + a.debits_posted + s.dp + s.dpo + s.dx
               <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
         and a.credits_pending + a.credits_posted + s.cp + s.cpo + s.cx
               <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
      returning a.account_id, a.asset_id)
    select array_agg(a.account_id), array_agg(a.asset_id) into v_applied.ids, v_applied.assets from applied a;
  end if;
  return ledger.post_batch_missed(p_sums, v_applied);
end $$;
comment on function ledger.post_batch_apply_lookup(integer, ledger.prepared) is
  'As ledger.post_batch_apply_scan, with one index lookup per account.';

-- What of the sums was not applied.
create or replace function ledger.post_batch_missed(p_sums ledger.prepared, p_applied ledger.missed) returns ledger.missed
language plpgsql immutable security invoker as $$
declare
  v_missed ledger.missed;
begin
  if coalesce(cardinality(p_applied.ids), 0) < coalesce(cardinality(p_sums.ids), 0) then
    select array_agg(k.id), array_agg(k.asset) into v_missed.ids, v_missed.assets
      from (select s.id, s.asset from unnest(p_sums.ids, p_sums.assets) as s (id, asset)
            except
            select a.id, a.asset from unnest(p_applied.ids, p_applied.assets) as a (id, asset)) as k;
  end if;
  return v_missed;
end $$;
comment on function ledger.post_batch_missed(ledger.prepared, ledger.missed) is 'The (account, asset) pairs of p_sums that are not in p_applied; NULLs when there is none.';

-- Widens the items to be judged by those on uncertain accounts and by the rest of their chains, and takes what had been added
-- for them out of the certain accounts again.
create or replace function ledger.post_batch_pull(p_ledger_id integer, p_debits uuid[], p_credits uuid[], p_assets integer[], p_amounts numeric[],
  p_linked boolean[], p_sums ledger.prepared, p_missed ledger.missed)
returns integer[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_pulled integer[];
  v_chains bigint[];
  v_posted constant numeric[] := coalesce(p_sums.posted, p_amounts);
begin
  v_pulled := array(
    select i.n from (select unnest(p_debits) as debit, unnest(p_credits) as credit, unnest(p_assets) as asset,
                            generate_series(1, cardinality(p_debits)) as n) as i
     where p_missed.ids is not null
       and ((i.debit, i.asset) in (select unnest(p_missed.ids), unnest(p_missed.assets))
            or (i.credit, i.asset) in (select unnest(p_missed.ids), unnest(p_missed.assets)))
    union
    select unnest(p_sums.hard));
  if true = any (p_linked) then
    -- A chain is named by how many items before it were not linked.
    v_chains := array(select x.chain from (
      select c.n, count(*) filter (where not c.linked) over (order by c.n) - case when c.linked then 0 else 1 end as chain
        from (select u.n, coalesce(u.linked, false) as linked from unnest(p_linked) with ordinality as u (linked, n)) as c) as x order by x.n);
    v_pulled := array(
      select i.n::integer from unnest(v_chains) with ordinality as i (chain, n)
       where i.chain in (select c.chain from unnest(v_chains) with ordinality as c (chain, n) where c.n in (select unnest(v_pulled))));
  end if;
  update ledger.accounts a
     set debits_pending = a.debits_pending - s.dp, debits_posted = a.debits_posted - s.dpo,
         credits_pending = a.credits_pending - s.cp, credits_posted = a.credits_posted - s.cpo
    from (select e.id, coalesce(sum(e.dpo), 0) as dpo, coalesce(sum(e.dp), 0) as dp, coalesce(sum(e.cpo), 0) as cpo, coalesce(sum(e.cp), 0) as cp
            from (select i.debit as id, i.asset, i.posted as dpo, i.pending as dp, null::numeric as cpo, null::numeric as cp
                    from unnest(p_debits, p_assets, v_posted, p_sums.pending) with ordinality as i (debit, asset, posted, pending, n)
                   where i.n in (select unnest(v_pulled)) and coalesce(i.posted, i.pending) is not null
                  union all
                  select i.credit, i.asset, null, null, i.posted, i.pending
                    from unnest(p_credits, p_assets, v_posted, p_sums.pending) with ordinality as i (credit, asset, posted, pending, n)
                   where i.n in (select unnest(v_pulled)) and coalesce(i.posted, i.pending) is not null) as e
           where (e.id, e.asset) not in (select unnest(p_missed.ids), unnest(p_missed.assets))
           group by e.id) as s
   where a.ledger_id = p_ledger_id and a.account_id = s.id;
  return array(select unnest(v_pulled) order by 1);
end $$;
comment on function ledger.post_batch_pull(integer, uuid[], uuid[], integer[], numeric[], boolean[], ledger.prepared, ledger.missed) is
  'All items to be judged in order, ascending; their amounts are out of the balances again.';

-- Writes clean and judged transfers in the order of their items; an expiry comes before the item that used its money.
create or replace function ledger.post_batch_write(p_ctx base.command_context, p_journal_id uuid, p_journal_ids uuid[], p_ids uuid[], p_kinds text[],
  p_debits uuid[], p_credits uuid[], p_assets integer[], p_amounts numeric[], p_reasons text[], p_timeouts_ms bigint[], p_pulled integer[],
  p_judged ledger.judged)
returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
    timeout_at, journal_id, reason, seq, item, at, flags, reverses_id, effective_at)
  select p_ctx.ledger_id, w.id, w.kind, w.debit, w.credit, w.asset, w.amount, w.pending_id, w.timeout_at,
         coalesce(w.journal, p_journal_ids[w.n], p_journal_id), w.reason, p_ctx.seq,
         o.items + row_number() over (order by w.n, w.k), p_ctx.at, w.flags, w.reverses, w.effective
    from (select i.n, 0 as k, i.id, i.kind, i.debit, i.credit, i.asset, i.amount, null::uuid as pending_id,
                 case when i.timeout_ms > 0 then p_ctx.at + i.timeout_ms * interval '1 millisecond' end as timeout_at, null::uuid as journal,
                 i.reason, 0::smallint as flags, null::uuid as reverses, null::timestamptz as effective
            from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                         unnest(p_assets) as asset, unnest(p_amounts) as amount, unnest(p_timeouts_ms) as timeout_ms, unnest(p_reasons) as reason,
                         generate_series(1, cardinality(p_ids)) as n) as i
           where i.n not in (select unnest(p_pulled))
          union all
          select p_pulled[j.n], j.k, j.id, j.kind, j.debit, j.credit, j.asset, j.amount, j.pending_id, j.timeout_at, j.journal, j.reason, j.flags,
                 j.reverses, j.effective
            from unnest(p_judged.n, p_judged.transfer_id, p_judged.kind, p_judged.debit_account_id, p_judged.credit_account_id, p_judged.asset_id,
                   p_judged.amount, p_judged.pending_id, p_judged.timeout_at, p_judged.journal_id, p_judged.reason, p_judged.flags,
                   p_judged.reverses_id, p_judged.effective_at) with ordinality
                   as j (n, id, kind, debit, credit, asset, amount, pending_id, timeout_at, journal, reason, flags, reverses, effective, k)) as w
         cross join (select coalesce((select max(t.item) from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.seq = p_ctx.seq), 0) as items offset 0) as o;
end $$;
comment on function ledger.post_batch_write(base.command_context, uuid, uuid[], uuid[], text[], uuid[], uuid[], integer[], numeric[], text[],
  bigint[], integer[], ledger.judged) is 'Inserts the clean items that were not pulled and the judged transfers, numbered through in item order.';
