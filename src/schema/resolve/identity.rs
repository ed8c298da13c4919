//! What the replica identities of a tree's tables have to cover. Pure.
//!
//! The root's must cover its key, else a deleted or renamed document could not be told. Without
//! `_meta` the index cannot be asked which documents held a row, so the identity of every other table
//! must cover the columns that lead from its rows towards the root: a row's former parent is found
//! by its old values alone. Columns that lead away from the root need no old values, since the roots
//! above a row do not depend on them.

use crate::postgres::{Table, TableKind};
use crate::schema::problem::{Problems, listed, member};
use crate::schema::tree::{ColumnPair, Join, NodeId, SchemaTree};

/// Reports the identities that are too small.
pub(super) fn check(tree: &SchemaTree, problems: &mut Problems) {
    let root = tree.root();
    if !covers(&root.table, &tree.key) {
        let what = format!(
            "the replica identity of {} does not cover its key {}",
            root.table.qualified(),
            listed(tree.key.iter().map(String::as_str))
        );
        problems.add_with_hint(root.path.as_str(), what, remedy(&root.table, &tree.key));
    }
    if tree.meta {
        return;
    }
    for id in tree.ids().filter(|id| *id != NodeId::ROOT) {
        let node = tree.node(id);
        let Some(link) = &node.link else { continue };
        let path = member(&node.path, "relationship");
        match &link.join {
            Join::Direct(pairs) => check_join(&path, &node.table, pairs, problems),
            Join::Through { table, upper, lower } => {
                check_join(&path, table, upper, problems);
                check_join(&path, &node.table, lower, problems);
            }
        }
    }
}

/// Checks the table on the lower side of a join.
fn check_join(path: &str, table: &Table, pairs: &[ColumnPair], problems: &mut Problems) {
    let columns: Vec<String> = pairs.iter().map(|pair| pair.lower.clone()).collect();
    if covers(table, &columns) {
        return;
    }
    let what = format!(
        "without `meta` the replica identity of {} has to cover {}",
        table.qualified(),
        listed(columns.iter().map(String::as_str))
    );
    problems.add_with_hint(path, what, remedy(table, &columns));
}

/// Whether a table that has an identity covers the columns; views have none.
fn covers(table: &Table, columns: &[String]) -> bool {
    match table.kind {
        TableKind::Table | TableKind::Partitioned => table.identity_covers(columns),
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => true,
    }
}

/// The statements that make the identity large enough.
fn remedy(table: &Table, columns: &[String]) -> String {
    let generated = |name: &String| table.column(name).is_some_and(|column| column.generated);
    if columns.iter().any(generated) {
        return "a generated column is in no change: join by the columns it is made of".to_owned();
    }
    let own = (table.kind != TableKind::Partitioned).then(|| table.qualified());
    // A partition's rows follow the identity of the partition, whatever the root names.
    let leaves = table.leaves.iter().map(|leaf| leaf.name.clone());
    let statements: Vec<String> = own
        .into_iter()
        .chain(leaves)
        .take(5)
        .map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"))
        .collect();
    let more = if table.leaves.len() > 5 { " and so on for every partition" } else { "" };
    format!("run: {}{more}", statements.join(" "))
}
