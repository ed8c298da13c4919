//! Ground: the user's schema file, from its text to trees resolved against the catalog.

pub mod key_sql;
pub mod tree;

pub use tree::{ColumnPair, Join, Link, Node, NodeId, OutputColumn, SchemaTree};
