-- The log's head for a checkpoint that is about to be signed with a time. It waits for the batch in flight: whoever took the
-- time before this call, and lets only commands with a later deadline begin after it, signs no checkpoint that lacks a receipt
-- which was due by then. The lock is let go with the statement; the next batch waits for nothing else.
create or replace function receipts.read_settled_log(p_ledger_id integer)
returns table (size bigint, root bytea, origin text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  -- Two statements: the second one's snapshot is taken when the lock is held, so it sees what the batch committed.
  perform from base.ledgers b where b.ledger_id = p_ledger_id for share;
  return query select l.size, l.root, b.origin
    from receipts.logs l join base.ledgers b on b.ledger_id = l.ledger_id where l.ledger_id = p_ledger_id;
end $$;
comment on function receipts.read_settled_log(integer) is
  'Size, root and origin of a ledger''s log after the batch in flight has ended; no row: no such ledger.';
