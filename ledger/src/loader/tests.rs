//! Small trees of SQL, loaded into empty databases.

use std::borrow::Cow;

use tokio_postgres::{Client, NoTls};

use super::*;
use crate::cluster::{Cluster, ClusterError, ExternalDatabase};
use crate::testing::{TestDb, Watchdog, scratch_dir, test_options};

const MIGRATION: &str = "create schema base; create schema transparency; create schema finance;
create function base.never() returns trigger language plpgsql as $$ begin return null; end $$;
create table base.things (thing_id bigint generated always as identity, name text not null);
";
/// (path, text) of a tree that holds one of everything.
const TREE: [(&str, &str); 9] = [
    ("schema/V0001__base.sql", MIGRATION),
    (
        "functions/base/add_thing.sql",
        "create or replace function base.add_thing(p_name text) returns bigint language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
insert into base.things (name) values (base.tidy(p_name)) returning thing_id
$$;",
    ),
    (
        "functions/base/tidy.sql",
        "create or replace function base.tidy(p_name text) returns text language sql immutable as $$ select trim(p_name) $$;",
    ),
    ("functions/base/worn.sql", "create or replace function base.worn() returns text language sql as $$ select 'x' $$;"),
    ("views/base/things.sql", "create view base.thing_names as select name, thing_id from base.things;"),
    ("views/base/audit.sql", "create view base.audit_nameless as select * from base.things where name = '';"),
    (
        "views/transparency/10_names.sql",
        "create view transparency.names as select base.tidy(name) as name from base.thing_names;",
    ),
    ("views/transparency/20_count.sql", "create view transparency.volume as select count(*) as n from transparency.names;"),
    ("views/finance/books.sql", "create view finance.books as select name from base.things;"),
];

fn tree_with(changes: &[(&str, Option<&str>)]) -> SqlTree {
    let mut files: Vec<SqlFile> = Vec::new();
    let house = SqlTree::embedded().unwrap();
    files.extend([house.roles, house.grants]);
    for (path, text) in TREE.iter().map(|(p, t)| (*p, Some(*t))).chain(changes.iter().copied()) {
        files.retain(|file| file.path != path);
        if let Some(text) = text {
            files.push(SqlFile { path: path.to_owned(), text: Cow::Owned(text.to_owned()) });
        }
    }
    SqlTree::from_files(files).unwrap()
}

fn options() -> LoadOptions {
    LoadOptions::of(tree_with(&[]))
}

async fn loaded() -> (TestDb, Client) {
    let db = TestDb::empty().await;
    let mut client = db.admin().await;
    load(&mut client, &options()).await.unwrap();
    (db, client)
}

/// The number that `sql` answers to an auditor, who may read everything.
async fn count(db: &TestDb, sql: &str) -> i64 {
    db.client("econ_auditor").await.query_one(sql, &[]).await.unwrap().get(0)
}

/// SQLSTATE of a statement as `role`; empty when it passes.
async fn answer(db: &TestDb, role: &str, sql: &str) -> String {
    match db.client(role).await.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error.code().unwrap().code().to_owned(),
    }
}

#[tokio::test]
async fn a_second_load_of_the_same_tree_does_nothing() {
    let (db, mut client) = loaded().await;
    let xmin = "select max(xmin::text::bigint) from pg_proc";
    let before = count(&db, xmin).await;
    let again = load(&mut client, &options()).await.unwrap();
    assert_eq!((again.migrations.len(), again.files_loaded), (0, 0));
    assert_eq!(count(&db, xmin).await, before, "no function was written");
    assert_eq!(count(&db, "select count(*) from migrations.sql_loads").await, 1);
    let role: String = client.query_one("select current_user::text", &[]).await.unwrap().get(0);
    let login: String = client.query_one("select session_user::text", &[]).await.unwrap().get(0);
    assert_eq!(role, login, "the session is as it was");
    db.close().await;
}

#[tokio::test]
async fn each_role_can_do_what_the_house_rules_say_and_no_more() {
    let (db, client) = loaded().await;
    let denied = "42501";
    for (role, sql, expected) in [
        // The api calls public functions and reads views.
        ("econ_api", "select base.add_thing(' a ')", ""),
        ("econ_api", "select * from base.thing_names", ""),
        ("econ_api", "select * from transparency.volume", ""),
        ("econ_api", "select * from finance.books", ""),
        ("econ_api", "select * from base.things", denied),
        ("econ_api", "insert into base.things (name) values ('b')", denied),
        ("econ_api", "select base.worn()", denied),
        ("econ_api", "select * from base.audit_nameless", denied),
        ("econ_api", "create temp table t ()", denied),
        ("econ_api", "create table public.t ()", denied),
        ("econ_api", "create table base.t ()", denied),
        // Analysts read the analysts' schema, whose views call functions that analysts may not name themselves.
        ("econ_analyst", "select * from transparency.names", ""),
        ("econ_analyst", "select * from transparency.volume", ""),
        ("econ_analyst", "select * from finance.books", denied),
        ("econ_analyst", "select * from base.thing_names", denied),
        ("econ_analyst", "select base.add_thing('c')", denied),
        ("econ_finance", "select * from finance.books", ""),
        ("econ_finance", "select * from transparency.volume", denied),
        // Auditors read everything and change nothing.
        ("econ_auditor", "select * from base.things", ""),
        ("econ_auditor", "select * from base.audit_nameless", ""),
        ("econ_auditor", "select * from migrations.sql_loads", ""),
        ("econ_auditor", "select base.add_thing('d')", denied),
        ("econ_auditor", "delete from base.things", denied),
    ] {
        assert_eq!(answer(&db, role, sql).await, expected, "{role}: {sql}");
    }
    if db.cluster().embedded().is_some() {
        assert_eq!(answer(&db, "econ_api", "set role econ_engine").await, denied);
    } else {
        // There the session is the login's, which may become each of our roles.
        println!("skipped: an external database's api cannot be kept from `set role`");
    }
    for (role, sql, expected) in [
        ("econ_engine", "insert into base.things (name) values ('e')", ""),
        ("econ_engine", "update base.things set name = 'f'", denied),
        ("econ_engine", "delete from base.things", denied),
        ("econ_engine", "create function base.f() returns int language sql as 'select 1'", denied),
        ("econ_engine", "alter function base.never() cost 7", denied),
    ] {
        let result = client.batch_execute(&format!("begin; set local role {role}; {sql}; rollback")).await;
        let code = result.err().map(|error| error.code().unwrap().code().to_owned()).unwrap_or_default();
        client.batch_execute("rollback").await.unwrap();
        assert_eq!(code, expected, "{role}: {sql}");
    }
    let owners =
        "select count(*) from pg_class c where c.relkind = 'v' and c.relnamespace::regnamespace::text
        in ('base', 'transparency', 'finance') and pg_get_userbyid(c.relowner) <> 'econ_engine'";
    assert_eq!(count(&db, owners).await, 0);
    let to_public =
        "select count(*) from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace::regnamespace::text in ('base', 'transparency', 'finance') and a.grantee = 0";
    assert_eq!(count(&db, to_public).await, 0);
    db.close().await;
}

#[tokio::test]
async fn a_changed_tree_replaces_views_and_drops_what_is_gone() {
    let (db, mut client) = loaded().await;
    let changed = tree_with(&[
        // A column less, beneath another view; a function that is no longer public; one that is gone.
        ("views/base/things.sql", Some("create view base.thing_names as select name from base.things;")),
        (
            "functions/base/add_thing.sql",
            Some(
                "create or replace function base.add_thing(p_name text) returns bigint language sql as $$ select 1 $$;",
            ),
        ),
        ("functions/base/worn.sql", None),
    ]);
    let report = load(&mut client, &LoadOptions::of(changed)).await.unwrap();
    assert_eq!(report.functions_dropped, ["base.worn()"]);
    assert_eq!(answer(&db, "econ_api", "select base.add_thing('a')").await, "42501");
    assert_eq!(answer(&db, "econ_api", "select thing_id from base.thing_names").await, "42703");
    assert_eq!(answer(&db, "econ_analyst", "select n from transparency.volume").await, "");
    db.close().await;
}

#[tokio::test]
async fn a_refused_file_is_named_with_its_line_and_the_old_functions_stay() {
    let (db, mut client) = loaded().await;
    for (path, text, place, message) in [
        // Position in the text.
        (
            "functions/base/tidy.sql",
            "\n\ncreate or replace nonsense;",
            "functions/base/tidy.sql:3:",
            "syntax error",
        ),
        // In a body, found after all are loaded.
        (
            "functions/base/worn.sql",
            "-- a\ncreate or replace function base.worn() returns text language plpgsql as $$\nbegin\n  retrun 'x';\nend $$;",
            "functions/base/worn.sql:4:",
            "syntax error",
        ),
        (
            "functions/base/worn.sql",
            "create or replace function base.worn() returns text language sql as $$\n select nothing\n from base.things $$;",
            "functions/base/worn.sql:2:",
            "\"nothing\" does not exist",
        ),
        // No position: the statement is found by running them singly.
        (
            "functions/base/worn.sql",
            "select 1;\n\ncreate or replace function base.worn() returns bigint language sql as $$ select 1 $$;",
            "functions/base/worn.sql:3:",
            "cannot change return type",
        ),
        (
            "views/finance/books.sql",
            "create view finance.books as\nselect nothing from base.things;",
            "books.sql:2:",
            "nothing",
        ),
        (
            "schema/V0002__more.sql",
            "create table base.more ();\n\ncreate table base.things ();",
            "V0002__more.sql:3:",
            "exists",
        ),
        (
            "schema/V0002__more.sql",
            "create table base.more ();\ncreat table;",
            "V0002__more.sql:2:",
            "syntax error",
        ),
    ] {
        let error = load(&mut client, &LoadOptions::of(tree_with(&[(path, Some(text))]))).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(place) && shown.contains(message), "{shown}");
        assert_eq!(count(&db, "select count(*) from migrations.sql_loads").await, 1, "{shown}");
        assert_eq!(answer(&db, "econ_api", "select base.add_thing('a')").await, "", "{shown}");
    }
    assert_eq!(load(&mut client, &options()).await.unwrap().files_loaded, 0, "the lock was let go each time");
    db.close().await;
}

#[tokio::test]
async fn an_older_binary_and_an_edited_migration_are_refused() {
    let (db, mut client) = loaded().await;
    let older = LoadOptions { release: SQL_RELEASE - 1, ..options() };
    let error = load(&mut client, &older).await.unwrap_err();
    assert!(matches!(error, LoadError::DatabaseIsNewer { database: SQL_RELEASE, .. }), "{error}");
    let edited = format!("{MIGRATION}-- changed");
    let tree = tree_with(&[("schema/V0001__base.sql", Some(&edited))]);
    let error = load(&mut client, &LoadOptions::of(tree)).await.unwrap_err();
    assert!(matches!(error, LoadError::History(_)), "{error}");
    db.close().await;
}

#[tokio::test]
async fn loaders_at_once_on_one_database_and_on_several_agree() {
    let scratch = scratch_dir("econ-loaders-");
    let _watchdog = Watchdog::over(&scratch);
    // A cluster of its own: the roles must be missing for all of them.
    let cluster = Cluster::start(test_options(&scratch)).await.unwrap();
    let admin = connect(&cluster, "postgres").await;
    for name in ["one", "two"] {
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
    }
    let mut tasks = Vec::new();
    for name in ["one", "one", "one", "two", "two"] {
        let mut client = connect(&cluster, name).await;
        tasks.push(tokio::spawn(async move { load(&mut client, &options()).await.unwrap().files_loaded }));
    }
    let mut loads = Vec::new();
    for task in tasks {
        loads.push(task.await.unwrap());
    }
    assert_eq!(loads.iter().filter(|files| **files > 0).count(), 2, "one of each database worked: {loads:?}");
    cluster.stop().await.unwrap();
}

async fn connect(cluster: &Cluster, dbname: &str) -> Client {
    let (client, connection) = cluster.config(dbname, cluster.superuser()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn an_external_database_needs_stated_rights_and_then_is_enough() {
    let scratch = scratch_dir("econ-external-");
    let _watchdog = Watchdog::over(&scratch);
    let cluster = Cluster::start(test_options(&scratch)).await.unwrap();
    let admin = connect(&cluster, "postgres").await;
    admin.batch_execute("create role econ_login login").await.unwrap();
    admin.batch_execute("create database books").await.unwrap();
    let config = cluster.config("books", "econ_login");

    let ClusterError::Unfit(findings) = ExternalDatabase::check(config.clone(), false).await.unwrap_err()
    else {
        panic!("it is unfit");
    };
    for wanted in
        ["fsync is off", "full_page_writes is off", "synchronous_commit is off", "createrole", "does not own"]
    {
        assert!(findings.iter().any(|line| line.contains(wanted)), "{wanted}: {findings:?}");
    }
    admin
        .batch_execute("alter role econ_login createrole; alter database books owner to econ_login")
        .await
        .unwrap();
    let external = ExternalDatabase::check(config, true).await.unwrap();
    assert!(!external.report().superuser);

    let (mut client, connection) = external.login_config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(load(&mut client, &options()).await.unwrap().migrations, ["V1__base"]);
    assert_eq!(load(&mut client, &options()).await.unwrap().files_loaded, 0);
    // Its login becomes the api, with the api's rights and no more.
    let (api, connection) = external.config("econ_api").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert!(api.batch_execute("select base.add_thing('a')").await.is_ok());
    let refused = api.batch_execute("select * from base.things").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_house_loads_and_each_test_gets_a_hardened_clone_of_it() {
    let db = TestDb::new().await;
    let other = TestDb::new().await;
    assert_ne!(db.name(), other.name());
    let mut client = db.admin().await;
    let again = load(&mut client, &LoadOptions::embedded().unwrap()).await.unwrap();
    assert_eq!((again.migrations.len(), again.files_loaded), (0, 0));
    assert_eq!(answer(&db, "econ_api", "create temp table t ()").await, "42501");
    let gone = db.name().to_owned();
    db.close().await;
    let left = other.admin().await.query("select 1 from pg_database where datname = $1", &[&gone]).await;
    assert!(left.unwrap().is_empty());
}

/// Replay makes `ledger.journals` from the log; what was posted before there was such a table must have its rows too.
#[tokio::test]
async fn books_from_before_journals_were_kept_get_them_when_they_are_brought_up_to_date() {
    let db = TestDb::empty().await;
    let mut client = db.admin().await;
    let mut files: Vec<SqlFile> = Vec::new();
    let house = SqlTree::embedded().unwrap();
    files.extend([house.roles, house.grants]);
    files.extend(house.migrations.into_iter().filter(|file| file.path.as_str() < "schema/V0009"));
    load(&mut client, &LoadOptions::of(SqlTree::from_files(files).unwrap())).await.unwrap();
    client
        .batch_execute(
            "insert into ledger.transfers (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, \
               journal_id, reason, seq, item, at) \
             select 1, gen_random_uuid(), 'plain', gen_random_uuid(), gen_random_uuid(), 1, 5, j.id, 'test', 7, n, 'epoch' \
               from (select gen_random_uuid() as id) as j, generate_series(1, 3) as n",
        )
        .await
        .unwrap();
    load(&mut client, &LoadOptions::embedded().unwrap()).await.unwrap();
    let filed =
        "select count(*) from ledger.journals j join ledger.transfers t using (ledger_id, journal_id, seq)";
    assert_eq!(count(&db, filed).await, 3);
    assert_eq!(count(&db, "select count(*) from ledger.journals").await, 1);
}
