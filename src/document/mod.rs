//! Stage 3: touched keys → nested documents.

pub mod batch;

pub use batch::{Document, DocumentBatch, DocumentId, SnapshotVersion};
