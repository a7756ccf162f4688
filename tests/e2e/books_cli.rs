//! The books from the command line: journals are posted whole or not at all, and once; exports come out of a running market.

use ledger::cluster::EconState;
use serde_json::Value;
use tokio::process::Child;
use tokio_postgres::{Client, Config, NoTls};

use crate::support::checks::{changed, domain_digest};
use crate::support::program::{Folder, both, ended, interrupt, json, must, open_market, say};

/// A running market with one funded wallet.
struct House {
    folder: Folder,
    market: Child,
    agent: String,
    db: Client,
}

impl House {
    async fn open() -> House {
        let folder = Folder::new();
        let (market, url) = open_market(&folder).await;
        let key = folder.file("buyer.pem");
        let made = json(&["key", "new", &key]).await;
        let agent = made["agent_id"].as_str().unwrap().to_owned();
        json(&["register", "--api", &url, "--key", &key]).await;
        json(&["deposit", &agent, "25", "--reference", "wire-1", "--data-dir", folder.text()]).await;
        let state = EconState::read(std::path::Path::new(folder.text())).unwrap();
        let mut config = Config::new();
        config.host_path(&state.socket_dir).port(state.port).dbname("econ").user("econ_auditor");
        let (db, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        House { folder, market, agent, db }
    }

    /// Writes a journal under its header.
    fn journal(&self, name: &str, lines: &[&str]) -> String {
        let file = self.folder.file(name);
        let head = "debit_account,credit_account,asset,amount\n";
        let text: String =
            lines.iter().map(|line| format!("{}\n", line.replace("AGENT", &self.agent))).collect();
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        file
    }

    fn words<'a>(&'a self, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["ledger", "post", file, "--data-dir", self.folder.text()], more].concat()
    }

    async fn posted(&self, file: &str, more: &[&str]) -> Value {
        json(&self.words(file, more)).await
    }

    /// What a refused posting says.
    async fn refused(&self, file: &str, more: &[&str], code: &str) -> String {
        let said = say(&self.words(file, more)).await;
        assert!(!said.status.success(), "{}", both(&said));
        let told = String::from_utf8(said.stderr).unwrap();
        assert!(told.contains(code), "{told}");
        told
    }

    async fn wallet(&self) -> String {
        let sql = "select balance_minor::text from finance.balances where purpose = 'wallet'";
        self.db.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn close(self) {
        drop(self.db);
        interrupt(&self.market);
        let said = ended(self.market).await;
        assert!(said.status.success(), "{}", both(&said));
    }
}

#[tokio::test]
async fn a_journal_is_posted_whole_or_not_at_all_and_once() {
    let house = House::open().await;
    let good =
        house.journal("good.csv", &["external,wallet:AGENT,USD,1.25", "wallet:AGENT,external,usd,0.000001"]);
    let before = domain_digest(&house.db).await;
    let tried = house.posted(&good, &["--dry-run"]).await;
    assert_eq!(tried["transfers"][1]["result"], "ok", "{tried}");
    let wallet = tried["accounts"].as_array().unwrap().iter().find(|row| row["purpose"] == "wallet").unwrap();
    assert_eq!((&wallet["before"], &wallet["after"]), (&"25000000".into(), &"26249999".into()));
    assert!(must(&house.words(&good, &["--dry-run"])).await.contains("26.249999"));
    assert!(!std::path::Path::new(&format!("{good}.ids")).exists(), "a dry run leaves nothing");

    // What is wrong is told for every line, and nothing is sent.
    let mistaken = house.journal(
        "mistaken.csv",
        &["external,wallet:AGENT,USD,1", "external,wallet:AGENT,USD,0.0000001", "external,,EUR,1"],
    );
    for more in [&[][..], &["--dry-run"]] {
        let told = house.refused(&mistaken, more, "UL181").await;
        for line in ["line 3, amount", "line 4, credit_account: is empty", "line 4, asset"] {
            assert!(told.contains(line), "{told}");
        }
    }
    let nobody = house.journal("nobody.csv", &["external,wallet:AGENT,USD,1", "equity,wallet:AGENT,USD,1"]);
    let told = house.refused(&nobody, &[], "UL181").await;
    assert!(told.contains("line 3, debit_account: there is no such equity account of USD yet"), "{told}");
    assert_eq!(changed(&before, &domain_digest(&house.db).await), Vec::<String>::new());

    // One line too much, and none of it is booked; funded, the same file is.
    let large = house.journal("large.csv", &["external,wallet:AGENT,USD,1", "wallet:AGENT,external,USD,27"]);
    for more in [&["--dry-run"][..], &[]] {
        let told = house.refused(&large, more, "UL682").await;
        assert!(
            told.contains("line 3 was refused with exceeds_credits, so none of the 2 transfers"),
            "{told}"
        );
    }
    assert_eq!(house.wallet().await, "25000000");

    let first = house.posted(&good, &[]).await;
    assert_eq!((&first["posted"], &first["replayed"]), (&2.into(), &false.into()), "{first}");
    assert_eq!(house.wallet().await, "26249999");
    let again = house.posted(&good, &[]).await;
    assert_eq!((&again["posted"], &again["seq"]), (&0.into(), &first["seq"]), "{again}");
    assert_eq!(again["transfers"][0]["result"], "exists", "{again}");
    assert_eq!(again["transfers"][0]["transferId"], first["transfers"][0]["transferId"]);
    // Killed between sending and hearing: the record says "sent", and the answer is fetched.
    let record = format!("{good}.ids");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"booked\"", "\"sent\"")).unwrap();
    assert_eq!(house.posted(&good, &[]).await["posted"], 0);
    // Without the record the house still knows the file.
    std::fs::remove_file(&record).unwrap();
    house.refused(&good, &[], "UB601").await;
    assert_eq!(house.wallet().await, "26249999");
    std::fs::write(&record, text).unwrap();
    house.journal("good.csv", &["external,wallet:AGENT,USD,1.25", "external,wallet:AGENT,USD,2"]);
    house.refused(&good, &[], "UL681").await;

    assert_eq!(house.posted(&large, &[]).await["posted"], 2);
    assert_eq!(house.wallet().await, "249999");
    house.close().await;
}

#[tokio::test]
async fn a_running_market_is_exported_to_a_file_or_a_pipe() {
    let house = House::open().await;
    let at = ["--data-dir", house.folder.text()];
    let csv = must(&[&["export", "csv"], &at[..]].concat()).await;
    assert!(csv.starts_with("seq,item,at,") && csv.contains(",25.000000,25000000,"), "{csv}");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    for format in ["hledger", "beancount", "parquet"] {
        let file = house.folder.file(format);
        let made = json(&[&["export", format, "-o", &file], &at[..]].concat()).await;
        assert_eq!(made["transfers"], 1, "{made}");
        assert!(std::fs::metadata(&file).unwrap().len() > 100);
    }
    let nothing =
        must(&[&["export", "csv", "--from", "2100-01-01", "--by", "event"], &at[..]].concat()).await;
    assert_eq!(nothing.lines().count(), 1, "{nothing}");
    for wrong in
        [&["--from", "2026-02-01", "--to", "2026-01-01"][..], &["--from", "then"], &["--ledger", "7"]]
    {
        let said = say(&[&["export", "csv"], wrong, &at[..]].concat()).await;
        assert!(!said.status.success(), "{}", both(&said));
    }
    house.close().await;
}
