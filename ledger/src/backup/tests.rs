//! Sets and archives without a Postgres: what is listed, sealed, chosen and refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proto::keys::KeyPair;

use super::files::{self, Hashes, Tree};
use super::manifest::{self, Kind, Manifest, Set, WalRange};
use super::repository::Repository;
use super::seal::Sealer;
use super::segments::Segment;
use super::wal;

const BYTES: u64 = 1 << 20;

fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::from_seed(&[7; 32]))
}

fn segment(number: u64) -> Segment {
    Segment { timeline: 1, number }
}

fn name(number: u64) -> String {
    segment(number).name(BYTES)
}

fn range(stretch: &str) -> WalRange {
    WalRange {
        system_identifier: "1".into(),
        timeline: 1,
        segment_bytes: BYTES,
        first_segment: name(1),
        start_lsn: "0/100000".into(),
        end_lsn: "0/100000".into(),
        stretch: Some(stretch.into()),
    }
}

/// A stretch with whole segments 1 to 3 and a tail of 100 sealed bytes, and a folder to replay from.
struct Archive {
    dir: tempfile::TempDir,
}

impl Archive {
    fn new() -> Archive {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pg_wal")).unwrap();
        let folder = dir.path().join("stretch");
        std::fs::create_dir(&folder).unwrap();
        for n in 1..=3 {
            std::fs::write(folder.join(name(n)), vec![u8::try_from(n).unwrap(); 1 << 20]).unwrap();
        }
        std::fs::write(folder.join(format!("{}.partial", name(4))), vec![9; 1 << 20]).unwrap();
        let archive = Archive { dir };
        archive.sealer().seal(Some((segment(4), 100)), BYTES, 5).unwrap();
        archive
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(self.folder(), "stretch".into(), key(), self.dir.path().to_owned())
    }

    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("stretch")
    }

    /// Changes one byte; twice is as before.
    fn spoil(&self, file: &str, at: usize) {
        let path = self.folder().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// As the receiver does when segment 4 is whole and segment 5 begins.
    fn finish_segment(&self) {
        let partial = |number| self.folder().join(format!("{}.partial", name(number)));
        std::fs::rename(partial(4), self.folder().join(name(4))).unwrap();
        std::fs::write(partial(5), vec![5; 1 << 20]).unwrap();
    }

    fn replayed(&self) -> wal::Replayable {
        let to = self.dir.path().join("pg_wal");
        wal::copy(&self.folder(), &range("stretch"), Some(key().public()), &to).unwrap()
    }
}

#[test]
fn what_is_sealed_is_replayed_to_the_last_sealed_byte() {
    let archive = Archive::new();
    let found = archive.replayed();
    assert_eq!((found.segments, found.reached_us, found.damage), (4, Some(5), None));
    let tail = std::fs::read(archive.dir.path().join("pg_wal").join(name(4))).unwrap();
    assert_eq!((tail.len(), &tail[99..101]), (1 << 20, &[9, 0][..]), "zeros behind what was sealed");
    // More comes; the same bytes are not read again, and the seal moves on.
    let mut sealer = archive.sealer();
    sealer.seal(Some((segment(4), 150)), BYTES, 6).unwrap();
    sealer.seal(Some((segment(4), 200)), BYTES, 7).unwrap();
    // A receiver that begins again reports less for a moment; what was sealed stays so.
    sealer.seal(Some((segment(4), 120)), BYTES, 8).unwrap();
    assert_eq!(archive.replayed().reached_us, Some(7));
    // The tail becomes whole, and is found under its other name.
    std::fs::rename(archive.folder().join(format!("{}.partial", name(4))), archive.folder().join(name(4)))
        .unwrap();
    assert_eq!(archive.replayed().segments, 4);
    sealer.seal(Some((segment(5), 0)), BYTES, 9).unwrap();
    assert_eq!((archive.replayed().segments, archive.replayed().reached_us), (4, Some(9)));
}

#[test]
fn a_gap_is_damage_unless_the_base_brought_the_segment_along() {
    let archive = Archive::new();
    for gone in [name(1), format!("{}.seal", name(1))] {
        std::fs::remove_file(archive.folder().join(gone)).unwrap();
    }
    let found = archive.replayed();
    assert_eq!(found.segments, 0);
    assert!(found.damage.unwrap().contains(&name(1)));
    std::fs::write(archive.dir.path().join("pg_wal").join(name(1)), b"the base's own").unwrap();
    let found = archive.replayed();
    assert_eq!((found.segments, found.damage), (3, None));
}

#[test]
fn a_seal_of_another_key_or_stretch_is_none() {
    let archive = Archive::new();
    let to = archive.dir.path().join("pg_wal");
    let other = KeyPair::from_seed(&[8; 32]);
    let found = wal::copy(&archive.folder(), &range("stretch"), Some(other.public()), &to).unwrap();
    assert!(found.segments == 0 && found.damage.is_some(), "{found:?}");
    let found = wal::copy(&archive.folder(), &range("another"), Some(key().public()), &to).unwrap();
    assert!(found.segments == 0 && found.damage.is_some(), "{found:?}");
    assert!(std::fs::read_dir(&to).unwrap().next().is_none(), "what nobody vouches for is not left there");
}

#[test]
fn a_list_of_files_reads_as_b3sum_writes_it_and_leads_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/empty")).unwrap();
    std::fs::write(dir.path().join("a/file"), b"x").unwrap();
    let tree = Tree::of(dir.path()).unwrap();
    assert_eq!(
        (tree.files.clone(), tree.folders),
        (vec!["a/file".to_owned()], vec!["a".into(), "a/empty".into()])
    );
    let (hashes, bytes) = Hashes::of(dir.path(), &tree.files).unwrap();
    assert_eq!((hashes.to_text(), bytes), (format!("{}  a/file\n", blake3::hash(b"x").to_hex()), 1));
    assert_eq!(Hashes::parse(&hashes.to_text()), Some(hashes));
    let hash = blake3::hash(b"x").to_hex();
    for bad in [
        format!("{hash}  ../file\n"),
        format!("{hash}  /etc/file\n"),
        format!("{hash}  \n"),
        "no hash  file\n".into(),
    ] {
        assert_eq!(Hashes::parse(&bad), None, "{bad}");
    }
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
    assert!(Tree::of(dir.path()).is_err());
    assert!(files::read_small(&dir.path().join("link")).is_err(), "links are not followed");
}

fn set(repository: &Path, name: &str, finished_at_us: i64, signed: bool) {
    let dir = repository.join("sets").join(name);
    std::fs::create_dir_all(dir.join("pg")).unwrap();
    std::fs::write(dir.join("pg/PG_VERSION"), b"15\n").unwrap();
    let manifest = Manifest {
        format: Manifest::CURRENT_FORMAT,
        name: name.to_owned(),
        kind: Kind::Base,
        econ_version: String::new(),
        sql_release: 1,
        postgres_version: 150_018,
        started_at_us: 0,
        finished_at_us,
        wal: Some(range("stretch")),
        ledgers: Vec::new(),
        keys: BTreeMap::new(),
        artifacts: false,
        folders: Vec::new(),
        files: 0,
        bytes: 0,
        files_blake3: String::new(),
    };
    manifest::write(&dir, manifest, signed.then_some(&*key())).unwrap();
}

#[test]
fn only_whole_sets_that_the_house_vouches_for_are_read_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(dir.path(), data_dir.path()).unwrap();
    set(dir.path(), "b", 1, true);
    set(dir.path(), "a", 2, true);
    set(dir.path(), "unsigned", 3, false);
    set(dir.path(), ".new-unfinished", 4, true);
    set(dir.path(), "damaged", 5, true);
    std::fs::remove_file(dir.path().join("sets/damaged/pg/PG_VERSION")).unwrap();
    // A whole, signed set under another name than its own is not that set.
    set(dir.path(), "c", 6, true);
    std::fs::rename(dir.path().join("sets/c"), dir.path().join("sets/d")).unwrap();
    let names = |sets: Vec<Set>| sets.into_iter().map(|set| set.manifest.name).collect::<Vec<_>>();
    assert_eq!(names(repository.read_sets(Some(key().public())).unwrap()), ["b", "a"]);
    assert_eq!(names(repository.read_sets(None).unwrap()), ["b", "a", "unsigned"]);
}

#[test]
fn wal_older_than_every_set_is_named_and_that_of_the_live_stretch_without_a_base_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(dir.path(), data_dir.path()).unwrap();
    for stretch in ["stretch", "live"] {
        let folder = dir.path().join("wal").join(stretch);
        std::fs::create_dir(&folder).unwrap();
        for file in [name(0), format!("{}.seal", name(0)), name(1), name(2)] {
            std::fs::write(folder.join(file), b"").unwrap();
        }
    }
    set(dir.path(), "a", 1, true);
    let found = repository.removable(Some("live")).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].segments, found[0].needed_from.clone()), (1, Some(name(1))));
    assert_eq!(repository.removable(None).unwrap().len(), 2, "nothing begins in a stretch without sets");
}

#[test]
fn one_maker_at_a_time_and_what_a_killed_one_left_goes() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(dir.path(), data_dir.path()).unwrap();
    set(dir.path(), ".new-left", 1, true);
    let lock = repository.lock().unwrap();
    assert!(!dir.path().join("sets/.new-left").exists());
    let refused = repository.lock().unwrap_err().to_string();
    assert!(refused.starts_with("UB505"), "{refused}");
    drop(lock);
    repository.lock().unwrap();
    let inside = Repository::open(&data_dir.path().join("x"), data_dir.path()).unwrap_err().to_string();
    assert!(inside.starts_with("UB125"), "{inside}");
}

#[test]
fn a_tail_that_ends_before_the_base_does_replaces_nothing_of_the_base() {
    let archive = Archive::new();
    let to = archive.dir.path().join("pg_wal");
    let own = vec![9; 1 << 20];
    let replayed = |end_lsn: &str| {
        std::fs::write(to.join(name(4)), &own).unwrap();
        let range = WalRange { end_lsn: end_lsn.into(), ..range("stretch") };
        let found = wal::copy(&archive.folder(), &range, Some(key().public()), &to).unwrap();
        (found.segments, found.damage, std::fs::read(to.join(name(4))).unwrap() == own)
    };
    // 100 bytes are sealed. The base is consistent behind them, or right there.
    assert_eq!(replayed("0/400065"), (3, None, true));
    assert_eq!(replayed("0/500000"), (3, None, true));
    assert_eq!(replayed("0/400064"), (4, None, false));
}

#[test]
fn a_seal_that_is_gone_is_said_and_never_made_again() {
    for (gone, memory) in [(2, true), (2, false), (3, true)] {
        let archive = Archive::new();
        let seal = archive.folder().join(format!("{}.seal", name(gone)));
        let kept = std::fs::read(&seal).unwrap();
        std::fs::remove_file(&seal).unwrap();
        archive.spoil(&name(gone), 7);
        if !memory {
            // Then those that are there tell how far it was.
            let _ = std::fs::remove_file(archive.dir.path().join("wal-sealed.json"));
        }
        archive.finish_segment();
        let mut sealer = archive.sealer();
        for _ in 0..2 {
            let said = sealer.seal(Some((segment(5), 10)), BYTES, 8).unwrap_err().to_string();
            assert!(said.starts_with("UB621") && said.contains(&name(gone)), "{said}");
        }
        assert!(!seal.exists());
        // What comes in now is sealed all the same.
        let tail = std::fs::read_to_string(archive.folder().join("tail.seal")).unwrap();
        assert!(tail.contains(&format!("{} 10 ", name(5))), "{tail}");
        assert!(archive.folder().join(format!("{}.seal", name(4))).exists());
        std::fs::write(&seal, kept).unwrap();
        archive.sealer().seal(Some((segment(5), 20)), BYTES, 9).unwrap();
    }
}

#[test]
fn what_was_changed_between_its_receiving_and_its_seal_is_not_sealed() {
    let sealed = |archive: &Archive| archive.folder().join(format!("{}.seal", name(4))).exists();
    // While one process looks on, and over a restart.
    for restart in [false, true] {
        let archive = Archive::new();
        let mut sealer = archive.sealer();
        sealer.seal(Some((segment(4), 200)), BYTES, 6).unwrap();
        archive.spoil(&format!("{}.partial", name(4)), 50);
        archive.finish_segment();
        if restart {
            sealer = archive.sealer();
        }
        let said = sealer.seal(Some((segment(5), 10)), BYTES, 7).unwrap_err().to_string();
        assert!(said.starts_with("UB621") && said.contains(&name(4)), "{said}");
        assert!(!sealed(&archive));
        // Nor by whoever comes later.
        assert!(archive.sealer().seal(Some((segment(5), 20)), BYTES, 8).is_err());
        assert!(!sealed(&archive));
    }
    // A tail that goes on, under a receiver or a process that begins again.
    let archive = Archive::new();
    let tail = || std::fs::read(archive.folder().join("tail.seal")).unwrap();
    let said = tail();
    archive.spoil(&format!("{}.partial", name(4)), 50);
    for offset in [99, 200, 300] {
        let mut sealer = archive.sealer();
        sealer.forget();
        assert_eq!(sealer.seal(Some((segment(4), offset)), BYTES, 7).is_err(), offset > 99);
        assert_eq!(tail(), said);
    }
    // Received anew, it goes on by itself.
    archive.spoil(&format!("{}.partial", name(4)), 50);
    archive.sealer().seal(Some((segment(4), 300)), BYTES, 7).unwrap();
    assert_ne!(tail(), said);
    assert_eq!(archive.replayed().damage, None);
}

#[test]
fn a_folder_that_others_can_write_to_and_a_link_in_the_place_of_the_lock_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(dir.path(), data_dir.path()).unwrap();
    let elsewhere = data_dir.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("lock")).unwrap();
    repository.lock().unwrap_err();
    assert!(!elsewhere.exists(), "the link was followed");
    for folder in ["sets", "wal", ""] {
        let folder = dir.path().join(folder);
        let mode = |mode| std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        for open in [0o722, 0o702, 0o720] {
            mode(open);
            let said = Repository::open(dir.path(), data_dir.path()).unwrap_err().to_string();
            assert!(said.starts_with("UB303"), "{said}");
        }
        mode(0o755);
    }
    Repository::open(dir.path(), data_dir.path()).unwrap();
    std::fs::remove_dir(dir.path().join("wal")).unwrap();
    std::os::unix::fs::symlink(data_dir.path(), dir.path().join("wal")).unwrap();
    let said = Repository::open(dir.path(), data_dir.path()).unwrap_err().to_string();
    assert!(said.starts_with("UB303"), "{said}");
}

#[test]
fn a_folder_that_is_archived_to_is_not_made_again() {
    let (dir, data_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = dir.path().canonicalize().unwrap().join("disk");
    let (folder, link) = (disk.join("econ"), dir.path().join("link"));
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let open = |path: &Path| Repository::open(path, data_dir.path()).map_err(|error| error.to_string());
    open(&folder).unwrap();
    let state = serde_json::json!({"repository": folder, "stretch": "stretch"}).to_string();
    std::fs::write(data_dir.path().join("wal-archive.json"), state).unwrap();
    assert_eq!(open(&link.join("econ")).unwrap().dir(), folder);
    // With its mount point, without, and as a bare mount point.
    for gone in [&folder, &disk] {
        std::fs::remove_dir_all(gone).unwrap();
        for path in [&folder, &link.join("econ")] {
            assert!(open(path).unwrap_err().starts_with("UB421"));
            let wanted = super::Archive::wanted(data_dir.path(), Some(path)).unwrap().unwrap();
            assert_eq!((wanted.dir(), gone.exists()), (folder.as_path(), false));
        }
    }
    std::fs::create_dir_all(&folder).unwrap();
    assert!(open(&folder).unwrap_err().starts_with("UB421"));
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
    open(&dir.path().join("another")).unwrap();
}

#[test]
fn a_set_that_has_grown_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    set(dir.path(), "a", 1, true);
    let grown = dir.path().join("sets/a");
    Set::read(&grown, Some(key().public())).unwrap();
    std::fs::write(grown.join("pg/PG_VERSION"), b"15\n and more").unwrap();
    let said = Set::read(&grown, Some(key().public())).unwrap_err().to_string();
    assert!(said.starts_with("UB605"), "{said}");
}
