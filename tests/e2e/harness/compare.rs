//! Documents of an index against those expected: keys in any order, arrays in theirs, numbers digit by
//! digit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// Documents by `_id`.
pub(crate) type Documents = BTreeMap<String, Json>;

/// Differences that are shown.
const MOST_SHOWN: usize = 10;

/// Parses JSON; numbers keep their digits.
pub(crate) fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Parses an object of documents by `_id`.
pub(crate) fn documents(text: &str) -> Documents {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Fails with the differences.
pub(crate) fn assert_same(expected: &Documents, actual: &Documents, what: &str) {
    let difference = difference(expected, actual);
    assert!(difference.is_empty(), "{what}:\n{difference}");
}

/// What differs, a line each; empty if nothing does.
pub(crate) fn difference(expected: &Documents, actual: &Documents) -> String {
    let ids: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    let mut lines = Vec::new();
    for id in ids {
        compare(id, expected.get(id), actual.get(id), &mut lines);
    }
    let total = lines.len();
    lines.truncate(MOST_SHOWN);
    if total > MOST_SHOWN {
        lines.push(format!("and {} more", total - MOST_SHOWN));
    }
    lines.join("\n")
}

fn compare(path: &str, expected: Option<&Json>, actual: Option<&Json>, lines: &mut Vec<String>) {
    match (expected, actual) {
        (Some(expected), Some(actual)) if expected == actual => {}
        (Some(Json::Object(expected)), Some(Json::Object(actual))) => {
            let keys: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                compare(&path, expected.get(key), actual.get(key), lines);
            }
        }
        (expected, actual) => {
            let text = |value: Option<&Json>| value.map_or("absent".into(), Json::to_string);
            lines.push(format!("{path}: expected {}, found {}", text(expected), text(actual)));
        }
    }
}
