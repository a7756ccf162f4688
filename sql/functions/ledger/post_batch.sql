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
create or replace function ledger.post_batch(p_ctx base.command_context, p_journal_id uuid, p_journal_ids uuid[], p_ids uuid[],
  p_kinds text[], p_debits uuid[], p_credits uuid[], p_assets integer[], p_amounts numeric[], p_reasons text[],
  p_pending_ids uuid[], p_timeouts_ms bigint[], p_linked boolean[], p_flags smallint[], p_reverses uuid[], p_effective timestamptz[])
returns text[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  v_n constant integer := cardinality(p_ids);
  v_hard integer[];
  v_any_pending boolean;
  v_posted numeric[] := p_amounts;
  v_pending numeric[];
  v_extra numeric[];
  v_missed_ids uuid[];
  v_missed_assets integer[];
  v_pulled integer[];
  v_judged ledger.judged;
  v_results text[];
begin
  select c.hard, c.any_pending into v_hard, v_any_pending
    from ledger.post_batch_classify(p_ctx.ledger_id, p_ctx.at, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons,
           p_pending_ids, p_timeouts_ms, p_linked, p_flags, p_reverses, p_effective) as c;
  if v_hard is not null or v_any_pending then
    select s.posted, s.pending, s.extra into v_posted, v_pending, v_extra
      from ledger.post_batch_sums(p_kinds, p_amounts, p_flags, v_hard) as s;
  end if;
  -- A small ledger is read in physical order and its rows are updated in that order: half the time of a lookup for each.
  if (select c.reltuples from pg_catalog.pg_class c where c.oid = 'ledger.accounts'::regclass) <= 12 * v_n then
    select a.missed_ids, a.missed_assets into v_missed_ids, v_missed_assets
      from ledger.post_batch_apply_scan(p_ctx.ledger_id, p_debits, p_credits, p_assets, v_posted, v_pending, v_extra) as a;
  else
    select a.missed_ids, a.missed_assets into v_missed_ids, v_missed_assets
      from ledger.post_batch_apply_lookup(p_ctx.ledger_id, p_debits, p_credits, p_assets, v_posted, v_pending, v_extra) as a;
  end if;
  if v_hard is null and v_missed_ids is null then
    insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, timeout_at,
      journal_id, reason, seq, item, at)
    select p_ctx.ledger_id, i.id, i.kind, i.debit, i.credit, i.asset, i.amount,
           case when i.timeout_ms > 0 then p_ctx.at + i.timeout_ms * interval '1 millisecond' end,
           coalesce(i.journal, p_journal_id), i.reason, p_ctx.seq, i.n + o.items, p_ctx.at
      from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                   unnest(p_assets) as asset, unnest(p_amounts) as amount, unnest(p_timeouts_ms) as timeout_ms,
                   unnest(p_journal_ids) as journal, unnest(p_reasons) as reason, generate_series(1, v_n) as n) as i
           cross join (select ledger.items_of(p_ctx.ledger_id, p_ctx.seq) as items offset 0) as o;
    v_results := array_fill('ok'::text, array[v_n]);
  else
    v_pulled := ledger.post_batch_pull(p_ctx.ledger_id, p_debits, p_credits, p_assets, p_linked, v_posted, v_pending, v_hard,
      v_missed_ids, v_missed_assets);
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
  if v_any_pending then
    insert into ledger.holds (ledger_id, transfer_id, debit_account_id, credit_account_id, amount, timeout_at)
    select p_ctx.ledger_id, i.id, i.debit, i.credit, i.amount, case when i.timeout_ms > 0 then p_ctx.at + i.timeout_ms * interval '1 millisecond' end
      from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                   unnest(p_amounts) as amount, unnest(p_timeouts_ms) as timeout_ms, generate_series(1, v_n) as n) as i
     where i.kind = 'pending' and i.n not in (select unnest(v_pulled));
  end if;
  if 'ok' = any (v_results) then
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
  uuid[], bigint[], boolean[], smallint[], uuid[], timestamptz[]) is
  'Posts a batch given as columns; one result per item, in order, as ledger.post_transfers. Arrays have the same length or are NULL where no item uses them; p_journal_ids NULL: all belong to p_journal_id. The caller holds the ledger''s row lock.';

-- Which items are not clean by themselves (NULL: all are), and whether any is pending.
create or replace function ledger.post_batch_classify(p_ledger_id integer, p_at timestamptz, p_ids uuid[], p_kinds text[], p_debits uuid[],
  p_credits uuid[], p_assets integer[], p_amounts numeric[], p_reasons text[], p_pending_ids uuid[], p_timeouts_ms bigint[],
  p_linked boolean[], p_flags smallint[], p_reverses uuid[], p_effective timestamptz[], out hard integer[], out any_pending boolean)
language plpgsql stable security invoker as $$
declare
  v_n constant integer := cardinality(p_ids);
  v_ms constant bigint := (extract(epoch from p_at) * 1000)::bigint;
  -- UUIDv7 begins with its milliseconds, so the window of base.id_in_window is a range of ids.
  v_low constant uuid := (lpad(to_hex(greatest(v_ms - 86400000, 0)), 12, '0') || '00000000000000000000')::uuid;
  v_high constant uuid := (lpad(to_hex(v_ms + 86400000), 12, '0') || 'ffffffffffffffffffff')::uuid;
  v_above uuid;
  v_any_below boolean;
  v_refs uuid[];
begin
  v_above := greatest(
    (select t.transfer_id from ledger.transfers t where t.ledger_id = p_ledger_id order by t.ledger_id desc, t.transfer_id desc limit 1),
    (select f.transfer_id from ledger.failed_transfers f where f.ledger_id = p_ledger_id order by f.ledger_id desc, f.transfer_id desc limit 1));
  select array_agg(i.n) filter (where (
           i.id >= v_low and i.id <= v_high and get_byte(uuid_send(i.id), 6) & 240 = 112 and get_byte(uuid_send(i.id), 8) & 192 = 128
           and i.debit <> i.credit and i.asset is not null and i.amount > 0 and i.amount <= 9999999999999999999999999999 and i.amount = trunc(i.amount)
           and i.reason <> '' and i.pending_id is null and i.reverses is null and i.effective is null and coalesce(i.flags, 0) = 0
           and (i.kind = 'plain' and coalesce(i.timeout_ms, 0) = 0
                or i.kind = 'pending' and coalesce(i.timeout_ms, 0) between 0 and 315360000000000)) is not true),
         coalesce(bool_or(i.kind = 'pending'), false), bool_or(i.id <= v_above)
    into hard, any_pending, v_any_below
    from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                 unnest(p_assets) as asset, unnest(p_amounts) as amount, unnest(p_reasons) as reason, unnest(p_pending_ids) as pending_id,
                 unnest(p_timeouts_ms) as timeout_ms, unnest(p_flags) as flags, unnest(p_reverses) as reverses,
                 unnest(p_effective) as effective, generate_series(1, v_n) as n) as i;
  if v_any_below then
    hard := hard || array(select i.n::integer from unnest(p_ids) with ordinality as i (id, n)
      where i.id <= v_above
        and (exists (select from ledger.transfers t where t.ledger_id = p_ledger_id and t.transfer_id = i.id)
             or exists (select from ledger.failed_transfers f where f.ledger_id = p_ledger_id and f.transfer_id = i.id)));
    hard := nullif(hard, '{}');
  end if;
  if (select count(*) from (select distinct unnest(p_ids)) as d) < v_n then
    hard := hard || array(select unnest(d.n) from (
      select array_agg(i.n::integer) as n from unnest(p_ids) with ordinality as i (id, n) group by i.id having count(*) > 1) as d);
  end if;
  if hard is not null then
    v_refs := array(select unnest(p_pending_ids) union select unnest(p_reverses));
    hard := hard || array(select i.n::integer from unnest(p_ids) with ordinality as i (id, n) where i.id in (select unnest(v_refs)));
  end if;
  if p_linked[v_n] then
    hard := hard || v_n;
  end if;
end $$;
comment on function ledger.post_batch_classify(integer, timestamptz, uuid[], text[], uuid[], uuid[], integer[], numeric[], text[], uuid[],
  bigint[], boolean[], smallint[], uuid[], timestamptz[]) is
  'Items (1-based, perhaps repeated) that must be judged in order whatever the accounts hold; NULL: none. any_pending: some item reserves.';

-- What each item adds to its accounts: posted and pending of clean items; of the others what they might add at most, which
-- only counts when an account is asked whether it is certain. Infinite where it depends on balances, or closes the account.
create or replace function ledger.post_batch_sums(p_kinds text[], p_amounts numeric[], p_flags smallint[], p_hard integer[],
  out posted numeric[], out pending numeric[], out extra numeric[])
language sql immutable security invoker as $$
  select array_agg(case when h.n is null and i.kind = 'plain' then i.amount end order by i.n),
         array_agg(case when h.n is null and i.kind = 'pending' then i.amount end order by i.n),
         array_agg(case when h.n is null or i.kind not in ('plain', 'pending') then null
                        when i.flags <> 0 then 'Infinity'
                        when i.amount > 0 and i.amount <= 9999999999999999999999999999 then i.amount end order by i.n)
    from unnest(p_kinds, p_amounts, p_flags) with ordinality as i (kind, amount, flags, n)
    left join (select distinct unnest(p_hard) as n) as h on h.n = i.n
$$;
comment on function ledger.post_batch_sums(text[], numeric[], smallint[], integer[]) is
  'Per item, in order: posted and pending amounts of clean items, and an upper bound for what the others might add (Infinity: unknown); NULL: nothing.';

-- Adds the sums to every account that is certain, and names those that are not. Debits count against a limit before any
-- credit does. Written twice for the sake of the plan: this one reads all accounts of the ledger, in physical order.
create or replace function ledger.post_batch_apply_scan(p_ledger_id integer, p_debits uuid[], p_credits uuid[], p_assets integer[],
  p_posted numeric[], p_pending numeric[], p_extra numeric[], out missed_ids uuid[], out missed_assets integer[])
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set enable_nestloop = off set enable_mergejoin = off set enable_hashjoin = on set enable_seqscan = on as $$
begin
  with sums as materialized (
    select e.id, e.asset, coalesce(sum(e.dpo), 0) as dpo, coalesce(sum(e.dp), 0) as dp, coalesce(sum(e.dx), 0) as dx,
           coalesce(sum(e.cpo), 0) as cpo, coalesce(sum(e.cp), 0) as cp, coalesce(sum(e.cx), 0) as cx
      from (select unnest(p_debits) as id, unnest(p_assets) as asset, unnest(p_posted) as dpo, unnest(p_pending) as dp, unnest(p_extra) as dx,
                   null::numeric as cpo, null::numeric as cp, null::numeric as cx
            union all
            select unnest(p_credits), unnest(p_assets), null, null, null, unnest(p_posted), unnest(p_pending), unnest(p_extra)) as e
     where e.id is not null and e.asset is not null
     group by e.id, e.asset
    having count(coalesce(e.dpo, e.dp, e.cpo, e.cp)) > 0),
  applied as (
    update ledger.accounts a
       set debits_pending = a.debits_pending + s.dp, debits_posted = a.debits_posted + s.dpo,
           credits_pending = a.credits_pending + s.cp, credits_posted = a.credits_posted + s.cpo
      from sums s
     where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
       and a.debits_pending + a.debits_posted + s.dp + s.dpo + s.dx
             <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
       and a.credits_pending + a.credits_posted + s.cp + s.cpo + s.cx
             <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
    returning a.account_id, a.asset_id)
  select m.ids, m.assets into missed_ids, missed_assets
    from (select (select count(*) from sums) > (select count(*) from applied) as some) as x
    left join lateral (
      select array_agg(s.id) as ids, array_agg(s.asset) as assets from sums s
       where not exists (select from applied a where a.account_id = s.id and a.asset_id = s.asset)) as m on x.some;
end $$;
comment on function ledger.post_batch_apply_scan(integer, uuid[], uuid[], integer[], numeric[], numeric[], numeric[]) is
  'Adds a batch''s sums to the certain accounts; returns the (account, asset) pairs of the others, NULL when there is none. For ledgers with few accounts: reads them all.';

-- The same by lookups, for ledgers with far more accounts than the batch has items.
create or replace function ledger.post_batch_apply_lookup(p_ledger_id integer, p_debits uuid[], p_credits uuid[], p_assets integer[],
  p_posted numeric[], p_pending numeric[], p_extra numeric[], out missed_ids uuid[], out missed_assets integer[])
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
begin
  with sums as materialized (
    select e.id, e.asset, coalesce(sum(e.dpo), 0) as dpo, coalesce(sum(e.dp), 0) as dp, coalesce(sum(e.dx), 0) as dx,
           coalesce(sum(e.cpo), 0) as cpo, coalesce(sum(e.cp), 0) as cp, coalesce(sum(e.cx), 0) as cx
      from (select unnest(p_debits) as id, unnest(p_assets) as asset, unnest(p_posted) as dpo, unnest(p_pending) as dp, unnest(p_extra) as dx,
                   null::numeric as cpo, null::numeric as cp, null::numeric as cx
            union all
            select unnest(p_credits), unnest(p_assets), null, null, null, unnest(p_posted), unnest(p_pending), unnest(p_extra)) as e
     where e.id is not null and e.asset is not null
     group by e.id, e.asset
    having count(coalesce(e.dpo, e.dp, e.cpo, e.cp)) > 0
     order by e.id, e.asset),
  applied as (
    update ledger.accounts a
       set debits_pending = a.debits_pending + s.dp, debits_posted = a.debits_posted + s.dpo,
           credits_pending = a.credits_pending + s.cp, credits_posted = a.credits_posted + s.cpo
      from sums s
     where a.ledger_id = p_ledger_id and a.account_id = s.id and a.asset_id = s.asset and not a.closed
       and a.debits_pending + a.debits_posted + s.dp + s.dpo + s.dx
             <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end
       and a.credits_pending + a.credits_posted + s.cp + s.cpo + s.cx
             <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end
    returning a.account_id, a.asset_id)
  select m.ids, m.assets into missed_ids, missed_assets
    from (select (select count(*) from sums) > (select count(*) from applied) as some) as x
    left join lateral (
      select array_agg(k.id) as ids, array_agg(k.asset) as assets
        from (select s.id, s.asset from sums s except select a.account_id, a.asset_id from applied a) as k) as m on x.some;
end $$;
comment on function ledger.post_batch_apply_lookup(integer, uuid[], uuid[], integer[], numeric[], numeric[], numeric[]) is
  'As ledger.post_batch_apply_scan, with one index lookup per account.';

-- Widens the items to be judged by those on uncertain accounts and by the rest of their chains, and takes what had been added
-- for them out of the certain accounts again.
create or replace function ledger.post_batch_pull(p_ledger_id integer, p_debits uuid[], p_credits uuid[], p_assets integer[], p_linked boolean[],
  p_posted numeric[], p_pending numeric[], p_hard integer[], p_missed_ids uuid[], p_missed_assets integer[])
returns integer[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_pulled integer[];
  v_chains bigint[];
begin
  v_pulled := array(
    select i.n from (select unnest(p_debits) as debit, unnest(p_credits) as credit, unnest(p_assets) as asset,
                            generate_series(1, cardinality(p_debits)) as n) as i
     where p_missed_ids is not null
       and ((i.debit, i.asset) in (select unnest(p_missed_ids), unnest(p_missed_assets))
            or (i.credit, i.asset) in (select unnest(p_missed_ids), unnest(p_missed_assets)))
    union
    select unnest(p_hard));
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
                    from unnest(p_debits, p_assets, p_posted, p_pending) with ordinality as i (debit, asset, posted, pending, n)
                   where i.n in (select unnest(v_pulled)) and coalesce(i.posted, i.pending) is not null
                  union all
                  select i.credit, i.asset, null, null, i.posted, i.pending
                    from unnest(p_credits, p_assets, p_posted, p_pending) with ordinality as i (credit, asset, posted, pending, n)
                   where i.n in (select unnest(v_pulled)) and coalesce(i.posted, i.pending) is not null) as e
           where (e.id, e.asset) not in (select unnest(p_missed_ids), unnest(p_missed_assets))
           group by e.id) as s
   where a.ledger_id = p_ledger_id and a.account_id = s.id;
  return array(select unnest(v_pulled) order by 1);
end $$;
comment on function ledger.post_batch_pull(integer, uuid[], uuid[], integer[], boolean[], numeric[], numeric[], integer[], uuid[], integer[]) is
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
         cross join (select ledger.items_of(p_ctx.ledger_id, p_ctx.seq) as items offset 0) as o;
end $$;
comment on function ledger.post_batch_write(base.command_context, uuid, uuid[], uuid[], text[], uuid[], uuid[], integer[], numeric[], text[],
  bigint[], integer[], ledger.judged) is 'Inserts the clean items that were not pulled and the judged transfers, numbered through in item order.';
