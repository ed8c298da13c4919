//! Documents and batches for the tests of this stage.

use crate::document::{Document, DocumentBatch, DocumentId, SnapshotVersion};
use crate::plan::{EntryId, Job, Receipt, RootKey};

/// A document to index; `seen` is its version in generation 0.
pub(crate) fn index(id: &str, seen: u64, body: &str) -> Document {
    Document { body: Some(body.to_owned().into()), ..delete(id, seen) }
}

/// A document to delete.
pub(crate) fn delete(id: &str, seen: u64) -> Document {
    Document {
        id: DocumentId(id.into()),
        key: RootKey(vec![id.into()].into()),
        version: version(0, seen),
        routing: None,
        body: None,
    }
}

/// A version.
pub(crate) fn version(generation: u64, seen: u64) -> SnapshotVersion {
    SnapshotVersion::of(generation, &format!("{seen}:{seen}:").parse().unwrap())
}

/// A receipt with that part number.
pub(crate) fn receipt(part: u32) -> Receipt {
    Receipt { job: Job::Round(1), part }
}

/// A batch of entry 0 with that part number.
pub(crate) fn batch(part: u32, documents: Vec<Document>) -> DocumentBatch {
    DocumentBatch { entry: EntryId(0), receipt: receipt(part), batches: Some(1), documents }
}
