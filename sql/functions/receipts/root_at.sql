-- The root that the log had when it held p_size leaves: what an older checkpoint must agree with.
create or replace function receipts.root_at(p_ledger_id integer, p_size bigint) returns bytea
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_size < 0 or p_size > coalesce((select l.size from receipts.logs l where l.ledger_id = p_ledger_id), 0) then
    return null;
  end if;
  if p_size = 0 then
    return sha256('');
  end if;
  return receipts.inclusion_proof_range(p_ledger_id, 0, p_size);
end $$;
comment on function receipts.root_at(integer, bigint) is 'Public: RFC 6962 root of the first p_size leaves; NULL beyond the log.';
