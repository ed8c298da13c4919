//! Asking the documents themselves: which hold a row, which hold rows of a table, which are there.

use std::future::Future;

use crate::plan::EntryId;

/// Which documents to find.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Search {
    /// Every document of the index.
    All,
    /// Those whose `_meta` names rows of a table.
    Table {
        /// Bare table name.
        table: String,
        /// Its columns in `_meta`; any of them will do.
        columns: Vec<String>,
    },
    /// Those whose `_meta` names one of these rows. May find more than asked for when the key has
    /// several columns: `_meta` keeps each column's values on their own.
    Rows {
        /// Bare table name.
        table: String,
        /// Key columns.
        columns: Vec<String>,
        /// Values by column: the i-th row's key is the i-th of each. As they stand in `_meta`.
        values: Vec<Vec<String>>,
    },
}

/// A search that could not be finished.
#[derive(Debug, thiserror::Error)]
#[error("the documents of index `{index}` could not be searched")]
pub struct HoldersError {
    /// The index.
    pub index: String,
    /// What the server, or the connection, said.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// The index, as far as the plan asks it. A trait because the sink comes later on the road.
pub trait Holders: Send + Sync {
    /// Sends the ids found, page by page, to `found`; everything acknowledged before the call is seen.
    /// Ends early, without error, when nobody listens.
    ///
    /// # Errors
    /// [`HoldersError`] if the server refuses; an unreachable server is waited for.
    fn find(
        &self,
        entry: EntryId,
        search: Search,
        found: tokio::sync::mpsc::Sender<Vec<String>>,
    ) -> impl Future<Output = Result<(), HoldersError>> + Send;
}
