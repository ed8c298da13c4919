//! Rows of a snapshot → the finished batch: transforms, `_meta`, routing, and deletes of what has no
//! row any more. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::error::Category;
use serde_json::{Map, Value as Json};

use crate::document::fetch::Fetched;
use crate::document::layout::Layout;
use crate::document::merge::{Merge, Merged, append_field, id_of};
use crate::document::transform::Transforms;
use crate::document::{Document, DocumentBatch, DocumentId, SnapshotVersion};
use crate::plan::{EntryId, Job, Receipt, RootKey, Selection};
use crate::postgres::Snapshot;
use crate::schema::tree::{NodeId, SchemaTree};

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

    /// The documents of a snapshot. Selected keys without a row are deletes.
    pub(crate) fn finish(&self, rows: &Fetched, selection: &Selection) -> DocumentBatch {
        let version = SnapshotVersion::of(self.generation, &rows.snapshot);
        let mut batch = empty_batch();
        let mut seen: HashSet<String> = HashSet::new();
        for merged in Merge::new(&self.layout, &rows.nodes).documents() {
            if !seen.insert(merged.id.clone()) {
                continue;
            }
            batch.ambiguous += merged.ambiguous;
            batch.documents.push(self.document(merged, version));
        }
        if let Selection::Keys(keys) = selection {
            self.add_deletes(keys, &mut seen, version, &mut batch.documents);
        }
        batch
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
        Some(DocumentBatch { documents: vec![document], ..empty_batch() })
    }

    fn add_deletes(
        &self,
        keys: &[RootKey],
        seen: &mut HashSet<String>,
        version: SnapshotVersion,
        documents: &mut Vec<Document>,
    ) {
        let Some(root) = self.layout.node(NodeId::ROOT) else { return };
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
