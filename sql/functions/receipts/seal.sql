-- Stores the signed receipts of a batch that base.decide has just decided in this transaction, moves each subject's head,
-- and appends one leaf per receipt to the ledger's Merkle log: leaf = SHA-256(0x00 || envelope), node = SHA-256(0x01 || l || r).
-- Appending costs a merge per leaf on average; only the peaks and the newest tiles are touched.
create or replace function receipts.seal(
  p_ledger_id integer, p_seqs bigint[], p_receipt_ids bytea[], p_subject_ids uuid[], p_prevs bytea[], p_envelopes bytea[])
returns table (size bigint, root bytea)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_size bigint;
  v_peaks bytea[];
  v_hash bytea;
  v_leaves bytea := '';
  v_bit bigint;
  v_height integer;
  v_n integer;
  v_i integer;
begin
  insert into receipts.receipts (ledger_id, seq, receipt_id, subject_id, prev, envelope)
  select p_ledger_id, t.seq, t.receipt_id, t.subject_id, t.prev, t.envelope
    from unnest(p_seqs, p_receipt_ids, p_subject_ids, p_prevs, p_envelopes) as t (seq, receipt_id, subject_id, prev, envelope);
  insert into receipts.subject_heads (ledger_id, subject_id, receipt_id, seq)
  select distinct on (t.subject_id) p_ledger_id, t.subject_id, t.receipt_id, t.seq
    from unnest(p_seqs, p_receipt_ids, p_subject_ids) as t (seq, receipt_id, subject_id) order by t.subject_id, t.seq desc
  on conflict on constraint subject_heads_pk do update set receipt_id = excluded.receipt_id, seq = excluded.seq;

  select l.size, l.peaks into strict v_size, v_peaks from receipts.logs l where l.ledger_id = p_ledger_id for no key update;
  if p_seqs[1] <> v_size + 1 then
    raise exception using errcode = 'UR901', message = format('receipts of ledger %s have a gap before seq %s', p_ledger_id, p_seqs[1]);
  end if;
  for v_i in 1 .. cardinality(p_envelopes) loop
    v_hash := sha256('\x00'::bytea || p_envelopes[v_i]);
    v_leaves := v_leaves || v_hash;
    v_bit := v_size;
    v_height := 0;
    v_n := cardinality(v_peaks);
    while v_bit & 1 = 1 loop
      v_hash := sha256('\x01'::bytea || v_peaks[v_n] || v_hash);
      v_n := v_n - 1;
      v_bit := v_bit >> 1;
      v_height := v_height + 1;
      if v_height % 8 = 0 then
        perform receipts.seal_tile(p_ledger_id, (v_height / 8)::smallint, (v_size + 1 >> v_height) - 1, v_hash);
      end if;
    end loop;
    v_peaks := v_peaks[1:v_n] || v_hash;
    v_size := v_size + 1;
  end loop;
  perform receipts.seal_tile(p_ledger_id, 0::smallint, v_size - cardinality(p_envelopes), v_leaves);

  v_hash := v_peaks[cardinality(v_peaks)];
  for v_i in reverse cardinality(v_peaks) - 1 .. 1 loop
    v_hash := sha256('\x01'::bytea || v_peaks[v_i] || v_hash);
  end loop;
  update receipts.logs l set size = v_size, root = v_hash, peaks = v_peaks where l.ledger_id = p_ledger_id;
  return query select v_size, v_hash;
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
