//! SQL over the key of a tree's root: columns, ranges, the user's condition. Pure.

use crate::postgres::Table;
use crate::postgres::sql::{extension_schema, quote_identifier, quote_literal};
use crate::schema::tree::SchemaTree;

/// The key that ends a range of `rows` rows behind `after`; no row: the range is the last.
pub fn range_end(tree: &SchemaTree, after: Option<&[Box<str>]>, rows: u32) -> String {
    let key = &tree.root().key;
    let order: Vec<String> =
        ordered_key(tree).iter().map(|name| ordered_column(&tree.root().table, name)).collect();
    debug_assert!(key.len() == tree.key.len(), "the key of `_id` is the root's key");
    format!(
        "select {} from {} c where true{} order by {} offset {} limit 1",
        key_columns(tree, "c"),
        tree.root().table.qualified(),
        bound(tree, after, ">"),
        order.join(", "),
        rows.saturating_sub(1),
    )
}

/// A key column as ranges compare it: an extension's type as text, since a row comparison cannot name
/// the operators of one of its columns.
fn ordered_column(table: &Table, name: &str) -> String {
    let as_text = table.column(name).and_then(extension_schema).map_or("", |_| "::text");
    format!("c.{}{as_text}", quote_identifier(name))
}

/// The columns of `_id`, in its order.
pub fn key_columns(tree: &SchemaTree, alias: &str) -> String {
    let columns: Vec<String> =
        tree.key.iter().map(|name| format!("{alias}.{}", quote_identifier(name))).collect();
    columns.join(", ")
}

/// The key columns in the order of the declared key: the order its index has.
fn ordered_key(tree: &SchemaTree) -> &[String] {
    let declared = &tree.root().key;
    if declared.len() == tree.key.len() { declared } else { &tree.key }
}

/// `and (key) operator (values)`; nothing for an open bound. Values are in the order of the tree's key.
pub fn bound(tree: &SchemaTree, key: Option<&[Box<str>]>, operator: &str) -> String {
    let Some(key) = key else { return String::new() };
    let names = ordered_key(tree);
    let table = &tree.root().table;
    let columns: Vec<String> = names.iter().map(|name| ordered_column(table, name)).collect();
    let values: Vec<String> = names
        .iter()
        .map(|name| {
            let at = tree.key.iter().position(|other| other == name).unwrap_or_default();
            let text = key.get(at).map_or("", |text| text);
            let type_name = table
                .column(name)
                .filter(|column| extension_schema(column).is_none())
                .map_or("text", |column| column.type_name.as_str());
            format!("{}::{type_name}", quote_literal(text))
        })
        .collect();
    format!(" and ({}) {operator} ({})", columns.join(", "), values.join(", "))
}

/// The user's condition sees the root's columns only, by their bare names.
pub fn filter(tree: &SchemaTree, word: &str) -> String {
    tree.filter.as_ref().map_or_else(String::new, |condition| {
        let columns: Vec<String> = tree
            .root()
            .table
            .columns
            .iter()
            .map(|column| {
                let name = quote_identifier(&column.name);
                format!("c.{name} as {name}")
            })
            .collect();
        format!(
            "{word} (select ({condition}\n) from (select {}) as {})",
            columns.join(", "),
            quote_identifier(&tree.root().table.name),
        )
    })
}
