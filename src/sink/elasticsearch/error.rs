//! What can go wrong with one HTTP request, whether another try can help, and the server's reason
//! without the document's values in it.

use serde_json::Value as Json;

/// One request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options contradict themselves or hold something unusable.
    #[error("Elasticsearch settings: {setting}: {expected}")]
    Options {
        /// Which one.
        setting: &'static str,
        /// What it should have been.
        expected: &'static str,
        /// The cause, where a library found it.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// No usable connection: refused, lost, TLS failure, no answer in time.
    #[error("no answer from {node}")]
    Unreachable {
        /// URL of the node, without credentials.
        node: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered with an error.
    #[error("the server answered {status} {kind}: {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `error.type` of the answer; empty if it has none.
        kind: String,
        /// `error.reason` of the answer, as the server gave it.
        reason: String,
    },
    /// The answer is no JSON, cut off, or not what was asked for.
    #[error("the answer of {node} is no {expected}")]
    Malformed {
        /// URL of the node, without credentials.
        node: String,
        /// What was expected.
        expected: &'static str,
        /// The cause, where there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The answer is larger than an answer may be.
    #[error("the answer of {node} is larger than {limit} bytes")]
    TooLarge {
        /// URL of the node, without credentials.
        node: String,
        /// The limit.
        limit: usize,
    },
}

/// Whether the same request can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Yes: the server is away or busy.
    Transient,
    /// No: the request or our rights have to change.
    Permanent,
}

impl ClientError {
    /// Whether the same request can succeed later.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Options { .. } => ErrorClass::Permanent,
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => {
                ErrorClass::Transient
            }
            Self::Refused { status, kind, .. } => class_of(*status, kind),
        }
    }

    /// The HTTP status, if the server answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Options { .. }
            | Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    /// The refusal in the body of an answer with an error status.
    pub(super) fn refused(status: u16, body: &[u8]) -> Self {
        let answer: Json = serde_json::from_slice(body).unwrap_or_default();
        let error = answer.get("error");
        let text = |name: &str| {
            error.and_then(|error| error.get(name)).and_then(Json::as_str).unwrap_or_default()
        };
        // Some answers carry a bare text: {"error":"alias [a] missing","status":404}.
        let reason = error.and_then(Json::as_str).unwrap_or_else(|| text("reason"));
        Self::Refused { status, kind: text("type").to_owned(), reason: reason.to_owned() }
    }
}

/// Whether an error of the server passes by itself: overload, a cluster without a leader, a block
/// that an operator or the disk watermark set and will lift, a closed index.
pub(super) fn class_of(status: u16, kind: &str) -> ErrorClass {
    let passing_kind = matches!(kind, "cluster_block_exception" | "index_closed_exception");
    if passing_kind || matches!(status, 408 | 425 | 429 | 500..=599) {
        ErrorClass::Transient
    } else {
        ErrorClass::Permanent
    }
}

/// The server's reason with whatever can be a value of the document cut out of it.
///
/// Mapper errors quote values: `failed to parse field [n] of type [long] in document with id 'b'.
/// Preview of field's value: 'abc'`. The names of fields, types, indexes and pipelines stay.
pub(in crate::sink) fn without_values(reason: &str) -> String {
    const QUOTES_VALUES: [&str; 6] = [
        "Preview of field's value",
        "The prefix of the first immense term",
        "For input string",
        "original message",
        "[Source:",
        "\n",
    ];
    let cut = QUOTES_VALUES.iter().filter_map(|marker| reason.find(marker)).min();
    let kept = cut.and_then(|cut| reason.get(..cut)).unwrap_or(reason);
    blank_quoted(kept).trim_end_matches([' ', '.', ',', ':']).to_owned()
}

/// Puts `…` in place of what stands in quotes, and in brackets unless a word before them says that
/// it is a name.
fn blank_quoted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let closing = match character {
            // The apostrophe of a word (`can't merge …`) opens no quote.
            '\'' if kept.ends_with(char::is_alphanumeric) => None,
            '\'' | '"' => Some(character),
            '[' if !names_follow(&kept) => Some(']'),
            _ => None,
        };
        kept.push(character);
        if let Some(closing) = closing {
            kept.push('…');
            if characters.any(|following| following == closing) {
                kept.push(closing);
            }
        }
    }
    kept
}

/// Whether the text ends with words after which Elasticsearch puts a name in brackets.
fn names_follow(before: &str) -> bool {
    const WORDS: [&str; 13] = [
        "field ",
        "type ",
        "mapping for ",
        "object mapping ",
        "index ",
        "alias ",
        "with id ",
        "fields ",
        "blocked by: ",
        "dimension ",
        "path ",
        "parser ",
        "name ",
    ];
    let is_value = before.ends_with("date field ");
    !is_value && WORDS.iter().any(|word| before.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_out_of_reasons() {
        let cases = [
            (
                "[1:6] failed to parse field [n] of type [long] in document with id 'b'. Preview of field's value: 'abc'",
                "[…] failed to parse field [n] of type [long] in document with id '…'",
            ),
            (
                "failed to parse date field [1 Mai] with format [x]",
                "failed to parse date field […] with format […]",
            ),
            ("For input string: \"secret\"", ""),
            (
                "Limit of total fields [1000] has been exceeded",
                "Limit of total fields [1000] has been exceeded",
            ),
            ("id [Ann Smith] is too long", "id […] is too long"),
            ("an open 'quote", "an open '…"),
            (
                "can't merge a non object mapping [jb.a] with an object mapping",
                "can't merge a non object mapping [jb.a] with an object mapping",
            ),
            ("pipeline with id [nope] does not exist", "pipeline with id [nope] does not exist"),
        ];
        for (reason, expected) in cases {
            assert_eq!(without_values(reason), expected);
        }
    }

    #[test]
    fn overload_and_blocks_pass_and_bad_requests_do_not() {
        let class = |status, kind| class_of(status, kind);
        assert_eq!(class(429, ""), ErrorClass::Transient);
        assert_eq!(class(503, ""), ErrorClass::Transient);
        assert_eq!(class(403, "cluster_block_exception"), ErrorClass::Transient);
        assert_eq!(class(400, "index_closed_exception"), ErrorClass::Transient);
        assert_eq!(class(403, "security_exception"), ErrorClass::Permanent);
        assert_eq!(class(400, "mapper_parsing_exception"), ErrorClass::Permanent);
    }

    #[test]
    fn a_refusal_is_read_from_either_form_of_answer() {
        let object = br#"{"error":{"type":"t","reason":"r"},"status":400}"#;
        assert_eq!(ClientError::refused(400, object).to_string(), "the server answered 400 t: r");
        let text = br#"{"error":"alias [a] missing","status":404}"#;
        assert!(ClientError::refused(404, text).to_string().ends_with("alias [a] missing"));
        assert_eq!(ClientError::refused(502, b"<html>").status(), Some(502));
    }
}
