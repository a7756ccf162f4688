//! Archived WAL: any moment comes back, exactly; what was cut, changed or left out of the archive is noticed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::unistd::Pid;
use tokio::process::Child;

use crate::support::checks::rows;
use crate::support::copies::{
    Buyer, Copies, below, copy_tree, flip, last_seq, lose, refused, size, verified,
};
use crate::support::program::{Folder, ended, interrupt, kill_9, open_market_with, page, until};

/// A market whose WAL is archived, with its base made, and a buyer in it.
struct Shop {
    // First, so that it is ended before its folders are removed.
    server: Option<Child>,
    market: Folder,
    copies: Copies,
    buyer: Buyer,
}

impl Shop {
    async fn open() -> Shop {
        let (market, copies) = (Folder::new(), Copies::new());
        let (server, url) = open_market_with(&market, &["--wal-archive", &copies.backups()]).await;
        let buyer = Buyer::register(&copies.folder, &url).await;
        copies.until_sets(1).await;
        copies.take_keys(&market);
        Shop { server: Some(server), market, copies, buyer }
    }

    async fn deposit(&self, reference: &str) -> u64 {
        self.buyer.deposit(&self.market, 1, reference).await;
        last_seq(&self.market).await
    }

    /// Once everything is archived: a server that stops gives its archive a moment for the rest and no more.
    async fn stop(&mut self) {
        self.caught_up().await;
        self.stop_unarchived().await;
    }

    async fn stop_unarchived(&mut self) {
        let server = self.server.take().unwrap();
        interrupt(&server);
        assert!(ended(server).await.status.success());
    }

    async fn start(&mut self, more: &[&str]) -> String {
        let (server, url) = open_market_with(&self.market, more).await;
        self.server = Some(server);
        url
    }

    async fn start_again(&mut self) -> String {
        self.stop().await;
        self.start(&[]).await
    }

    /// Waits until everything is archived that is committed by now.
    async fn caught_up(&self) {
        let by = now();
        until("an archive that reaches this moment", async || {
            reached(&self.copies).is_some_and(|at| at >= by).then_some(())
        })
        .await;
    }

    /// The segment that is being received; of a stopped server's archive.
    fn partial(&self) -> PathBuf {
        let stretch = self.copies.stretches().pop().unwrap();
        let partial = |file: &PathBuf| file.extension().is_some_and(|end| end == "partial");
        below(&stretch).into_iter().find(partial).expect("the newest segment is not whole")
    }

    /// Has Postgres end the segment that it writes, and waits until that is archived and sealed.
    async fn end_segment(&self) -> PathBuf {
        let db = self.market.client("postgres").await.unwrap();
        let ended = rows(&db, "select pg_walfile_name(pg_switch_wal())").await.remove(0);
        let segment = self.copies.stretches().pop().unwrap().join(ended);
        let seal = segment.with_extension("seal");
        // Nothing follows by itself.
        rows(&db, "select pg_logical_emit_message(true, 'test', 'on')::text").await;
        until("a sealed segment", async || seal.exists().then_some(())).await;
        segment
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

/// How often the archive of the server at this URL has failed.
async fn failures(url: &str) -> u64 {
    let page = page(url, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix("econ_wal_archive_failures_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Up to when the newest stretch says that it is complete.
fn reached(copies: &Copies) -> Option<Timestamp> {
    let stretch = copies.stretches().pop()?;
    let note = std::fs::read_to_string(stretch.join("tail.seal")).ok()?;
    let us = note.lines().nth(2)?.rsplit_once(' ')?.1.parse().ok()?;
    Timestamp::from_microsecond(us).ok()
}

#[tokio::test]
async fn a_restore_to_a_moment_between_two_commands_is_exactly_that_and_needs_the_word() {
    let mut shop = Shop::open().await;
    // What is restored is to hold a forest, and a shorter one.
    let forest = shop.market.file("checkpoints/forest.checkpoint");
    until("a forest", async || Path::new(&forest).exists().then_some(())).await;
    let before = shop.deposit("one").await;
    let moment = now().to_string();
    let after = shop.deposit("two").await;
    let idle = now();
    shop.caught_up().await;
    shop.stop().await;
    lose(&shop.market);

    // The archive kept the newest checkpoint, so a data dir that is gone entirely makes no difference.
    let (market, copies) = (&shop.market, &shop.copies);
    let asked = copies.refused(market, "UR601", &["--until", &moment]).await;
    assert!(
        asked.contains(&format!("ends at seq {before}")) && asked.contains(&format!("says {after}")),
        "{asked}"
    );
    // A moment at which nothing happened any more is the end; one that the archive does not reach is not known.
    let quiet = Folder::new();
    let idly = copies.restored(&quiet, &["--until", &idle.to_string()]).await;
    assert_eq!(size(&idly), after);
    // The log over the checkpoints went on after that moment, most likely. No command is missing, so nobody is asked.
    let lost = |back: &serde_json::Value, log: u64| {
        back["losses"].as_array().unwrap().iter().any(|loss| loss["ledger_id"] == log)
    };
    assert!(!lost(&idly, 1), "{idly}");
    let later = now() + jiff::SignedDuration::from_secs(60);
    copies.refused(&Folder::new(), "UB607", &["--until", &later.to_string()]).await;
    copies.refused(&Folder::new(), "UB413", &["--until", "2020-01-01T00:00:00Z"]).await;
    // Nor does a set lead to what was before it.
    let (set, none) = (copies.sets().remove(0), Folder::new());
    let said = copies.restore_from(set.to_str().unwrap(), &none, &["--until", "2020-01-01T00:00:00Z"]).await;
    refused(&said, &none, "UB607");

    let back = copies.restored(market, &["--until", &moment, "--accept-loss"]).await;
    assert_eq!(size(&back), before, "{back}");
    assert!(lost(&back, 1), "{back}");
    // It serves; and archives into the same folder, apart from what the lost one wrote, with a base of its own.
    let url = shop.start(&["--wal-archive", &shop.copies.backups()]).await;
    assert_eq!(shop.buyer.wallet(&url).await, 1_000_000);
    shop.copies.until_sets(2).await;
    let last = shop.deposit("three").await;
    assert_eq!(last, before + 1);
    shop.stop().await;
    assert_eq!(shop.copies.stretches().len(), 2);
    lose(&shop.market);
    // Latest is what happened last, not what was given up.
    let back = shop.copies.restored(&shop.market, &[]).await;
    assert_eq!((size(&back), back["losses"].as_array().unwrap().len()), (last, 0), "{back}");
    assert_eq!(verified(&shop.market).await, 1, "the loss of before is stated still");
    let url = shop.start(&[]).await;
    assert_eq!(shop.buyer.wallet(&url).await, 2_000_000);
    shop.stop_unarchived().await;
}

#[tokio::test]
async fn archiving_goes_on_over_kill_9_of_receiver_postgres_and_server() {
    let mut shop = Shop::open().await;
    let receiver = |copies: &Copies| -> Option<Pid> {
        let stretch = copies.stretches().pop()?;
        let ours = |words: &[String]| words.iter().any(|word| Path::new(word) == stretch);
        // The folder is an argument of the receiver's; those of the data dir's processes name another.
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let found = all.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            ours(&words).then_some(Pid::from_raw(pid))
        });
        found.last()
    };
    shop.deposit("one").await;
    let first = receiver(&shop.copies).expect("a receiver runs");
    kill_9(first);
    shop.deposit("two").await;
    until("another receiver", async || receiver(&shop.copies).is_some_and(|pid| pid != first).then_some(()))
        .await;
    kill_9(shop.market.postmaster().unwrap());
    until("Postgres again", async || shop.market.client("econ_api").await.map(drop)).await;
    shop.deposit("three").await;
    let server = shop.server.take().unwrap();
    kill_9(shop.market.server().unwrap());
    ended(server).await;
    // Remembered: nobody has to say it again.
    shop.start(&[]).await;
    let last = shop.deposit("four").await;
    shop.end_segment().await;
    shop.stop().await;
    until("the end of the receiver", async || receiver(&shop.copies).is_none().then_some(())).await;
    assert_eq!(shop.copies.stretches().len(), 1, "no place was lost");
    let back = Folder::new();
    let outside = shop.market.file("checkpoints/ledger-1.checkpoint");
    assert_eq!(size(&shop.copies.restored(&back, &["--checkpoint", &outside]).await), last);
}

#[tokio::test]
async fn whatever_was_changed_or_left_out_in_an_archive_is_noticed_and_nothing_behind_it_is_replayed() {
    let mut shop = Shop::open().await;
    let one = shop.deposit("one").await;
    let first = shop.end_segment().await;
    let two = shop.deposit("two").await;
    let second = shop.end_segment().await;
    let three = shop.deposit("three").await;
    shop.stop().await;
    let stretch = shop.copies.stretches().pop().unwrap();
    let tail = shop.partial();
    let whole = Folder::new();
    let kept = PathBuf::from(whole.file("backups"));
    copy_tree(Path::new(&shop.copies.backups()), &kept);
    let again = || copy_tree(&kept, Path::new(&shop.copies.backups()));
    // All of it is there.
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), three);

    type Harm<'a> = (&'a str, Box<dyn Fn() + 'a>, u64);
    let harms: [Harm<'_>; 6] = [
        ("a changed segment", Box::new(|| flip(&second, 0, 1)), one),
        ("a segment that is gone", Box::new(|| std::fs::remove_file(&second).unwrap()), one),
        (
            "a segment that is gone with its seal",
            Box::new(|| {
                std::fs::remove_file(&second).unwrap();
                std::fs::remove_file(second.with_extension("seal")).unwrap();
            }),
            one,
        ),
        (
            "the seal of another segment",
            Box::new(|| {
                std::fs::copy(first.with_extension("seal"), second.with_extension("seal")).unwrap();
            }),
            one,
        ),
        ("a changed tail", Box::new(|| flip(&tail, 0, 1)), two),
        ("a tail that says more", Box::new(|| flip(&stretch.join("tail.seal"), 1, 2)), two),
    ];
    for (what, harm, left) in harms {
        harm();
        let back = Folder::new();
        let told = shop.copies.refused(&back, "UB607", &[]).await;
        assert!(told.contains(stretch.to_str().unwrap()) || told.contains("tail.seal"), "{what}: {told}");
        let restored = shop.copies.restored(&back, &["--up-to-damage", "--accept-loss"]).await;
        assert_eq!(size(&restored), left, "{what}: {restored}");
        again();
    }
    // Behind the sealed part of the tail anything may stand: it is not read.
    let bytes = std::fs::metadata(&tail).unwrap().len();
    flip(&tail, usize::try_from(bytes).unwrap() - 1, usize::try_from(bytes).unwrap());
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), three);
    // A set without the archive that goes on from it says so.
    std::fs::rename(&stretch, stretch.with_extension("away")).unwrap();
    let back = Folder::new();
    let told = shop.copies.refused(&back, "UB607", &[]).await;
    assert!(told.contains("--archive"), "{told}");
}

#[tokio::test]
async fn an_archive_that_lost_its_place_begins_anew_with_a_base_and_one_that_is_ended_holds_nothing_back() {
    let mut shop = Shop::open().await;
    shop.deposit("one").await;
    shop.stop().await;
    let slots = "select slot_name::text from pg_replication_slots";
    let books = shop.market.books().await;
    assert_eq!(rows(&books.db, slots).await, ["econ_archive"], "a stopped server's archive keeps its place");
    // As Postgres does when the archive is away for too long.
    rows(&books.db, "select pg_drop_replication_slot('econ_archive')::text").await;
    books.close().await;
    shop.start(&[]).await;
    let last = shop.deposit("two").await;
    shop.copies.until_sets(2).await;
    assert_eq!(shop.copies.stretches().len(), 2);
    shop.stop().await;
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), last);

    // What no set needs is named, and nothing is removed.
    std::fs::remove_dir_all(shop.copies.sets().remove(0)).unwrap();
    let made = shop.copies.make(&shop.market, &[]).await;
    let spare = |stretch: &Path| {
        let all = made["removable_wal"].as_array().unwrap().clone();
        all.into_iter().find(|spare| spare["folder"].as_str() == stretch.to_str())
    };
    let stretches = shop.copies.stretches();
    assert!(spare(&stretches[0]).is_some_and(|spare| spare["needed_from"].is_null()), "{made}");
    // In the live one only what is older than its oldest set.
    if let Some(spare) = spare(&stretches[1]) {
        let first = spare["needed_from"].as_str().unwrap();
        assert!(first <= made["manifest"]["wal"]["first_segment"].as_str().unwrap(), "{made}");
    }
    assert_eq!(shop.copies.stretches().len(), 2);

    shop.start(&["--no-wal-archive"]).await;
    shop.stop_unarchived().await;
    let books = shop.market.books().await;
    assert!(rows(&books.db, slots).await.is_empty());
    books.close().await;
    shop.start(&[]).await;
    assert!(!Path::new(&shop.market.file("wal-archive.json")).exists(), "it was ended for good");
    shop.stop_unarchived().await;
}

#[tokio::test]
async fn a_backup_disk_that_is_not_there_is_waited_for_and_nothing_is_begun_on_its_mount_point() {
    let mut shop = Shop::open().await;
    let backups = shop.copies.backups();
    let (place, away) = (Path::new(&backups), PathBuf::from(shop.copies.folder.file("away")));
    let named: &[&str] = &["--wal-archive", &backups];
    let mut last = 0;
    for (what, words, mounted) in [
        ("gone", &[][..], false),
        ("gone-and-named-again", named, false),
        ("empty", &[][..], true),
        ("empty-and-named-again", named, true),
    ] {
        shop.stop().await;
        std::fs::rename(place, &away).unwrap();
        if mounted {
            std::fs::create_dir(place).unwrap();
        }
        let url = shop.start(words).await;
        until("a word about it", async || {
            (failures(&url).await > 0 || !below(place).is_empty()).then_some(())
        })
        .await;
        last = shop.deposit(what).await;
        assert_eq!((below(place), place.exists()), (vec![], mounted), "{what}");
        if mounted {
            std::fs::remove_dir(place).unwrap();
        }
        std::fs::rename(&away, place).unwrap();
        shop.caught_up().await;
        assert_eq!(shop.copies.stretches().len(), 1, "{what}");
    }
    // Taken away from a server that runs.
    let url = shop.start_again().await;
    std::fs::rename(place, &away).unwrap();
    until("a word about it", async || (failures(&url).await > 0).then_some(())).await;
    let later = shop.deposit("taken-away").await;
    assert!(later > last && !place.exists());
    std::fs::rename(&away, place).unwrap();
    shop.caught_up().await;
    shop.stop().await;
    assert_eq!(shop.copies.stretches().len(), 1);
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), later);
}

#[tokio::test]
async fn a_segment_that_a_full_disk_left_half_made_is_received_anew() {
    let mut shop = Shop::open().await;
    let mut last = 0;
    for (what, length) in [("half", 5_120_000), ("page", 8192)] {
        shop.deposit(&format!("before-{what}")).await;
        shop.stop().await;
        std::fs::File::options().write(true).open(shop.partial()).unwrap().set_len(length).unwrap();
        shop.start(&[]).await;
        last = shop.deposit(what).await;
        shop.caught_up().await;
    }
    shop.stop().await;
    assert_eq!(shop.copies.stretches().len(), 1);
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), last);
}

#[tokio::test]
async fn an_archive_that_others_can_write_to_or_that_holds_a_link_is_not_written_until_that_is_mended() {
    let mut shop = Shop::open().await;
    shop.stop().await;
    let (partial, target) = (shop.partial(), PathBuf::from(shop.copies.folder.file("target")));
    std::fs::remove_file(&partial).unwrap();
    std::os::unix::fs::symlink(&target, &partial).unwrap();
    let url = shop.start(&[]).await;
    until("a word about it", async || (failures(&url).await > 0 || target.exists()).then_some(())).await;
    shop.deposit("link").await;
    assert!(!target.exists(), "the link was followed");
    std::fs::remove_file(&partial).unwrap();
    shop.caught_up().await;

    let stretch = shop.copies.stretches().pop().unwrap();
    let mode = |mode| std::fs::set_permissions(&stretch, PermissionsExt::from_mode(mode)).unwrap();
    let before = failures(&url).await;
    mode(0o777);
    until("a word about it", async || (failures(&url).await > before).then_some(())).await;
    let last = shop.deposit("folder-for-all").await;
    mode(0o700);
    shop.caught_up().await;
    shop.stop().await;
    assert_eq!(size(&shop.copies.restored(&Folder::new(), &[]).await), last);
}

#[tokio::test]
async fn a_sets_settings_are_not_obeyed() {
    let mut shop = Shop::open().await;
    let db = shop.market.client("postgres").await.unwrap();
    for (setting, value) in [("recovery_end_command", "touch ran"), ("shared_preload_libraries", "nowhere")] {
        db.batch_execute(&format!("alter system set {setting} = '{value}'")).await.unwrap();
    }
    let (conf, hba) = (shop.market.file("pg/postgresql.conf"), shop.market.file("pg/pg_hba.conf"));
    let add = |file: &str, line: &str| {
        std::fs::write(file, std::fs::read_to_string(file).unwrap() + line + "\n").unwrap();
    };
    add(&conf, "archive_cleanup_command = 'touch ran'");
    add(&hba, "host all all all trust");
    let signal = shop.market.file("pg/standby.signal");
    std::fs::write(&signal, "").unwrap();
    shop.copies.make(&shop.market, &[]).await;
    std::fs::remove_file(&signal).unwrap();
    let last = shop.deposit("one").await;
    shop.stop().await;

    let back = Folder::new();
    assert_eq!(size(&shop.copies.restored(&back, &[]).await), last);
    assert!(!Path::new(&back.file("pg/ran")).exists(), "a command from the set ran");
    for file in ["pg/postgresql.auto.conf", "pg/postgresql.conf", "pg/pg_hba.conf"] {
        let text = std::fs::read_to_string(back.file(file)).unwrap();
        assert!(
            !text.contains("ran") && !text.contains("nowhere") && !text.contains("host "),
            "{file}: {text}"
        );
    }
    // And it serves with what is there.
    let (server, url) = open_market_with(&back, &[]).await;
    assert_eq!(shop.buyer.wallet(&url).await, 1_000_000);
    interrupt(&server);
    assert!(ended(server).await.status.success());
}
