//! Decodes pgoutput, all messages of protocol versions 1 to 4, text and binary values.
//!
//! Pure and exact: a message is read to its last byte or refused, nothing is skipped, nothing
//! panics. Values are slices of the message's own bytes. What messages mean together is the
//! business of `assemble.rs`.
//!
//! Source: PostgreSQL 17 manual, 53.9 "Logical Replication Message Formats".

mod error;
mod messages;
mod reader;

use bytes::Bytes;

pub use error::DecodeError;
pub use messages::{
    Begin, BeginPrepare, Commit, CommitPrepared, Delete, Insert, LogicalMessage, Message, Prepare,
    RollbackPrepared, StreamAbort, Truncate, Type, Update,
};
use reader::Reader;

use crate::postgres::{
    Relation, RelationColumn, RelationId, ReplicaIdentity, TransactionId, Tuple, Value,
};
use crate::source::OldTuple;

/// Whether a message stands between `StreamStart` and `StreamStop`: there, changes, relations, types
/// and messages name the transaction they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Outside: the transaction is the one begun last.
    Plain,
    /// Inside a block of a transaction in progress.
    Streamed,
}

/// Decodes one message.
///
/// # Errors
/// [`DecodeError`] unless `bytes` are exactly one message.
pub fn decode(bytes: Bytes, framing: Framing) -> Result<LogicalMessage, DecodeError> {
    let mut reader = Reader::new(bytes);
    let tag = reader.tag()?;
    let message = decode_tagged(tag, &mut reader, framing)?;
    reader.finish()?;
    Ok(message)
}

/// The table a row message is about, so that an error can name it even if the rest is unreadable.
pub fn relation_of(bytes: &Bytes, framing: Framing) -> Option<RelationId> {
    let mut reader = Reader::new(bytes.clone());
    match reader.tag() {
        Ok(b'R' | b'I' | b'U' | b'D') => {}
        Ok(_) | Err(_) => return None,
    }
    transaction(&mut reader, framing).ok()?;
    reader.u32("relation").ok().map(RelationId)
}

fn decode_tagged(
    tag: u8,
    reader: &mut Reader,
    framing: Framing,
) -> Result<LogicalMessage, DecodeError> {
    Ok(match tag {
        b'B' => LogicalMessage::Begin(begin(reader)?),
        b'C' => LogicalMessage::Commit(commit(reader.named("Commit"))?),
        b'O' => origin(reader)?,
        b'R' => relation(reader, framing)?,
        b'Y' => LogicalMessage::Type(type_(reader, framing)?),
        b'I' => LogicalMessage::Insert(insert(reader, framing)?),
        b'U' => LogicalMessage::Update(update(reader, framing)?),
        b'D' => LogicalMessage::Delete(delete(reader, framing)?),
        b'T' => LogicalMessage::Truncate(truncate(reader, framing)?),
        b'M' => LogicalMessage::Message(message(reader, framing)?),
        b'S' => stream_start(reader)?,
        b'E' => LogicalMessage::StreamStop,
        b'c' => stream_commit(reader)?,
        b'A' => LogicalMessage::StreamAbort(stream_abort(reader)?),
        b'b' => LogicalMessage::BeginPrepare(begin_prepare(reader)?),
        b'P' => LogicalMessage::Prepare(prepare(reader.named("Prepare"))?),
        b'K' => LogicalMessage::CommitPrepared(commit_prepared(reader)?),
        b'r' => LogicalMessage::RollbackPrepared(rollback_prepared(reader)?),
        b'p' => LogicalMessage::StreamPrepare(prepare(reader.named("StreamPrepare"))?),
        tag => return Err(DecodeError::UnknownMessage { tag }),
    })
}

fn begin(reader: &mut Reader) -> Result<Begin, DecodeError> {
    reader.named("Begin");
    Ok(Begin {
        commit: reader.lsn("final_lsn")?,
        committed_at: reader.time("commit_timestamp")?,
        xid: reader.xid("xid")?,
    })
}

fn commit(reader: &mut Reader) -> Result<Commit, DecodeError> {
    reader.no_flags("flags")?;
    Ok(Commit {
        commit: reader.lsn("commit_lsn")?,
        end: reader.lsn("end_lsn")?,
        committed_at: reader.time("commit_timestamp")?,
    })
}

fn origin(reader: &mut Reader) -> Result<LogicalMessage, DecodeError> {
    reader.named("Origin");
    Ok(LogicalMessage::Origin { commit: reader.lsn("commit_lsn")?, name: reader.text("name")? })
}

/// The leading transaction id of a streamed message.
fn transaction(
    reader: &mut Reader,
    framing: Framing,
) -> Result<Option<TransactionId>, DecodeError> {
    match framing {
        Framing::Plain => Ok(None),
        Framing::Streamed => reader.xid("xid").map(Some),
    }
}

fn relation(reader: &mut Reader, framing: Framing) -> Result<LogicalMessage, DecodeError> {
    reader.named("Relation");
    let xid = transaction(reader, framing)?;
    let id = RelationId(reader.u32("relation")?);
    let namespace = namespace(reader)?;
    let name = reader.text("name")?;
    let identity = match reader.u8("replica_identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        code => return Err(reader.undefined("replica_identity", code)),
    };
    let count = reader.count16("columns")?;
    // Not reserved by `count`: a column takes ten bytes at least, but only reading proves them.
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(column(reader)?);
    }
    let relation = Relation { id, namespace, name, identity, columns };
    Ok(LogicalMessage::Relation { xid, relation })
}

/// The wire has the empty string for `pg_catalog`.
fn namespace(reader: &mut Reader) -> Result<String, DecodeError> {
    let name = reader.text("namespace")?;
    Ok(if name.is_empty() { "pg_catalog".to_owned() } else { name })
}

fn column(reader: &mut Reader) -> Result<RelationColumn, DecodeError> {
    let is_key = match reader.u8("column_flags")? {
        0 => false,
        1 => true,
        code => return Err(reader.undefined("column_flags", code)),
    };
    Ok(RelationColumn {
        name: reader.text("column_name")?,
        type_oid: reader.u32("column_type")?,
        type_modifier: reader.i32("column_type_modifier")?,
        is_key,
    })
}

fn type_(reader: &mut Reader, framing: Framing) -> Result<Type, DecodeError> {
    reader.named("Type");
    Ok(Type {
        xid: transaction(reader, framing)?,
        oid: reader.u32("type")?,
        namespace: namespace(reader)?,
        name: reader.text("name")?,
    })
}

fn insert(reader: &mut Reader, framing: Framing) -> Result<Insert, DecodeError> {
    reader.named("Insert");
    let xid = transaction(reader, framing)?;
    let relation = RelationId(reader.u32("relation")?);
    match reader.u8("tuple_kind")? {
        b'N' => Ok(Insert { xid, relation, new: tuple(reader)? }),
        code => Err(reader.undefined("tuple_kind", code)),
    }
}

fn update(reader: &mut Reader, framing: Framing) -> Result<Update, DecodeError> {
    reader.named("Update");
    let xid = transaction(reader, framing)?;
    let relation = RelationId(reader.u32("relation")?);
    let mut kind = reader.u8("tuple_kind")?;
    let mut old = None;
    if matches!(kind, b'K' | b'O') {
        old = Some(old_tuple(reader, kind)?);
        kind = reader.u8("tuple_kind")?;
    }
    match kind {
        b'N' => Ok(Update { xid, relation, old, new: tuple(reader)? }),
        code => Err(reader.undefined("tuple_kind", code)),
    }
}

fn delete(reader: &mut Reader, framing: Framing) -> Result<Delete, DecodeError> {
    reader.named("Delete");
    let xid = transaction(reader, framing)?;
    let relation = RelationId(reader.u32("relation")?);
    let kind = reader.u8("tuple_kind")?;
    Ok(Delete { xid, relation, old: old_tuple(reader, kind)? })
}

fn old_tuple(reader: &mut Reader, kind: u8) -> Result<OldTuple, DecodeError> {
    match kind {
        b'K' => tuple(reader).map(OldTuple::Key),
        b'O' => tuple(reader).map(OldTuple::Full),
        code => Err(reader.undefined("tuple_kind", code)),
    }
}

fn tuple(reader: &mut Reader) -> Result<Tuple, DecodeError> {
    let count = reader.count16("columns")?;
    // A value takes one byte at least, so the message's length bounds the reservation.
    let mut values = Vec::with_capacity(usize::from(count).min(reader.left()));
    for _ in 0..count {
        values.push(value(reader)?);
    }
    Ok(Tuple(values))
}

fn value(reader: &mut Reader) -> Result<Value, DecodeError> {
    match reader.u8("value_kind")? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::UnchangedToast),
        b't' => reader.counted("value").map(Value::Text),
        b'b' => reader.counted("value").map(Value::Binary),
        code => Err(reader.undefined("value_kind", code)),
    }
}

fn truncate(reader: &mut Reader, framing: Framing) -> Result<Truncate, DecodeError> {
    const CASCADE: u8 = 1;
    const RESTART_IDENTITY: u8 = 2;
    reader.named("Truncate");
    let xid = transaction(reader, framing)?;
    let count = reader.count32("relations")?;
    let options = reader.u8("options")?;
    if options & !(CASCADE | RESTART_IDENTITY) != 0 {
        return Err(reader.undefined("options", options));
    }
    let mut relations = Vec::new();
    for _ in 0..count {
        relations.push(RelationId(reader.u32("relation")?));
    }
    Ok(Truncate {
        xid,
        relations,
        cascade: options & CASCADE != 0,
        restart_identity: options & RESTART_IDENTITY != 0,
    })
}

fn message(reader: &mut Reader, framing: Framing) -> Result<Message, DecodeError> {
    reader.named("Message");
    let xid = transaction(reader, framing)?;
    let transactional = match reader.u8("flags")? {
        0 => false,
        1 => true,
        code => return Err(reader.undefined("flags", code)),
    };
    Ok(Message {
        xid,
        transactional,
        lsn: reader.lsn("lsn")?,
        prefix: reader.text("prefix")?,
        content: reader.counted("content")?,
    })
}

fn stream_start(reader: &mut Reader) -> Result<LogicalMessage, DecodeError> {
    reader.named("StreamStart");
    let xid = reader.xid("xid")?;
    match reader.u8("first_segment")? {
        0 => Ok(LogicalMessage::StreamStart { xid, first: false }),
        1 => Ok(LogicalMessage::StreamStart { xid, first: true }),
        code => Err(reader.undefined("first_segment", code)),
    }
}

fn stream_commit(reader: &mut Reader) -> Result<LogicalMessage, DecodeError> {
    reader.named("StreamCommit");
    let xid = reader.xid("xid")?;
    Ok(LogicalMessage::StreamCommit { xid, commit: commit(reader)? })
}

/// Version 4 with `streaming 'parallel'` says where and when the abort was; nothing else tells.
fn stream_abort(reader: &mut Reader) -> Result<StreamAbort, DecodeError> {
    reader.named("StreamAbort");
    let xid = reader.xid("xid")?;
    let subtransaction = reader.xid("subtransaction")?;
    let aborted = if reader.left() == 0 {
        None
    } else {
        Some((reader.lsn("abort_lsn")?, reader.time("abort_timestamp")?))
    };
    Ok(StreamAbort { xid, subtransaction, aborted })
}

fn begin_prepare(reader: &mut Reader) -> Result<BeginPrepare, DecodeError> {
    reader.named("BeginPrepare");
    Ok(BeginPrepare {
        prepare: reader.lsn("prepare_lsn")?,
        end: reader.lsn("end_lsn")?,
        prepared_at: reader.time("prepare_timestamp")?,
        xid: reader.xid("xid")?,
        gid: reader.text("gid")?,
    })
}

fn prepare(reader: &mut Reader) -> Result<Prepare, DecodeError> {
    reader.no_flags("flags")?;
    Ok(Prepare {
        prepare: reader.lsn("prepare_lsn")?,
        end: reader.lsn("end_lsn")?,
        prepared_at: reader.time("prepare_timestamp")?,
        xid: reader.xid("xid")?,
        gid: reader.text("gid")?,
    })
}

fn commit_prepared(reader: &mut Reader) -> Result<CommitPrepared, DecodeError> {
    reader.named("CommitPrepared");
    let commit = commit(reader)?;
    Ok(CommitPrepared { commit, xid: reader.xid("xid")?, gid: reader.text("gid")? })
}

fn rollback_prepared(reader: &mut Reader) -> Result<RollbackPrepared, DecodeError> {
    reader.named("RollbackPrepared");
    reader.no_flags("flags")?;
    Ok(RollbackPrepared {
        prepare_end: reader.lsn("prepare_end_lsn")?,
        rollback_end: reader.lsn("rollback_end_lsn")?,
        prepared_at: reader.time("prepare_timestamp")?,
        rolled_back_at: reader.time("rollback_timestamp")?,
        xid: reader.xid("xid")?,
        gid: reader.text("gid")?,
    })
}

#[cfg(test)]
mod tests;
