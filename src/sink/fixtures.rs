//! Documents, batches and trees for the tests of this stage.

use std::sync::Arc;

use crate::document::{Document, DocumentBatch, DocumentId, SnapshotVersion};
use crate::plan::{EntryId, Job, Receipt, RootKey};
use crate::postgres::{Column, RelationId, ReplicaIdentity, Table, TableKind};
use crate::schema::tree::{
    ColumnPair, IndexName, Join, Link, Node, NodeId, OutputColumn, RelationshipKind, SchemaTree,
    Transform, Variant,
};

/// A document to index; `seen` is its version in generation 0.
pub(crate) fn index(id: &str, seen: u64, body: &str) -> Document {
    Document { body: Some(body.to_owned().into()), ..delete(id, seen) }
}

/// A document to delete.
pub(crate) fn delete(id: &str, seen: u64) -> Document {
    Document {
        id: DocumentId(id.into()),
        key: RootKey(vec![id.into()].into()),
        version: version(0, seen),
        routing: None,
        body: None,
        refused: None,
    }
}

/// A version.
pub(crate) fn version(generation: u64, seen: u64) -> SnapshotVersion {
    SnapshotVersion::of(generation, &format!("{seen}:{seen}:").parse().unwrap())
}

/// A receipt with that part number.
pub(crate) fn receipt(part: u32) -> Receipt {
    Receipt { job: Job::Round(1), part }
}

/// A batch of entry 0 with that part number.
pub(crate) fn batch(part: u32, documents: Vec<Document>) -> DocumentBatch {
    DocumentBatch {
        entry: EntryId(0),
        receipt: receipt(part),
        batches: Some(1),
        documents,
        ambiguous: 0,
    }
}

/// A column; the category follows from the type's name where it matters to us.
pub(crate) fn column(name: &str, type_name: &str) -> Column {
    let type_category = match type_name {
        "public.mood" => 'E',
        "public.citext" | "text" => 'S',
        "public.point3" => 'C',
        _ if type_name.ends_with("[]") => 'A',
        _ => 'U',
    };
    Column {
        name: name.into(),
        number: 1,
        type_oid: 0,
        type_name: type_name.into(),
        type_category,
        not_null: false,
        generated: false,
    }
}

/// A table with the key `id`.
pub(crate) fn table(name: &str, columns: &[(&str, &str)]) -> Arc<Table> {
    Arc::new(Table {
        id: RelationId(1),
        schema: "public".into(),
        name: name.into(),
        kind: TableKind::Table,
        owner: "owner".into(),
        columns: columns.iter().map(|(name, kind)| column(name, kind)).collect(),
        primary_key: vec!["id".into()],
        identity: ReplicaIdentity::Default,
        identity_columns: vec!["id".into()],
        leaves: Vec::new(),
        foreign_keys: Vec::new(),
        row_security: false,
    })
}

/// A node of all columns of a table, labelled by its name.
pub(crate) fn node(table: Arc<Table>) -> Node {
    let output = |column: &Column| OutputColumn {
        column: column.name.clone(),
        path: None,
        field: column.name.clone(),
    };
    Node {
        path: "$".into(),
        label: table.name.clone(),
        columns: table.columns.iter().map(output).collect(),
        key: table.primary_key.clone(),
        link: None,
        children: Vec::new(),
        transform: Transform::default(),
        base_tables: Vec::new(),
        table,
    }
}

/// A node below the root, joined by `id = <root>_id`.
pub(crate) fn child(table: Arc<Table>, variant: Variant) -> Node {
    let join = Join::Direct(vec![ColumnPair { upper: "id".into(), lower: "book_id".into() }]);
    let kind = RelationshipKind::OneToMany;
    Node { link: Some(Link { parent: NodeId::ROOT, kind, variant, join }), ..node(table) }
}

/// A tree of a root and its children.
pub(crate) fn tree(mut root: Node, children: Vec<Node>) -> SchemaTree {
    root.children = (1..=children.len()).map(NodeId).collect();
    let mut nodes = vec![root];
    nodes.extend(children);
    SchemaTree {
        index: IndexName("books".into()),
        key: vec!["id".into()],
        nodes,
        filter: None,
        setting: None,
        mapping: None,
        pipeline: None,
        routing: None,
        plugins: Vec::new(),
        meta: true,
        digest: "d".into(),
        shape: "s".into(),
    }
}
