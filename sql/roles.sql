-- The roles of the house. They belong to the whole cluster, not to one database: this runs at every start, changes nothing
-- when all is there, and tolerates other databases doing the same at the same moment (the loader repeats it on a clash).
--
-- econ_owner    owns schemas and tables; nobody logs in as it
-- econ_engine   owns the functions and views; INSERT, SELECT and some column UPDATEs; nobody logs in as it
-- econ_api      calls public functions, reads read views, has no right on any table
-- econ_analyst  reads the schema transparency
-- econ_finance  reads the schema finance
-- econ_auditor  reads everything: verify, export, backup
--
-- The role that runs this needs CREATEROLE once, or must have been made a member of all six by who created them.
do $roles$
declare
  v_role text;
  v_held text;
  v_has_set_option constant boolean := current_setting('server_version_num')::integer >= 160000;
  v_superuser constant boolean := (select rolsuper from pg_catalog.pg_roles where rolname = session_user);
  v_can_set boolean;
begin
  foreach v_role in array array['econ_owner', 'econ_engine', 'econ_api', 'econ_analyst', 'econ_finance', 'econ_auditor'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('create role %I %s', v_role,
          case when v_role in ('econ_owner', 'econ_engine') then 'nologin' else 'login' end);
      exception when duplicate_object or unique_violation then
        null; -- another database's loader was faster
      end;
    end if;
    -- A superuser can become any role. Anybody else needs a membership that allows SET ROLE; since 16 the creator of a
    -- role has one without that option, and before 16 CREATEROLE is enough to add oneself.
    if not v_superuser then
      if v_has_set_option then
        execute 'select pg_catalog.pg_has_role(session_user, $1, ''SET'')' into v_can_set using v_role;
      else
        v_can_set := pg_catalog.pg_has_role(session_user, v_role, 'MEMBER');
      end if;
      if not v_can_set then
        execute format('grant %I to %I%s', v_role, session_user,
          case when v_has_set_option then ' with set true, inherit false' else '' end);
      end if;
    end if;
  end loop;

  -- The owner of the tables may do whatever the engine may: it hands functions over and grants on them.
  select m.member::regrole::text into v_held
    from pg_catalog.pg_auth_members m
    where m.roleid = 'econ_engine'::regrole and m.member = 'econ_owner'::regrole;
  if v_held is null then
    grant econ_engine to econ_owner;
  end if;
end $roles$;
