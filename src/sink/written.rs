//! What the sink hands on: which batches are acknowledged.

use crate::plan::Receipt;

/// Every item of one [`crate::document::DocumentBatch`] is written, superseded or kept as a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The receipt of the batch.
    pub receipt: Receipt,
    /// Copied from the batch: set on the last one, how many the receipt had.
    pub batches: Option<u32>,
    /// Documents in it, deletes included.
    pub documents: u64,
}
