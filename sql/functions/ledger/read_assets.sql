-- The units of account there are. Public: amounts mean nothing without their scale.
create or replace function ledger.read_assets()
returns table (asset_id integer, code text, scale smallint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select a.asset_id, a.code, a.scale from ledger.assets a order by a.asset_id
$$;
comment on function ledger.read_assets() is 'Public: every asset with its code and decimal places.';
