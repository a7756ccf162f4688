-- Posts a batch of transfers and returns one result per item, in order. Nothing but this and ledger.post_batch writes
-- transfers, holds or balances. Items are judged as if one after the other; a linked chain succeeds or fails together;
-- repeating an identical item answers 'exists'.
-- The caller holds the ledger's row lock: so no account needs a lock of its own, and what is read once stays true.
create or replace function ledger.post_transfers(p_ctx base.command_context, p_journal_id uuid, p_items ledger.transfer_input[])
returns text[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  v_judged ledger.judged;
begin
  if coalesce(cardinality(p_items), 0) = 0 then
    return '{}';
  elsif cardinality(p_items) > 12 then
    return ledger.post_transfers_many(p_ctx, p_journal_id, p_items);
  elsif cardinality(p_items) = 1 and ledger.post_one(p_ctx, p_journal_id, p_items[1]) then
    return array['ok'];
  end if;
  v_judged := ledger.judge(p_ctx, p_items);
  if v_judged.n is not null then
    perform ledger.post_transfers_write(p_ctx, p_journal_id, v_judged);
    -- An expiry belongs to its hold's journal.
    insert into ledger.journals (ledger_id, journal_id, seq)
    select distinct p_ctx.ledger_id, coalesce(o.expiry_of, p_journal_id), p_ctx.seq from unnest(v_judged.journal_id) as o (expiry_of)
    on conflict do nothing;
  end if;
  return v_judged.results;
end $$;
comment on function ledger.post_transfers(base.command_context, uuid, ledger.transfer_input[]) is
  'Posts a batch; one result per item, in order: ok, exists, exists_with_different_*, id_already_failed, linked_event_failed, exceeds_credits … (all in docs/ERRORS.md). The caller holds the ledger''s row lock. Nothing is raised for a refused item, and it changes neither balances nor holds.';

-- Writes transfers that were judged one by one. One command may post more than once; its items are numbered through.
create or replace function ledger.post_transfers_write(p_ctx base.command_context, p_journal_id uuid, p_judged ledger.judged) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
    timeout_at, journal_id, reason, seq, item, at, flags, reverses_id, effective_at)
  select p_ctx.ledger_id, o.transfer_id, o.kind, o.debit, o.credit, o.asset_id, o.amount, o.pending_id, o.timeout_at,
         coalesce(o.journal_id, p_journal_id), o.reason, p_ctx.seq, o.k + x.items, p_ctx.at,
         o.flags, o.reverses_id, o.effective_at
    from unnest(p_judged.transfer_id, p_judged.kind, p_judged.debit_account_id, p_judged.credit_account_id, p_judged.asset_id,
           p_judged.amount, p_judged.pending_id, p_judged.timeout_at, p_judged.journal_id, p_judged.reason, p_judged.flags,
           p_judged.reverses_id, p_judged.effective_at) with ordinality
           as o (transfer_id, kind, debit, credit, asset_id, amount, pending_id, timeout_at, journal_id, reason, flags, reverses_id, effective_at, k)
         cross join (select coalesce((select max(t.item) from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.seq = p_ctx.seq), 0) as items offset 0) as x;
end $$;
comment on function ledger.post_transfers_write(base.command_context, uuid, ledger.judged) is
  'Inserts judged transfers, numbered after those that the command has posted already.';

-- Turns the items into columns, for the set-based way.
create or replace function ledger.post_transfers_many(p_ctx base.command_context, p_journal_id uuid, p_items ledger.transfer_input[])
returns text[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c record;
begin
  select array_agg(i.transfer_id order by i.n) as ids, array_agg(i.kind order by i.n) as kinds, array_agg(i.debit_account_id order by i.n) as debits,
         array_agg(i.credit_account_id order by i.n) as credits, array_agg(i.asset_id order by i.n) as assets,
         array_agg(i.amount order by i.n) as amounts, array_agg(i.reason order by i.n) as reasons, array_agg(i.pending_id order by i.n) as pending_ids,
         array_agg(i.timeout_ms order by i.n) as timeouts_ms, array_agg(i.linked order by i.n) as linked, array_agg(i.flags order by i.n) as flags,
         array_agg(i.reverses_id order by i.n) as reverses, array_agg(i.effective_at order by i.n) as effective into c
    from unnest(p_items) with ordinality as i (transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_ms, linked, reason, flags, reverses_id, effective_at, n);
  return ledger.post_batch(p_ctx, p_journal_id, null, c.ids, c.kinds, c.debits, c.credits, c.assets, c.amounts, c.reasons, c.pending_ids,
    c.timeouts_ms, c.linked, c.flags, c.reverses, c.effective,
    ledger.post_prepare(p_ctx.at, c.ids, c.kinds, c.debits, c.credits, c.assets, c.amounts, c.reasons, c.pending_ids, c.timeouts_ms,
      c.linked, c.flags, c.reverses, c.effective, null));
end $$;
comment on function ledger.post_transfers_many(base.command_context, uuid, ledger.transfer_input[]) is
  'As ledger.post_transfers, by way of ledger.post_batch.';
