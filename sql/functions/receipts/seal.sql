-- Stores the signed receipts of a batch that base.decide has just decided in this transaction, moves each subject's head,
-- and appends one leaf per receipt to the ledger's Merkle log: leaf = SHA-256(0x00 || envelope), node = SHA-256(0x01 || l || r).
-- The tree grows level by level, so a batch costs two hashes a leaf and touches only the peaks and the newest tiles.
create or replace function receipts.seal(
  p_ledger_id integer, p_seqs bigint[], p_receipt_ids bytea[], p_subject_ids uuid[], p_prevs bytea[], p_envelopes bytea[])
returns table (size bigint, root bytea)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_from bigint;
  v_to bigint;
  v_old bytea[];
  v_n integer;
  v_new bytea[] := '{}';
  -- What the batch adds to a level, hash after hash: an array of them would be walked from its start at each access.
  v_nodes bytea;
  v_height integer := 0;
  v_pairs integer;
  v_hash bytea;
begin
  insert into receipts.receipts (ledger_id, seq, receipt_id, subject_id, prev, envelope)
  select p_ledger_id, t.seq, t.receipt_id, t.subject_id, t.prev, t.envelope
    from unnest(p_seqs, p_receipt_ids, p_subject_ids, p_prevs, p_envelopes) as t (seq, receipt_id, subject_id, prev, envelope);
  insert into receipts.subject_heads (ledger_id, subject_id, receipt_id, seq)
  select distinct on (t.subject_id) p_ledger_id, t.subject_id, t.receipt_id, t.seq
    from unnest(p_seqs, p_receipt_ids, p_subject_ids) as t (seq, receipt_id, subject_id) order by t.subject_id, t.seq desc
  on conflict on constraint subject_heads_pk do update set receipt_id = excluded.receipt_id, seq = excluded.seq;

  select l.size, l.peaks into strict v_from, v_old from receipts.logs l where l.ledger_id = p_ledger_id for no key update;
  if p_seqs[1] <> v_from + 1 then
    raise exception using errcode = 'UR901', message = format('receipts of ledger %s have a gap before seq %s', p_ledger_id, p_seqs[1]);
  end if;
  v_to := v_from + cardinality(p_envelopes);
  v_n := cardinality(v_old);
  -- Starting a statement costs as much as some thirty hashes, and growing a string costs its square: few in a loop, many in
  -- one statement. Batches of 16 and of 8,000 both occur.
  if cardinality(p_envelopes) <= 64 then
    v_nodes := '';
    foreach v_hash in array p_envelopes loop
      v_nodes := v_nodes || sha256('\x00'::bytea || v_hash);
    end loop;
  else
    v_nodes := (select string_agg(sha256('\x00'::bytea || t.envelope), ''::bytea order by t.i)
      from unnest(p_envelopes) with ordinality as t (envelope, i));
  end if;
  loop
    if v_height % 8 = 0 then
      perform receipts.seal_tile(p_ledger_id, (v_height / 8)::smallint, v_from >> v_height, v_nodes);
    end if;
    -- An odd one of before is the left half of the first pair; an odd one of now waits as this level's peak.
    if (v_from >> v_height) & 1 = 1 then
      v_nodes := v_old[v_n] || v_nodes;
      v_n := v_n - 1;
    end if;
    if (v_to >> v_height) & 1 = 1 then
      v_new := substring(v_nodes from octet_length(v_nodes) - 31) || v_new;
    end if;
    exit when octet_length(v_nodes) < 64;
    v_pairs := octet_length(v_nodes) / 64;
    if v_pairs <= 32 then
      v_hash := '';
      for v_i in 0 .. v_pairs - 1 loop
        v_hash := v_hash || sha256('\x01'::bytea || substring(v_nodes from v_i * 64 + 1 for 64));
      end loop;
      v_nodes := v_hash;
    else
      v_nodes := (select string_agg(sha256('\x01'::bytea || substring(v_nodes from g * 64 + 1 for 64)), ''::bytea order by g)
        from generate_series(0, v_pairs - 1) as g);
    end if;
    v_height := v_height + 1;
  end loop;
  v_new := v_old[1:v_n] || v_new;

  v_hash := v_new[cardinality(v_new)];
  for v_i in reverse cardinality(v_new) - 1 .. 1 loop
    v_hash := sha256('\x01'::bytea || v_new[v_i] || v_hash);
  end loop;
  update receipts.logs l set size = v_to, root = v_hash, peaks = v_new where l.ledger_id = p_ledger_id;
  return query select v_to, v_hash;
end $$;
comment on function receipts.seal(integer, bigint[], bytea[], uuid[], bytea[], bytea[]) is
  'Stores signed receipts and appends them to the Merkle log; returns the log''s new size and root. Raises UR901 on a gap.';

-- Appends node hashes at one level of the tiles, from position p_first on, filling 256 to a tile.
create or replace function receipts.seal_tile(p_ledger_id integer, p_level smallint, p_first bigint, p_hashes bytea) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count bigint := octet_length(p_hashes) / 32;
  v_done bigint := 0;
  v_room bigint;
begin
  while v_done < v_count loop
    v_room := least(256 - (p_first + v_done) % 256, v_count - v_done);
    if (p_first + v_done) % 256 = 0 then
      insert into receipts.tiles (ledger_id, level, tile_index, hashes)
      values (p_ledger_id, p_level, (p_first + v_done) / 256, substring(p_hashes from (v_done * 32 + 1)::integer for (v_room * 32)::integer));
    else
      update receipts.tiles t set hashes = t.hashes || substring(p_hashes from (v_done * 32 + 1)::integer for (v_room * 32)::integer)
       where t.ledger_id = p_ledger_id and t.level = p_level and t.tile_index = (p_first + v_done) / 256;
    end if;
    v_done := v_done + v_room;
  end loop;
end $$;
comment on function receipts.seal_tile(integer, smallint, bigint, bytea) is 'Appends hashes to the tiles of one level.';
