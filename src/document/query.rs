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
