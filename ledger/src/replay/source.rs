//! Where a log is read from: a database, or a file. Both give commands and checkpoints in the order in which they are replayed.
//!
//! Each ledger's log is in the order of its seq. Ledgers share agents and keys, so between ledgers the order is that of ledger
//! time: a key that was revoked in one ledger must still have been good for what another ledger took before.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_postgres::Client;

use super::file::FileLog;
use crate::error::Error;
use crate::verify::stored::{self, Keys, Stored};

/// Commands and checkpoints that are read at a time, at most.
pub(super) const CHUNK_ITEMS: usize = 1_000;
/// About how many bytes are read at a time: a command may carry thousands of transfers.
pub(super) const CHUNK_BYTES: usize = 16 << 20;

/// A ledger of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerInfo {
    /// Its number.
    pub ledger_id: u32,
    /// Names it in checkpoints.
    pub origin: String,
    /// seq of its newest command.
    pub last_seq: i64,
}

/// One step of a log.
pub(super) struct Item {
    pub(super) ledger_id: u32,
    /// Ledger time; that of the command before it for a checkpoint.
    pub(super) at_us: i64,
    pub(super) what: What,
}

pub(super) enum What {
    Command(Box<Stored>),
    Checkpoint { size: i64, note: String },
}

/// A log that is read from its beginning to its end.
pub enum Log<'a> {
    /// The tables of a database; whoever wants one moment of it has begun a transaction.
    Database(DatabaseLog<'a>),
    /// An exported file.
    File(FileLog),
}

impl Log<'_> {
    /// The ledgers in it, by number.
    pub fn ledgers(&self) -> &[LedgerInfo] {
        match self {
            Self::Database(log) => log.ledgers(),
            Self::File(log) => log.ledgers(),
        }
    }

    /// The public keys that are known so far.
    pub(super) fn keys(&self) -> Arc<Keys> {
        match self {
            Self::Database(log) => Arc::clone(&log.keys),
            Self::File(log) => log.keys(),
        }
    }

    /// What comes next; nothing: that was all.
    pub(super) async fn chunk(&mut self) -> Result<Vec<Item>, Error> {
        match self {
            Self::Database(log) => log.chunk().await,
            Self::File(log) => log.chunk().await,
        }
    }
}

/// The log in the tables of a database.
pub struct DatabaseLog<'a> {
    client: &'a Client,
    ledgers: Vec<LedgerInfo>,
    cursors: Vec<Cursor>,
    keys: Arc<Keys>,
}

/// How far one ledger's log has been read.
struct Cursor {
    ledger_id: u32,
    id: i32,
    after: i64,
    /// As many commands are read at a time as are expected to have [`CHUNK_BYTES`].
    limit: i64,
    waiting: VecDeque<Item>,
    ended: bool,
}

impl<'a> DatabaseLog<'a> {
    /// The logs of all ledgers of a database, over a session that may read every table.
    pub async fn open(client: &'a Client) -> Result<Self, Error> {
        let select = "select ledger_id, origin, last_seq from base.ledgers order by ledger_id";
        let mut ledgers = Vec::new();
        let mut cursors = Vec::new();
        for row in client.query(select, &[]).await? {
            let id: i32 = row.try_get(0)?;
            let ledger_id = u32::try_from(id).unwrap_or_default();
            ledgers.push(LedgerInfo { ledger_id, origin: row.try_get(1)?, last_seq: row.try_get(2)? });
            let waiting = VecDeque::new();
            cursors.push(Cursor { ledger_id, id, after: 0, limit: 64, waiting, ended: false });
        }
        let keys = Arc::new(stored::read_keys(client).await?);
        Ok(Self { client, ledgers, cursors, keys })
    }

    pub(super) fn ledgers(&self) -> &[LedgerInfo] {
        &self.ledgers
    }

    pub(super) async fn chunk(&mut self) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        while items.len() < CHUNK_ITEMS {
            for cursor in &mut self.cursors {
                cursor.fill(self.client).await?;
            }
            let next = self
                .cursors
                .iter_mut()
                .filter(|cursor| !cursor.waiting.is_empty())
                .min_by_key(|cursor| (cursor.waiting.front().map(|item| item.at_us), cursor.ledger_id));
            let Some(next) = next else { break };
            items.extend(next.waiting.pop_front());
            // What has been read at once is handed on at once, so that no more than that is in memory.
            if next.waiting.is_empty() && !items.is_empty() {
                break;
            }
        }
        Ok(items)
    }
}

impl Cursor {
    async fn fill(&mut self, client: &Client) -> Result<(), Error> {
        if self.ended || !self.waiting.is_empty() {
            return Ok(());
        }
        let commands = stored::read(client, self.id, self.after, self.limit).await?;
        let Some(last) = commands.last().map(|command| command.seq) else {
            self.ended = true;
            return Ok(());
        };
        let notes = client
            .query(
                "select size, note from receipts.checkpoints where ledger_id = $1 and size > $2 and size <= $3 order by size",
                &[&self.id, &self.after, &last],
            )
            .await?;
        let mut notes = notes.iter().peekable();
        let bytes: usize = commands.iter().map(bytes_of).sum();
        let count = commands.len();
        for command in commands {
            let (seq, at_us) = (command.seq, command.at_us);
            let what = What::Command(Box::new(command));
            self.waiting.push_back(Item { ledger_id: self.ledger_id, at_us, what });
            while let Some(row) = notes.peek() {
                let size: i64 = row.try_get(0)?;
                if size > seq {
                    break;
                }
                let what = What::Checkpoint { size, note: row.try_get(1)? };
                self.waiting.push_back(Item { ledger_id: self.ledger_id, at_us, what });
                notes.next();
            }
        }
        self.after = last;
        let expected = CHUNK_BYTES / (bytes / count).max(1);
        self.limit = i64::try_from(expected.clamp(8, CHUNK_ITEMS)).unwrap_or(64);
        Ok(())
    }
}

/// About how much memory a command takes.
pub(super) fn bytes_of(command: &Stored) -> usize {
    let entry = &command.entry;
    entry.body.len()
        + entry.signature_base.len()
        + entry.signed_body.as_ref().map_or(0, Vec::len)
        + entry.recorded.len()
        + command.facts.len()
        + command.receipt.as_ref().map_or(0, |receipt| receipt.envelope.len())
        + 512
}
