//! Stage 1: WAL bytes → committed transactions.

pub mod pgoutput;
pub mod transaction;

pub use transaction::{Change, OldTuple, SourceEvent, TransactionPart};
