//! Messages → parts of committed transactions. Pure: no bytes, no I/O.
//!
//! A transaction of any size passes: it leaves in parts, limited in changes and bytes, as soon as
//! they are full. The table behind an oid is the one its latest Relation message described.

use std::collections::HashMap;
use std::sync::Arc;

use crate::postgres::{Lsn, Relation, RelationId, TransactionId, Tuple, Value};
use crate::source::pgoutput::{
    Begin, Commit, Delete, Insert, LogicalMessage, Message, Truncate, Update,
};
use crate::source::{Change, OldTuple, TransactionPart};

/// How large a part may grow. The change that crosses a limit is the part's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// Changes.
    pub changes: usize,
    /// Bytes of memory, values and their bookkeeping together.
    pub bytes: usize,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self { changes: 1_000, bytes: 1024 * 1024 }
    }
}

/// Messages that contradict each other, or a mode that was not asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// Something that belongs into a transaction came outside of one.
    #[error("{message} outside of a transaction")]
    OutsideTransaction {
        /// Message.
        message: &'static str,
    },
    /// A transaction began inside another.
    #[error("a transaction {inner:?} begins inside {outer:?}")]
    NestedBegin {
        /// The open one.
        outer: TransactionId,
        /// The one that begins.
        inner: TransactionId,
    },
    /// The commit is not the one the begin announced.
    #[error("a commit at {found}, the transaction announced {announced}")]
    OtherCommit {
        /// In Begin.
        announced: Lsn,
        /// In Commit.
        found: Lsn,
    },
    /// A change of a table that was never described.
    #[error("{message} of table oid {relation}, which no Relation message described")]
    UnknownRelation {
        /// Message.
        message: &'static str,
        /// Table.
        relation: RelationId,
    },
    /// A row that does not fit its table.
    #[error("a row of table `{table}` with {found} values, expected {expected}")]
    ColumnCount {
        /// `schema.table`.
        table: String,
        /// Columns of the table.
        expected: usize,
        /// Values of the row.
        found: usize,
    },
    /// A message of a mode that is off: `streaming` or `two_phase`.
    #[error("{message} although neither streaming nor two-phase commit was asked for")]
    NotAskedFor {
        /// Message.
        message: &'static str,
    },
}

/// What the stream has said so far, as far as it matters for what follows.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: PartLimits,
    relations: HashMap<RelationId, Arc<Relation>>,
    open: Option<OpenTransaction>,
}

#[derive(Debug)]
struct OpenTransaction {
    begin: Begin,
    first: u64,
    changes: Vec<Change>,
    bytes: usize,
}

impl Assembler {
    /// An assembler that knows nothing yet: the start of a connection.
    pub fn new(limits: PartLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether a transaction is half read.
    pub fn is_inside_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// `schema.table` of a table that was described.
    pub fn table_name(&self, id: RelationId) -> Option<String> {
        self.relations.get(&id).map(|relation| qualified(relation))
    }

    /// Takes the next message; gives a part when one is full or the transaction ends.
    ///
    /// # Errors
    /// [`AssembleError`] if the message does not fit what came before.
    pub fn assemble(
        &mut self,
        message: LogicalMessage,
    ) -> Result<Option<TransactionPart>, AssembleError> {
        match message {
            LogicalMessage::Begin(begin) => self.begin(begin).map(|()| None),
            LogicalMessage::Commit(commit) => self.commit(commit).map(Some),
            LogicalMessage::Relation { relation, .. } => {
                self.relations.insert(relation.id, Arc::new(relation));
                Ok(None)
            }
            LogicalMessage::Insert(insert) => self.insert(insert),
            LogicalMessage::Update(update) => self.update(update),
            LogicalMessage::Delete(delete) => self.delete(delete),
            LogicalMessage::Truncate(truncate) => self.truncate(&truncate),
            LogicalMessage::Message(message) => self.message(&message).map(|()| None),
            LogicalMessage::Origin { .. } => self.inside("Origin").map(|_| None),
            // Names of types matter to nobody here: the catalog has them.
            LogicalMessage::Type(_) => Ok(None),
            LogicalMessage::StreamStart { .. }
            | LogicalMessage::StreamStop
            | LogicalMessage::StreamCommit { .. }
            | LogicalMessage::StreamAbort(_)
            | LogicalMessage::BeginPrepare(_)
            | LogicalMessage::Prepare(_)
            | LogicalMessage::CommitPrepared(_)
            | LogicalMessage::RollbackPrepared(_)
            | LogicalMessage::StreamPrepare(_) => {
                Err(AssembleError::NotAskedFor { message: message.name() })
            }
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), AssembleError> {
        if let Some(open) = &self.open {
            return Err(AssembleError::NestedBegin { outer: open.begin.xid, inner: begin.xid });
        }
        self.open = Some(OpenTransaction { begin, first: 0, changes: Vec::new(), bytes: 0 });
        Ok(())
    }

    /// The last part, even without a change: it carries the position onwards.
    fn commit(&mut self, commit: Commit) -> Result<TransactionPart, AssembleError> {
        let outside = AssembleError::OutsideTransaction { message: "Commit" };
        let open = self.open.take().ok_or(outside)?;
        if open.begin.commit != commit.commit {
            let (announced, found) = (open.begin.commit, commit.commit);
            return Err(AssembleError::OtherCommit { announced, found });
        }
        Ok(TransactionPart {
            xid: open.begin.xid,
            commit: commit.commit,
            end: commit.end,
            committed_at: commit.committed_at,
            first: open.first,
            last: true,
            changes: open.changes,
        })
    }

    fn insert(&mut self, insert: Insert) -> Result<Option<TransactionPart>, AssembleError> {
        let relation = self.relation("Insert", insert.relation)?;
        fits(&relation, &insert.new)?;
        self.push("Insert", Change::Insert { relation, new: insert.new })
    }

    fn update(&mut self, update: Update) -> Result<Option<TransactionPart>, AssembleError> {
        let relation = self.relation("Update", update.relation)?;
        fits(&relation, &update.new)?;
        if let Some(old) = &update.old {
            fits(&relation, row_of(old))?;
        }
        let Update { old, new, .. } = update;
        self.push("Update", Change::Update { relation, old, new })
    }

    fn delete(&mut self, delete: Delete) -> Result<Option<TransactionPart>, AssembleError> {
        let relation = self.relation("Delete", delete.relation)?;
        fits(&relation, row_of(&delete.old))?;
        self.push("Delete", Change::Delete { relation, old: delete.old })
    }

    fn truncate(&mut self, truncate: &Truncate) -> Result<Option<TransactionPart>, AssembleError> {
        let relations = truncate.relations.iter().map(|id| self.relation("Truncate", *id));
        let relations = relations.collect::<Result<_, _>>()?;
        self.push("Truncate", Change::Truncate { relations })
    }

    /// Emitted messages carry no change; one outside of a transaction comes at any time.
    fn message(&mut self, message: &Message) -> Result<(), AssembleError> {
        if message.transactional { self.inside("Message").map(drop) } else { Ok(()) }
    }

    fn push(
        &mut self,
        message: &'static str,
        change: Change,
    ) -> Result<Option<TransactionPart>, AssembleError> {
        let limits = self.limits;
        let open = self.inside(message)?;
        open.bytes += weight(&change);
        open.changes.push(change);
        let is_full = open.changes.len() >= limits.changes || open.bytes >= limits.bytes;
        Ok(is_full.then(|| open.split()))
    }

    fn inside(&mut self, message: &'static str) -> Result<&mut OpenTransaction, AssembleError> {
        self.open.as_mut().ok_or(AssembleError::OutsideTransaction { message })
    }

    fn relation(
        &self,
        message: &'static str,
        relation: RelationId,
    ) -> Result<Arc<Relation>, AssembleError> {
        let known = self.relations.get(&relation).map(Arc::clone);
        known.ok_or(AssembleError::UnknownRelation { message, relation })
    }
}

impl OpenTransaction {
    /// The part read so far. Only the commit says where the commit record ends, so `end` is its start.
    fn split(&mut self) -> TransactionPart {
        let changes = std::mem::take(&mut self.changes);
        let first = self.first;
        self.first += changes.len() as u64;
        self.bytes = 0;
        TransactionPart {
            xid: self.begin.xid,
            commit: self.begin.commit,
            end: self.begin.commit,
            committed_at: self.begin.committed_at,
            first,
            last: false,
            changes,
        }
    }
}

fn fits(relation: &Relation, row: &Tuple) -> Result<(), AssembleError> {
    let (expected, found) = (relation.columns.len(), row.0.len());
    if expected == found {
        return Ok(());
    }
    Err(AssembleError::ColumnCount { table: qualified(relation), expected, found })
}

fn row_of(old: &OldTuple) -> &Tuple {
    match old {
        OldTuple::Key(row) | OldTuple::Full(row) => row,
    }
}

fn qualified(relation: &Relation) -> String {
    format!("{}.{}", relation.namespace, relation.name)
}

/// Bytes a change takes in memory, near enough.
fn weight(change: &Change) -> usize {
    let rows = match change {
        Change::Insert { new, .. } => row_weight(new),
        Change::Update { old, new, .. } => {
            row_weight(new) + old.as_ref().map_or(0, |old| row_weight(row_of(old)))
        }
        Change::Delete { old, .. } => row_weight(row_of(old)),
        Change::Truncate { relations } => size_of_val(relations.as_slice()),
    };
    size_of::<Change>() + rows
}

fn row_weight(row: &Tuple) -> usize {
    let values = row.0.iter().map(|value| match value {
        Value::Null | Value::UnchangedToast => 0,
        Value::Text(bytes) | Value::Binary(bytes) => bytes.len(),
    });
    size_of_val(row.0.as_slice()) + values.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::postgres::{RelationColumn, ReplicaIdentity};

    const TABLE: RelationId = RelationId(7);

    fn relation(columns: usize) -> LogicalMessage {
        let column =
            RelationColumn { name: "c".into(), type_oid: 25, type_modifier: -1, is_key: true };
        let relation = Relation {
            id: TABLE,
            namespace: "public".into(),
            name: "t".into(),
            identity: ReplicaIdentity::Default,
            columns: vec![column; columns],
        };
        LogicalMessage::Relation { xid: None, relation }
    }

    fn begin() -> LogicalMessage {
        LogicalMessage::Begin(Begin {
            commit: Lsn(100),
            committed_at: UNIX_EPOCH,
            xid: TransactionId(5),
        })
    }

    fn commit(lsn: u64) -> LogicalMessage {
        LogicalMessage::Commit(Commit {
            commit: Lsn(lsn),
            end: Lsn(lsn + 8),
            committed_at: UNIX_EPOCH,
        })
    }

    fn insert(text: &str) -> LogicalMessage {
        let new = Tuple(vec![Value::Text(text.to_owned().into())]);
        LogicalMessage::Insert(Insert { xid: None, relation: TABLE, new })
    }

    fn run(
        limits: PartLimits,
        messages: impl IntoIterator<Item = LogicalMessage>,
    ) -> Result<Vec<TransactionPart>, AssembleError> {
        let mut assembler = Assembler::new(limits);
        let parts = messages.into_iter().map(|message| assembler.assemble(message));
        Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    #[test]
    fn a_transaction_larger_than_the_limit_leaves_in_parts() {
        let limits = PartLimits { changes: 2, bytes: usize::MAX };
        let messages = [begin(), relation(1)]
            .into_iter()
            .chain((0..5).map(|i| insert(&i.to_string())))
            .chain([commit(100)]);
        let parts = run(limits, messages).unwrap();
        let shape: Vec<_> =
            parts.iter().map(|part| (part.first, part.changes.len(), part.last)).collect();
        assert_eq!(shape, [(0, 2, false), (2, 2, false), (4, 1, true)]);
        assert!(parts.iter().all(|part| part.commit == Lsn(100)));
        assert_eq!(parts[2].end, Lsn(108));
    }

    #[test]
    fn a_wide_row_closes_its_part_by_bytes() {
        let limits = PartLimits { changes: 1_000, bytes: 1_000 };
        let wide = "x".repeat(1_000);
        let messages = [begin(), relation(1), insert(&wide), insert("y"), commit(100)];
        let parts = run(limits, messages).unwrap();
        let sizes: Vec<_> = parts.iter().map(|part| part.changes.len()).collect();
        assert_eq!(sizes, [1, 1]);
    }

    #[test]
    fn an_empty_transaction_still_carries_its_position() {
        let parts = run(PartLimits::default(), [begin(), commit(100)]).unwrap();
        assert!(parts[0].last && parts[0].changes.is_empty());
        assert_eq!(parts[0].end, Lsn(108));
    }

    #[test]
    fn a_table_is_what_its_latest_description_says() {
        let error = run(
            PartLimits::default(),
            [begin(), relation(1), insert("a"), relation(2), insert("b")],
        );
        let table = "public.t".to_owned();
        let expected = AssembleError::ColumnCount { table, expected: 2, found: 1 };
        assert_eq!(error.unwrap_err(), expected);
    }

    #[test]
    fn contradictions_are_errors() {
        let fails =
            |messages: Vec<LogicalMessage>| run(PartLimits::default(), messages).unwrap_err();
        assert!(matches!(fails(vec![begin(), begin()]), AssembleError::NestedBegin { .. }));
        assert!(matches!(fails(vec![commit(1)]), AssembleError::OutsideTransaction { .. }));
        assert!(matches!(
            fails(vec![relation(1), insert("a")]),
            AssembleError::OutsideTransaction { message: "Insert" }
        ));
        assert!(matches!(
            fails(vec![begin(), insert("a")]),
            AssembleError::UnknownRelation { relation: TABLE, .. }
        ));
        assert!(matches!(fails(vec![begin(), commit(99)]), AssembleError::OtherCommit { .. }));
    }

    #[test]
    fn streamed_transactions_are_refused_by_name() {
        let start = LogicalMessage::StreamStart { xid: TransactionId(1), first: true };
        let error = run(PartLimits::default(), [start]).unwrap_err();
        assert_eq!(error, AssembleError::NotAskedFor { message: "StreamStart" });
    }
}
