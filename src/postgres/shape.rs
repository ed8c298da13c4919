//! What changed in the catalog between two looks at it, for given tables. Pure.
//!
//! ATTACH, DETACH and DROP of a partition, ADD COLUMN with a default and renames send no row message
//! through the WAL, so the catalog is compared every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::postgres::publication::{PublicationState, is_publishable};
use crate::postgres::{Catalog, RelationId, Table};

/// A table that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Its oid.
    pub id: RelationId,
    /// `schema.table` as it was.
    pub name: String,
    /// What changed; never empty.
    pub changes: Vec<ShapeChange>,
}

/// One difference between a table as it was and as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeChange {
    /// It is gone (or was dropped and made again: then it has another oid).
    Dropped,
    /// It has another name or schema.
    Renamed {
        /// `schema.table` as it is.
        to: String,
    },
    /// Another kind of relation stands there.
    Kind,
    /// A column came.
    ColumnAdded(String),
    /// A column went.
    ColumnDropped(String),
    /// A column has another name.
    ColumnRenamed {
        /// As it was.
        from: String,
        /// As it is.
        to: String,
    },
    /// A column has another type, or became or ceased to be generated.
    ColumnType(String),
    /// `NOT NULL` was set or dropped.
    ColumnNull(String),
    /// The primary key.
    PrimaryKey,
    /// The foreign keys.
    ForeignKeys,
    /// The replica identity, its own or a partition's.
    Identity,
    /// A partition came.
    LeafAdded(String),
    /// A partition went.
    LeafRemoved(String),
    /// Row-level security was enabled or disabled.
    RowSecurity,
}

impl ShapeChange {
    /// Whether documents may hold something else by this change alone. If not, it changes only how
    /// changes are followed, or who may read.
    pub fn touches_documents(&self) -> bool {
        match self {
            Self::Dropped
            | Self::Renamed { .. }
            | Self::Kind
            | Self::ColumnAdded(_)
            | Self::ColumnDropped(_)
            | Self::ColumnRenamed { .. }
            | Self::ColumnType(_)
            | Self::PrimaryKey
            | Self::ForeignKeys
            | Self::LeafAdded(_)
            | Self::LeafRemoved(_) => true,
            Self::ColumnNull(_) | Self::Identity | Self::RowSecurity => false,
        }
    }
}

/// Which of these tables changed, in their order. `new` needs to hold these tables only.
pub fn changed_tables(old: &[Arc<Table>], new: &Catalog) -> Vec<TableChange> {
    let by_id: BTreeMap<RelationId, &Arc<Table>> =
        new.tables().map(|table| (table.id, table)).collect();
    old.iter()
        .filter_map(|table| {
            let changes = match by_id.get(&table.id) {
                Some(present) => differences(table, present),
                None => vec![ShapeChange::Dropped],
            };
            let name = format!("{}.{}", table.schema, table.name);
            (!changes.is_empty()).then_some(TableChange { id: table.id, name, changes })
        })
        .collect()
}

/// The tables whose changes the publication does not carry; all of them if it is gone.
pub fn unpublished_tables<'a>(
    tables: &'a [Arc<Table>],
    publication: Option<&PublicationState>,
) -> Vec<&'a Arc<Table>> {
    let carried = |table: &Table| publication.is_some_and(|state| state.contains(table));
    tables.iter().filter(|table| is_publishable(table) && !carried(table)).collect()
}

fn differences(old: &Table, new: &Table) -> Vec<ShapeChange> {
    let mut changes = Vec::new();
    if (&old.schema, &old.name) != (&new.schema, &new.name) {
        changes.push(ShapeChange::Renamed { to: format!("{}.{}", new.schema, new.name) });
    }
    if old.kind != new.kind {
        changes.push(ShapeChange::Kind);
    }
    compare_columns(old, new, &mut changes);
    if old.primary_key != new.primary_key {
        changes.push(ShapeChange::PrimaryKey);
    }
    if old.foreign_keys != new.foreign_keys {
        changes.push(ShapeChange::ForeignKeys);
    }
    compare_leaves(old, new, &mut changes);
    if old.row_security != new.row_security {
        changes.push(ShapeChange::RowSecurity);
    }
    changes
}

/// Columns are the same by number: a dropped one's number is never used again.
fn compare_columns(old: &Table, new: &Table, changes: &mut Vec<ShapeChange>) {
    let present: BTreeMap<i16, _> =
        new.columns.iter().map(|column| (column.number, column)).collect();
    for was in &old.columns {
        let Some(is) = present.get(&was.number) else {
            changes.push(ShapeChange::ColumnDropped(was.name.clone()));
            continue;
        };
        if was.name != is.name {
            let (from, to) = (was.name.clone(), is.name.clone());
            changes.push(ShapeChange::ColumnRenamed { from, to });
        }
        if (was.type_oid, &was.type_name, was.generated)
            != (is.type_oid, &is.type_name, is.generated)
        {
            changes.push(ShapeChange::ColumnType(is.name.clone()));
        }
        if was.not_null != is.not_null {
            changes.push(ShapeChange::ColumnNull(is.name.clone()));
        }
    }
    let known: BTreeSet<i16> = old.columns.iter().map(|column| column.number).collect();
    let added = new.columns.iter().filter(|column| !known.contains(&column.number));
    changes.extend(added.map(|column| ShapeChange::ColumnAdded(column.name.clone())));
}

fn compare_leaves(old: &Table, new: &Table, changes: &mut Vec<ShapeChange>) {
    let was: BTreeMap<RelationId, _> = old.leaves.iter().map(|leaf| (leaf.id, leaf)).collect();
    let is: BTreeMap<RelationId, _> = new.leaves.iter().map(|leaf| (leaf.id, leaf)).collect();
    let mut identity =
        (old.identity, &old.identity_columns) != (new.identity, &new.identity_columns);
    for (id, leaf) in &was {
        match is.get(id) {
            Some(present) => {
                identity |= (leaf.identity, &leaf.identity_columns)
                    != (present.identity, &present.identity_columns);
            }
            None => changes.push(ShapeChange::LeafRemoved(leaf.name.clone())),
        }
    }
    let added = is.iter().filter(|(id, _)| !was.contains_key(id));
    changes.extend(added.map(|(_, leaf)| ShapeChange::LeafAdded(leaf.name.clone())));
    if identity {
        changes.push(ShapeChange::Identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Column, Leaf, ReplicaIdentity, TableKind};

    fn column(number: i16, name: &str) -> Column {
        Column {
            name: name.into(),
            number,
            type_oid: 23,
            type_name: "integer".into(),
            type_category: 'N',
            not_null: false,
            generated: false,
        }
    }

    fn leaf(id: u32, identity: ReplicaIdentity) -> Leaf {
        Leaf {
            id: RelationId(id),
            name: format!("public.p{id}"),
            identity,
            identity_columns: vec![],
        }
    }

    fn table() -> Table {
        Table {
            id: RelationId(7),
            schema: "public".into(),
            name: "p".into(),
            kind: TableKind::Partitioned,
            owner: "o".into(),
            columns: vec![column(1, "id"), column(2, "a"), column(3, "b")],
            primary_key: vec!["id".into()],
            identity: ReplicaIdentity::Default,
            identity_columns: vec!["id".into()],
            leaves: vec![leaf(8, ReplicaIdentity::Full), leaf(9, ReplicaIdentity::Full)],
            foreign_keys: vec![],
            row_security: false,
        }
    }

    fn changes(new: Option<Table>) -> Vec<ShapeChange> {
        let changed = changed_tables(&[Arc::new(table())], &Catalog::new(new));
        changed.into_iter().next().map_or(vec![], |change| change.changes)
    }

    #[test]
    fn the_same_table_is_no_change() {
        assert_eq!(changes(Some(table())), []);
    }

    #[test]
    fn a_table_that_is_gone_was_dropped() {
        assert_eq!(changes(None), [ShapeChange::Dropped]);
        let again = Table { id: RelationId(70), ..table() };
        assert_eq!(changes(Some(again)), [ShapeChange::Dropped], "another oid is another table");
    }

    #[test]
    fn columns_are_followed_by_number() {
        let mut new = table();
        new.columns = vec![column(1, "id"), column(3, "c"), column(4, "a")];
        new.columns[0].type_oid = 20;
        assert_eq!(
            changes(Some(new)),
            [
                ShapeChange::ColumnType("id".into()),
                ShapeChange::ColumnDropped("a".into()),
                ShapeChange::ColumnRenamed { from: "b".into(), to: "c".into() },
                ShapeChange::ColumnAdded("a".into()),
            ]
        );
    }

    #[test]
    fn partitions_come_and_go_and_change_their_identity() {
        let mut new = table();
        new.leaves = vec![leaf(9, ReplicaIdentity::Default), leaf(10, ReplicaIdentity::Full)];
        assert_eq!(
            changes(Some(new)),
            [
                ShapeChange::LeafRemoved("public.p8".into()),
                ShapeChange::LeafAdded("public.p10".into()),
                ShapeChange::Identity,
            ]
        );
        assert!(!ShapeChange::Identity.touches_documents());
    }
}
