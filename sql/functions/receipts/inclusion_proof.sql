-- RFC 6962 inclusion proof of leaf p_index in the tree of the first p_size leaves; hashes from the leaf's sibling upwards.
-- Each tile on the way up is read once and hashed level by level: two dozen siblings cost three reads, not two dozen.
create or replace function receipts.inclusion_proof(p_ledger_id integer, p_index bigint, p_size bigint) returns bytea[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_node bigint := p_index;
  v_last bigint := p_size - 1;
  v_sibling bigint;
  v_height integer := 0;
  v_nodes bytea;
  v_proof bytea[] := '{}';
begin
  if p_index < 0 or p_index >= p_size or p_size > coalesce((select l.size from receipts.logs l where l.ledger_id = p_ledger_id), 0) then
    return null;
  end if;
  while v_last > 0 loop
    if v_height % 8 = 0 then
      -- There is none beside an incomplete right edge: then no sibling is in it either.
      v_nodes := (select t.hashes from receipts.tiles t
        where t.ledger_id = p_ledger_id and t.level = v_height / 8 and t.tile_index = v_node >> 8);
    else
      v_nodes := receipts.inclusion_proof_parents(v_nodes);
    end if;
    v_sibling := v_node # 1;
    if v_sibling < p_size >> v_height then
      v_proof := v_proof || substring(v_nodes from ((v_sibling % (256 >> v_height % 8)) * 32 + 1)::integer for 32);
    elsif v_sibling = v_last then
      v_proof := v_proof || receipts.inclusion_proof_range(p_ledger_id, v_sibling << v_height, p_size - (v_sibling << v_height));
    end if;
    v_node := v_node >> 1;
    v_last := v_last >> 1;
    v_height := v_height + 1;
  end loop;
  return v_proof;
end $$;
comment on function receipts.inclusion_proof(integer, bigint, bigint) is
  'RFC 6962 audit path; NULL when the leaf is not in a tree of that size.';

-- The level above, in order; a last odd node is left out. Starting a statement costs as much as some thirty hashes.
create or replace function receipts.inclusion_proof_parents(p_nodes bytea) returns bytea
language plpgsql immutable strict security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_pairs integer := octet_length(p_nodes) / 64;
  v_parents bytea := '';
begin
  if v_pairs > 32 then
    return (select string_agg(sha256('\x01'::bytea || substring(p_nodes from g * 64 + 1 for 64)), ''::bytea order by g)
      from generate_series(0, v_pairs - 1) as g);
  end if;
  for v_i in 0 .. v_pairs - 1 loop
    v_parents := v_parents || sha256('\x01'::bytea || substring(p_nodes from v_i * 64 + 1 for 64));
  end loop;
  return v_parents;
end $$;
comment on function receipts.inclusion_proof_parents(bytea) is 'RFC 6962 parents of neighbouring nodes, NULL of none.';

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
  while octet_length(v_hashes) > 32 loop
    v_hashes := receipts.inclusion_proof_parents(v_hashes);
  end loop;
  return v_hashes;
end $$;
comment on function receipts.inclusion_proof_range(integer, bigint, bigint) is 'RFC 6962 subtree hash of p_n leaves from p_lo on.';
