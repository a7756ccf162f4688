-- Appends one leaf to the forest for each ledger whose newest checkpoint is not in it yet, and returns the forest's head.
-- Derived upkeep, not a command. The caller signs the head and stores its checkpoint in the same transaction: so the forest's
-- entries, tiles, head and checkpoint are there together or not at all, however it ends. The row of ledger 0 is locked
-- first, and what is new is read afterwards: servers that keep the same forest come one after the other.
create or replace function receipts.append_forest(p_origin text)
returns table (origin text, size bigint, root bytea, appended integer)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_size bigint;
  v_peaks bytea[];
  v_root bytea;
  v_origin text;
  v_appended integer := 0;
  c record;
begin
  insert into receipts.logs (ledger_id, root) values (0, sha256('')) on conflict do nothing;
  insert into receipts.forests (ledger_id, origin) values (0, p_origin) on conflict do nothing;
  select l.size, l.peaks, l.root into strict v_size, v_peaks, v_root from receipts.logs l where l.ledger_id = 0 for no key update;
  select f.origin into strict v_origin from receipts.forests f;
  for c in
    select b.ledger_id, b.origin, k.size, k.root
      from base.ledgers b
      cross join lateral (select k.size, k.root from receipts.checkpoints k where k.ledger_id = b.ledger_id order by k.size desc limit 1) k
     where k.size > coalesce((select max(e.size) from receipts.forest_entries e where e.logged_ledger_id = b.ledger_id), 0)
     order by b.ledger_id
  loop
    insert into receipts.forest_entries (entry_index, logged_ledger_id, size, root) values (v_size, c.ledger_id, c.size, c.root);
    v_peaks := receipts.append_forest_leaf(v_size, v_peaks,
      sha256('\x00'::bytea || convert_to(receipts.append_forest_text(c.origin, c.size, c.root), 'UTF8')));
    v_size := v_size + 1;
    v_appended := v_appended + 1;
  end loop;
  if v_appended > 0 then
    v_root := v_peaks[cardinality(v_peaks)];
    for v_i in reverse cardinality(v_peaks) - 1 .. 1 loop
      v_root := sha256('\x01'::bytea || v_peaks[v_i] || v_root);
    end loop;
    update receipts.logs l set size = v_size, root = v_root, peaks = v_peaks where l.ledger_id = 0;
  end if;
  return query select v_origin, v_size, v_root, v_appended;
end $$;
comment on function receipts.append_forest(text) is
  'Appends the ledgers'' new checkpoints to the forest (p_origin names it when it is made); its name, size, root, and how many were new.';

-- One leaf: the peaks afterwards. Writes the tiles as receipts.seal does for a ledger, one leaf at a time.
create or replace function receipts.append_forest_leaf(p_index bigint, p_peaks bytea[], p_leaf bytea) returns bytea[]
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_hash bytea := p_leaf;
  v_n integer := cardinality(p_peaks);
  v_bit bigint := p_index;
  v_height integer := 0;
begin
  perform receipts.append_forest_node(0, p_index, v_hash);
  -- As many peaks merge as the index has trailing ones: a carry of binary addition.
  while v_bit & 1 = 1 loop
    v_hash := sha256('\x01'::bytea || p_peaks[v_n] || v_hash);
    v_n := v_n - 1;
    v_bit := v_bit >> 1;
    v_height := v_height + 1;
    if v_height % 8 = 0 then
      perform receipts.append_forest_node(v_height / 8, p_index >> v_height, v_hash);
    end if;
  end loop;
  return p_peaks[1:v_n] || v_hash;
end $$;
comment on function receipts.append_forest_leaf(bigint, bytea[], bytea) is 'Appends one leaf to the forest''s tiles; the peaks afterwards.';

create or replace function receipts.append_forest_node(p_level integer, p_position bigint, p_hash bytea) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into receipts.tiles as t (ledger_id, level, tile_index, hashes) values (0, p_level, p_position / 256, p_hash)
  on conflict on constraint tiles_pk do update set hashes = t.hashes || excluded.hashes;
end $$;
comment on function receipts.append_forest_node(integer, bigint, bytea) is 'Appends one hash to a level of the forest''s tiles.';

-- The three lines of a checkpoint (C2SP tlog-checkpoint): the data of a leaf.
create or replace function receipts.append_forest_text(p_origin text, p_size bigint, p_root bytea) returns text
language sql immutable as $$
  select p_origin || chr(10) || p_size || chr(10) || encode(p_root, 'base64') || chr(10)
$$;
comment on function receipts.append_forest_text(text, bigint, bytea) is 'A checkpoint''s text: origin, size and root in base64, a line each.';
