//! The SQL that reads the rows of a document: one statement a node, rows flat and ordered by key.
//! Pure.
//!
//! Keys go in as arrays with an ordinal each, and the ordinal comes back with the row: equality is
//! the server's (`1.0 = 1.00`, `citext`), and the client finds the parent by a number. Statements are
//! sent by the simple protocol: values come back in the types' text output, the very form the WAL
//! has, and the planner sees how many keys there are.

use crate::document::layout::{Layout, NodeLayout};
use crate::plan::{KeyRange, RootKey};
use crate::postgres::sql::{JoinKeys, equals, operator, quote_identifier, unnest};
use crate::postgres::{Table, TableKind};
use crate::schema::key_sql::{bound, filter, key_columns};
use crate::schema::tree::{ColumnPair, Join, Link, Node, NodeId, SchemaTree};

/// Opens the snapshot in which a document's rows are read.
///
/// The tables are locked *before* the snapshot is taken: TRUNCATE and rewriting ALTER TABLE are not
/// MVCC-safe, a snapshot older than them would read an empty table. ACCESS SHARE needs SELECT only;
/// materialised views and foreign tables cannot be locked. The wait is shorter than the server's
/// `deadlock_timeout` (1 s): where a migration and we wait for each other, we give way, not it.
pub(crate) fn open_snapshot(tree: &SchemaTree) -> String {
    let lockable = |kind: TableKind| {
        matches!(kind, TableKind::Table | TableKind::Partitioned | TableKind::View)
    };
    let tables: Vec<String> = tree
        .tables()
        .iter()
        .filter(|table| lockable(table.kind))
        .map(|table| table.qualified())
        .collect();
    let lock = if tables.is_empty() {
        String::new()
    } else {
        format!(
            "set local lock_timeout = '500ms'; lock table {} in access share mode;",
            tables.join(", ")
        )
    };
    format!(
        "begin isolation level repeatable read read only; {lock} \
         select pg_catalog.pg_current_snapshot()"
    )
}

/// Root rows of these keys.
pub(crate) fn root_by_keys(tree: &SchemaTree, layout: &NodeLayout, keys: &[RootKey]) -> String {
    let root = tree.root();
    let columns = (0..tree.key.len())
        .map(|at| keys.iter().map(|key| key.0.get(at).cloned().unwrap_or_default()).collect())
        .collect();
    let keys = unnest(&root.table, tree.key.iter(), &JoinKeys { columns });
    format!(
        "select 0, {} from {keys} join {} c on {} {}",
        layout.select.join(", "),
        root.table.qualified(),
        equals((&root.table, &root.table), tree.key.iter().zip(&tree.key), "c"),
        filter(tree, "where"),
    )
}

/// Root rows of a key range.
pub(crate) fn root_by_range(tree: &SchemaTree, layout: &NodeLayout, range: &KeyRange) -> String {
    format!(
        "select 0, {} from {} c where true{}{} {}",
        layout.select.join(", "),
        tree.root().table.qualified(),
        bound(tree, range.after.as_ref().map(|key| &*key.0), ">"),
        bound(tree, range.upto.as_ref().map(|key| &*key.0), "<="),
        filter(tree, "and"),
    )
}

/// The keys of the root rows of a range: a range that cannot be read at once is read by key. Without
/// the user's condition, which may be what cannot be read.
pub(crate) fn keys_of_range(tree: &SchemaTree, range: &KeyRange) -> String {
    format!(
        "select {} from {} c where true{}{}",
        key_columns(tree, "c"),
        tree.root().table.qualified(),
        bound(tree, range.after.as_ref().map(|key| &*key.0), ">"),
        bound(tree, range.upto.as_ref().map(|key| &*key.0), "<="),
    )
}

/// Rows of a child of the given keys of its parents: ordinal of the key, then the SELECT list.
pub(crate) fn child_rows(
    tree: &SchemaTree,
    id: NodeId,
    layout: &Layout,
    keys: &JoinKeys,
) -> String {
    let node = tree.node(id);
    let (Some(link), Some(layout)) = (&node.link, layout.node(id)) else { return String::new() };
    let parent = tree.node(link.parent);
    let select = if layout.select.is_empty() {
        String::new()
    } else {
        format!(", {}", layout.select.join(", "))
    };
    let from = child_from(node, link, &parent.table, keys);
    format!("select k.n{select} from {from}{}", order_by(node))
}

fn child_from(node: &Node, link: &Link, parent: &Table, keys: &JoinKeys) -> String {
    let child = node.table.qualified();
    match &link.join {
        Join::Direct(pairs) => {
            let keys = unnest(parent, pairs.iter().map(|pair| &pair.upper), keys);
            let on = equals((parent, &node.table), sides(pairs), "c");
            format!("{keys} join {child} c on {on}")
        }
        Join::Through { table, upper, lower: below } => {
            let keys = unnest(parent, upper.iter().map(|pair| &pair.upper), keys);
            let pairs: Vec<String> = below
                .iter()
                .map(|pair| {
                    let (t, c) = (quote_identifier(&pair.upper), quote_identifier(&pair.lower));
                    let operator =
                        operator(table.column(&pair.upper), node.table.column(&pair.lower));
                    format!("t.{t} {operator} c.{c}")
                })
                .collect();
            format!(
                "{keys} join {} t on {} join {child} c on {}",
                table.qualified(),
                equals((parent, table), sides(upper), "t"),
                pairs.join(" and "),
            )
        }
    }
}

/// Arrays are ordered by the child's key, and `one_to_one` takes the lowest.
fn order_by(node: &Node) -> String {
    if node.key.is_empty() {
        return String::new();
    }
    let columns: Vec<String> =
        node.key.iter().map(|name| format!("c.{}", quote_identifier(name))).collect();
    format!(" order by {}", columns.join(", "))
}

fn sides(pairs: &[ColumnPair]) -> impl Iterator<Item = (&String, &String)> {
    pairs.iter().map(|pair| (&pair.upper, &pair.lower))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::fixtures::shop_tree;

    fn key(values: &[&str]) -> RootKey {
        RootKey(values.iter().map(|text| (*text).into()).collect())
    }

    fn child(entry: &str, values: &[&[&str]]) -> String {
        let tree = shop_tree(entry);
        let mut keys = JoinKeys { columns: vec![Vec::new(); values[0].len()] };
        for row in values {
            keys.push(row);
        }
        child_rows(&tree, NodeId(1), &Layout::of(&tree), &keys)
    }

    #[test]
    fn children_are_read_by_the_keys_of_their_parents() {
        let keys =
            r#"rows from (pg_catalog.unnest('{"1","2"}'::integer[])) with ordinality as k(v0, n)"#;
        let direct = r#"{"index": "i", "nodes": {"table": "product", "children": [{"table": "part",
            "columns": ["name"], "relationship": {"type": "one_to_many", "variant": "object"}}]}}"#;
        let through = r#"{"index": "i", "nodes": {"table": "product", "children": [{"table": "tag",
            "columns": ["id"], "relationship": {"type": "one_to_many", "variant": "object",
            "through_tables": ["product_tag"]}}]}}"#;
        let adjacency = r#"{"index": "i", "nodes": {"table": "part", "children": [{"table": "part",
            "label": "parts", "columns": ["id"],
            "relationship": {"type": "one_to_many", "variant": "scalar"}}]}}"#;
        for (entry, select, join) in [
            (
                direct,
                r#"c."name", c."id""#,
                r#"join "public"."part" c on k.v0 = c."product_id" order by c."id""#,
            ),
            (
                through,
                r#"c."id", t."product_id", t."tag_id""#,
                r#"join "public"."product_tag" t on k.v0 = t."product_id" join "public"."tag" c on t."tag_id" = c."id" order by c."id""#,
            ),
            (
                adjacency,
                r#"c."id""#,
                r#"join "public"."part" c on k.v0 = c."parent_id" order by c."id""#,
            ),
        ] {
            let expected = format!("select k.n, {select} from {keys} {join}");
            assert_eq!(child(entry, &[&["1"], &["2"]]), expected);
        }
    }

    #[test]
    fn a_composite_join_has_an_array_for_each_column() {
        let composite = r#"{"index": "i", "nodes": {"table": "stock", "children": [
            {"table": "delivery", "columns": ["id"],
             "relationship": {"type": "one_to_many", "variant": "object"}}]}}"#;
        assert_eq!(
            child(composite, &[&["o'k", "2020-01-01"]]),
            r#"select k.n, c."id" from rows from (pg_catalog.unnest('{"o''k"}'::text[]), pg_catalog.unnest('{"2020-01-01"}'::date[])) with ordinality as k(v0, v1, n) join "public"."delivery" c on k.v0 = c."region" and k.v1 = c."at" order by c."id""#
        );
    }

    #[test]
    fn roots_are_read_by_key_or_range_and_only_where_the_condition_holds() {
        let tree = shop_tree(
            r#"{"index": "s", "where": "amount > 0 -- all", "nodes": {"table": "stock",
                "columns": ["amount"]}}"#,
        );
        let layout = Layout::of(&tree);
        let root = layout.node(NodeId::ROOT).unwrap();
        let condition = "(select (amount > 0 -- all\n) from (select c.\"region\" as \"region\", \
             c.\"at\" as \"at\", c.\"amount\" as \"amount\") as \"stock\")";
        let select = r#"select 0, c."amount", c."at", c."region" from"#;
        // The key of `_id` is alphabetical, ranges follow the declared key.
        assert_eq!(
            root_by_keys(&tree, root, &[key(&["2020-01-01", "north"])]),
            format!(
                r#"{select} rows from (pg_catalog.unnest('{{"2020-01-01"}}'::date[]), pg_catalog.unnest('{{"north"}}'::text[])) with ordinality as k(v0, v1, n) join "public"."stock" c on k.v0 = c."at" and k.v1 = c."region" where {condition}"#
            )
        );
        let table = r#""public"."stock" c where true"#;
        let after = r#" and (c."region", c."at") > ('north'::text, '2020-01-01'::date)"#;
        let upto = r#" and (c."region", c."at") <= ('south'::text, '2021-01-01'::date)"#;
        let (low, high) = (key(&["2020-01-01", "north"]), key(&["2021-01-01", "south"]));
        for (range, bounds) in [
            (KeyRange { after: None, upto: None }, String::new()),
            (KeyRange { after: Some(low.clone()), upto: None }, after.to_owned()),
            (KeyRange { after: Some(low), upto: Some(high) }, format!("{after}{upto}")),
        ] {
            let rows = root_by_range(&tree, root, &range);
            assert_eq!(rows, format!("{select} {table}{bounds} and {condition}"));
            let keys = keys_of_range(&tree, &range);
            assert_eq!(keys, format!(r#"select c."at", c."region" from {table}{bounds}"#));
        }
    }
}
