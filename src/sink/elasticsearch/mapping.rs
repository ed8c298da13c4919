//! What the fields of an index are: the user's mapping, and an explicit one from the column's type
//! for every field it leaves out. Pure.
//!
//! The server would guess from the first value it sees: `5` makes a `long`, and a later `5.5` is then
//! found by range queries as 5.
//!
//! Fields of `json` columns, composites and types of extensions that can render as objects are left
//! to the server: only it sees what is in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::postgres::Column;
use crate::schema::tree::{
    Join, Link, Node, NodeId, OutputColumn, SchemaTree, UserMapping, Variant,
};

/// Longer strings are found by their words only, as in the server's own guess.
const KEYWORD_LIMIT: u32 = 256;

/// Takes what we render: `2020-01-02`, `2020-01-02T03:04:05.678+00:00`, years above 9999 (which the
/// strict form refuses), and the number of milliseconds in queries, as the server's own guess does.
/// `infinity` and years BC are in the document, but not searchable as dates.
const DATE_FORMAT: &str = "strict_date_optional_time||date_optional_time||epoch_millis";

/// Where the mapping of fields comes from that the schema file does not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldMapping {
    /// From the columns' types.
    FromColumns,
    /// From the first value the server sees, as PGSync leaves it.
    Dynamic,
}

/// The `mappings` object of an entry's index; `stamp` is kept in its `_meta` as `pgsyncd`.
pub fn mappings(tree: &SchemaTree, fields: FieldMapping, stamp: Json) -> Json {
    let mut mappings = match &tree.mapping {
        Some(UserMapping::Whole(Json::Object(whole))) => whole.clone(),
        Some(UserMapping::Properties(properties)) => object([("properties", properties.clone())]),
        Some(UserMapping::Whole(_)) | None => Map::new(),
    };
    let ours = match fields {
        FieldMapping::FromColumns if leaves_fields_to_us(&mappings) => {
            mappings.entry("date_detection").or_insert(Json::Bool(false));
            fields_of(tree, NodeId::ROOT, FieldMapping::FromColumns)
        }
        // What the user says of new fields, in templates or by `dynamic`, is not overruled.
        FieldMapping::FromColumns => Map::new(),
        FieldMapping::Dynamic => fields_of(tree, NodeId::ROOT, FieldMapping::Dynamic),
    };
    if let Some(properties) = properties_of(&mut mappings) {
        merge_under(properties, ours);
        if tree.meta {
            properties.insert("_meta".into(), meta_fields(tree));
        }
    }
    let notes = mappings.entry("_meta").or_insert_with(|| json!({}));
    if let Json::Object(notes) = notes {
        notes.insert("pgsyncd".into(), stamp);
    }
    Json::Object(mappings)
}

/// How many fields a `mappings` object declares, counted as the server's limit counts them.
pub fn count_fields(mappings: &Json) -> usize {
    ["properties", "fields"]
        .iter()
        .filter_map(|name| mappings.get(name)?.as_object())
        .flat_map(Map::values)
        .map(|field| 1 + count_fields(field))
        .sum()
}

/// The mapping for a column of that type; `None` leaves it to the server.
pub fn field_of(column: &Column) -> Option<Json> {
    let mut name = column.type_name.as_str();
    // Elasticsearch has no arrays: each element is a value of the field.
    while let Some(element) = name.strip_suffix("[]") {
        name = element;
    }
    let date = || json!({"type": "date", "format": DATE_FORMAT, "ignore_malformed": true});
    match name {
        "smallint" | "integer" | "bigint" => {
            Some(json!({"type": "long", "ignore_malformed": true}))
        }
        "numeric" | "real" | "double precision" => {
            Some(json!({"type": "double", "ignore_malformed": true}))
        }
        "date" | "timestamp without time zone" | "timestamp with time zone" => Some(date()),
        "boolean" => Some(json!({"type": "boolean"})),
        "bytea" => Some(json!({"type": "keyword", "index": false, "doc_values": false})),
        "json" | "jsonb" | "record" => None,
        // A type outside of pg_catalog may render as an object: hstore and geometry do.
        name if name.contains('.') && !matches!(column.type_category, 'E' | 'S') => None,
        _ if column.type_category == 'C' => None,
        _ => Some(text()),
    }
}

fn text() -> Json {
    json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": KEYWORD_LIMIT}}})
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Map<String, Json> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn leaves_fields_to_us(mappings: &Map<String, Json>) -> bool {
    let templates = mappings.get("dynamic_templates").and_then(Json::as_array);
    let dynamic = mappings.get("dynamic").is_none_or(|dynamic| is_true(dynamic));
    templates.is_none_or(Vec::is_empty) && dynamic
}

fn is_true(value: &Json) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// The `properties` of a node's object.
fn fields_of(tree: &SchemaTree, id: NodeId, fields: FieldMapping) -> Map<String, Json> {
    let node = tree.node(id);
    let mut ours = Map::new();
    if fields == FieldMapping::FromColumns {
        for output in &node.columns {
            put(&mut ours, renamed(node, &output.field), column_field(node, output));
        }
    }
    for child in &node.children {
        let child = (*child, tree.node(*child));
        put(&mut ours, renamed(node, &child.1.label), child_field(tree, child, fields));
    }
    for (source, destination) in &node.transform.moves {
        let moved = take_path(&mut ours, source);
        take_path(&mut ours, destination);
        if let Some(moved) = moved {
            put_path(&mut ours, destination, moved);
        }
    }
    if fields == FieldMapping::FromColumns {
        for rule in &node.transform.concat {
            ours.insert(rule.destination.clone(), text());
        }
    }
    if tree.mapping.is_some() {
        return ours;
    }
    let mut properties: Map<String, Json> = node.transform.mapping.clone().into_iter().collect();
    merge_under(&mut properties, ours);
    properties
}

fn put(fields: &mut Map<String, Json>, name: String, field: Option<Json>) {
    match field {
        Some(field) => fields.insert(name, field),
        None => fields.remove(&name),
    };
}

fn renamed(node: &Node, field: &str) -> String {
    let rules = node.transform.rename.as_ref();
    let renamed = rules.and_then(|rules| rules.get(field)).and_then(Json::as_str);
    renamed.unwrap_or(field).to_owned()
}

fn column_field(node: &Node, output: &OutputColumn) -> Option<Json> {
    match &output.path {
        Some(path) => path.0.last().filter(|step| step.as_text).map(|_| text()),
        None => field_of(node.table.column(&output.column)?),
    }
}

fn child_field(
    tree: &SchemaTree,
    (id, child): (NodeId, &Node),
    fields: FieldMapping,
) -> Option<Json> {
    if child.link.as_ref().is_some_and(|link| link.variant == Variant::Scalar) {
        return scalar_field(tree, child, fields);
    }
    let properties = fields_of(tree, id, fields);
    let worth_it = fields == FieldMapping::FromColumns || !properties.is_empty();
    worth_it.then(|| json!({ "properties": properties }))
}

/// A scalar child has no fields of its own: its rule for the column is about the values.
fn scalar_field(tree: &SchemaTree, child: &Node, fields: FieldMapping) -> Option<Json> {
    let output = child.columns.first()?;
    let rules = &child.transform.mapping;
    let own = rules.get(&renamed(child, &output.field)).or_else(|| rules.get(&output.field));
    match (own, fields) {
        (Some(own), _) if tree.mapping.is_none() => Some(own.clone()),
        (_, FieldMapping::FromColumns) => column_field(child, output),
        (_, FieldMapping::Dynamic) => None,
    }
}

/// Adds `ours` to the user's fields; where both have a field, the user's stands, and ours is added
/// below it if it is an object whose new fields the user has not restricted.
fn merge_under(user: &mut Map<String, Json>, ours: Map<String, Json>) {
    for (name, field) in ours {
        let Some(existing) = user.get_mut(&name) else {
            user.insert(name, field);
            continue;
        };
        if let (Json::Object(existing), Some(Json::Object(below))) =
            (existing, field.get("properties").cloned())
            && takes_fields(existing)
            && let Some(properties) = properties_of(existing)
        {
            merge_under(properties, below);
        }
    }
}

fn takes_fields(field: &Map<String, Json>) -> bool {
    let kind = field.get("type").and_then(Json::as_str);
    let enabled = field.get("enabled").is_none_or(is_true);
    let dynamic = field.get("dynamic").is_none_or(is_true);
    kind.is_none_or(|kind| matches!(kind, "object" | "nested")) && enabled && dynamic
}

/// The `properties` of an object, made if they are missing; `None` if the user wrote something else
/// there, which the server will refuse with its reason.
fn properties_of(object: &mut Map<String, Json>) -> Option<&mut Map<String, Json>> {
    object.entry("properties").or_insert_with(|| json!({})).as_object_mut()
}

fn take_path(fields: &mut Map<String, Json>, path: &str) -> Option<Json> {
    match path.split_once('.') {
        None => fields.remove(path),
        Some((first, rest)) => {
            let below = fields.get_mut(first)?.get_mut("properties")?.as_object_mut()?;
            take_path(below, rest)
        }
    }
}

fn put_path(fields: &mut Map<String, Json>, path: &str, field: Json) {
    match path.split_once('.') {
        None => {
            fields.insert(path.to_owned(), field);
        }
        Some((first, rest)) => {
            let above = fields.entry(first).or_insert_with(|| json!({}));
            if let Json::Object(above) = above
                && takes_fields(above)
                && let Some(properties) = properties_of(above)
            {
                put_path(properties, rest, field);
            }
        }
    }
}

/// `_meta.<table>.<column>`, all keywords: rows are looked up by them, so nothing is guessed, and
/// nothing else is searchable there.
fn meta_fields(tree: &SchemaTree) -> Json {
    let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for id in tree.ids() {
        let node = tree.node(id);
        let columns = tables.entry(&node.table.name).or_default();
        columns.extend(node.key.iter().map(String::as_str));
        if id == NodeId::ROOT {
            columns.extend(tree.key.iter().map(String::as_str));
        }
        if let Some(Link { join: Join::Through { table, upper, lower }, .. }) = &node.link {
            columns.extend(lower.iter().map(|pair| pair.lower.as_str()));
            let through = tables.entry(&table.name).or_default();
            through.extend(table.primary_key.iter().map(String::as_str));
            through.extend(upper.iter().map(|pair| pair.lower.as_str()));
            through.extend(lower.iter().map(|pair| pair.upper.as_str()));
        }
    }
    let keywords = |columns: BTreeSet<&str>| -> Map<String, Json> {
        columns.into_iter().map(|column| (column.to_owned(), json!({"type": "keyword"}))).collect()
    };
    let tables: Map<String, Json> = tables
        .into_iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(table, columns)| (table.to_owned(), json!({ "properties": keywords(columns) })))
        .collect();
    json!({ "dynamic": false, "properties": tables })
}
