-- The short way for a single clean transfer between certain accounts (ledger.post_batch says what these are), which is most of
-- what a market posts: five statements instead of a dozen. Whatever it is not sure of it leaves, with nothing changed, to
-- ledger.judge, so it holds no rule of its own about refusals.
create or replace function ledger.post_one(p_ctx base.command_context, p_journal_id uuid, p_item ledger.transfer_input) returns boolean
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if (p_item.kind = 'plain' and p_item.debit_account_id <> p_item.credit_account_id and p_item.asset_id is not null and p_item.amount > 0
      and p_item.amount <= 9999999999999999999999999999 and p_item.amount = trunc(p_item.amount) and p_item.reason <> ''
      and p_item.pending_id is null and p_item.reverses_id is null and p_item.effective_at is null and coalesce(p_item.flags, 0) = 0
      and coalesce(p_item.timeout_ms, 0) = 0 and not coalesce(p_item.linked, false)
      and base.id_in_window(p_item.transfer_id, p_ctx.at)) is not true then
    return false;
  elsif exists (select from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.transfer_id = p_item.transfer_id)
     or exists (select from ledger.failed_transfers f where f.ledger_id = p_ctx.ledger_id and f.transfer_id = p_item.transfer_id) then
    return false;
  end if;
  update ledger.accounts a set debits_posted = a.debits_posted + p_item.amount
   where a.ledger_id = p_ctx.ledger_id and a.account_id = p_item.debit_account_id and a.asset_id = p_item.asset_id and not a.closed
     and a.debits_pending + a.debits_posted + p_item.amount
           <= case when a.debits_must_not_exceed_credits then a.credits_posted else 9999999999999999999999999999 end;
  if not found then
    return false;
  end if;
  update ledger.accounts a set credits_posted = a.credits_posted + p_item.amount
   where a.ledger_id = p_ctx.ledger_id and a.account_id = p_item.credit_account_id and a.asset_id = p_item.asset_id and not a.closed
     and a.credits_pending + a.credits_posted + p_item.amount
           <= case when a.credits_must_not_exceed_debits then a.debits_posted else 9999999999999999999999999999 end;
  if not found then
    update ledger.accounts a set debits_posted = a.debits_posted - p_item.amount
     where a.ledger_id = p_ctx.ledger_id and a.account_id = p_item.debit_account_id;
    return false;
  end if;
  insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, journal_id, reason,
    seq, item, at)
  values (p_ctx.ledger_id, p_item.transfer_id, 'plain', p_item.debit_account_id, p_item.credit_account_id, p_item.asset_id, p_item.amount,
    p_journal_id, p_item.reason, p_ctx.seq, 
    -- After what the command has posted already: a probe of the index that mostly finds nothing.
    coalesce((select max(t.item) from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.seq = p_ctx.seq), 0) + 1, p_ctx.at);
  if p_journal_id <> p_item.transfer_id then
    insert into ledger.journals (ledger_id, journal_id, seq) values (p_ctx.ledger_id, p_journal_id, p_ctx.seq) on conflict do nothing;
  end if;
  return true;
end $$;
comment on function ledger.post_one(base.command_context, uuid, ledger.transfer_input) is
  'Posts one clean plain transfer between certain accounts and returns true; false: it has changed nothing and ledger.judge must see the item. The caller holds the ledger''s row lock.';
