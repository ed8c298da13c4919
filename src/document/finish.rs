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
