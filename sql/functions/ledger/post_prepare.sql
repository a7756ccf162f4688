-- Everything about a batch that needs no look at the books: which items must be judged in order whatever the accounts hold, and
-- what the clean ones add to each account. A caller that has its own transaction does this before it takes the ledger's lock, so
-- that two sessions prepare and post in turn. p_known: items whose ids turned out to be known to the ledger.
create or replace function ledger.post_prepare(p_at timestamptz, p_ids uuid[], p_kinds text[], p_debits uuid[], p_credits uuid[],
  p_assets integer[], p_amounts numeric[], p_reasons text[], p_pending_ids uuid[], p_timeouts_ms bigint[], p_linked boolean[],
  p_flags smallint[], p_reverses uuid[], p_effective timestamptz[], p_known integer[])
returns ledger.prepared
language plpgsql immutable security invoker set plan_cache_mode = force_generic_plan set enable_hashjoin = on set work_mem = '64MB' as $$
declare
  v_n constant integer := cardinality(p_ids);
  v_ms constant bigint := (extract(epoch from p_at) * 1000)::bigint;
  -- UUIDv7 begins with its milliseconds, so the window of base.id_in_window is a range of ids.
  v_low constant uuid := (lpad(to_hex(greatest(v_ms - 86400000, 0)), 12, '0') || '00000000000000000000')::uuid;
  v_high constant uuid := (lpad(to_hex(v_ms + 86400000), 12, '0') || 'ffffffffffffffffffff')::uuid;
  s ledger.prepared;
  v_refs uuid[];
begin
  s.at := p_at;
  select array_agg(i.n) filter (where (
           i.id >= v_low and i.id <= v_high and get_byte(uuid_send(i.id), 6) & 240 = 112 and get_byte(uuid_send(i.id), 8) & 192 = 128
           and i.debit <> i.credit and i.asset is not null and i.amount > 0 and i.amount <= 9999999999999999999999999999
           and i.amount = trunc(i.amount) and i.reason <> '' and i.pending_id is null and i.reverses is null and i.effective is null
           and coalesce(i.flags, 0) = 0
           and (i.kind = 'plain' and coalesce(i.timeout_ms, 0) = 0
                or i.kind = 'pending' and coalesce(i.timeout_ms, 0) between 0 and 315360000000000)) is not true),
         coalesce(bool_or(i.kind = 'pending'), false),
         (array_agg(i.id order by i.id))[1]
    into s.hard, s.any_pending, s.lowest
    from (select unnest(p_ids) as id, unnest(p_kinds) as kind, unnest(p_debits) as debit, unnest(p_credits) as credit,
                 unnest(p_assets) as asset, unnest(p_amounts) as amount, unnest(p_reasons) as reason, unnest(p_pending_ids) as pending_id,
                 unnest(p_timeouts_ms) as timeout_ms, unnest(p_flags) as flags, unnest(p_reverses) as reverses,
                 unnest(p_effective) as effective, generate_series(1, v_n) as n) as i;
  if cardinality(p_known) > 0 then
    s.hard := s.hard || p_known;
  end if;
  if (select count(*) from (select distinct unnest(p_ids)) as d) < v_n then
    s.hard := s.hard || array(select unnest(d.n) from (
      select array_agg(i.n::integer) as n from unnest(p_ids) with ordinality as i (id, n) group by i.id having count(*) > 1) as d);
  end if;
  if p_linked[v_n] then
    s.hard := s.hard || v_n;
  end if;
  if s.hard is not null then
    v_refs := array(select unnest(p_pending_ids) union select unnest(p_reverses));
    s.hard := s.hard || array(select i.n::integer from unnest(p_ids) with ordinality as i (id, n) where i.id in (select unnest(v_refs)));
  end if;
  if s.hard is null and not s.any_pending then
    select array_agg(e.id), array_agg(e.asset), array_agg(e.d), array_agg(e.c)
      into s.ids, s.assets, s.debits_posted, s.credits_posted
      from (select x.id, x.asset, coalesce(sum(x.d), 0) as d, coalesce(sum(x.c), 0) as c
              from (select unnest(p_debits) as id, unnest(p_assets) as asset, unnest(p_amounts) as d, null::numeric as c
                    union all
                    select unnest(p_credits), unnest(p_assets), null, unnest(p_amounts)) as x
             group by x.id, x.asset) as e;
    return s;
  end if;
  select x.posted, x.pending, x.extra into s.posted, s.pending, s.extra from ledger.post_prepare_sides(p_kinds, p_amounts, p_flags, s.hard) as x;
  select array_agg(e.id), array_agg(e.asset), array_agg(e.dpo), array_agg(e.dp), array_agg(e.dx), array_agg(e.cpo), array_agg(e.cp), array_agg(e.cx)
    into s.ids, s.assets, s.debits_posted, s.debits_pending, s.debits_extra, s.credits_posted, s.credits_pending, s.credits_extra
    from (select x.id, x.asset, coalesce(sum(x.dpo), 0) as dpo, coalesce(sum(x.dp), 0) as dp, coalesce(sum(x.dx), 0) as dx,
                 coalesce(sum(x.cpo), 0) as cpo, coalesce(sum(x.cp), 0) as cp, coalesce(sum(x.cx), 0) as cx
            from (select unnest(p_debits) as id, unnest(p_assets) as asset, unnest(s.posted) as dpo, unnest(s.pending) as dp,
                         unnest(s.extra) as dx, null::numeric as cpo, null::numeric as cp, null::numeric as cx
                  union all
                  select unnest(p_credits), unnest(p_assets), null, null, null, unnest(s.posted), unnest(s.pending), unnest(s.extra)) as x
           where x.id is not null and x.asset is not null
           group by x.id, x.asset
          having count(coalesce(x.dpo, x.dp, x.cpo, x.cp)) > 0) as e;
  return s;
end $$;
comment on function ledger.post_prepare(timestamptz, uuid[], text[], uuid[], uuid[], integer[], numeric[], text[], uuid[], bigint[],
  boolean[], smallint[], uuid[], timestamptz[], integer[]) is
  'Which items of a batch cannot be settled as a set at ledger time p_at, and the sums per account and asset of those that can. Reads no table.';

-- What each item adds to its accounts: posted and pending of clean items; of the others what they might add at most, which
-- only counts when an account is asked whether it is certain. Infinite where it depends on balances, or closes the account.
create or replace function ledger.post_prepare_sides(p_kinds text[], p_amounts numeric[], p_flags smallint[], p_hard integer[],
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
comment on function ledger.post_prepare_sides(text[], numeric[], smallint[], integer[]) is
  'Per item, in order: posted and pending amounts of clean items, and an upper bound for what the others might add (Infinity: unknown); NULL: nothing.';
