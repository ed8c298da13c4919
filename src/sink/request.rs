//! One bulk request: the documents that go under one permit, and the exchange with the server.

use std::time::Duration;

use reqwest::Method;

use super::SinkError;
use super::elasticsearch::bulk::BulkRequest;
use super::elasticsearch::client::Body;
use super::elasticsearch::outcome::{self, ItemOutcome};
use super::elasticsearch::{Client, ClientError};
use super::schedule::Key;
use crate::backoff::Backoff;

/// Something that was waited for.
pub(super) enum Step {
    /// A request was answered, or not.
    Answered { request: Request, answer: Result<Vec<ItemOutcome>, ClientError>, took: Duration },
    /// A request has waited long enough for its next try.
    Rested(Request),
    /// A dead letter is kept, or cannot be.
    Kept { key: Key, result: Result<(), SinkError> },
}

/// A permit, and the documents that go under it.
pub(super) struct Request {
    /// On their way.
    pub(super) current: Vec<Key>,
    /// To go after them: the other halves of what was split.
    pub(super) parts: Vec<Vec<Key>>,
    /// To go again after a rest.
    pub(super) again: Vec<Key>,
    pub(super) backoff: Backoff,
}

/// Sends a bulk body and reads what became of its documents.
pub(super) async fn post(
    client: &Client,
    bulk: BulkRequest,
) -> Result<Vec<ItemOutcome>, ClientError> {
    let BulkRequest { body, documents } = bulk;
    let answer = client.send(Method::POST, BulkRequest::PATH, Body::Lines(body)).await?;
    outcome::parse(&answer, documents).map_err(|error| {
        let source = match error {
            outcome::UnusableAnswer::Malformed(source) => Some(source),
            outcome::UnusableAnswer::Incomplete { .. } => None,
        };
        ClientError::Malformed { node: "the server".into(), expected: "bulk answer", source }
    })
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
