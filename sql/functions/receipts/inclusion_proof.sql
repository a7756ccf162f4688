-- RFC 6962 inclusion proof of leaf p_index in the tree of the first p_size leaves; hashes from the leaf's sibling upwards.
create or replace function receipts.inclusion_proof(p_ledger_id integer, p_index bigint, p_size bigint) returns bytea[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_lo bigint := 0;
  v_n bigint := p_size;
  v_k bigint;
  v_proof bytea[] := '{}';
begin
  if p_index < 0 or p_index >= p_size or p_size > coalesce((select l.size from receipts.logs l where l.ledger_id = p_ledger_id), 0) then
    return null;
  end if;
  -- Walk down from the root: at each split the other half's hash belongs to the proof.
  while v_n > 1 loop
    v_k := receipts.inclusion_proof_split(v_n);
    if p_index - v_lo < v_k then
      v_proof := receipts.inclusion_proof_range(p_ledger_id, v_lo + v_k, v_n - v_k) || v_proof;
      v_n := v_k;
    else
      v_proof := receipts.inclusion_proof_range(p_ledger_id, v_lo, v_k) || v_proof;
      v_lo := v_lo + v_k;
      v_n := v_n - v_k;
    end if;
  end loop;
  return v_proof;
end $$;
comment on function receipts.inclusion_proof(integer, bigint, bigint) is
  'RFC 6962 audit path; NULL when the leaf is not in a tree of that size.';

-- The largest power of two below n.
create or replace function receipts.inclusion_proof_split(p_n bigint) returns bigint
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_k bigint := 1;
begin
  while v_k * 2 < p_n loop
    v_k := v_k * 2;
  end loop;
  return v_k;
end $$;
comment on function receipts.inclusion_proof_split(bigint) is 'The largest power of two smaller than n (n > 1).';

-- Hash of the subtree over p_n leaves from p_lo on. A complete, aligned subtree is read from the highest tile that has it.
create or replace function receipts.inclusion_proof_range(p_ledger_id integer, p_lo bigint, p_n bigint) returns bytea
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_level integer := 0;
  v_width bigint := p_n;
  v_k bigint;
  v_from bigint;
  v_hashes bytea;
  v_count integer;
begin
  if p_n & (p_n - 1) <> 0 then
    v_k := receipts.inclusion_proof_split(p_n);
    return sha256('\x01'::bytea || receipts.inclusion_proof_range(p_ledger_id, p_lo, v_k)
      || receipts.inclusion_proof_range(p_ledger_id, p_lo + v_k, p_n - v_k));
  end if;
  while v_width >= 256 loop
    v_width := v_width / 256;
    v_level := v_level + 1;
  end loop;
  v_from := p_lo >> (8 * v_level);
  select substring(t.hashes from ((v_from % 256) * 32 + 1)::integer for (v_width * 32)::integer) into strict v_hashes
    from receipts.tiles t where t.ledger_id = p_ledger_id and t.level = v_level and t.tile_index = v_from / 256;
  v_count := v_width::integer;
  while v_count > 1 loop
    v_hashes := (select string_agg(sha256('\x01'::bytea || substring(v_hashes from g * 64 + 1 for 64)), ''::bytea order by g)
      from generate_series(0, v_count / 2 - 1) as g);
    v_count := v_count / 2;
  end loop;
  return v_hashes;
end $$;
comment on function receipts.inclusion_proof_range(integer, bigint, bigint) is 'RFC 6962 subtree hash of p_n leaves from p_lo on.';
