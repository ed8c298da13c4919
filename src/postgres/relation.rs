//! A table as the WAL names it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The oid of a table, view or index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelationId(pub u32);

impl fmt::Display for RelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which columns of the old row an UPDATE or DELETE carries (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// `d`: the primary key, if there is one.
    Default,
    /// `n`: nothing; published UPDATE and DELETE fail.
    Nothing,
    /// `f`: every column.
    Full,
    /// `i`: the columns of a chosen unique index.
    Index,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Name in the database's encoding, which the connection has as UTF-8.
    pub name: String,
    /// Oid of the column's type.
    pub type_oid: u32,
    /// `atttypmod`; -1 where the type has none.
    pub type_modifier: i32,
    /// Whether the column is part of the replica identity.
    pub is_key: bool,
}

/// A table as the latest Relation message of the stream described it.
///
/// Source: PostgreSQL 17 manual, 53.9 "Logical Replication Message Formats", Relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Oid; the root's for a partitioned table published through its root.
    pub id: RelationId,
    /// Schema; empty for `pg_catalog` on the wire, which the decoder resolves.
    pub namespace: String,
    /// Table name, case-sensitive.
    pub name: String,
    /// The replica identity the table names (of the root, for a partitioned one).
    pub identity: ReplicaIdentity,
    /// Columns in tuple order. Generated columns are absent before PostgreSQL 18.
    pub columns: Vec<RelationColumn>,
}
