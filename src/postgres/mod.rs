//! Ground: what every stage knows of PostgreSQL. Positions, relations, tuples, snapshots, and the
//! connections that carry SQL. No stage logic.

pub mod catalog;
pub mod catalog_query;
pub mod identity;
pub mod lock;
pub mod lsn;
pub mod publication;
pub mod relation;
pub mod render;
pub mod server;
pub mod shape;
pub mod slot;
pub mod snapshot;
pub mod sql;
pub mod table;
pub mod tuple;

pub use catalog::Catalog;
pub use catalog_query::{CatalogError, load_catalog};
pub use lsn::Lsn;
pub use relation::{Relation, RelationColumn, RelationId, ReplicaIdentity};
pub use snapshot::{Snapshot, TransactionId};
pub use sql::{quote_identifier, quote_literal};
pub use table::{Column, ForeignKey, Leaf, Table, TableKind};
pub use tuple::{Tuple, Value};
