//! What the source hands on: committed changes, in commit order, in parts of bounded size.

use std::sync::Arc;
use std::time::SystemTime;

use crate::postgres::{Lsn, Relation, TransactionId, Tuple};

/// The old row of an UPDATE or DELETE, as far as the replica identity carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Only the columns of the replica identity are filled; the others are null.
    Key(Tuple),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(Tuple),
}

/// One row event, or a TRUNCATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row came.
    Insert {
        /// The table.
        relation: Arc<Relation>,
        /// The row.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: Arc<Relation>,
        /// `None`: the identity's columns did not change (and the identity is not FULL).
        old: Option<OldTuple>,
        /// The row as it is; out-of-line values it did not touch are [`crate::postgres::Value::UnchangedToast`].
        new: Tuple,
    },
    /// A row went.
    Delete {
        /// The table.
        relation: Arc<Relation>,
        /// The row as it was.
        old: OldTuple,
    },
    /// Tables were emptied by one TRUNCATE.
    Truncate {
        /// The tables, those reached by CASCADE included.
        relations: Vec<Arc<Relation>>,
    },
}

/// A committed transaction, or a part of a large one: parts of one transaction follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPart {
    /// The top-level transaction.
    pub xid: TransactionId,
    /// Position of the commit record: the order of transactions.
    pub commit: Lsn,
    /// Position right behind the commit record: what is acknowledged once the last part is durable.
    /// Only the commit tells it, so parts before the last have `commit` here.
    pub end: Lsn,
    /// When it committed, by the server's clock.
    pub committed_at: SystemTime,
    /// Ordinal of this part's first change in the transaction, from 0.
    pub first: u64,
    /// Whether the transaction ends with this part.
    pub last: bool,
    /// The changes, in the order they were made.
    pub changes: Vec<Change>,
}

/// What the source sends down the road.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Committed changes.
    Part(TransactionPart),
    /// Nothing is in flight on the server's side up to this position (from a keepalive).
    Idle(Lsn),
}
