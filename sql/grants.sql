-- Who may do what, stated once for everything that exists. Runs as econ_owner, last in the transaction that loads functions
-- and views. It first takes every right away and then gives the intended ones, so that a function that stopped being public
-- stops being callable. The loader names our schemas in the setting econ.schemas.
--
-- functions   SECURITY DEFINER ones are public: econ_api may call them. The others are helpers of the engine.
-- tables      econ_engine SELECT and INSERT; what it may UPDATE is granted, by column, in sql/schema.
-- views       transparency: analysts and api. finance: finance and api. audit_*: auditors only. The rest: api.
-- auditors    read every table and view.
do $grants$
declare
  v_schema name;
  v_item record;
begin
  alter default privileges for role econ_owner revoke execute on functions from public;
  alter default privileges for role econ_engine revoke execute on functions from public;

  for v_schema in
    select n.nspname from pg_catalog.pg_namespace n
    where n.nspname = any (string_to_array(current_setting('econ.schemas'), ','))
  loop
    execute format('revoke all on schema %I from public, econ_api, econ_analyst, econ_finance, econ_auditor', v_schema);
    execute format('grant usage on schema %I to econ_engine, econ_api, econ_auditor', v_schema);
    if v_schema = 'transparency' then
      execute format('grant usage on schema %I to econ_analyst', v_schema);
    elsif v_schema = 'finance' then
      execute format('grant usage on schema %I to econ_finance', v_schema);
    end if;
    -- "all tables" includes views. Column rights of the engine stay: it is not named here.
    execute format('revoke all on all tables in schema %I from public, econ_api, econ_analyst, econ_finance, econ_auditor',
      v_schema);
    execute format('grant select on all tables in schema %I to econ_auditor', v_schema);
    execute format('grant select on all sequences in schema %I to econ_auditor', v_schema);
    execute format('grant usage on all sequences in schema %I to econ_engine', v_schema);
    execute format('revoke all on all functions in schema %I from public, econ_api, econ_analyst, econ_finance, econ_auditor',
      v_schema);
  end loop;

  for v_item in
    select c.oid::regclass as relation, c.relkind, n.nspname, c.relname
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any (string_to_array(current_setting('econ.schemas'), ',')) and c.relkind in ('r', 'p', 'v')
  loop
    if v_item.relkind <> 'v' then
      execute format('grant select, insert on %s to econ_engine', v_item.relation);
    elsif v_item.relname not like 'audit\_%' then
      execute format('grant select on %s to econ_api%s', v_item.relation,
        case v_item.nspname when 'transparency' then ', econ_analyst' when 'finance' then ', econ_finance' else '' end);
    end if;
  end loop;

  for v_item in
    select p.oid::regprocedure as function, p.prokind, p.prosecdef, pg_catalog.pg_get_userbyid(p.proowner) as owner
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = any (string_to_array(current_setting('econ.schemas'), ','))
  loop
    if v_item.owner <> 'econ_engine' then
      -- Functions of sql/schema stay the owner's, so that the engine cannot change a table's guards; it only calls them.
      execute format('grant execute on routine %s to econ_engine', v_item.function);
    elsif v_item.prosecdef then
      execute format('grant execute on routine %s to econ_api', v_item.function);
    end if;
  end loop;

  -- A view reads tables with its owner's rights but calls functions with its reader's: each reader of a view needs EXECUTE
  -- on the functions that it, or a view beneath it, calls.
  for v_item in
    with recursive reads (reader_view, view_oid) as (
      select c.oid, c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'v' and n.nspname = any (string_to_array(current_setting('econ.schemas'), ','))
      union
      select r.reader_view, d.refobjid
      from reads r
        join pg_catalog.pg_rewrite w on w.ev_class = r.view_oid
        join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
          and d.refclassid = 'pg_class'::regclass
        join pg_catalog.pg_class c on c.oid = d.refobjid and c.relkind = 'v'
    )
    select distinct p.oid::regprocedure as function, a.rolname
    from reads r
      join pg_catalog.pg_rewrite w on w.ev_class = r.view_oid
      join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        and d.refclassid = 'pg_proc'::regclass
      join pg_catalog.pg_proc p on p.oid = d.refobjid
      join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        and n.nspname = any (string_to_array(current_setting('econ.schemas'), ','))
      join pg_catalog.pg_roles a on a.rolname in ('econ_api', 'econ_analyst', 'econ_finance', 'econ_auditor')
        and pg_catalog.has_table_privilege(a.oid, r.reader_view, 'select')
  loop
    execute format('grant execute on routine %s to %I', v_item.function, v_item.rolname);
  end loop;
end $grants$;
