//! The schema file as written: one type per JSON object. `parse.rs` fills them; the JSON Schema for
//! editors is generated from them, their docs being its descriptions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::tree::{Concat, RelationshipKind, Variant};

/// The PostgreSQL schema of a node that names none.
pub const DEFAULT_SCHEMA: &str = "public";

/// A document entry: one index, and the tables its documents are made of.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RawEntry {
    /// JSON path of the entry in the file.
    #[serde(skip)]
    pub path: String,
    /// Database to connect to; the connection's own by default.
    pub database: Option<String>,
    /// Index name; the database's name by default.
    pub index: Option<String>,
    /// The root node: its rows are the documents.
    pub nodes: RawNode,
    /// Index settings at creation: what stands below `settings.index`.
    pub setting: Option<Map<String, Json>>,
    /// Index mapping: what stands below `mappings.properties`; with the key `dynamic_templates` it is the whole `mappings` object.
    pub mapping: Option<Map<String, Json>>,
    /// Index mapping: the whole `mappings` object.
    pub mappings: Option<Map<String, Json>>,
    /// Ingest pipeline of every index action.
    pub pipeline: Option<String>,
    /// Top-level field of the finished document that is sent as `routing`.
    pub routing: Option<String>,
    /// Names of transform scripts, run in this order.
    #[schemars(default)]
    pub plugins: Vec<String>,
    /// SQL condition over the root row's own columns: a row that does not match has no document.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Whether documents carry `_meta`.
    #[schemars(default = "carries_meta")]
    pub meta: bool,
}

/// A table's place in the document.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RawNode {
    /// JSON path of the node in the file.
    #[serde(skip)]
    pub path: String,
    /// Table, partitioned table, view or materialised view; case-sensitive.
    pub table: String,
    /// PostgreSQL schema of the table; not inherited.
    #[schemars(default = "default_schema")]
    pub schema: String,
    /// Column names, or JSON paths such as `doc->a->0` and `doc#>{a,b}`; all columns by default.
    #[schemars(default)]
    pub columns: Vec<String>,
    /// Key under which the child appears in its parent; the table's name by default.
    pub label: Option<String>,
    /// Key columns of a relation that declares no primary key, such as a view.
    #[schemars(default)]
    pub primary_key: Vec<String>,
    /// How the node hangs on its parent; required on every child.
    pub relationship: Option<RawRelationship>,
    /// Nodes below this one.
    #[schemars(default)]
    pub children: Vec<RawNode>,
    /// Changes to the node's objects.
    #[schemars(default, extend("default" = {}))]
    pub transform: RawTransform,
    /// Tables whose changes stand for changes of a view: `table` or `schema.table`.
    #[schemars(default)]
    pub base_tables: Vec<String>,
}

/// How a child hangs on its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RawRelationship {
    /// One value, or an array.
    #[serde(rename = "type")]
    pub kind: RelationshipKind,
    /// Objects, or bare values of the first column.
    pub variant: Variant,
    /// The table between parent and child, `table` or `schema.table`; at most one.
    #[schemars(default, length(max = 1))]
    pub through_tables: Vec<String>,
    /// The columns that join, where the declared foreign keys do not tell.
    pub foreign_key: Option<RawForeignKey>,
}

/// Columns that join, pairwise by position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RawForeignKey {
    /// Columns of the parent's table.
    #[schemars(length(min = 1))]
    pub parent: Vec<String>,
    /// Columns of the child's table.
    #[schemars(length(min = 1))]
    pub child: Vec<String>,
}

/// Changes to the node's objects, done in the order replace, rename, move, concat.
///
/// The rules whose order matters are lists here, so that the digest of an entry sees the order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RawTransform {
    /// Substrings to replace, by column: `{"field": {"search": "replacement"}}`.
    #[schemars(default, with = "BTreeMap<String, BTreeMap<String, String>>")]
    #[schemars(extend("default" = {}))]
    pub replace: Vec<(String, Vec<(String, String)>)>,
    /// New names of fields: `{"old": "new"}`; an object renames inside a JSON column.
    #[schemars(default, with = "BTreeMap<String, Renaming>")]
    pub rename: Map<String, Json>,
    /// Fields to join into one: one rule, or a list of them.
    #[schemars(default, with = "OneOrMany")]
    pub concat: Vec<Concat>,
    /// Index mapping of this node's fields, by their new names.
    #[schemars(default, with = "BTreeMap<String, Map<String, Json>>")]
    pub mapping: BTreeMap<String, Json>,
    /// Values to move: `{"source.path": "destination.path"}`.
    #[serde(rename = "move")]
    #[schemars(default, with = "BTreeMap<String, String>")]
    #[schemars(extend("default" = {}))]
    pub moves: Vec<(String, String)>,
}

/// What a field is renamed to.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes `rename` in the JSON Schema, is never made")]
enum Renaming {
    /// The new name.
    Name(String),
    /// New names of the keys inside the JSON value.
    Inside(BTreeMap<String, Renaming>),
}

/// One rule or several.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes `concat` in the JSON Schema, is never made")]
enum OneOrMany {
    /// One rule.
    One(Concat),
    /// Several, done in order.
    Many(Vec<Concat>),
}

/// The schema file of pgsyncd.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the file in the JSON Schema, is never made")]
enum RawFile {
    /// One document entry.
    One(Box<RawEntry>),
    /// Document entries.
    Many(#[schemars(length(min = 1))] Vec<RawEntry>),
}

/// The JSON Schema of the format, for editors.
pub fn json_schema() -> Json {
    let mut schema = schemars::schema_for!(RawFile).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), Json::from("pgsyncd schema file"));
    }
    schema
}

/// Default of `meta`.
fn carries_meta() -> bool {
    true
}

/// Default of `schema`.
fn default_schema() -> String {
    DEFAULT_SCHEMA.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_json_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.schema.json");
        let current = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_JSON_SCHEMA").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            shipped == current,
            "config/schema.schema.json is out of date; write it with: \
             UPDATE_JSON_SCHEMA=1 cargo test --lib the_shipped_json_schema_is_current"
        );
    }
}
