//! What the document stage hands on: finished documents and deletes, ready for a bulk body.

use bytes::Bytes;

use crate::plan::{EntryId, Receipt, RootKey};
use crate::postgres::Snapshot;

/// The `_id` of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId(pub Box<str>);

/// The external version of a document: how much its snapshot sees, under the generation that grows
/// with each life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotVersion(u64);

impl SnapshotVersion {
    /// Bits of a version below the generation: 2^44 transactions in one generation.
    pub const GENERATION_SHIFT: u32 = 44;

    /// The version of what `snapshot` reads in `generation`.
    pub fn of(generation: u64, snapshot: &Snapshot) -> Self {
        Self((generation << Self::GENERATION_SHIFT) + snapshot.seen())
    }

    /// The number sent as `version`.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The generation in a version read back from an index.
    pub fn generation_of(version: u64) -> u64 {
        version >> Self::GENERATION_SHIFT
    }
}

/// A document to index, or an id to delete.
#[derive(Clone, Debug)]
pub struct Document {
    /// `_id`.
    pub id: DocumentId,
    /// The root row, for replays.
    pub key: RootKey,
    /// Sent as `version`, deletes too.
    pub version: SnapshotVersion,
    /// Sent as `routing`, where the entry has one.
    pub routing: Option<Box<str>>,
    /// One line of JSON without its newline; `None` deletes.
    pub body: Option<Bytes>,
    /// Why no body could be made of the rows, without cell values: the document is a dead letter.
    pub refused: Option<Box<str>>,
}

/// Documents of one entry, limited in rows and bytes by their maker.
#[derive(Clone, Debug)]
pub struct DocumentBatch {
    /// Whose documents.
    pub entry: EntryId,
    /// Which [`crate::plan::Touched`] they answer.
    pub receipt: Receipt,
    /// Set on the last batch of that receipt: how many batches it had.
    pub batches: Option<u32>,
    /// The documents; may be empty.
    pub documents: Vec<Document>,
    /// `one_to_one` relations for which several rows were found.
    pub ambiguous: u64,
}
