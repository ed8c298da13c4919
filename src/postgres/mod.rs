//! Ground: what every stage knows of PostgreSQL. Positions, relations, tuples, snapshots, and the
//! connections that carry SQL. No stage logic.

pub mod catalog;
pub mod catalog_query;
pub(crate) mod channel_binding;
pub mod client;
pub mod connect_error;
pub mod identity;
pub mod lock;
pub mod lsn;
pub mod options;
pub(crate) mod patience;
pub mod publication;
pub mod publication_query;
pub mod relation;
pub mod render;
pub mod secret;
pub mod server;
pub mod server_error;
pub(crate) mod session;
pub mod shape;
pub mod slot;
pub mod snapshot;
pub mod sql;
pub mod table;
pub mod tls;
pub mod tuple;
pub(crate) mod wire;

pub use catalog::Catalog;
pub use catalog_query::{CatalogError, load_catalog};
pub use client::connect;
pub use connect_error::{ConnectError, Target};
pub use lsn::Lsn;
pub use options::{ConnectOptions, Purpose, SslMode, SslSettings};
pub use relation::{Relation, RelationColumn, RelationId, ReplicaIdentity};
pub use secret::Secret;
pub use server_error::ServerError;
pub use snapshot::{Snapshot, TransactionId};
pub use sql::{quote_identifier, quote_literal};
pub use table::{Column, ForeignKey, Leaf, Table, TableKind};
pub use tuple::{Tuple, Value};
