//! The messages of pgoutput as they are on the wire. No decoding, no meaning.

use std::time::SystemTime;

use bytes::Bytes;

use crate::postgres::{Lsn, Relation, RelationId, TransactionId, Tuple};
use crate::source::OldTuple;

/// One message of the logical replication protocol, versions 1 to 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogicalMessage {
    /// `B`: a committed transaction follows.
    Begin(Begin),
    /// `C`: it is complete.
    Commit(Commit),
    /// `O`: it was replicated to this server from another.
    Origin {
        /// Commit position on the other server.
        commit: Lsn,
        /// Name of the origin.
        name: String,
    },
    /// `R`: shape of a table, sent before its first change and after each change of the shape.
    Relation {
        /// In a streamed block, the (sub)transaction.
        xid: Option<TransactionId>,
        /// The table.
        relation: Relation,
    },
    /// `Y`: name of a type that is not built in.
    Type(Type),
    /// `I`.
    Insert(Insert),
    /// `U`.
    Update(Update),
    /// `D`.
    Delete(Delete),
    /// `T`.
    Truncate(Truncate),
    /// `M`: written by `pg_logical_emit_message`.
    Message(Message),
    /// `S` (version 2): a block of a transaction in progress.
    StreamStart {
        /// The transaction.
        xid: TransactionId,
        /// Whether it is the first block of it.
        first: bool,
    },
    /// `E` (version 2): the block ends.
    StreamStop,
    /// `c` (version 2): a streamed transaction committed.
    StreamCommit {
        /// The transaction.
        xid: TransactionId,
        /// The commit.
        commit: Commit,
    },
    /// `A` (version 2): a streamed transaction, or a subtransaction of it, rolled back.
    StreamAbort(StreamAbort),
    /// `b` (version 3): a prepared transaction follows.
    BeginPrepare(BeginPrepare),
    /// `P` (version 3): it is complete.
    Prepare(Prepare),
    /// `K` (version 3).
    CommitPrepared(CommitPrepared),
    /// `r` (version 3).
    RollbackPrepared(RollbackPrepared),
    /// `p` (version 3): a streamed transaction was prepared.
    StreamPrepare(Prepare),
}

impl LogicalMessage {
    /// Name of the message in the manual.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "Begin",
            Self::Commit(_) => "Commit",
            Self::Origin { .. } => "Origin",
            Self::Relation { .. } => "Relation",
            Self::Type(_) => "Type",
            Self::Insert(_) => "Insert",
            Self::Update(_) => "Update",
            Self::Delete(_) => "Delete",
            Self::Truncate(_) => "Truncate",
            Self::Message(_) => "Message",
            Self::StreamStart { .. } => "StreamStart",
            Self::StreamStop => "StreamStop",
            Self::StreamCommit { .. } => "StreamCommit",
            Self::StreamAbort(_) => "StreamAbort",
            Self::BeginPrepare(_) => "BeginPrepare",
            Self::Prepare(_) => "Prepare",
            Self::CommitPrepared(_) => "CommitPrepared",
            Self::RollbackPrepared(_) => "RollbackPrepared",
            Self::StreamPrepare(_) => "StreamPrepare",
        }
    }
}

/// Start of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Position of its commit record.
    pub commit: Lsn,
    /// When it committed.
    pub committed_at: SystemTime,
    /// Top-level transaction.
    pub xid: TransactionId,
}

/// End of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Position of the commit record.
    pub commit: Lsn,
    /// Position right behind it.
    pub end: Lsn,
    /// When it committed.
    pub committed_at: SystemTime,
}

/// A type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Oid.
    pub oid: u32,
    /// Schema.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A row came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Table.
    pub relation: RelationId,
    /// Row.
    pub new: Tuple,
}

/// A row changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Table.
    pub relation: RelationId,
    /// Row as it was, as far as the identity carries it.
    pub old: Option<OldTuple>,
    /// Row as it is.
    pub new: Tuple,
}

/// A row went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Table.
    pub relation: RelationId,
    /// Row as it was.
    pub old: OldTuple,
}

/// Tables were emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Tables, those reached by CASCADE included.
    pub relations: Vec<RelationId>,
    /// CASCADE.
    pub cascade: bool,
    /// RESTART IDENTITY.
    pub restart_identity: bool,
}

/// Text or bytes that somebody wrote into the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// In a streamed block, the (sub)transaction.
    pub xid: Option<TransactionId>,
    /// Whether it belongs to a transaction; otherwise it comes at once.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// Who it is for.
    pub prefix: String,
    /// What it says.
    pub content: Bytes,
}

/// A rollback of a streamed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    /// Top-level transaction.
    pub xid: TransactionId,
    /// What rolled back: the same, or a subtransaction.
    pub subtransaction: TransactionId,
    /// Where and when, with `streaming 'parallel'`.
    pub aborted: Option<(Lsn, SystemTime)>,
}

/// Start of a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginPrepare {
    /// Position of the prepare record.
    pub prepare: Lsn,
    /// Position right behind it.
    pub end: Lsn,
    /// When it was prepared.
    pub prepared_at: SystemTime,
    /// Transaction.
    pub xid: TransactionId,
    /// The user's name of it.
    pub gid: String,
}

/// End of a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// Position of the prepare record.
    pub prepare: Lsn,
    /// Position right behind it.
    pub end: Lsn,
    /// When it was prepared.
    pub prepared_at: SystemTime,
    /// Transaction.
    pub xid: TransactionId,
    /// The user's name of it.
    pub gid: String,
}

/// A prepared transaction committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPrepared {
    /// The commit.
    pub commit: Commit,
    /// Transaction.
    pub xid: TransactionId,
    /// The user's name of it.
    pub gid: String,
}

/// A prepared transaction rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackPrepared {
    /// Position behind the prepare record.
    pub prepare_end: Lsn,
    /// Position behind the rollback record.
    pub rollback_end: Lsn,
    /// When it was prepared.
    pub prepared_at: SystemTime,
    /// When it rolled back.
    pub rolled_back_at: SystemTime,
    /// Transaction.
    pub xid: TransactionId,
    /// The user's name of it.
    pub gid: String,
}
