//! A document entry of the schema file, resolved against the catalog: what the stages work with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::postgres::Table;

/// The name of an index as the user knows it (an alias of ours).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexName(pub String);

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position of a [`Node`] in its tree; the root is 0 and parents stand before their children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

impl NodeId {
    /// The root of every tree.
    pub const ROOT: Self = Self(0);
}

/// One document entry.
#[derive(Clone, Debug)]
pub struct SchemaTree {
    /// Index name, unique in the file.
    pub index: IndexName,
    /// Every node of the tree; [`NodeId`]s are positions in it.
    pub nodes: Vec<Node>,
    /// Names of the root's key columns in the order of `_id`: alphabetical for a declared primary
    /// key, as written for `primary_key` of a relation without one. Never empty.
    pub key: Vec<String>,
    /// `where`: SQL condition over the root row's own columns.
    pub filter: Option<String>,
    /// `setting`, as it goes into the body of the index creation.
    pub setting: Option<Json>,
    /// `mapping` or `mappings`, as the user wrote it (schema-format 1.1); `None` if neither is there.
    pub mapping: Option<UserMapping>,
    /// Ingest pipeline of index actions.
    pub pipeline: Option<String>,
    /// Top-level field of the finished document that is sent as `routing`.
    pub routing: Option<String>,
    /// Transform scripts by name, in order.
    pub plugins: Vec<String>,
    /// Whether documents carry `_meta`.
    pub meta: bool,
    /// SHA-256 (hex) of the entry as written, its defaults filled in: a change re-indexes the entry.
    pub digest: String,
    /// SHA-256 (hex) of what the catalog contributes to the documents: columns used and their types,
    /// keys, leaves. Replica identities are not part of it: they change how changes are followed, not
    /// what documents hold.
    pub shape: String,
}

/// The user's own index mapping.
#[derive(Clone, Debug, PartialEq)]
pub enum UserMapping {
    /// `properties` only; fields it does not name get ours.
    Properties(Json),
    /// The whole `mappings` object.
    Whole(Json),
}

/// A table's place in a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// JSON path in the schema file, such as `$[0].nodes.children[1]`, for messages.
    pub path: String,
    /// The table.
    pub table: Arc<Table>,
    /// Key under which it appears in its parent (before the parent's `rename`); the root's is unused.
    pub label: String,
    /// What is selected, in order.
    pub columns: Vec<OutputColumn>,
    /// Key columns in the order of the declared key (or `primary_key`); may be empty below the root.
    pub key: Vec<String>,
    /// How it hangs on its parent; `None` at the root.
    pub link: Option<Link>,
    /// Children, in the order of the file.
    pub children: Vec<NodeId>,
    /// `transform`.
    pub transform: Transform,
    /// `base_tables` of a view: tables whose changes stand for the view's.
    pub base_tables: Vec<Arc<Table>>,
}

/// One field of a node's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// The table's column.
    pub column: String,
    /// JSON path into it; `None` for the column itself.
    pub path: Option<JsonPath>,
    /// Field name before `rename`: the column's, or the path's tokens joined (schema-format 1.4).
    pub field: String,
}

/// `->`, `->>`, `#>` and `#>>` behind a column, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(pub Vec<JsonStep>);

/// One operator of a [`JsonPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonStep {
    /// Keys to follow; one for the arrows, any number for the hash forms. Digits only = array position
    /// (in an arrow form), as PostgreSQL's `#>` decides by itself.
    pub keys: Vec<String>,
    /// `->>` or `#>>`: the result is text.
    pub as_text: bool,
    /// Written with `#`.
    pub hash: bool,
}

/// How a node hangs on its parent.
#[derive(Clone, Debug)]
pub struct Link {
    /// The parent.
    pub parent: NodeId,
    /// `type`.
    pub kind: RelationshipKind,
    /// `variant`.
    pub variant: Variant,
    /// The join.
    pub join: Join,
}

/// `relationship.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelationshipKind {
    /// One value.
    OneToOne,
    /// An array.
    OneToMany,
}

/// `relationship.variant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Objects.
    Object,
    /// Bare values of the first column.
    Scalar,
}

/// Equality of two columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnPair {
    /// On the side nearer to the root.
    pub upper: String,
    /// On the side farther from it.
    pub lower: String,
}

/// The rows of a child that belong to a row of its parent.
#[derive(Clone, Debug)]
pub enum Join {
    /// `parent.upper = child.lower` for every pair.
    Direct(Vec<ColumnPair>),
    /// Over a through table.
    Through {
        /// It.
        table: Arc<Table>,
        /// `parent.upper = through.lower`.
        upper: Vec<ColumnPair>,
        /// `through.upper = child.lower`.
        lower: Vec<ColumnPair>,
    },
}

/// `transform` of a node (schema-format 1.5), parsed. Empty by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    /// `{"field": {"search": "replacement"}}`, in the order of the file.
    pub replace: Vec<(String, Vec<(String, String)>)>,
    /// `{"old": "new"}`, or nested objects for JSON columns, as written.
    pub rename: Option<serde_json::Map<String, Json>>,
    /// `{"source.path": "dest.path"}`.
    pub moves: Vec<(String, String)>,
    /// One or several, in order.
    pub concat: Vec<Concat>,
    /// Index mapping by (renamed) field.
    pub mapping: BTreeMap<String, Json>,
}

/// One `concat` rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Concat {
    /// Fields, or literal text where no field has the name.
    pub columns: Vec<String>,
    /// Field to write.
    pub destination: String,
    /// Between the values; empty by default.
    #[schemars(default)]
    pub delimiter: String,
}

impl SchemaTree {
    /// The root node.
    ///
    /// # Panics
    /// Never: a tree has a root.
    #[expect(clippy::expect_used, reason = "a tree is made with its root")]
    pub fn root(&self) -> &Node {
        self.nodes.first().expect("a tree has a root")
    }

    /// The node of that id, which must be of this tree.
    ///
    /// # Panics
    /// If the id is another tree's.
    #[expect(clippy::indexing_slicing, reason = "ids are made with the nodes")]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All ids, parents first.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// Every table whose rows the documents hold or join over, each once, in order of oid.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        let mut tables: BTreeMap<u32, Arc<Table>> = BTreeMap::new();
        for node in &self.nodes {
            tables.insert(node.table.id.0, Arc::clone(&node.table));
            if let Some(Link { join: Join::Through { table, .. }, .. }) = &node.link {
                tables.insert(table.id.0, Arc::clone(table));
            }
        }
        tables.into_values().collect()
    }

    /// The names of these tables, for messages.
    pub fn table_names(&self) -> String {
        let names: Vec<String> = self.tables().iter().map(|table| table.qualified()).collect();
        names.join(", ")
    }
}
