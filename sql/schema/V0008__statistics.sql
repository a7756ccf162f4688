-- Statistics for a young database. Every index of a hot table begins with ledger_id; on a table that was never analysed all
-- of them cost the same, the planner takes any, and a cached plan then walks the whole ledger for one row. base.decide
-- therefore refreshes the statistics each time the log has doubled, until autovacuum has tables worth its while.

create function base.refresh_statistics() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  for v_table in
    select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname in ('base', 'identity', 'ledger', 'receipts', 'market', 'metering', 'splits', 'payouts')
     order by 1
  loop
    execute 'analyze ' || v_table;
  end loop;
end $$;
comment on function base.refresh_statistics() is
  'Analyses every table of the house, with its owner''s rights. Changes no row; plans made before are made anew.';
revoke execute on function base.refresh_statistics() from public;
grant execute on function base.refresh_statistics() to econ_engine;
