//! The command log as a file (proto/openagents/econ/v1/log.proto): written and read as a stream, proven whole before it is
//! believed.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::keys::PublicKey;
use proto::prost::Message as _;
use proto::v1::{self, log_record::Record};
use tokio_postgres::Client;

use super::source::{CHUNK_BYTES, CHUNK_ITEMS, DatabaseLog, Item, LedgerInfo, What};
use crate::error::Error;
use crate::verify::stored::{self, Keys};

/// How a file of a log begins.
const MAGIC: &[u8; 8] = b"econlog\n";
/// The format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// More in one record is no record: a command has at most a few megabytes.
const RECORD_BYTES_MAX: u64 = 256 << 20;
/// Public keys in one record.
const KEYS_PER_RECORD: usize = 1_000;

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Commands with their receipts.
    pub commands: u64,
    /// Signed checkpoints.
    pub checkpoints: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Writes every ledger's log from one snapshot; `client` may read every table and is in no transaction. `UR931`: a command and
/// its receipt disagree, so that a file would hide what the database holds.
pub async fn export(client: &Client, out: &mut (impl Write + Send)) -> Result<Exported, Error> {
    client.batch_execute("begin transaction isolation level repeatable read read only").await?;
    let written = export_snapshot(client, out).await;
    client.batch_execute("rollback").await?;
    written
}

/// The same inside the transaction that the caller has begun.
pub async fn export_snapshot(client: &Client, out: &mut (impl Write + Send)) -> Result<Exported, Error> {
    let mut log = DatabaseLog::open(client).await?;
    let mut out = Writer::new(out);
    out.raw(MAGIC)?;
    let ledgers = log.ledgers().iter().map(|ledger| v1::LogLedger {
        ledger_id: ledger.ledger_id,
        origin: ledger.origin.clone(),
        last_seq: u64::try_from(ledger.last_seq).unwrap_or_default(),
    });
    out.record(Record::Header(v1::LogHeader { version: VERSION, ledgers: ledgers.collect() }))?;
    let mut keys: Vec<Vec<u8>> =
        stored::read_keys(client).await?.into_values().map(|key| key.as_bytes().to_vec()).collect();
    keys.sort_unstable();
    for part in keys.chunks(KEYS_PER_RECORD) {
        out.record(Record::Keys(v1::LogKeys { public_keys: part.to_vec() }))?;
    }
    let mut done = Exported::default();
    loop {
        let items = log.chunk().await?;
        if items.is_empty() {
            break;
        }
        for item in items {
            match item.what {
                What::Command(command) => {
                    out.record(Record::Entry(entry_of(item.ledger_id, &command)?))?;
                    done.commands += 1;
                }
                What::Checkpoint { size, note } => {
                    let size = u64::try_from(size).unwrap_or_default();
                    out.record(Record::Checkpoint(v1::LogCheckpoint {
                        ledger_id: item.ledger_id,
                        size,
                        note,
                    }))?;
                    done.checkpoints += 1;
                }
            }
        }
    }
    let hash = out.hasher.finalize().as_bytes().to_vec();
    out.record(Record::Trailer(v1::LogTrailer {
        entries: done.commands,
        checkpoints: done.checkpoints,
        hash,
    }))?;
    out.flush()?;
    done.bytes = out.bytes;
    Ok(done)
}

/// A command as the file holds it, if its row says what its receipt says.
fn entry_of(ledger_id: u32, command: &stored::Stored) -> Result<v1::LogEntry, Error> {
    let refuse = |why: &str| {
        Error::new(
            "UR931",
            format!("base.commands seq {} of ledger {ledger_id}: {why}; run `econ verify`", command.seq),
        )
    };
    let entry = stored::to_log_entry(command).ok_or_else(|| refuse("its receipt is missing"))?;
    let (named, stated) = stored::of_log_entry(entry.clone()).map_err(|why| refuse(&why))?;
    if named != ledger_id {
        return Err(refuse("its receipt is of another ledger"));
    }
    match stored::disagreement(command, &stated) {
        Some(column) => Err(refuse(&format!("{column} is not what its receipt says"))),
        None => Ok(entry),
    }
}

struct Writer<'a, W: Write> {
    out: BufWriter<&'a mut W>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self { out: BufWriter::new(out), hasher: blake3::Hasher::new(), bytes: 0 }
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| unwritable(&error))
    }

    fn record(&mut self, record: Record) -> Result<(), Error> {
        let bytes = v1::LogRecord { record: Some(record) }.encode_length_delimited_to_vec();
        self.raw(&bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(|error| unwritable(&error))
    }
}

fn unwritable(error: &std::io::Error) -> Error {
    Error::new("UR132", format!("the log's file cannot be written: {error}"))
}

/// A log file that is whole, and how far it has been read.
pub struct FileLog {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    ledgers: Vec<LedgerInfo>,
    keys: Arc<Keys>,
}

impl FileLog {
    /// Opens a file and proves that it is whole. `UR131`: it is no log, or not of this version; `UR132`: it cannot be read, was
    /// cut off, or was changed.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        blocking(move || Self::open_now(path)).await
    }

    fn open_now(path: PathBuf) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error.to_string()))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        prove(&path, &mut reader)?;
        reader.seek(SeekFrom::Start(0)).map_err(|error| unreadable(&path, &error.to_string()))?;
        let mut log = Self { path, reader: Some(reader), ledgers: Vec::new(), keys: Arc::default() };
        log.read_head()?;
        Ok(log)
    }

    /// The ledgers in it.
    pub(super) fn ledgers(&self) -> &[LedgerInfo] {
        &self.ledgers
    }

    /// The public keys in it.
    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }

    fn read_head(&mut self) -> Result<(), Error> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let path = self.path.clone();
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic).map_err(|error| unreadable(&path, &error.to_string()))?;
        let header = match next_record(&path, &mut reader)? {
            Some((Record::Header(header), _)) => header,
            _ => return Err(Error::new("UR131", format!("{} has no header", path.display()))),
        };
        if header.version != VERSION {
            let version = header.version;
            return Err(Error::new(
                "UR131",
                format!("{} is of version {version}, this program reads version {VERSION}", path.display()),
            ));
        }
        for ledger in header.ledgers {
            self.ledgers.push(LedgerInfo {
                ledger_id: ledger.ledger_id,
                origin: ledger.origin,
                last_seq: i64::try_from(ledger.last_seq).unwrap_or(i64::MAX),
            });
        }
        self.reader = Some(reader);
        Ok(())
    }

    /// The next commands and checkpoints; none: that was all.
    pub(super) async fn chunk(&mut self) -> Result<Vec<Item>, Error> {
        let Some(reader) = self.reader.take() else { return Ok(Vec::new()) };
        let path = self.path.clone();
        let (reader, items, keys) = blocking(move || read_chunk(&path, reader)).await?;
        if !keys.is_empty() {
            Arc::make_mut(&mut self.keys).extend(keys);
        }
        self.reader = Some(reader);
        Ok(items)
    }
}

fn read_chunk(path: &Path, mut reader: BufReader<File>) -> Result<(BufReader<File>, Vec<Item>, Keys), Error> {
    let mut items: Vec<Item> = Vec::new();
    let mut keys = Keys::new();
    let mut bytes = 0;
    let mut at_us = 0;
    while items.len() < CHUNK_ITEMS && bytes < CHUNK_BYTES {
        let Some((record, length)) = next_record(path, &mut reader)? else { break };
        bytes += length;
        match record {
            Record::Keys(part) => {
                let known = part.public_keys.iter().filter_map(|key| PublicKey::from_slice(key).ok());
                keys.extend(known.map(|key| (key.id(), key)));
            }
            Record::Entry(entry) => {
                let (ledger_id, command) = stored::of_log_entry(entry).map_err(|why| {
                    Error::new("UR132", format!("{}: an entry cannot be read: {why}", path.display()))
                })?;
                at_us = command.at_us;
                items.push(Item { ledger_id, at_us, what: What::Command(Box::new(command)) });
            }
            Record::Checkpoint(checkpoint) => {
                let size = i64::try_from(checkpoint.size).unwrap_or(i64::MAX);
                let what = What::Checkpoint { size, note: checkpoint.note };
                items.push(Item { ledger_id: checkpoint.ledger_id, at_us, what });
            }
            Record::Header(_) | Record::Trailer(_) => {}
        }
    }
    Ok((reader, items, keys))
}

/// Reads the whole file once: its end says what all before it must hash to.
fn prove(path: &Path, reader: &mut BufReader<File>) -> Result<(), Error> {
    let mut magic = [0; MAGIC.len()];
    if reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
        return Err(Error::new("UR131", format!("{} is no exported command log", path.display())));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&magic);
    let (mut entries, mut checkpoints) = (0, 0);
    let mut bytes = Vec::new();
    while read_record(path, reader, &mut bytes)? {
        let record = v1::LogRecord::decode_length_delimited(bytes.as_slice())
            .map_err(|error| unreadable(path, &error.to_string()))?;
        match record.record {
            Some(Record::Trailer(trailer)) => {
                let whole = trailer.hash == hasher.finalize().as_bytes()
                    && (trailer.entries, trailer.checkpoints) == (entries, checkpoints);
                let mut rest = [0; 1];
                if !whole || !matches!(reader.read(&mut rest), Ok(0)) {
                    return Err(unreadable(path, "its bytes are not those that were written"));
                }
                return Ok(());
            }
            Some(Record::Entry(_)) => entries += 1,
            Some(Record::Checkpoint(_)) => checkpoints += 1,
            _ => {}
        }
        hasher.update(&bytes);
    }
    Err(unreadable(path, "it has no end: it was cut off"))
}

/// The next record, and its length in bytes.
fn next_record(path: &Path, reader: &mut BufReader<File>) -> Result<Option<(Record, usize)>, Error> {
    let mut bytes = Vec::new();
    while read_record(path, reader, &mut bytes)? {
        let record = v1::LogRecord::decode_length_delimited(bytes.as_slice())
            .map_err(|error| unreadable(path, &error.to_string()))?;
        // What a later version adds beside the known records is passed over.
        if let Some(record) = record.record {
            return Ok(Some((record, bytes.len())));
        }
    }
    Ok(None)
}

/// Reads one record with its length into `bytes`; false: the file ends here.
fn read_record(path: &Path, reader: &mut BufReader<File>, bytes: &mut Vec<u8>) -> Result<bool, Error> {
    bytes.clear();
    let mut length: u64 = 0;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) if bytes.is_empty() => return Ok(false),
            Ok(1) if shift < 63 => {}
            Ok(_) => return Err(unreadable(path, "it was cut off")),
            Err(error) => return Err(unreadable(path, &error.to_string())),
        }
        bytes.push(byte[0]);
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if length > RECORD_BYTES_MAX {
        return Err(unreadable(path, "a record has no sensible length"));
    }
    let head = bytes.len() as u64;
    // Not allocated before it is there: a damaged length must not ask for memory.
    let read =
        reader.take(length).read_to_end(bytes).map_err(|error| unreadable(path, &error.to_string()))?;
    if read as u64 != length || bytes.len() as u64 != head + length {
        return Err(unreadable(path, "it was cut off"));
    }
    Ok(true)
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::new("UR132", format!("the log in {} cannot be used: {why}", path.display()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new("UB900", format!("reading a log was given up: {error}")))?
}
