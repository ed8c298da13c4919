//! Which columns of a table's *old* rows lead to the documents they were part of. Pure.
//!
//! A change is followed upwards, so a row needs the columns that join it to the side nearer to the
//! root; the columns that its own children join to need not be known, as the row's documents are
//! rebuilt anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::postgres::{RelationId, Table, TableKind};
use crate::schema::{Join, SchemaTree};

/// A table whose changes are followed, over all its places in all trees.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The table.
    pub table: Arc<Table>,
    /// The columns that lead upwards; of a root, its key.
    pub columns: BTreeSet<String>,
    /// The key by which a document's `_meta` names rows of the table. Empty if one of its places has
    /// no such key, or its tree keeps no `_meta`: then old rows must carry the columns themselves.
    pub key: Vec<String>,
    /// Whether it is the root of a tree: an old row must name its document.
    pub root: bool,
    /// The indexes that it takes part in.
    pub indexes: BTreeSet<String>,
}

/// The tables of these trees that are followed, by oid. Views are followed by their base tables,
/// which have no place in a tree, and are left out.
pub fn followed_tables(trees: &[SchemaTree]) -> Vec<Followed> {
    let mut followed = BTreeMap::new();
    for tree in trees {
        follow_tree(tree, &mut followed);
    }
    followed.into_values().collect()
}

fn follow_tree(tree: &SchemaTree, followed: &mut BTreeMap<RelationId, Followed>) {
    for node in &tree.nodes {
        let place = |key: &[String]| Place { tree, key: key.to_vec() };
        match node.link.as_ref().map(|link| &link.join) {
            None => {
                place(&tree.key).add(&node.table, tree.key.iter(), followed);
                if let Some(entry) = followed.get_mut(&node.table.id) {
                    entry.root = true;
                }
            }
            Some(Join::Direct(pairs)) => {
                let columns = pairs.iter().map(|pair| &pair.lower);
                place(&node.key).add(&node.table, columns, followed);
            }
            Some(Join::Through { table, upper, lower }) => {
                let columns = upper.iter().map(|pair| &pair.lower);
                place(&table.primary_key).add(table, columns, followed);
                // `_meta` names rows of such a child by the columns that join it.
                let columns: Vec<_> = lower.iter().map(|pair| pair.lower.clone()).collect();
                place(&columns).add(&node.table, columns.iter(), followed);
            }
        }
    }
}

/// One place of a table in a tree.
struct Place<'a> {
    tree: &'a SchemaTree,
    key: Vec<String>,
}

impl Place<'_> {
    fn add<'c>(
        self,
        table: &Arc<Table>,
        columns: impl Iterator<Item = &'c String>,
        followed: &mut BTreeMap<RelationId, Followed>,
    ) {
        match table.kind {
            TableKind::Table | TableKind::Partitioned => {}
            TableKind::View | TableKind::MaterializedView | TableKind::Foreign => return,
        }
        let key = if self.tree.meta { self.key } else { Vec::new() };
        let entry = followed.entry(table.id).or_insert_with(|| Followed {
            table: Arc::clone(table),
            columns: BTreeSet::new(),
            key: key.clone(),
            root: false,
            indexes: BTreeSet::new(),
        });
        // Several places: the old row must name it in each of them.
        if key.is_empty() || entry.key.is_empty() {
            entry.key.clear();
        } else {
            let more: Vec<_> =
                key.into_iter().filter(|column| !entry.key.contains(column)).collect();
            entry.key.extend(more);
        }
        entry.columns.extend(columns.cloned());
        entry.indexes.insert(self.tree.index.to_string());
    }
}
