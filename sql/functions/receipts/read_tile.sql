-- The first p_width hashes of a tile, as C2SP tlog-tiles serves them: 256 of a full tile, fewer of a partial one. Tiles only
-- grow, so whatever a checkpoint of any size needs is here as long as the log holds it.
create or replace function receipts.read_tile(p_ledger_id integer, p_level integer, p_index bigint, p_width integer) returns bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select substring(t.hashes from 1 for p_width * 32)
    from receipts.tiles t
   where t.ledger_id = p_ledger_id and t.level = p_level and t.tile_index = p_index and p_width between 1 and 256
     and octet_length(t.hashes) >= p_width * 32
$$;
comment on function receipts.read_tile(integer, integer, bigint, integer) is
  'Public: p_width hashes (32 bytes each) of a tile of a log (0: the forest); NULL when the tile has fewer.';
