-- Keeps what a witness said of one of our checkpoints. Derived upkeep, not a command; whoever stores it has verified it.
create or replace function receipts.store_cosignature(p_ledger_id integer, p_size bigint, p_witness text, p_time_s bigint, p_line text)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into receipts.cosignatures (ledger_id, size, witness, time_s, line)
  values (p_ledger_id, p_size, p_witness, p_time_s, p_line) on conflict do nothing;
  return found;
end $$;
comment on function receipts.store_cosignature(integer, bigint, text, bigint, text) is
  'Stores a witness'' cosignature of a checkpoint; false when that witness'' word on it is there already.';
