//! Messages written by hand byte by byte; recorded ones are in `tests/pgoutput.rs`.

use proptest::prelude::*;

use super::*;
use crate::postgres::Lsn;

/// Hexadecimal digits, blanks ignored; `"text"` stands for its bytes and a zero byte.
fn bytes(script: &str) -> Bytes {
    let mut out = Vec::new();
    for (position, part) in script.split('"').enumerate() {
        if position % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            out.push(0);
            continue;
        }
        let digits: String = part.split_whitespace().collect();
        for pair in digits.as_bytes().chunks(2) {
            out.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        }
    }
    out.into()
}

const LSN: &str = "00000000 01000000";
const TIME: &str = "00000000 000F4240";

/// One valid message of every kind and framing.
fn samples() -> Vec<(Framing, Bytes)> {
    let plain = [
        format!("42 {LSN} {TIME} 000002D6"),
        format!("43 00 {LSN} {LSN} {TIME}"),
        format!("4F {LSN} \"origin\""),
        "52 00004000 \"public\" \"t\" 64 0002 01 \"id\" 00000017 FFFFFFFF 00 \"v\" 00000019 FFFFFFFF"
            .to_owned(),
        "59 00004001 \"public\" \"mood\"".to_owned(),
        "49 00004000 4E 0003 74 00000001 31 6E 62 00000002 0001".to_owned(),
        "55 00004000 4E 0002 74 00000001 31 75".to_owned(),
        "55 00004000 4B 0002 74 00000001 31 6E 4E 0002 74 00000001 32 75".to_owned(),
        "55 00004000 4F 0001 6E 4E 0001 6E".to_owned(),
        "44 00004000 4B 0001 74 00000001 31".to_owned(),
        "54 00000002 03 00004000 00004001".to_owned(),
        format!("4D 01 {LSN} \"heart\" 00000002 6265"),
        "53 000002D6 01".to_owned(),
        "45".to_owned(),
        format!("63 000002D6 00 {LSN} {LSN} {TIME}"),
        "41 000002D6 000002D7".to_owned(),
        format!("41 000002D6 000002D7 {LSN} {TIME}"),
        format!("62 {LSN} {LSN} {TIME} 000002D6 \"gid\""),
        format!("50 00 {LSN} {LSN} {TIME} 000002D6 \"gid\""),
        format!("4B 00 {LSN} {LSN} {TIME} 000002D6 \"gid\""),
        format!("72 00 {LSN} {LSN} {TIME} {TIME} 000002D6 \"gid\""),
        format!("70 00 {LSN} {LSN} {TIME} 000002D6 \"gid\""),
    ];
    let streamed = [
        "52 000002D6 00004000 \"\" \"t\" 66 0000".to_owned(),
        "59 000002D6 00004001 \"public\" \"mood\"".to_owned(),
        "49 000002D6 00004000 4E 0000".to_owned(),
        "44 000002D6 00004000 4F 0001 6E".to_owned(),
        "54 000002D6 00000001 00 00004000".to_owned(),
        format!("4D 000002D6 00 {LSN} \"p\" 00000000"),
    ];
    let plain = plain.iter().map(|script| (Framing::Plain, bytes(script)));
    let streamed = streamed.iter().map(|script| (Framing::Streamed, bytes(script)));
    plain.chain(streamed).collect()
}

#[test]
fn every_message_of_the_protocol_is_decoded() {
    let names: Vec<_> = samples()
        .into_iter()
        .map(|(framing, bytes)| decode(bytes, framing).unwrap().name())
        .collect();
    for name in [
        "Begin",
        "Commit",
        "Origin",
        "Relation",
        "Type",
        "Insert",
        "Update",
        "Delete",
        "Truncate",
        "Message",
        "StreamStart",
        "StreamStop",
        "StreamCommit",
        "StreamAbort",
        "BeginPrepare",
        "Prepare",
        "CommitPrepared",
        "RollbackPrepared",
        "StreamPrepare",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn a_truncated_message_is_an_error() {
    for (framing, whole) in samples() {
        for length in 0..whole.len() {
            // An abort without position is an abort of versions 2 and 3.
            if whole[0] == b'A' && length == 9 {
                continue;
            }
            let cut = decode(whole.slice(..length), framing);
            assert!(cut.is_err(), "{whole:?} cut to {length}: {cut:?}");
        }
    }
}

#[test]
fn a_byte_behind_the_end_is_an_error() {
    for (framing, whole) in samples() {
        let longer = Bytes::from([&whole[..], &[0]].concat());
        assert!(decode(longer, framing).is_err(), "{whole:?}");
    }
}

#[test]
fn an_update_keeps_key_null_and_unchanged_apart() {
    let script = "55 00004000 4B 0002 74 00000001 31 6E 4E 0002 74 00000001 32 75";
    let LogicalMessage::Update(update) = decode(bytes(script), Framing::Plain).unwrap() else {
        panic!("an update")
    };
    assert_eq!(update.relation, RelationId(0x4000));
    let old = Tuple(vec![Value::Text("1".into()), Value::Null]);
    assert_eq!(update.old, Some(OldTuple::Key(old)));
    assert_eq!(update.new, Tuple(vec![Value::Text("2".into()), Value::UnchangedToast]));
}

#[test]
fn times_count_from_the_year_2000() {
    let message = decode(bytes(&format!("42 {LSN} {TIME} 000002D6")), Framing::Plain).unwrap();
    let committed_at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(946_684_801);
    let begin = Begin { commit: Lsn(0x0100_0000), committed_at, xid: TransactionId(726) };
    assert_eq!(message, LogicalMessage::Begin(begin));
}

#[test]
fn an_empty_namespace_is_the_catalog() {
    let script = "52 00004000 \"\" \"t\" 66 0000";
    let LogicalMessage::Relation { xid: None, relation } =
        decode(bytes(script), Framing::Plain).unwrap()
    else {
        panic!("a relation")
    };
    assert_eq!(relation.namespace, "pg_catalog");
    assert_eq!(relation.identity, ReplicaIdentity::Full);
}

#[test]
fn a_streamed_change_names_its_transaction() {
    let message = decode(bytes("49 000002D6 00004000 4E 0000"), Framing::Streamed).unwrap();
    let insert = Insert {
        xid: Some(TransactionId(726)),
        relation: RelationId(0x4000),
        new: Tuple::default(),
    };
    assert_eq!(message, LogicalMessage::Insert(insert));
}

#[test]
fn the_table_of_an_unreadable_change_is_still_known() {
    let broken = bytes("55 00004000 4E 0002 74");
    assert!(decode(broken.clone(), Framing::Plain).is_err());
    assert_eq!(relation_of(&broken, Framing::Plain), Some(RelationId(0x4000)));
    assert_eq!(relation_of(&bytes("42"), Framing::Plain), None);
}

#[test]
fn huge_counts_cost_nothing() {
    assert!(decode(bytes("54 7FFFFFFF 00"), Framing::Plain).is_err());
    assert!(decode(bytes("49 00004000 4E 7FFF"), Framing::Plain).is_err());
    assert!(decode(bytes("49 00004000 4E 0001 74 7FFFFFFF"), Framing::Plain).is_err());
    let negative = decode(bytes("49 00004000 4E 0001 74 FFFFFFFF"), Framing::Plain);
    assert_eq!(negative, Err(DecodeError::Negative { message: "Insert", field: "value" }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(
        tag in prop::sample::select(b"BCORYIUDTMSEcAbPKrp?".as_slice()),
        rest in prop::collection::vec(any::<u8>(), 0..200),
        streamed in any::<bool>(),
    ) {
        let framing = if streamed { Framing::Streamed } else { Framing::Plain };
        let bytes = Bytes::from([&[tag], &rest[..]].concat());
        drop((relation_of(&bytes, framing), decode(bytes.clone(), framing)));
    }

    #[test]
    fn a_message_with_flipped_bytes_never_panics(
        sample in prop::sample::select(samples()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (framing, bytes) = sample;
        let mut bytes = bytes.to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(decode(bytes.into(), framing));
    }
}
