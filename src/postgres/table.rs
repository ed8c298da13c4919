//! A table as the catalog describes it: what the schema is resolved against.

use serde::Deserialize;

use crate::postgres::{RelationId, ReplicaIdentity, quote_identifier};

/// What stands behind a name in `pg_class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum TableKind {
    /// `r`.
    #[serde(rename = "r")]
    Table,
    /// `p`.
    #[serde(rename = "p")]
    Partitioned,
    /// `v`.
    #[serde(rename = "v")]
    View,
    /// `m`.
    #[serde(rename = "m")]
    MaterializedView,
    /// `f`.
    #[serde(rename = "f")]
    Foreign,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Column {
    /// Name, case-sensitive.
    pub name: String,
    /// `attnum`.
    pub number: i16,
    /// Oid of the base type: a domain is resolved to what it stands on.
    pub type_oid: u32,
    /// Name of that base type as a cast takes it: `format_type(oid, -1)` with an empty search path.
    pub type_name: String,
    /// `typcategory` of the base type (`A` array, `E` enum, `C` composite, …).
    pub type_category: char,
    /// `NOT NULL`.
    pub not_null: bool,
    /// `GENERATED ALWAYS AS … STORED`: in no tuple before PostgreSQL 18.
    pub generated: bool,
}

/// A partition that holds rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Leaf {
    /// Its oid.
    pub id: RelationId,
    /// `schema.table`, quoted.
    pub name: String,
    /// Its own replica identity: the one its tuples follow.
    pub identity: ReplicaIdentity,
    /// The columns of that identity; empty for FULL and NOTHING.
    pub identity_columns: Vec<String>,
}

/// A declared foreign key of a [`Table`], columns pairwise by position.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct ForeignKey {
    /// Constraint name.
    pub name: String,
    /// Columns of the table that has the constraint.
    pub columns: Vec<String>,
    /// The table it points to.
    pub target: RelationId,
    /// Columns there.
    pub target_columns: Vec<String>,
}

/// A table, partitioned table, view or materialised view.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Table {
    /// Oid.
    pub id: RelationId,
    /// Schema.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Kind.
    pub kind: TableKind,
    /// Owner, for messages.
    pub owner: String,
    /// Columns in table order, without dropped ones.
    pub columns: Vec<Column>,
    /// Primary key columns in the order of the key; empty if there is none.
    pub primary_key: Vec<String>,
    /// Replica identity of the table itself.
    pub identity: ReplicaIdentity,
    /// Columns of that identity; empty for FULL and NOTHING, and for DEFAULT without a primary key.
    pub identity_columns: Vec<String>,
    /// Partitions that hold rows; empty for everything that is not partitioned.
    pub leaves: Vec<Leaf>,
    /// Foreign keys that the table declares.
    pub foreign_keys: Vec<ForeignKey>,
    /// Whether row-level security is enabled on it.
    pub row_security: bool,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// `"schema"."table"`, quoted for SQL.
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// Whether the old tuple of every UPDATE and DELETE carries these columns when they changed:
    /// then an absent old tuple means that they did not change.
    ///
    /// Asked of every leaf of a partitioned table: its tuples follow the leaf's identity, whatever
    /// the root names. A generated column is in no tuple, so it is never covered.
    pub fn identity_covers(&self, columns: &[String]) -> bool {
        let covers = |identity: ReplicaIdentity, of: &[String]| match identity {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Nothing => false,
            ReplicaIdentity::Default | ReplicaIdentity::Index => {
                columns.iter().all(|column| of.contains(column))
            }
        };
        let plain = columns.iter().all(|name| self.column(name).is_some_and(|c| !c.generated));
        let leaves_cover =
            self.leaves.iter().all(|leaf| covers(leaf.identity, &leaf.identity_columns));
        let own =
            self.kind == TableKind::Partitioned || covers(self.identity, &self.identity_columns);
        plain && own && leaves_cover
    }
}
