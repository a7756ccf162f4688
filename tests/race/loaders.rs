//! Two servers that start at once load one database once.

use ledger::loader::{LoadOptions, LoadReport, load};
use ledger::testing::TestDb;

use super::blocked;
use crate::support::checks::rows;

/// The key of the loader's advisory lock: "ECONSQL1".
const LOADERS_LOCK: &str = "('x' || encode('ECONSQL1', 'hex'))::bit(64)::bigint";

async fn loading(db: &TestDb) -> tokio::task::JoinHandle<LoadReport> {
    let mut client = db.admin().await;
    tokio::spawn(async move { load(&mut client, &LoadOptions::embedded().unwrap()).await.unwrap() })
}

#[tokio::test]
async fn two_loaders_wait_for_one_another_and_the_second_finds_nothing_to_do() {
    let db = TestDb::empty().await;
    let watcher = db.admin().await;
    let holder = db.admin().await;
    holder.batch_execute(&format!("select pg_advisory_lock({LOADERS_LOCK})")).await.unwrap();
    let (one, two) = (loading(&db).await, loading(&db).await);
    blocked(&watcher, 2).await;
    let schemas = "select nspname from pg_namespace where nspname in ('base', 'ledger', 'migrations')";
    assert!(rows(&watcher, schemas).await.is_empty(), "who waits has written nothing");
    holder.batch_execute(&format!("select pg_advisory_unlock({LOADERS_LOCK})")).await.unwrap();
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    let (worked, found) = if one.files_loaded > 0 { (one, two) } else { (two, one) };
    assert!(worked.migrations.len() >= 8 && worked.files_loaded > 100, "{worked:?}");
    assert!(found.migrations.is_empty() && found.files_loaded == 0, "{found:?}");
    assert_eq!(worked.digest, found.digest);
    assert_eq!(rows(&watcher, "select digest from migrations.sql_loads").await, [worked.digest]);
}
