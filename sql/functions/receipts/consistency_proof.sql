-- RFC 9162 (2.1.4) proof that the log's first p_new leaves begin with its first p_old; hashes in the standard's order. Nothing
-- has to be proven from an empty log: then the proof is empty.
create or replace function receipts.consistency_proof(p_ledger_id integer, p_old bigint, p_new bigint) returns bytea[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_lo bigint := 0;
  v_n bigint := p_new;
  v_old bigint := p_old;
  v_k bigint;
  v_proof bytea[] := '{}';
begin
  if p_old < 0 or p_old > p_new or p_new > coalesce((select l.size from receipts.logs l where l.ledger_id = p_ledger_id), 0) then
    return null;
  end if;
  if p_old = 0 then
    return v_proof;
  end if;
  -- Walk down to the node that ends where the old tree ended; at each split the other half's hash belongs to the proof.
  while v_old < v_n loop
    v_k := receipts.inclusion_proof_split(v_n);
    if v_old <= v_k then
      v_proof := receipts.inclusion_proof_range(p_ledger_id, v_lo + v_k, v_n - v_k) || v_proof;
      v_n := v_k;
    else
      v_proof := receipts.inclusion_proof_range(p_ledger_id, v_lo, v_k) || v_proof;
      v_lo := v_lo + v_k;
      v_n := v_n - v_k;
      v_old := v_old - v_k;
    end if;
  end loop;
  -- That node is the old tree itself exactly when it begins at 0: then the verifier has it already.
  if v_lo > 0 then
    v_proof := receipts.inclusion_proof_range(p_ledger_id, v_lo, v_n) || v_proof;
  end if;
  return v_proof;
end $$;
comment on function receipts.consistency_proof(integer, bigint, bigint) is
  'Public: RFC 9162 consistency proof between two sizes of a log (0: the forest); NULL when old > new or beyond the log.';
