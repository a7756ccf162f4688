use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

fn item(n: u64) -> Item {
    Item { kind: "metering".to_owned(), idempotency_key: format!("key-{n}"), body: vec![7; 100] }
}

fn open(directory: &Path) -> Spool {
    Spool::open(directory, Limits::default()).unwrap()
}

fn keys(spool: &mut Spool) -> Vec<String> {
    let (mut keys, mut last) = (Vec::new(), 0);
    while let Some((seq, item)) = spool.oldest_after(last).unwrap() {
        keys.push(item.idempotency_key);
        last = seq;
    }
    keys
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn items_come_back_in_order_until_they_are_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    let odd = Item { kind: String::new(), idempotency_key: "ключ".to_owned(), body: vec![] };
    let first = spool.append(&odd).unwrap();
    for n in 2..=12 {
        assert_eq!(spool.append(&item(n)).unwrap(), first + n - 1);
    }
    assert_eq!(spool.oldest().unwrap(), Some((first, odd.clone())));
    assert_eq!(spool.oldest().unwrap(), Some((first, odd)), "reading does not remove");
    spool.ack(first).unwrap();
    spool.ack(first).unwrap();
    let mut expected = 2;
    while let Some((seq, got)) = spool.oldest().unwrap() {
        assert_eq!(got, item(expected));
        spool.ack(seq).unwrap();
        expected += 1;
    }
    assert_eq!((expected, spool.len(), spool.bytes(), spool.is_empty()), (13, 0, 0, true));
}

#[test]
fn a_reopened_spool_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 1..=3 {
        spool.append(&item(n)).unwrap();
    }
    spool.ack(1).unwrap();
    let bytes = spool.bytes();
    drop(spool);

    let mut spool = open(directory.path());
    assert_eq!((spool.len(), spool.bytes()), (2, bytes));
    assert_eq!(spool.append(&item(4)).unwrap(), 4);
    assert_eq!(keys(&mut spool), ["key-2", "key-3", "key-4"]);
}

#[test]
fn a_full_spool_refuses_and_says_so_and_takes_again_after_an_ack() {
    let directory = tempfile::tempdir().unwrap();
    let size = encode(&item(1)).unwrap().len() as u64;
    let check = |limits: Limits| {
        let folder = directory.path().join(format!("{}", limits.items_max));
        let mut spool = Spool::open(&folder, limits).unwrap();
        spool.append(&item(1)).unwrap();
        spool.append(&item(2)).unwrap();
        let refused = spool.append(&item(3)).unwrap_err();
        assert!(matches!(refused, SpoolError::Full { items: 2, .. }), "{refused}");
        assert!(refused.to_string().contains("the spool is full (2 items"));
        assert_eq!(names(&folder).len(), 3, "the lock and two items, no trace of the refused one");
        spool.ack(1).unwrap();
        spool.append(&item(3)).unwrap();
        assert_eq!(keys(&mut spool), ["key-2", "key-3"]);
    };
    check(Limits { items_max: 2, bytes_max: u64::MAX });
    check(Limits { items_max: 100, bytes_max: size * 3 - 1 });
}

#[test]
fn a_second_process_is_refused_while_the_first_holds_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let second = Spool::open(directory.path(), Limits::default()).unwrap_err();
    assert!(matches!(second, SpoolError::InUse { .. }), "{second}");
    drop(first);
    open(directory.path());
}

#[test]
fn damaged_and_foreign_files_are_set_aside_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut spool = open(path);
    for n in 1..=7 {
        spool.append(&item(n)).unwrap();
    }
    drop(spool);
    let file = |seq: u64| path.join(format!("{seq:020}.item"));
    let damage = |seq: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file(seq)).unwrap();
        change(&mut bytes);
        fs::write(file(seq), bytes).unwrap();
    };
    damage(1, &|b| b.truncate(b.len() - 1));
    damage(3, &|b| b[60] ^= 1);
    damage(4, &Vec::clear);
    damage(5, &|b| b.push(0));
    damage(6, &|b| b[0] = b'X');
    fs::write(path.join("00000000000000000009.tmp"), b"ECSPOOL1 torn").unwrap();
    fs::write(path.join("9.item"), b"?").unwrap();
    fs::write(path.join("notes.txt"), b"?").unwrap();

    let mut spool = open(path);
    assert_eq!(keys(&mut spool), ["key-2", "key-7"]);
    assert_eq!((spool.len(), spool.set_aside()), (2, 8));
    assert_eq!(
        names(&path.join("aside")),
        [
            "00000000000000000001.item.0",
            "00000000000000000003.item.0",
            "00000000000000000004.item.0",
            "00000000000000000005.item.0",
            "00000000000000000006.item.0",
            "00000000000000000009.tmp.0",
            "9.item.0",
            "notes.txt.0",
        ]
    );
    // A second file of the same name finds its place too.
    fs::write(path.join("notes.txt"), b"!").unwrap();
    drop(spool);
    open(path);
    assert_eq!(fs::read(path.join("aside/notes.txt.1")).unwrap(), b"!");
}

#[test]
fn any_flipped_bit_of_an_item_is_noticed() {
    let bytes = encode(&item(1)).unwrap();
    assert_eq!(decode(&bytes), Ok(item(1)));
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&wrong).is_err(), "bit {bit} went unseen");
    }
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes passed for an item");
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_spool() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("spool");
    open(&directory).append(&item(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("00000000000000000001.item")), 0o600);
}

const CHILD: &str = "ECON_SPOOL_TEST_CHILD";

#[test]
fn whatever_was_appended_survives_a_kill() {
    // This test is its own child: the child appends for ever and names each item once it is safe; the
    // parent kills it in the middle of that and must find everything that was named.
    if let Some(directory) = std::env::var_os(CHILD) {
        let mut spool = open(Path::new(&directory));
        for n in 1.. {
            println!("appended {}", spool.append(&item(n)).unwrap());
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::tests::whatever_was_appended_survives_a_kill", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut named = 0;
    for line in lines.map(Result::unwrap) {
        // The harness writes its own words around ours, on the same line even.
        let Some((_, seq)) = line.split_once("appended ") else { continue };
        named = seq.parse::<u64>().unwrap();
        if named == 50 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(named >= 50);

    let mut spool = open(directory.path());
    let kept = keys(&mut spool);
    let expected: Vec<_> = (1..=kept.len()).map(|n| format!("key-{n}")).collect();
    assert_eq!(kept, expected, "in order, none missing");
    assert!(kept.len() as u64 >= named, "{} of {named} kept", kept.len());
    spool.append(&item(0)).unwrap();
}
