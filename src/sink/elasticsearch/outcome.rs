//! The answer to a bulk request, item by item. Pure.
//!
//! The HTTP status of a bulk request says nothing about its documents: each item has its own.

use serde::Deserialize;

use super::error::{ErrorClass, class_of, without_values};

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// It is in the index, or gone from it.
    Written,
    /// The index holds a newer version.
    Superseded {
        /// That version; `None` if the server's words are unknown to us.
        stored: Option<u64>,
    },
    /// The server is busy, starting or blocked: another try helps.
    Retry {
        /// `error.type`, or the status.
        reason: String,
        /// Whether the server asked for less (429).
        overload: bool,
    },
    /// The server failed on this document (500 of one item): another try may help.
    Fault {
        /// `error.type`.
        kind: String,
        /// `error.reason`, without values of the document.
        reason: String,
    },
    /// The server will never take it.
    Rejected {
        /// `error.type`.
        kind: String,
        /// `error.reason`, without values of the document.
        reason: String,
    },
    /// The alias to write to is gone, or points to no index to write to: somebody deleted it.
    AliasGone,
    /// The entry's ingest pipeline is not there: every document would be rejected.
    PipelineMissing,
}

/// The answer is not one to this request: cut off, or of another number of items.
#[derive(Debug, thiserror::Error)]
pub enum UnusableAnswer {
    /// No JSON, or cut off.
    #[error("the answer to a bulk request is no JSON of the expected form")]
    Malformed(#[source] serde_json::Error),
    /// Fewer items than documents were sent.
    #[error("the answer to a bulk request has {found} items for {expected} documents")]
    Incomplete {
        /// Documents sent.
        expected: usize,
        /// Items found.
        found: usize,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "delete", alias = "update", alias = "create")]
    index: Status,
}

#[derive(Deserialize)]
struct Status {
    status: u16,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    caused_by: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(rename = "type", default)]
    kind: String,
}

/// What became of the first `documents` items of a request.
///
/// # Errors
/// [`UnusableAnswer`]: nothing is known about any of them.
pub fn parse(answer: &[u8], documents: usize) -> Result<Vec<ItemOutcome>, UnusableAnswer> {
    let answer: Answer = serde_json::from_slice(answer).map_err(UnusableAnswer::Malformed)?;
    let found = answer.items.len();
    if found < documents {
        return Err(UnusableAnswer::Incomplete { expected: documents, found });
    }
    Ok(answer.items.into_iter().take(documents).map(|item| outcome_of(item.index)).collect())
}

fn outcome_of(item: Status) -> ItemOutcome {
    let Some(failure) = item.error else {
        return outcome_of_status(item.status);
    };
    let reason = failure.reason.as_deref().unwrap_or_default();
    if failure.kind == "index_not_found_exception"
        || reason.starts_with("no write index is defined")
    {
        return ItemOutcome::AliasGone;
    }
    if reason.starts_with("pipeline with id [") && reason.ends_with("does not exist") {
        return ItemOutcome::PipelineMissing;
    }
    if item.status == 409 {
        return ItemOutcome::Superseded { stored: stored_version(reason) };
    }
    if item.status == 500 {
        return ItemOutcome::Fault { reason: describe(&failure), kind: failure.kind };
    }
    match class_of(item.status, &failure.kind) {
        ErrorClass::Transient => {
            ItemOutcome::Retry { reason: failure.kind, overload: item.status == 429 }
        }
        ErrorClass::Permanent => {
            ItemOutcome::Rejected { reason: describe(&failure), kind: failure.kind }
        }
    }
}

/// Without an error a delete's 404 says that there was nothing to delete.
fn outcome_of_status(status: u16) -> ItemOutcome {
    match status {
        200..=299 | 404 => ItemOutcome::Written,
        409 => ItemOutcome::Superseded { stored: None },
        _ => ItemOutcome::Retry { reason: format!("status {status}"), overload: status == 429 },
    }
}

/// The cause's own reason quotes values (`For input string: "…"`), its type does not.
fn describe(failure: &Failure) -> String {
    let reason = without_values(failure.reason.as_deref().unwrap_or_default());
    match &failure.caused_by {
        Some(cause) if !cause.kind.is_empty() => format!("{reason} ({})", cause.kind),
        Some(_) | None => reason,
    }
}

/// `[id]: version conflict, current version [5] is higher than the one provided [4]`. The id comes
/// first and can hold anything, so the last mention counts.
fn stored_version(reason: &str) -> Option<u64> {
    let (_, after) = reason.rsplit_once("current version [")?;
    after.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(items: &str, documents: usize) -> Vec<ItemOutcome> {
        parse(format!(r#"{{"errors":true,"items":[{items}]}}"#).as_bytes(), documents).unwrap()
    }

    fn outcome(item: &str) -> ItemOutcome {
        outcomes(item, 1).remove(0)
    }

    #[test]
    fn a_delete_of_nothing_is_written() {
        assert_eq!(outcome(r#"{"delete":{"status":404}}"#), ItemOutcome::Written);
        assert_eq!(outcome(r#"{"index":{"status":201}}"#), ItemOutcome::Written);
    }

    #[test]
    fn a_conflict_names_the_stored_version_whatever_the_id_says() {
        let item = r#"{"index":{"status":409,"error":{"type":"version_conflict_engine_exception",
            "reason":"[current version [9]]: version conflict, current version [5] is higher than the one provided [4]"}}}"#;
        assert_eq!(outcome(item), ItemOutcome::Superseded { stored: Some(5) });
    }

    #[test]
    fn overload_is_tried_again() {
        let item = r#"{"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"x"}}}"#;
        let reason = "es_rejected_execution_exception".to_owned();
        assert_eq!(outcome(item), ItemOutcome::Retry { reason, overload: true });
        let item =
            r#"{"index":{"status":403,"error":{"type":"cluster_block_exception","reason":"x"}}}"#;
        assert!(matches!(outcome(item), ItemOutcome::Retry { overload: false, .. }));
    }

    #[test]
    fn a_rejection_tells_type_and_field_but_no_value() {
        let item = r#"{"index":{"status":400,"error":{"type":"mapper_parsing_exception",
            "reason":"failed to parse field [n] of type [long] in document with id 'b'. Preview of field's value: 'abc'",
            "caused_by":{"type":"illegal_argument_exception","reason":"For input string: \"abc\""}}}}"#;
        let ItemOutcome::Rejected { kind, reason } = outcome(item) else { panic!("not rejected") };
        assert_eq!(kind, "mapper_parsing_exception");
        assert!(reason.contains("field [n] of type [long]"), "{reason}");
        assert!(reason.ends_with("(illegal_argument_exception)"), "{reason}");
        assert!(!reason.contains("abc"), "{reason}");
    }

    #[test]
    fn a_missing_alias_or_pipeline_concerns_more_than_the_document() {
        let item = r#"{"delete":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [w]"}}}"#;
        assert_eq!(outcome(item), ItemOutcome::AliasGone);
        let item = r#"{"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"pipeline with id [p] does not exist"}}}"#;
        assert_eq!(outcome(item), ItemOutcome::PipelineMissing);
    }

    #[test]
    fn items_belong_to_documents_by_position_and_the_guard_is_left_out() {
        let found = outcomes(
            r#"{"index":{"status":200}},{"delete":{"status":409}},
               {"update":{"status":404,"error":{"type":"document_missing_exception"}}}"#,
            2,
        );
        assert_eq!(found, [ItemOutcome::Written, ItemOutcome::Superseded { stored: None }]);
    }

    #[test]
    fn an_answer_cut_off_says_nothing_about_any_document() {
        assert!(parse(br#"{"errors":false,"items":[{"index":{"sta"#, 1).is_err());
        assert!(parse(br#"{"errors":false,"items":[{"index":{"status":200}}]}"#, 2).is_err());
        assert!(parse(b"", 1).is_err());
    }
}
