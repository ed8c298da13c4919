//! Whether UPDATE and DELETE of a table survive its publication: its replica identity, or that of
//! each of its partitions. Pure.
//!
//! PostgreSQL refuses UPDATE and DELETE of a published table that has no identity, so publishing one
//! would break the application.

use crate::postgres::{ReplicaIdentity, Table, TableKind};

/// A table or partition without a usable replica identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityGap {
    /// The table or partition, quoted for SQL.
    pub table: String,
    /// The statement that gives it one.
    pub sql: String,
}

/// The gaps of a table: its own, or those of its partitions, which carry the rows.
///
/// A partitioned table without partitions has no row to update: no gap.
pub fn identity_gaps(table: &Table) -> Vec<IdentityGap> {
    match table.kind {
        TableKind::Partitioned => table
            .leaves
            .iter()
            .filter(|leaf| !is_usable(leaf.identity, &leaf.identity_columns))
            .map(|leaf| gap(leaf.name.clone(), leaf.identity, table))
            .collect(),
        TableKind::Table if !is_usable(table.identity, &table.identity_columns) => {
            vec![gap(table.qualified(), table.identity, table)]
        }
        TableKind::Table | TableKind::View | TableKind::MaterializedView | TableKind::Foreign => {
            Vec::new()
        }
    }
}

/// Statements that make every old row carry all its columns: one for a table, or one for each
/// partition, as partitions do not take over their root's setting.
///
/// A root with partitions is left as it is. Its setting is only what the stream *says* of old rows,
/// their content follows the partition: under a FULL root the old row of a partition with a key alone
/// is announced as complete, its other columns null (tried on 15 and 18).
pub fn full_identity_sql(table: &Table) -> String {
    let line = |name: &str| format!("ALTER TABLE {name} REPLICA IDENTITY FULL;");
    if table.leaves.is_empty() {
        let wanting = table.identity != ReplicaIdentity::Full;
        return if wanting { line(&table.qualified()) } else { String::new() };
    }
    let leaves = table.leaves.iter().filter(|leaf| leaf.identity != ReplicaIdentity::Full);
    leaves.map(|leaf| line(&leaf.name)).collect::<Vec<_>>().join("\n")
}

/// The chosen index may be gone and the primary key absent or deferrable: then there are no columns.
fn is_usable(identity: ReplicaIdentity, columns: &[String]) -> bool {
    match identity {
        ReplicaIdentity::Full => true,
        ReplicaIdentity::Nothing => false,
        ReplicaIdentity::Default | ReplicaIdentity::Index => !columns.is_empty(),
    }
}

/// The primary key serves if there is one that is not in use already (and deferrable, hence useless).
fn gap(name: String, identity: ReplicaIdentity, table: &Table) -> IdentityGap {
    let by_key = identity != ReplicaIdentity::Default && !table.primary_key.is_empty();
    let choice = if by_key { "DEFAULT" } else { "FULL" };
    let sql = format!("ALTER TABLE {name} REPLICA IDENTITY {choice};");
    IdentityGap { table: name, sql }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Leaf, RelationId};

    fn table(kind: TableKind, identity: ReplicaIdentity, columns: &[&str]) -> Table {
        Table {
            id: RelationId(1),
            schema: "public".into(),
            name: "t".into(),
            kind,
            owner: "o".into(),
            columns: vec![],
            primary_key: vec!["id".into()],
            identity,
            identity_columns: columns.iter().map(ToString::to_string).collect(),
            leaves: vec![],
            foreign_keys: vec![],
            row_security: false,
        }
    }

    #[test]
    fn a_primary_key_is_proposed_unless_it_is_the_useless_choice_already() {
        let nothing = table(TableKind::Table, ReplicaIdentity::Nothing, &[]);
        let sql = "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY DEFAULT;";
        assert_eq!(identity_gaps(&nothing)[0].sql, sql);
        let deferrable = table(TableKind::Table, ReplicaIdentity::Default, &[]);
        assert!(identity_gaps(&deferrable)[0].sql.ends_with("FULL;"));
        assert_eq!(identity_gaps(&table(TableKind::Table, ReplicaIdentity::Default, &["id"])), []);
        assert_eq!(identity_gaps(&table(TableKind::View, ReplicaIdentity::Nothing, &[])), []);
    }

    #[test]
    fn partitions_are_asked_not_their_root() {
        let mut root = table(TableKind::Partitioned, ReplicaIdentity::Full, &[]);
        let leaf = |name: &str, identity| Leaf {
            id: RelationId(2),
            name: name.into(),
            identity,
            identity_columns: vec![],
        };
        root.leaves =
            vec![leaf("p.a", ReplicaIdentity::Nothing), leaf("p.b", ReplicaIdentity::Full)];
        let gaps = identity_gaps(&root);
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].sql, "ALTER TABLE p.a REPLICA IDENTITY DEFAULT;");
        root.identity = ReplicaIdentity::Default;
        assert_eq!(full_identity_sql(&root), "ALTER TABLE p.a REPLICA IDENTITY FULL;");
    }
}
