//! Who may do what, asked of a loaded database.

use ledger::testing::TestDb;

use super::catalog::rows;
use super::none;

const TABLES: &str = "pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = any ($1) and c.relkind in ('r', 'p')";
const FUNCTIONS: &str = "pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = any ($1)";

#[tokio::test]
async fn the_api_has_no_right_on_any_table() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        &format!(
            "select c.oid::regclass::text from {TABLES}
              where has_table_privilege('econ_api', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                 or has_any_column_privilege('econ_api', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')"
        ),
    )
    .await;
    none("tables that econ_api can touch", &findings);
    db.close().await;
}

/// Public is what is SECURITY DEFINER and the engine's; functions of `sql/schema` are the owner's, for the engine alone.
/// A function inside a view runs with the reader's right to call it: such a helper is open to whoever may read the view.
#[tokio::test]
async fn the_api_may_call_exactly_the_public_functions_and_nobody_else_may() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let in_a_view = "exists (select from pg_depend d join pg_rewrite w on w.oid = d.objid and d.classid = 'pg_rewrite'::regclass
                              where d.refobjid = p.oid and d.refclassid = 'pg_proc'::regclass
                                and has_table_privilege(r.name, w.ev_class, 'SELECT'))";
    let findings = rows(
        &client,
        &format!(
            "select format('%s: %s %s call it', p.oid::regprocedure, r.name, case when x.may then 'must not' else 'cannot' end)
               from {FUNCTIONS}, unnest(array['econ_api', 'econ_analyst', 'econ_finance', 'econ_auditor']) r (name),
                    lateral (select has_function_privilege(r.name, p.oid, 'EXECUTE') as may) x
              where x.may <> (r.name = 'econ_api' and p.prosecdef and p.proowner = 'econ_engine'::regrole or not p.prosecdef and {in_a_view})
             union all
             select p.oid::regprocedure || ': open to PUBLIC' from {FUNCTIONS} where has_function_privilege('public', p.oid, 'EXECUTE')
             union all
             select p.oid::regprocedure || ' belongs to ' || p.proowner::regrole from {FUNCTIONS}
              where p.proowner not in ('econ_engine'::regrole, 'econ_owner'::regrole)"
        ),
    )
    .await;
    none("function rights", &findings);
    db.close().await;
}

#[tokio::test]
async fn definer_functions_pin_their_search_path() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        &format!(
            "select p.oid::regprocedure::text from {FUNCTIONS}
              where p.prosecdef and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)"
        ),
    )
    .await;
    none("definer functions with an open search_path", &findings);
    db.close().await;
}

#[tokio::test]
async fn the_engine_appends_and_changes_named_columns_only() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        &format!(
            "select c.oid::regclass::text from {TABLES}
              where has_table_privilege('econ_engine', c.oid, 'UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                 or c.relowner <> 'econ_owner'::regrole"
        ),
    )
    .await;
    none("tables with too many rights", &findings);
    db.close().await;
}

/// A row that is only ever inserted is protected from its owner too; a row that changes has a column that may.
#[tokio::test]
async fn append_only_tables_refuse_even_the_superuser() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let guarded = rows(
        &client,
        &format!(
            "select c.oid::regclass::text from {TABLES}
              where exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'base.refuse_change'::regproc)"
        ),
    )
    .await;
    let mut findings = Vec::new();
    for table in &guarded {
        // UPDATE and DELETE guards fire per row; that they are there and enabled is asked below.
        match client.batch_execute(&format!("truncate {table} cascade")).await {
            Err(error) if error.code().is_some_and(|code| code.code() == "UB901") => {}
            other => findings.push(format!("truncate {table}: {other:?}")),
        }
    }
    findings.extend(
        rows(
            &client,
            &format!(
                "select c.oid::regclass || ' lacks a guard against UPDATE or DELETE of a row' from {TABLES}
                  where exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'base.refuse_change'::regproc)
                    and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'base.refuse_change'::regproc
                                       and t.tgenabled = 'O' and t.tgtype & 1 = 1 and t.tgtype & 8 = 8 and t.tgtype & 16 = 16)
                 union all
                 select c.oid::regclass || ' is append-only, and yet the engine may update a column' from {TABLES}
                  where exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'base.refuse_change'::regproc)
                    and has_any_column_privilege('econ_engine', c.oid, 'UPDATE')"
            ),
        )
        .await,
    );
    none("append-only tables", &findings);
    for table in
        ["base.commands", "receipts.receipts", "ledger.transfers", "base.transitions", "metering.rows"]
    {
        assert!(guarded.iter().any(|name| name == table), "{table} is not append-only");
    }
    db.close().await;
}

#[tokio::test]
async fn people_read_their_schema_and_the_auditor_reads_everything() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let relations = "pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = any ($1) and c.relkind in ('r', 'p', 'v')";
    let findings = rows(
        &client,
        &format!(
            "select format('%s: SELECT for %s', c.oid::regclass, r.name)
               from {relations}, (values ('econ_analyst', 'transparency'), ('econ_finance', 'finance')) r (name, schema)
              where has_table_privilege(r.name, c.oid, 'SELECT') <> (n.nspname = r.schema)
             union all
             select c.oid::regclass || ': closed to econ_auditor' from {relations} where not has_table_privilege('econ_auditor', c.oid, 'SELECT')
             union all
             select format('%s: %s may write', c.oid::regclass, r) from {relations}, unnest(array['econ_analyst', 'econ_finance', 'econ_auditor']) r
              where has_table_privilege(r, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') or has_any_column_privilege(r, c.oid, 'INSERT, UPDATE')
             union all
             select c.oid::regclass || ': open to PUBLIC' from {relations}
              where has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ),
    )
    .await;
    none("rights of people", &findings);
    db.close().await;
}

#[tokio::test]
async fn public_has_no_temporary_tables_and_nothing_by_default() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let row = client
        .query_one(
            "select has_database_privilege('public', current_database(), 'TEMP'), has_schema_privilege('public', 'public', 'CREATE'),
                    (select rolcanlogin from pg_roles where rolname = 'econ_owner'), (select rolcanlogin from pg_roles where rolname = 'econ_engine')",
            &[],
        )
        .await
        .unwrap();
    for (column, what) in
        ["TEMP for PUBLIC", "CREATE in schema public", "econ_owner logs in", "econ_engine logs in"]
            .iter()
            .enumerate()
    {
        assert!(!row.get::<_, bool>(column), "{what}");
    }
    // A function made tomorrow is closed until somebody opens it.
    client.batch_execute("set role econ_owner; create function base.tidy_probe() returns integer language sql immutable as 'select 1'").await.unwrap();
    let open: bool = client
        .query_one("select has_function_privilege('public', 'base.tidy_probe()', 'EXECUTE')", &[])
        .await
        .unwrap()
        .get(0);
    assert!(!open, "new functions are open to PUBLIC");
    db.close().await;
}
