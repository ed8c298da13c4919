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
    /// The key by which a document's `_id` or `_meta` names rows of the table. Empty if one of its places has
    /// no such key, or its tree keeps no `_meta`: then old rows must carry the columns themselves.
    pub key: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::ReplicaIdentity;
    use crate::schema::tree::{IndexName, RelationshipKind, Transform, Variant};
    use crate::schema::{ColumnPair, Link, Node, NodeId};

    fn table(id: u32, kind: TableKind) -> Arc<Table> {
        Arc::new(Table {
            id: RelationId(id),
            schema: "public".into(),
            name: format!("t{id}"),
            kind,
            owner: "o".into(),
            columns: vec![],
            primary_key: vec!["id".into()],
            identity: ReplicaIdentity::Default,
            identity_columns: vec!["id".into()],
            leaves: vec![],
            foreign_keys: vec![],
            row_security: false,
        })
    }

    fn node(table: &Arc<Table>, join: Option<Join>) -> Node {
        let link = join.map(|join| Link {
            parent: NodeId::ROOT,
            kind: RelationshipKind::OneToMany,
            variant: Variant::Object,
            join,
        });
        Node {
            path: "$".into(),
            table: Arc::clone(table),
            label: table.name.clone(),
            columns: vec![],
            key: table.primary_key.clone(),
            link,
            children: vec![],
            transform: Transform::default(),
            base_tables: vec![],
        }
    }

    fn tree(nodes: Vec<Node>, meta: bool) -> SchemaTree {
        SchemaTree {
            index: IndexName("i".into()),
            nodes,
            key: vec!["id".into()],
            filter: None,
            setting: None,
            mapping: None,
            pipeline: None,
            routing: None,
            plugins: vec![],
            meta,
            digest: String::new(),
            shape: String::new(),
        }
    }

    fn pair(upper: &str, lower: &str) -> Vec<ColumnPair> {
        vec![ColumnPair { upper: upper.into(), lower: lower.into() }]
    }

    fn columns(followed: &Followed) -> Vec<&str> {
        followed.columns.iter().map(String::as_str).collect()
    }

    #[test]
    fn the_columns_that_join_upwards_are_followed_in_every_place() {
        let [root, child, through, view] = [
            (1, TableKind::Table),
            (2, TableKind::Table),
            (3, TableKind::Table),
            (4, TableKind::View),
        ]
        .map(|(id, kind)| table(id, kind));
        let over = Join::Through {
            table: Arc::clone(&through),
            upper: pair("id", "t1_id"),
            lower: pair("t2_code", "code"),
        };
        let nodes = vec![
            node(&root, None),
            node(&child, Some(Join::Direct(pair("id", "t1_id")))),
            node(&child, Some(over)),
            node(&view, Some(Join::Direct(pair("id", "t1_id")))),
        ];
        let followed = followed_tables(&[tree(nodes, true)]);
        assert_eq!(followed.len(), 3, "the view is followed by its base tables");
        let [root, child, through] = &followed[..] else { panic!("three") };
        assert_eq!(columns(root), ["id"]);
        assert_eq!(columns(child), ["code", "t1_id"]);
        assert_eq!(child.key, ["id", "code"], "each place names the row in its own way");
        assert_eq!((columns(through), &through.key[..]), (vec!["t1_id"], &["id".into()][..]));
    }

    #[test]
    fn without_meta_in_one_tree_the_table_cannot_be_searched() {
        let (root, child) = (table(1, TableKind::Table), table(2, TableKind::Table));
        let nodes =
            || vec![node(&root, None), node(&child, Some(Join::Direct(pair("id", "t1_id"))))];
        let followed = followed_tables(&[tree(nodes(), true), tree(nodes(), false)]);
        assert!(followed.iter().all(|table| table.key.is_empty()));
    }
}
