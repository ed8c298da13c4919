//! From a row in the middle of a tree to the keys of the documents above it, by SQL. The statements
//! are pure; [`look_up`] runs them.

use std::fmt::Write as _;

use futures_util::{Stream, TryStreamExt};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::plan::sides::Values;
use crate::plan::{EntryId, PlanError, RootKey};
use crate::postgres::Table;
use crate::postgres::sql::{JoinKeys, equals, operator, quote_identifier, unnest};
use crate::schema::tree::{ColumnPair, Join, Link, NodeId, SchemaTree};

/// A place in a tree to climb from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lookup {
    pub(crate) entry: EntryId,
    pub(crate) node: NodeId,
    pub(crate) start: Start,
}

/// What is known of the row at a [`Lookup`]'s node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// The columns that join it (or its through row) to its parent.
    Upper,
    /// The columns that join it to its through row.
    Lower,
    /// Its key.
    Row,
    /// The key of its through row.
    ThroughRow,
}

/// Streams the keys of the roots above the given values.
pub(crate) async fn look_up(
    client: &Client,
    tree: &SchemaTree,
    lookup: &Lookup,
    values: &[Values],
) -> Result<impl Stream<Item = Result<RootKey, PlanError>> + use<>, PlanError> {
    let columns = tree.key.len();
    let sql = roots_sql(tree, lookup, values);
    let stream = client.simple_query_raw(&sql).await.map_err(PlanError::LookUp)?;
    Ok(stream
        .map_err(PlanError::LookUp)
        .try_filter_map(move |message| std::future::ready(Ok(key_of(&message, columns)))))
}

fn key_of(message: &SimpleQueryMessage, columns: usize) -> Option<RootKey> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let values: Option<Vec<Box<str>>> =
        (0..columns).map(|at| row.try_get(at).ok().flatten().map(Box::from)).collect();
    values.map(|values| RootKey(values.into()))
}

/// `select distinct <root key> from <values> join … join <root>`.
fn roots_sql(tree: &SchemaTree, lookup: &Lookup, values: &[Values]) -> String {
    let node = tree.node(lookup.node);
    let mut from = String::new();
    if let Some(link) = &node.link {
        from = first_step(tree, lookup, link, values);
        let mut above = link.parent;
        while let Some(link) = &tree.node(above).link {
            join_parent(tree, above, link, &mut from);
            above = link.parent;
        }
    }
    let columns: Vec<String> =
        tree.key.iter().map(|name| format!("n0.{}", quote_identifier(name))).collect();
    format!("select distinct {} from {from}", columns.join(", "))
}

fn first_step(tree: &SchemaTree, lookup: &Lookup, link: &Link, values: &[Values]) -> String {
    let id = lookup.node;
    let node = tree.node(id);
    match (lookup.start, &link.join) {
        (Start::Row, _) => {
            let mut from = rows_by(&node.table, &node.key, &alias(id), values);
            join_parent(tree, id, link, &mut from);
            from
        }
        (Start::ThroughRow, Join::Through { table, upper, .. }) => {
            let mut from = rows_by(table, &table.primary_key, &through(id), values);
            join_upper(tree, link.parent, (table, &through(id)), upper, &mut from);
            from
        }
        (Start::Lower, Join::Through { table, upper, lower }) => {
            let columns = lower.iter().map(|pair| &pair.lower);
            let keys = unnest(&node.table, columns, &join_keys(values));
            let pairs = lower.iter().map(|pair| (&pair.lower, &pair.upper));
            let on = equals((&node.table, table), pairs, &through(id));
            let mut from = format!("{keys} join {} {} on {on}", table.qualified(), through(id));
            join_upper(tree, link.parent, (table, &through(id)), upper, &mut from);
            from
        }
        (Start::Upper | Start::Lower | Start::ThroughRow, join) => {
            let (table, pairs) = match join {
                Join::Direct(pairs) => (&node.table, pairs),
                Join::Through { table, upper, .. } => (table, upper),
            };
            let keys = unnest(table, pairs.iter().map(|pair| &pair.lower), &join_keys(values));
            let parent = tree.node(link.parent);
            let pairs = pairs.iter().map(|pair| (&pair.lower, &pair.upper));
            let on = equals((table, &parent.table), pairs, &alias(link.parent));
            format!("{keys} join {} {} on {on}", parent.table.qualified(), alias(link.parent))
        }
    }
}

fn rows_by(table: &Table, key: &[String], alias: &str, values: &[Values]) -> String {
    let keys = unnest(table, key.iter(), &join_keys(values));
    let on = equals((table, table), key.iter().zip(key), alias);
    format!("{keys} join {} {alias} on {on}", table.qualified())
}

/// Appends the join from a node (already in `from`) to its parent.
fn join_parent(tree: &SchemaTree, id: NodeId, link: &Link, from: &mut String) {
    match &link.join {
        Join::Direct(pairs) => {
            join_upper(tree, link.parent, (&tree.node(id).table, &alias(id)), pairs, from);
        }
        Join::Through { table, upper, lower } => {
            let node = &tree.node(id).table;
            let on: Vec<String> = lower
                .iter()
                .map(|pair| {
                    let (t, c) = (quote_identifier(&pair.upper), quote_identifier(&pair.lower));
                    let operator = operator(table.column(&pair.upper), node.column(&pair.lower));
                    format!("{}.{t} {operator} {}.{c}", through(id), alias(id))
                })
                .collect();
            append_join(&table.qualified(), &through(id), &on, from);
            join_upper(tree, link.parent, (table, &through(id)), upper, from);
        }
    }
}

fn join_upper(
    tree: &SchemaTree,
    parent: NodeId,
    (lower, below): (&Table, &str),
    pairs: &[ColumnPair],
    from: &mut String,
) {
    let table = &tree.node(parent).table;
    let on: Vec<String> = pairs
        .iter()
        .map(|pair| {
            let (u, l) = (quote_identifier(&pair.upper), quote_identifier(&pair.lower));
            let operator = operator(table.column(&pair.upper), lower.column(&pair.lower));
            format!("{}.{u} {operator} {below}.{l}", alias(parent))
        })
        .collect();
    append_join(&table.qualified(), &alias(parent), &on, from);
}

fn append_join(table: &str, alias: &str, on: &[String], from: &mut String) {
    // Writing to a string cannot fail.
    let written = write!(from, " join {table} {alias} on {}", on.join(" and "));
    debug_assert!(written.is_ok());
}

fn join_keys(values: &[Values]) -> JoinKeys {
    let columns = values.first().map_or(0, |first| first.len());
    let column = |at: usize| values.iter().filter_map(|row| row.get(at).cloned()).collect();
    JoinKeys { columns: (0..columns).map(column).collect() }
}

fn alias(id: NodeId) -> String {
    format!("n{}", id.0)
}

fn through(id: NodeId) -> String {
    format!("t{}", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::fixtures::{shop_tree, table, tree_of};

    fn sql(tree: &SchemaTree, node: usize, start: Start, values: &[&[&str]]) -> String {
        let values: Vec<Values> =
            values.iter().map(|row| row.iter().map(|text| (*text).into()).collect()).collect();
        roots_sql(tree, &Lookup { entry: EntryId(0), node: NodeId(node), start }, &values)
    }

    #[test]
    fn every_start_leads_to_the_keys_of_the_root() {
        let tree = shop_tree(
            r#"{"index": "c", "nodes": {"table": "customer", "children": [
                {"table": "product", "relationship": {"type": "one_to_many", "variant": "object"},
                 "children": [{"table": "tag", "relationship": {"type": "one_to_many",
                    "variant": "object", "through_tables": ["product_tag"]}}]}]}}"#,
        );
        let keys =
            "rows from (pg_catalog.unnest('{\"1\",\"2\"}'::integer[])) with ordinality as k(v0, n)";
        let product = r#" join "public"."product" n1 on n1."id" = t2."product_id""#;
        let customer = r#" join "public"."customer" n0 on n0."id" = n1."customer_id""#;
        for (node, start, expected) in [
            (1, Start::Upper, format!(r#"{keys} join "public"."customer" n0 on k.v0 = n0."id""#)),
            (
                1,
                Start::Row,
                format!(r#"{keys} join "public"."product" n1 on k.v0 = n1."id"{customer}"#),
            ),
            (
                2,
                Start::Upper,
                format!(r#"{keys} join "public"."product" n1 on k.v0 = n1."id"{customer}"#),
            ),
            (
                2,
                Start::Lower,
                format!(
                    r#"{keys} join "public"."product_tag" t2 on k.v0 = t2."tag_id"{product}{customer}"#
                ),
            ),
            (
                2,
                Start::Row,
                format!(
                    r#"{keys} join "public"."tag" n2 on k.v0 = n2."id" join "public"."product_tag" t2 on t2."tag_id" = n2."id"{product}{customer}"#
                ),
            ),
        ] {
            let expected = format!(r#"select distinct n0."id" from {expected}"#);
            assert_eq!(sql(&tree, node, start, &[&["1"], &["2"]]), expected, "{node} {start:?}");
        }
        let through = sql(&tree, 2, Start::ThroughRow, &[&["1", "2"]]);
        let expected = r#"as k(v0, v1, n) join "public"."product_tag" t2 on k.v0 = t2."product_id" and k.v1 = t2."tag_id" join "public"."product" n1"#;
        assert!(through.contains(expected), "{through}");
    }

    #[test]
    fn types_of_extensions_compare_by_their_own_equality_among_themselves_only() {
        let tables = |below: &str| {
            vec![table(1, "a", "id*:citext"), table(2, "b", &format!("id* a:{below}"))]
        };
        let entry = r#"{"index": "a", "nodes": {"table": "a", "children": [{"table": "b",
            "relationship": {"type": "one_to_many", "variant": "object",
            "foreign_key": {"parent": ["id"], "child": ["a"]}}}]}}"#;
        for (below, expected) in
            [("citext", r#"k.v0 operator(public.=) n0."id""#), ("text", r#"k.v0 = n0."id""#)]
        {
            let sql = sql(&tree_of(tables(below), entry), 1, Start::Upper, &[&["x"]]);
            assert!(sql.ends_with(expected), "{sql}");
        }
    }
}
