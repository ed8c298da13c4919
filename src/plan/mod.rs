//! Stage 2: transactions → which documents are touched.

pub mod touched;

pub use touched::{EntryId, Job, KeyRange, MustSee, Receipt, RootKey, Selection, Touched};
