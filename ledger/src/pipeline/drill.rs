//! Failure drills: where a pipeline is made to die, and what chance is made to say, so that a run with a death in it can be
//! compared with one without. A server runs without any of it.

use std::fmt;

/// A place at which a process may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A batch was taken from the queue; the database knows nothing of it.
    Taken,
    /// SQL has decided it.
    Decided,
    /// Its receipts are signed.
    Signed,
    /// Its receipts are stored, and nothing is committed.
    Sealed,
    /// It is committed, and nobody was answered.
    Committed,
    /// A checkpoint is signed, and nowhere stored.
    CheckpointSigned,
    /// It is in the database, and not yet outside.
    CheckpointStored,
    /// Half of its file outside is written.
    CheckpointHalfWritten,
}

/// Chance in a drill's hand: the same for the same words.
pub type Chance = Box<dyn Fn(&[u8]) -> [u8; 32] + Send + Sync>;

/// What a drill decides in a pipeline's stead.
pub struct Drill {
    /// Asked at each stage: does the process die here? From then on the pipeline does nothing any more, its connections are
    /// closed, and nobody gets an answer.
    pub dies: Box<dyn Fn(Stage) -> bool + Send + Sync>,
    /// Chance, given what it is for: a request's digest, preceded by a word. `None`: real chance.
    pub chance: Option<Chance>,
}

impl fmt::Debug for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drill")
    }
}
