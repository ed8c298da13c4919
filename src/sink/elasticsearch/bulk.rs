//! Bulk bodies: documents to lines of JSON. Pure; items keep their order, so that the answer's items
//! belong to them by position.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};

use crate::document::Document;

/// Elasticsearch refuses the whole request for one longer id.
pub const MAX_ID_BYTES: usize = 512;

/// Action lines are about this long, without id, alias, routing and pipeline.
const ACTION_LINE_BYTES: usize = 96;

/// The id of the update that stands guard over requests that only delete. No document has it.
const GUARD_ID: &str = "pgsyncd-guard";

/// A document and where it goes.
#[derive(Clone, Debug)]
pub struct BulkItem<'a> {
    /// The private write alias.
    pub alias: &'a str,
    /// Ingest pipeline of index actions.
    pub pipeline: Option<&'a str>,
    /// The document.
    pub document: &'a Document,
}

/// A bulk body, for `POST /_bulk?require_alias=true`.
#[derive(Clone, Debug)]
pub struct BulkRequest {
    /// Lines of JSON.
    pub body: Bytes,
    /// How many items of the answer, from the first, belong to documents.
    pub documents: usize,
}

impl BulkRequest {
    /// What the body is posted to. The answer is cut down to what is read of it: the position of an
    /// item is kept, since every item has a status.
    pub const PATH: &str = "/_bulk?require_alias=true&filter_path=errors,items.*.status,\
                            items.*.error.type,items.*.error.reason,items.*.error.caused_by.type";

    /// The body of these items.
    ///
    /// A delete with an external version creates a missing index, and `require_alias` does not stop
    /// it (tried on Elasticsearch 7.17.15 and 9.4.3). It is not created when another action on the
    /// same name in the same request requires the alias: so for each alias that gets deletes only, an
    /// update that changes nothing (`{"doc":{}}` of a document that does not exist) is put behind
    /// the documents.
    pub fn encode(items: &[BulkItem<'_>]) -> Self {
        let size = items.iter().map(|item| size_of(item.document)).sum();
        let mut body = BytesMut::with_capacity(size);
        let (mut indexed, mut deleted) = (HashSet::new(), HashSet::new());
        for item in items {
            let aliases = if item.document.body.is_some() { &mut indexed } else { &mut deleted };
            aliases.insert(item.alias);
            encode_item(&mut body, item);
        }
        for alias in deleted.difference(&indexed) {
            body.extend_from_slice(b"{\"update\":{\"_index\":");
            write_json_string(&mut body, alias);
            body.extend_from_slice(b",\"_id\":");
            write_json_string(&mut body, GUARD_ID);
            body.extend_from_slice(b"}}\n{\"doc\":{}}\n");
        }
        Self { body: body.freeze(), documents: items.len() }
    }
}

/// About how many bytes a document takes in a bulk body.
pub fn size_of(document: &Document) -> usize {
    let body = document.body.as_ref().map_or(0, Bytes::len);
    let routing = document.routing.as_ref().map_or(0, |routing| routing.len());
    ACTION_LINE_BYTES + document.id.0.len() + routing + body
}

/// Why no request may hold this document; `None` if one may.
pub fn unsendable(document: &Document) -> Option<&str> {
    let length = document.id.0.len();
    if let Some(reason) = &document.refused {
        Some(reason)
    } else if length == 0 {
        Some("the id is empty")
    } else if length > MAX_ID_BYTES {
        Some("the id is longer than 512 bytes")
    } else if document.body.as_ref().is_some_and(|body| memchr::memchr(b'\n', body).is_some()) {
        // It would end the document early and pass the rest off as the next action.
        Some("the document holds a line break outside of its strings")
    } else {
        None
    }
}

fn encode_item(body: &mut BytesMut, item: &BulkItem<'_>) {
    let document = item.document;
    let action: &[u8] = if document.body.is_some() { b"{\"index\":{" } else { b"{\"delete\":{" };
    body.extend_from_slice(action);
    body.extend_from_slice(b"\"_index\":");
    write_json_string(body, item.alias);
    body.extend_from_slice(b",\"_id\":");
    write_json_string(body, &document.id.0);
    body.extend_from_slice(b",\"version\":");
    body.extend_from_slice(itoa::Buffer::new().format(document.version.get()).as_bytes());
    body.extend_from_slice(b",\"version_type\":\"external_gte\"");
    if let Some(routing) = &document.routing {
        body.extend_from_slice(b",\"routing\":");
        write_json_string(body, routing);
    }
    if let (Some(pipeline), Some(_)) = (item.pipeline, &document.body) {
        body.extend_from_slice(b",\"pipeline\":");
        write_json_string(body, pipeline);
    }
    body.extend_from_slice(b"}}\n");
    if let Some(source) = &document.body {
        body.extend_from_slice(source);
        body.extend_from_slice(b"\n");
    }
}

fn write_json_string(body: &mut BytesMut, text: &str) {
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    if text.as_bytes().iter().all(plain) {
        body.extend_from_slice(b"\"");
        body.extend_from_slice(text.as_bytes());
        body.extend_from_slice(b"\"");
    } else {
        body.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{delete, index};

    fn item(document: &Document) -> BulkItem<'_> {
        BulkItem { alias: "w", pipeline: None, document }
    }

    fn body_of(items: &[BulkItem<'_>]) -> String {
        String::from_utf8(BulkRequest::encode(items).body.to_vec()).unwrap()
    }

    #[test]
    fn an_index_action_carries_version_routing_pipeline_and_body() {
        let mut document = index("a", 7, r#"{"n":1}"#);
        document.routing = Some("r".into());
        let body = body_of(&[BulkItem { alias: "w", pipeline: Some("p"), document: &document }]);
        let expected = concat!(
            r#"{"index":{"_index":"w","_id":"a","version":7,"version_type":"external_gte","#,
            r#""routing":"r","pipeline":"p"}}"#,
            "\n{\"n\":1}\n"
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn ids_are_escaped() {
        let document = index("a\"\\\n\u{1}ä", 7, "{}");
        let body = body_of(&[item(&document)]);
        let action: serde_json::Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
        assert_eq!(action["index"]["_id"], "a\"\\\n\u{1}ä");
    }

    #[test]
    fn deletes_alone_are_guarded_by_an_action_that_requires_the_alias() {
        let gone = delete("a", 7);
        let request = BulkRequest::encode(&[item(&gone)]);
        assert_eq!(request.documents, 1);
        let body = body_of(&[item(&gone)]);
        let lines: Vec<&str> = body.lines().collect();
        let guard = r#"{"update":{"_index":"w","_id":"pgsyncd-guard"}}"#;
        assert_eq!(&lines[1..], [guard, r#"{"doc":{}}"#]);
    }

    #[test]
    fn deletes_beside_index_actions_of_the_same_alias_need_no_guard() {
        let (gone, came) = (delete("a", 7), index("b", 7, "{}"));
        assert_eq!(body_of(&[item(&gone), item(&came)]).lines().count(), 3);
        let elsewhere = BulkItem { alias: "other", pipeline: None, document: &came };
        assert_eq!(body_of(&[item(&gone), elsewhere]).lines().count(), 5);
    }

    #[test]
    fn unusable_ids_and_bodies_are_named() {
        assert!(unsendable(&index("", 1, "{}")).is_some());
        assert!(unsendable(&index(&"x".repeat(513), 1, "{}")).is_some());
        assert!(unsendable(&index("a", 1, "{\n}")).is_some());
        assert!(unsendable(&index(&"x".repeat(512), 1, "{}")).is_none());
    }
}
