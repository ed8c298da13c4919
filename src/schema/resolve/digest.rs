//! Digests of an entry and of its catalog's part: a change of either re-indexes the entry. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::label_of;
use crate::postgres::Table;
use crate::schema::databases::index_of;
use crate::schema::raw::{RawEntry, RawNode};
use crate::schema::tree::{ColumnPair, Join, Link, Node, SchemaTree};

/// SHA-256 (hex) of the entry as canonical JSON: keys sorted, defaults filled in.
pub(super) fn digest_of(entry: &RawEntry, connection_database: &str) -> String {
    let mut filled = entry.clone();
    filled.index = Some(index_of(entry, connection_database).to_owned());
    filled.database = Some(entry.database.as_deref().unwrap_or(connection_database).to_owned());
    fill_labels(&mut filled.nodes);
    let mut text = String::new();
    // Strings, lists and maps with string keys: serialising them cannot fail.
    let value = serde_json::to_value(&filled).unwrap_or_default();
    write_canonical(&value, &mut text);
    hex_of(&text)
}

fn fill_labels(node: &mut RawNode) {
    node.label = Some(label_of(node).to_owned());
    node.children.iter_mut().for_each(fill_labels);
}

/// SHA-256 (hex) of what the catalog contributes to the documents.
pub(super) fn shape_of(tree: &SchemaTree) -> String {
    let nodes: Vec<Json> = tree.nodes.iter().map(|node| shape_of_node(tree, node)).collect();
    let mut text = String::new();
    write_canonical(&json!({ "key": tree.key, "nodes": nodes }), &mut text);
    hex_of(&text)
}

fn shape_of_node(tree: &SchemaTree, node: &Node) -> Json {
    let own = node.columns.iter().map(|column| column.column.as_str());
    let key = node.key.iter().map(String::as_str);
    let upward = node.link.iter().flat_map(|link| match &link.join {
        Join::Direct(pairs) | Join::Through { lower: pairs, .. } => pairs,
    });
    let lower = upward.map(|pair| pair.lower.as_str());
    // The parent's side of each child's join belongs to this table.
    let links = node.children.iter().filter_map(|child| tree.node(*child).link.as_ref());
    let downward = links.flat_map(|link| match &link.join {
        Join::Direct(pairs) | Join::Through { upper: pairs, .. } => pairs,
    });
    let upper = downward.map(|pair| pair.upper.as_str());
    let fields: Vec<&str> = node.columns.iter().map(|column| column.field.as_str()).collect();
    let bases: Vec<Json> =
        node.base_tables.iter().map(|table| shape_of_table(table, [].into_iter())).collect();
    json!({
        "table": shape_of_table(&node.table, own.chain(key).chain(lower).chain(upper)),
        "fields": fields,
        "key": node.key,
        "join": node.link.as_ref().map(shape_of_link),
        "base_tables": bases,
    })
}

fn shape_of_link(link: &Link) -> Json {
    match &link.join {
        Join::Direct(pairs) => json!({ "pairs": shape_of_pairs(pairs) }),
        Join::Through { table, upper, lower } => {
            let joining = upper.iter().map(|pair| pair.lower.as_str());
            let joined = lower.iter().map(|pair| pair.upper.as_str());
            // The through table's own key is part of `_meta`.
            let key = table.primary_key.iter().map(String::as_str);
            json!({
                "through": shape_of_table(table, joining.chain(joined).chain(key)),
                "key": table.primary_key,
                "upper": shape_of_pairs(upper),
                "lower": shape_of_pairs(lower),
            })
        }
    }
}

fn shape_of_pairs(pairs: &[ColumnPair]) -> Vec<[&str; 2]> {
    pairs.iter().map(|pair| [pair.upper.as_str(), pair.lower.as_str()]).collect()
}

/// Name, oid, the columns that are used with their types, and the partitions of a table.
fn shape_of_table<'a>(table: &Table, used: impl Iterator<Item = &'a str>) -> Json {
    let types: BTreeMap<&str, &str> =
        used.filter_map(|name| Some((name, table.column(name)?.type_name.as_str()))).collect();
    let mut leaves: Vec<(u32, &str)> =
        table.leaves.iter().map(|leaf| (leaf.id.0, leaf.name.as_str())).collect();
    leaves.sort_unstable();
    json!({ "name": table.qualified(), "oid": table.id.0, "types": types, "leaves": leaves })
}

/// Writes JSON without blanks, the keys of every object sorted.
fn write_canonical(value: &Json, out: &mut String) {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<&String, &Json> = map.iter().collect();
            out.push('{');
            for (position, (key, inner)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(inner, out);
            }
            out.push('}');
        }
        Json::Array(elements) => {
            out.push('[');
            for (position, inner) in elements.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(inner, out);
            }
            out.push(']');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

fn hex_of(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}
