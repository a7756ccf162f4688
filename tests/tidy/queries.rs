//! The example queries of the documents run, with the rights of those they are written for.

use ledger::testing::TestDb;

use super::{files, none, object, part, read};

#[tokio::test]
async fn the_documented_queries_run_as_their_readers() {
    let db = TestDb::new().await;
    let mut findings = Vec::new();
    let mut ran = 0;
    for name in files("docs/queries", ".sql") {
        let role = match part(&name, 2) {
            "analyst" => "econ_analyst",
            "finance" => "econ_finance",
            "auditor" => "econ_auditor",
            other => panic!("{name}: nobody's folder: {other}"),
        };
        let text = read(&name);
        if !text.starts_with("-- ") {
            findings.push(format!("{name}: does not say which question it answers"));
        }
        let client = db.client(role).await;
        client.batch_execute("set default_transaction_read_only = on").await.unwrap();
        if let Err(error) = client.batch_execute(&text).await {
            findings.push(format!("{name}: {}", error.as_db_error().map_or("", |error| error.message())));
        }
        ran += 1;
    }
    none("queries of docs/queries", &findings);
    assert!(ran > 0, "there are none");
    db.close().await;
}

#[test]
fn the_auditors_query_looks_into_every_audit_view() {
    let query = read("docs/queries/auditor/is_anything_wrong.sql");
    let forgotten: Vec<String> = files("sql/views", ".sql")
        .iter()
        .filter(|name| part(name, 3).starts_with("audit_"))
        .map(|name| object(name))
        .filter(|view| !query.contains(&format!("from {view}")))
        .collect();
    none("audit views that nobody looks into", &forgotten);
}
