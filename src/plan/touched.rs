//! What the plan hands on: root keys to read, what the reader must see, and the receipt to give back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::postgres::{Lsn, Snapshot, TransactionId};

/// Position of a document entry in the schema file's entries of one database, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub usize);

/// The key of a root row: PostgreSQL's text output of each key column, in the order of the entry's
/// key columns ([`crate::schema::tree::SchemaTree::key`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RootKey(pub Box<[Box<str>]>);

/// Root rows with `after < key ≤ upto` in the database's order; `None` is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Exclusive lower bound.
    pub after: Option<RootKey>,
    /// Inclusive upper bound.
    pub upto: Option<RootKey>,
}

/// Which root rows to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These keys; one that has no row any more is a document to delete.
    Keys(Vec<RootKey>),
    /// A stretch of the table, in the first load and in a re-index.
    Range(KeyRange),
}

/// What the reader's snapshot must see before its rows may be used.
#[derive(Clone, Debug)]
pub enum MustSee {
    /// The transactions that caused the read.
    Transactions(Arc<[TransactionId]>),
    /// Everything the slot's first snapshot saw; `None` if nothing older than the stream matters.
    Floor(Option<Arc<Snapshot>>),
}

impl MustSee {
    /// Whether a snapshot sees all of it.
    pub fn is_seen_by(&self, snapshot: &Snapshot) -> bool {
        self.first_unseen(snapshot).is_none()
    }

    /// A transaction of it that a snapshot does not see.
    pub fn first_unseen(&self, snapshot: &Snapshot) -> Option<u64> {
        match self {
            Self::Transactions(xids) => {
                xids.iter().find(|xid| !snapshot.sees(**xid)).map(|xid| xid.0.into())
            }
            Self::Floor(Some(floor)) => snapshot.first_missing(floor),
            Self::Floor(None) => None,
        }
    }
}

/// The work a [`Touched`] is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// A round of the plan: all changes taken from the queue at once, numbered from 1.
    Round(u64),
    /// A key range of a load, numbered from 0 in key order.
    Range(EntryId, u64),
}

/// Names a [`Touched`], so that what became of it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The work it is part of.
    pub job: Job,
    /// Its number in that work, from 0.
    pub part: u32,
}

/// Documents to read afresh.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Whose documents.
    pub entry: EntryId,
    /// Which.
    pub selection: Selection,
    /// In which snapshots.
    pub must_see: MustSee,
    /// To be given back.
    pub receipt: Receipt,
}

/// A round was planned to its end, or a load range handed out: what it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The work.
    pub job: Job,
    /// How many [`Touched`] it had.
    pub parts: u32,
    /// Position to acknowledge once this round and all before it are written; `None` if no
    /// transaction ended in it.
    pub upto: Option<Lsn>,
    /// The transactions that ended in it; `None` if there were none.
    pub commits: Option<Commits>,
}

/// When transactions were committed, by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commits {
    /// The first of them.
    pub oldest: SystemTime,
    /// The last of them.
    pub newest: SystemTime,
}

impl Commits {
    /// One more transaction, committed at this time.
    pub fn with(commits: Option<Self>, at: SystemTime) -> Self {
        let Self { oldest, newest } = commits.unwrap_or(Self { oldest: at, newest: at });
        Self { oldest: oldest.min(at), newest: newest.max(at) }
    }
}

/// How far the acknowledged work reaches without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Every round up to this number.
    pub rounds: u64,
    /// The position up to which the rounds reach: everything before it is written.
    pub written: Lsn,
    /// When the newest transaction of these rounds was committed, by the server's clock; `None` before
    /// the first.
    pub last_commit: Option<SystemTime>,
    /// By entry, how many ranges from the first.
    pub ranges: BTreeMap<EntryId, u64>,
}
