//! The decoder and the assembler on bytes that PostgreSQL 15 and 17 wrote (see `fixtures/README.md`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use pgsyncd::postgres::{Lsn, Relation, Tuple, Value};
use pgsyncd::source::assemble::Assembler;
use pgsyncd::source::pgoutput::{Framing, LogicalMessage, decode};
use pgsyncd::source::{Change, OldTuple, PartLimits, TransactionPart};

/// The recorded messages with their positions.
fn recorded(name: &str) -> Vec<(Lsn, Bytes)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (lsn, digits) = line.split_once(' ').unwrap();
            let bytes = digits
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            (lsn.parse().unwrap(), bytes.collect())
        })
        .collect()
}

/// Decodes a recording, following its streamed blocks.
fn decoded(name: &str) -> Vec<LogicalMessage> {
    let mut framing = Framing::Plain;
    let mut messages = Vec::new();
    for (lsn, bytes) in recorded(name) {
        let message =
            decode(bytes, framing).unwrap_or_else(|error| panic!("{name} {lsn}: {error}"));
        match &message {
            LogicalMessage::StreamStart { .. } => framing = Framing::Streamed,
            LogicalMessage::StreamStop => framing = Framing::Plain,
            _ => {}
        }
        messages.push(message);
    }
    messages
}

fn names(messages: &[LogicalMessage]) -> Vec<&'static str> {
    messages.iter().map(LogicalMessage::name).collect()
}

fn assembled(messages: Vec<LogicalMessage>) -> Vec<TransactionPart> {
    let mut assembler = Assembler::new(PartLimits::default());
    let parts = messages.into_iter().filter_map(|message| assembler.assemble(message).unwrap());
    parts.collect()
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::UnchangedToast => "unchanged".into(),
        Value::Text(bytes) if bytes.len() > 100 => format!("<{} bytes>", bytes.len()),
        Value::Text(bytes) => std::str::from_utf8(bytes).unwrap().into(),
        Value::Binary(bytes) => format!("{bytes:?}"),
    }
}

fn show_row(row: &Tuple) -> String {
    row.0.iter().map(show_value).collect::<Vec<_>>().join(",")
}

fn show_old(old: &OldTuple) -> String {
    match old {
        OldTuple::Key(row) => format!("key({})", show_row(row)),
        OldTuple::Full(row) => format!("full({})", show_row(row)),
    }
}

fn show_table(relation: &Relation) -> String {
    format!("{}.{}", relation.namespace, relation.name)
}

fn show(change: &Change) -> String {
    match change {
        Change::Insert { relation, new } => {
            format!("+ {} ({})", show_table(relation), show_row(new))
        }
        Change::Update { relation, old, new } => {
            let old = old.as_ref().map_or("-".into(), show_old);
            format!("~ {} {old} ({})", show_table(relation), show_row(new))
        }
        Change::Delete { relation, old } => format!("- {} {}", show_table(relation), show_old(old)),
        Change::Truncate { relations } => {
            let tables: Vec<_> = relations.iter().map(|relation| show_table(relation)).collect();
            format!("0 {}", tables.join(" "))
        }
    }
}

const PLAIN: [&str; 17] = [
    "+ public.item (1,Grüße,calm,<3000 bytes>,12.50)",
    "+ public.item (2,null,null,null,NaN)",
    "~ public.item - (1,x,calm,unchanged,12.50)",
    "~ public.item key(2,null,null,null,null) (3,null,null,null,NaN)",
    "- public.item key(3,null,null,null,null)",
    "+ public.tag (1,a,n)",
    "~ public.tag - (1,a,m)",
    "~ public.tag key(null,a,null) (1,b,m)",
    "- public.tag key(null,b,null)",
    "+ Odd \"Schema.Ta ble (k,t)",
    "~ Odd \"Schema.Ta ble full(k,t) (k,f)",
    "- Odd \"Schema.Ta ble full(k,f)",
    "+ public.measure (2020-05-01,1)",
    "+ public.parent (1)",
    "0 public.parent public.child",
    "+ public.parent (7)",
    "+ public.parent (8,eight)",
];

#[test]
fn every_operation_means_what_the_statement_said() {
    for file in ["pgoutput-15.plain.txt", "pgoutput-17.plain.txt"] {
        let parts = assembled(decoded(file));
        let changes: Vec<_> = parts.iter().flat_map(|part| &part.changes).map(show).collect();

        assert_eq!(changes, PLAIN, "{file}");
    }
}

#[test]
fn commits_come_in_order_and_end_behind_their_record() {
    for file in ["pgoutput-15.plain.txt", "pgoutput-17.plain.txt"] {
        let parts = assembled(decoded(file));
        assert!(parts.iter().all(|part| part.last && part.commit < part.end), "{file}");
        assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].commit), "{file}");
        assert!(parts.iter().all(|part| part.xid.0 > 0));
    }
}

#[test]
fn messages_types_and_origins_are_decoded() {
    for file in ["pgoutput-15.plain.txt", "pgoutput-17.plain.txt"] {
        let messages = decoded(file);
        let emitted: Vec<_> = messages
            .iter()
            .filter_map(|message| match message {
                LogicalMessage::Message(message) => {
                    Some((message.transactional, message.prefix.as_str(), message.content.as_ref()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            emitted,
            [(true, "inside", b"one".as_slice()), (false, "outside", b"two".as_slice())]
        );
        let is_mood = |message: &LogicalMessage| matches!(message, LogicalMessage::Type(t) if t.namespace == "public" && t.name == "mood");
        assert!(messages.iter().any(is_mood), "{file}");
        let origin = LogicalMessage::Origin { commit: Lsn(0x00AB_CDEF), name: "elsewhere".into() };
        let position = messages.iter().position(|message| *message == origin).unwrap();
        let LogicalMessage::Begin(begin) = &messages[position - 1] else { panic!("{file}") };
        let there = UNIX_EPOCH + Duration::from_secs(1_580_608_922);
        assert_eq!(begin.committed_at, there, "the origin's time of commit");
    }
}

#[test]
fn relations_name_keys_types_and_identities() {
    use pgsyncd::postgres::ReplicaIdentity::{Default, Full, Index};
    for file in ["pgoutput-15.plain.txt", "pgoutput-17.plain.txt"] {
        let messages = decoded(file);
        let relation = |name: &str| {
            let of_name = messages.iter().filter_map(|message| match message {
                LogicalMessage::Relation { xid: None, relation } if relation.name == name => {
                    Some(relation)
                }
                _ => None,
            });
            of_name.last().unwrap()
        };
        let keys = |name: &str| -> Vec<_> {
            let columns = relation(name).columns.iter().filter(|column| column.is_key);
            columns.map(|column| column.name.as_str()).collect()
        };
        assert_eq!((relation("item").identity, keys("item")), (Default, vec!["id"]));
        assert_eq!((relation("tag").identity, keys("tag")), (Index, vec!["code"]));
        assert_eq!((relation("Ta ble").identity, keys("Ta ble")), (Full, vec!["Ke y", "v"]));
        assert_eq!(relation("item").columns[0].type_oid, 23);
        assert_eq!(relation("parent").columns.len(), 2, "the shape after ALTER TABLE");
    }
}

#[test]
fn binary_values_are_passed_as_they_are() {
    for file in ["pgoutput-15.binary.txt", "pgoutput-17.binary.txt"] {
        let parts = assembled(decoded(file));
        let Change::Insert { new, .. } = &parts[0].changes[0] else { panic!("{file}") };
        assert_eq!(new.get(0), Some(&Value::Binary(Bytes::from_static(&[0, 0, 0, 1]))));
        assert_eq!(new.get(1), Some(&Value::Binary("Grüße".into())));
        let Change::Update { old: Some(OldTuple::Key(old)), new, .. } = &parts[1].changes[0] else {
            panic!("{file}")
        };
        assert_eq!(old.get(0), Some(&Value::Binary(Bytes::from_static(&[0, 0, 0, 1]))));
        assert_eq!(new.get(1), Some(&Value::Null));
    }
}

#[test]
fn streamed_transactions_are_decoded_with_their_subtransactions() {
    for file in ["pgoutput-15.streamed.txt", "pgoutput-17.streamed.txt"] {
        let messages = decoded(file);
        let names = names(&messages);
        for name in
            ["StreamStart", "StreamStop", "StreamCommit", "StreamAbort", "Insert", "Truncate"]
        {
            assert!(names.contains(&name), "{file}: {name}");
        }
        let is_streamed = |message: &LogicalMessage| match message {
            LogicalMessage::Insert(insert) => insert.xid.is_some(),
            LogicalMessage::Update(update) => update.xid.is_some(),
            LogicalMessage::Delete(delete) => delete.xid.is_some(),
            _ => true,
        };
        assert!(messages.iter().all(is_streamed), "{file}");
        let inner_abort = |message: &LogicalMessage| {
            matches!(message, LogicalMessage::StreamAbort(abort)
                if abort.xid != abort.subtransaction && abort.aborted.is_none())
        };
        assert!(messages.iter().any(inner_abort), "{file}");
    }
}

#[test]
fn prepared_transactions_are_decoded_with_their_names() {
    for file in ["pgoutput-15.prepared.txt", "pgoutput-17.prepared.txt"] {
        let gids: Vec<_> = decoded(file)
            .iter()
            .filter_map(|message| match message {
                LogicalMessage::BeginPrepare(m) => Some(("begin", m.gid.clone())),
                LogicalMessage::Prepare(m) => Some(("prepare", m.gid.clone())),
                LogicalMessage::CommitPrepared(m) => Some(("commit", m.gid.clone())),
                LogicalMessage::RollbackPrepared(m) => Some(("rollback", m.gid.clone())),
                LogicalMessage::StreamPrepare(m) => Some(("stream", m.gid.clone())),
                _ => None,
            })
            .collect();
        let gids: Vec<_> = gids.iter().map(|(what, gid)| (*what, gid.as_str())).collect();
        let expected = [
            ("begin", "committed later"),
            ("prepare", "committed later"),
            ("commit", "committed later"),
            ("begin", "rolled back later"),
            ("prepare", "rolled back later"),
            ("rollback", "rolled back later"),
            ("stream", "streamed"),
            ("commit", "streamed"),
        ];
        assert_eq!(gids, expected, "{file}");
    }
}

#[test]
fn an_abort_of_version_4_says_where_and_when() {
    let messages = decoded("pgoutput-17.parallel.txt");
    let with_position = |message: &LogicalMessage| matches!(message, LogicalMessage::StreamAbort(abort) if abort.aborted.is_some());
    assert!(messages.iter().any(with_position));
}

#[test]
fn every_recorded_message_cut_short_is_an_error() {
    for file in ["pgoutput-15.plain.txt", "pgoutput-17.plain.txt", "pgoutput-17.binary.txt"] {
        for (lsn, bytes) in recorded(file) {
            for length in 0..bytes.len().min(200) {
                let cut = decode(bytes.slice(..length), Framing::Plain);
                assert!(cut.is_err(), "{file} {lsn} cut to {length}");
            }
        }
    }
}
