-- Keeps a signed checkpoint. Derived upkeep, not a command; it can only state what the log says now.
create or replace function receipts.store_checkpoint(p_ledger_id integer, p_size bigint, p_root bytea, p_note text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_size > (select l.size from receipts.logs l where l.ledger_id = p_ledger_id) then
    raise exception using errcode = 'UR902', message = 'a checkpoint cannot be ahead of the log';
  end if;
  insert into receipts.checkpoints (ledger_id, size, root, note) values (p_ledger_id, p_size, p_root, p_note) on conflict do nothing;
  return found;
end $$;
comment on function receipts.store_checkpoint(integer, bigint, bytea, text) is
  'Stores a signed checkpoint; false when that size has one. Raises UR902 ahead of the log.';
