//! Rows of a snapshot → the finished batch: transforms, `_meta`, routing, and deletes of what has no
//! row any more. Pure.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::error::Category;
use serde_json::{Map, Value as Json};

use crate::document::layout::Layout;
use crate::document::merge::{Merge, Merged, NodeRows, Row, append_field, id_of, identify};
use crate::document::transform::Transforms;
use crate::document::{Document, DocumentBatch, DocumentId, SnapshotVersion};
use crate::plan::{EntryId, Job, Receipt, RootKey, Selection};
use crate::postgres::Snapshot;
use crate::schema::tree::{NodeId, SchemaTree};

/// Bytes of bodies after which a batch is handed on.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A document entry as the workers know it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) tree: Arc<SchemaTree>,
    pub(crate) layout: Arc<Layout>,
    transforms: Option<Arc<Transforms>>,
    generation: u64,
}

impl Entry {
    /// An entry whose documents are versioned under `generation`.
    pub fn new(tree: Arc<SchemaTree>, generation: u64) -> Self {
        let layout = Arc::new(Layout::of(&tree));
        let transforms = Transforms::compile(&tree).map(Arc::new);
        Self { tree, layout, transforms, generation }
    }

    /// The documents of a snapshot, in batches of bounded bytes: a row that many documents share was
    /// read once and is written in each. Selected keys without a row are deletes. One batch at least;
    /// the last has `batches` set, to a number that the worker knows.
    pub(crate) fn finish<'a, R: Row>(
        &'a self,
        (snapshot, nodes): (&Snapshot, &'a [NodeRows<R>]),
        selection: &Selection,
    ) -> impl Iterator<Item = DocumentBatch> + use<'a, R> {
        let version = SnapshotVersion::of(self.generation, snapshot);
        let mut seen: HashSet<String> = HashSet::new();
        let rows = self.distinct(nodes, &mut seen);
        let keys = match selection {
            Selection::Keys(keys) => keys.as_slice(),
            Selection::Range(_) => &[],
        };
        let deletes = self.deletes(keys, &mut seen, version);
        let mut merge = Merge::new(&self.layout, nodes);
        let made = rows.into_iter().filter_map(move |number| merge.document(number));
        let mut documents = made
            .map(move |merged| (merged.ambiguous, self.document(merged, version)))
            .chain(deletes.into_iter().map(|document| (0, document)))
            .peekable();
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let batch = take_batch(&mut documents);
            is_over = batch.batches.is_some();
            Some(batch)
        })
    }

    /// Root rows, the first of each id: keys that are equal in other words read the same row.
    fn distinct<R: Row>(&self, nodes: &[NodeRows<R>], seen: &mut HashSet<String>) -> Vec<usize> {
        let (Some(layout), Some(root)) = (self.layout.node(NodeId::ROOT), nodes.first()) else {
            return Vec::new();
        };
        let ids = root.rows.iter().map(|row| identify(layout, row)).enumerate();
        ids.filter_map(|(number, id)| seen.insert(id?.0).then_some(number)).collect()
    }

    /// The one document of a selection that PostgreSQL cannot read, as refused; `None` if there are
    /// several: one of them is guilty.
    pub(crate) fn unreadable(
        &self,
        selection: &Selection,
        snapshot: &Snapshot,
        code: &str,
    ) -> Option<DocumentBatch> {
        let (Selection::Keys(keys), Some(root)) = (selection, self.layout.node(NodeId::ROOT))
        else {
            return None;
        };
        let [key] = keys.as_slice() else { return None };
        let reason = format!("PostgreSQL cannot read a value of the document: SQLSTATE {code}");
        let document = Document {
            id: DocumentId(id_of(root, key).into()),
            key: key.clone(),
            version: SnapshotVersion::of(self.generation, snapshot),
            routing: None,
            body: None,
            refused: Some(reason.into()),
        };
        Some(DocumentBatch { documents: vec![document], batches: Some(0), ..empty_batch() })
    }

    fn deletes(
        &self,
        keys: &[RootKey],
        seen: &mut HashSet<String>,
        version: SnapshotVersion,
    ) -> Vec<Document> {
        let Some(root) = self.layout.node(NodeId::ROOT) else { return Vec::new() };
        let mut documents = Vec::new();
        for key in keys {
            let id = id_of(root, key);
            if !seen.insert(id.clone()) {
                continue;
            }
            let id = DocumentId(id.into());
            documents.push(Document {
                id,
                key: key.clone(),
                version,
                routing: None,
                body: None,
                refused: None,
            });
        }
        documents
    }

    fn document(&self, merged: Merged, version: SnapshotVersion) -> Document {
        let Merged { id, key, open, meta, ambiguous: _ } = merged;
        let id = DocumentId(id.into());
        let (body, routing, refused) = match self.complete(open, &meta) {
            Ok((body, routing)) => (Some(body), routing, None),
            Err(reason) => (None, None, Some(reason)),
        };
        Document { id, key, version, routing, body, refused }
    }

    /// The finished body and its routing.
    fn complete(
        &self,
        mut open: Vec<u8>,
        meta: &[u8],
    ) -> Result<(Bytes, Option<Box<str>>), Box<str>> {
        let mut routing = None;
        if self.transforms.is_some() || self.tree.routing.is_some() {
            let mut object = parse(open).map_err(|error| unparsable(&error))?;
            if let Some(transforms) = &self.transforms {
                transforms.apply(&mut object);
            }
            if let Some(field) = &self.tree.routing {
                routing = Some(routing_of(&object, field)?);
            }
            open = serde_json::to_vec(&object).map_err(|error| unparsable(&error))?;
            open.pop();
        }
        if self.tree.meta {
            append_field("_meta", meta, &mut open);
        }
        open.push(b'}');
        Ok((Bytes::from(open), routing))
    }
}

/// Takes documents until they are enough for one batch, or none is left: then `batches` is set.
fn take_batch(documents: &mut Peekable<impl Iterator<Item = (u64, Document)>>) -> DocumentBatch {
    let mut batch = empty_batch();
    let mut bytes = 0;
    while let Some((ambiguous, document)) = documents.next_if(|_| bytes < BATCH_BYTES) {
        bytes += document.body.as_ref().map_or(0, Bytes::len);
        batch.ambiguous += ambiguous;
        batch.documents.push(document);
    }
    batch.batches = documents.peek().is_none().then_some(0);
    batch
}

/// To be addressed by the worker.
fn empty_batch() -> DocumentBatch {
    DocumentBatch {
        entry: EntryId(0),
        receipt: Receipt { job: Job::Round(0), part: 0 },
        batches: None,
        documents: Vec::new(),
        ambiguous: 0,
    }
}

/// What kind of trouble, without the text around it: that could hold cell values.
fn unparsable(error: &serde_json::Error) -> Box<str> {
    let kind = match error.classify() {
        Category::Io => "input",
        Category::Syntax => "syntax or depth",
        Category::Data => "data",
        Category::Eof => "unexpected end",
    };
    format!("a JSON value of the document cannot be transformed: {kind}").into()
}

fn parse(mut open: Vec<u8>) -> Result<Map<String, Json>, serde_json::Error> {
    open.push(b'}');
    serde_json::from_slice(&open)
}

fn routing_of(object: &Map<String, Json>, field: &str) -> Result<Box<str>, Box<str>> {
    match object.get(field) {
        Some(Json::String(text)) if !text.is_empty() => Ok(text.as_str().into()),
        Some(Json::Number(number)) => Ok(number.to_string().into()),
        Some(Json::Bool(value)) => Ok(value.to_string().into()),
        None => Err(format!("the document has no field `{field}` to route by").into()),
        Some(Json::Null | Json::String(_) | Json::Array(_) | Json::Object(_)) => {
            Err(format!("the field `{field}` to route by is empty or no scalar").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::document::layout::Position;
    use crate::schema::fixtures::shop_tree;
    use crate::schema::tree::Link;

    /// A row by its SELECT list.
    #[derive(Clone, Debug)]
    struct Values(Vec<Option<String>>);

    impl Row for Values {
        fn value(&self, position: Position) -> Option<&str> {
            self.0.get(position)?.as_deref()
        }
    }

    /// Rows of a node: the ordinal of the parent's join key, then `alias.column=value` words; what is
    /// not named is null.
    type Rows<'a> = &'a [(u32, &'a str)];

    fn nodes(entry: &Entry, rows: &[Rows<'_>]) -> Vec<NodeRows<Values>> {
        let mut nodes: Vec<NodeRows<Values>> = Vec::new();
        for (id, rows) in entry.tree.ids().zip(rows) {
            let layout = entry.layout.node(id).unwrap();
            if let Some(Link { parent, .. }) = entry.tree.node(id).link {
                let above = &entry.layout.node(parent).unwrap().children;
                let child = above.iter().find(|child| child.node == id).unwrap();
                nodes[parent.0].join_keys(&child.join);
            }
            let value = |text: &str, name: &str| {
                let mut words = text.split(' ');
                words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
            };
            let row = |(ordinal, text): &(u32, &str)| {
                let names = layout.select.iter().map(|expression| expression.replace('"', ""));
                (*ordinal, Values(names.map(|name| value(text, &name)).collect()))
            };
            nodes.push(NodeRows::group(rows.iter().map(row).collect()));
        }
        nodes
    }

    fn batches(schema: &str, rows: &[Rows<'_>], keys: &[&str]) -> Vec<DocumentBatch> {
        let entry = Entry::new(Arc::new(shop_tree(schema)), 1);
        let keys = keys.iter().map(|key| RootKey([(*key).into()].into())).collect();
        let snapshot: Snapshot = "5:5:".parse().unwrap();
        let nodes = nodes(&entry, rows);
        entry.finish((&snapshot, &nodes), &Selection::Keys(keys)).collect()
    }

    /// The first document's body.
    fn body(schema: &str, rows: &[Rows<'_>]) -> Json {
        let batches = batches(schema, rows, &[]);
        let document = &batches[0].documents[0];
        serde_json::from_slice(document.body.as_ref().unwrap()).unwrap()
    }

    fn parts(kind: &str, variant: &str) -> String {
        format!(
            r#"{{"index": "p", "nodes": {{"table": "product", "columns": ["id", "name"],
                "children": [{{"table": "part", "label": "name", "columns": ["name"],
                "relationship": {{"type": "{kind}", "variant": "{variant}"}}}}]}}}}"#
        )
    }

    #[test]
    fn every_kind_and_variant_has_its_shape_and_a_label_replaces_a_column() {
        let root: Rows<'_> = &[(0, "c.id=1 c.name=chair")];
        let two: Rows<'_> = &[(1, "c.id=10 c.name=leg"), (1, "c.id=9")];
        for (kind, variant, rows, expected) in [
            ("one_to_many", "object", two, json!([{"name": "leg"}, {"name": null}])),
            ("one_to_many", "scalar", two, json!(["leg", null])),
            ("one_to_one", "object", two, json!({"name": "leg"})),
            ("one_to_one", "scalar", two, json!("leg")),
            ("one_to_many", "object", &[], json!(null)),
            ("one_to_many", "scalar", &[], json!(null)),
            ("one_to_one", "object", &[], json!(null)),
            ("one_to_one", "scalar", &[], json!(null)),
        ] {
            let schema = parts(kind, variant);
            let body = body(&schema, &[root, rows]);
            assert_eq!(body["name"], expected, "{kind} {variant}");
            let ambiguous = batches(&schema, &[root, rows], &[])[0].ambiguous;
            assert_eq!(ambiguous, u64::from(kind == "one_to_one" && rows.len() == 2));
        }
    }

    #[test]
    fn meta_is_sorted_unique_and_of_the_rows_used() {
        let root: Rows<'_> = &[(0, "c.id=1")];
        let rows: Rows<'_> = &[(1, "c.id=10"), (1, "c.id=9"), (1, "c.id=10")];
        for (kind, rows, expected) in [
            ("one_to_many", rows, json!({"part": {"id": [9, 10]}, "product": {"id": ["1"]}})),
            ("one_to_one", rows, json!({"part": {"id": [10]}, "product": {"id": ["1"]}})),
            ("one_to_many", &[], json!({"product": {"id": ["1"]}})),
        ] {
            assert_eq!(body(&parts(kind, "object"), &[root, rows])["_meta"], expected);
        }
    }

    #[test]
    fn nodes_nest_to_any_depth_and_a_null_joins_nothing() {
        let schema = r#"{"index": "c", "nodes": {"table": "customer", "columns": ["id"], "children": [
            {"table": "product", "columns": ["id"],
             "relationship": {"type": "one_to_many", "variant": "object"}, "children": [
                {"table": "customer", "label": "owner", "columns": ["name"],
                 "relationship": {"type": "one_to_one", "variant": "scalar"}},
                {"table": "part", "columns": ["id"],
                 "relationship": {"type": "one_to_many", "variant": "object"}, "children": [
                    {"table": "part", "label": "parts", "columns": ["id"],
                     "relationship": {"type": "one_to_many", "variant": "scalar"}}]}]}]}}"#;
        let body = body(
            schema,
            &[
                &[(0, "c.id=1")],
                &[(1, "c.id=5 c.customer_id=1"), (1, "c.id=6")],
                &[(1, "c.id=1 c.name=Ann")],
                &[(1, "c.id=7"), (2, "c.id=8")],
                &[(2, "c.id=9")],
            ],
        );
        let expected = json!([
            {"id": 5, "owner": "Ann", "part": [{"id": 7, "parts": null}]},
            {"id": 6, "owner": null, "part": [{"id": 8, "parts": [9]}]},
        ]);
        assert_eq!(body["product"], expected);
        assert_eq!(body["_meta"]["part"], json!({"id": [7, 8, 9]}));
    }

    #[test]
    fn keys_without_a_row_are_deletes_and_a_row_found_twice_is_one_document() {
        let schema = r#"{"index": "c", "nodes": {"table": "customer"}}"#;
        let rows: Rows<'_> = &[(0, "c.id=1"), (0, "c.id=1"), (0, "c.name=without_key")];
        let batches = batches(schema, &[rows], &["1", "2", "2"]);
        let documents: Vec<_> = batches[0]
            .documents
            .iter()
            .map(|document| (&*document.id.0, document.body.is_some(), document.version.get()))
            .collect();
        let version = (1 << 44) + 5;
        assert_eq!(documents, [("1", true, version), ("2", false, version)]);
        assert_eq!(batches.len(), 1);
    }

    #[test]
    fn many_bytes_make_several_batches_of_which_the_last_is_marked() {
        let text = "x".repeat(BATCH_BYTES / 2);
        let rows: Vec<(u32, String)> =
            (0..5).map(|id| (0, format!("c.id={id} c.name={text}"))).collect();
        let rows: Vec<(u32, &str)> = rows.iter().map(|(at, row)| (*at, row.as_str())).collect();
        let schema = r#"{"index": "c", "nodes": {"table": "customer"}}"#;
        let sizes = |rows: Rows<'_>, keys: &[&str]| -> Vec<(usize, bool)> {
            let batches = batches(schema, &[rows], keys).into_iter();
            batches.map(|batch| (batch.documents.len(), batch.batches.is_some())).collect()
        };
        assert_eq!(sizes(&rows, &["9"]), [(2, false), (2, false), (2, true)]);
        assert_eq!(sizes(&[], &[]), [(0, true)], "an answer without documents is an answer");
    }

    #[test]
    fn routing_comes_from_the_finished_document_or_refuses_it() {
        let schema = r#"{"index": "c", "routing": "name", "nodes": {"table": "customer"}}"#;
        let batches = batches(schema, &[&[(0, "c.id=1 c.name=north"), (0, "c.id=2")]], &[]);
        let [routed, refused] = batches[0].documents.as_slice() else { panic!("two") };
        assert_eq!((routed.routing.as_deref(), routed.refused.as_deref()), (Some("north"), None));
        assert!(refused.body.is_none() && refused.refused.as_ref().unwrap().contains("`name`"));
    }
}
