-- Posts a batch without a command: for benchmarks, and for programs that embed the books without a market. There is no
-- receipt, so only the engine may call it, and never in a ledger that has a command log.
create or replace function ledger.post_direct(p_ledger_id integer, p_at timestamptz, p_journal_ids uuid[], p_ids uuid[], p_kinds text[],
  p_debits uuid[], p_credits uuid[], p_assets integer[], p_amounts numeric[], p_reasons text[], p_pending_ids uuid[],
  p_timeouts_ms bigint[], p_linked boolean[], p_flags smallint[], p_reverses uuid[], p_effective timestamptz[])
returns text[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ctx base.command_context;
  v_prepared ledger.prepared;
begin
  -- Before the lock, so that two sessions prepare and post in turn.
  if cardinality(p_ids) > 12 then
    v_prepared := ledger.post_prepare(p_at, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons, p_pending_ids,
      p_timeouts_ms, p_linked, p_flags, p_reverses, p_effective, null);
  end if;
  -- Locks the ledger's row: batches run one after the other, and ledger time is monotone.
  update base.ledgers l set last_seq = l.last_seq + 1, last_time = greatest(l.last_time, p_at)
   where l.ledger_id = p_ledger_id and not exists (select from base.commands c where c.ledger_id = p_ledger_id)
   returning l.last_seq, l.last_time into v_ctx.seq, v_ctx.at;
  if not found then
    if exists (select from base.ledgers l where l.ledger_id = p_ledger_id) then
      raise exception using errcode = 'UL903', message = format('ledger %s has a command log: post by command', p_ledger_id);
    end if;
    raise exception using errcode = 'UB401', message = format('there is no ledger %s', p_ledger_id);
  end if;
  v_ctx.ledger_id := p_ledger_id;
  v_ctx.command_id := base.derive_id(coalesce(p_ids[1], '00000000-0000-7000-8000-000000000000'), 'direct', (v_ctx.seq & 2147483647)::integer);
  if cardinality(p_ids) = 1 and ledger.post_one(v_ctx, coalesce(p_journal_ids[1], v_ctx.command_id), row(p_ids[1], p_kinds[1], p_debits[1],
       p_credits[1], p_assets[1], p_amounts[1], p_pending_ids[1], p_timeouts_ms[1], p_linked[1], p_reasons[1], p_flags[1], p_reverses[1],
       p_effective[1])::ledger.transfer_input) then
    return array['ok'];
  elsif cardinality(p_ids) <= 12 then
    return ledger.post_direct_few(v_ctx, p_journal_ids, array(
      select row(i.id, i.kind, i.debit, i.credit, i.asset, i.amount, i.pending_id, i.timeout_ms, i.linked, i.reason, i.flags, i.reverses,
                 i.effective)::ledger.transfer_input
        from unnest(p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_pending_ids, p_timeouts_ms, p_linked, p_reasons, p_flags,
               p_reverses, p_effective) as i (id, kind, debit, credit, asset, amount, pending_id, timeout_ms, linked, reason, flags, reverses,
               effective)));
  end if;
  return ledger.post_batch(v_ctx, v_ctx.command_id, p_journal_ids, p_ids, p_kinds, p_debits, p_credits, p_assets, p_amounts, p_reasons,
    p_pending_ids, p_timeouts_ms, p_linked, p_flags, p_reverses, p_effective, v_prepared);
end $$;
comment on function ledger.post_direct(integer, timestamptz, uuid[], uuid[], text[], uuid[], uuid[], integer[], numeric[], text[], uuid[],
  bigint[], boolean[], smallint[], uuid[], timestamptz[]) is
  'Posts a batch at ledger time max(p_at, last) without command and receipt; one result per item. p_journal_ids NULL: one journal for all. Raises UB401 without the ledger, UL903 where a command log exists.';

-- A few items are judged in order at once: finding out what a set could settle would cost more.
create or replace function ledger.post_direct_few(p_ctx base.command_context, p_journal_ids uuid[], p_items ledger.transfer_input[])
returns text[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_judged ledger.judged;
begin
  v_judged := ledger.judge(p_ctx, p_items);
  if v_judged.n is not null then
    if p_journal_ids is not null then
      v_judged.journal_id := array(select coalesce(o.expiry_of, p_journal_ids[o.n])
        from unnest(v_judged.journal_id, v_judged.n) with ordinality as o (expiry_of, n, k) order by o.k);
    end if;
    perform ledger.post_transfers_write(p_ctx, p_ctx.command_id, v_judged);
    insert into ledger.journals (ledger_id, journal_id, seq)
    select distinct p_ctx.ledger_id, coalesce(o.journal, p_ctx.command_id), p_ctx.seq
      from unnest(v_judged.journal_id, v_judged.transfer_id) as o (journal, id) where o.journal is distinct from o.id
    on conflict do nothing;
  end if;
  return v_judged.results;
end $$;
comment on function ledger.post_direct_few(base.command_context, uuid[], ledger.transfer_input[]) is
  'Posts up to a dozen items one by one, each in its own journal or all in the command''s.';
