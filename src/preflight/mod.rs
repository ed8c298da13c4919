//! Rim: what must be right in PostgreSQL before anything is made there, all of it at once, in words
//! a user understands and with the SQL that fixes it.
//!
//! [`gather()`] asks the server, reading only; [`judge`](judge::judge) decides, without I/O. Nothing
//! here changes the database.

pub mod finding;
pub mod followed;
pub mod gather;
pub mod judge;
mod judge_tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Client;

pub use finding::{Check, Finding, Findings, Severity};
pub use gather::{Gathered, gather};

use crate::postgres::server::ServerFacts;
use crate::postgres::slot::SlotPrefix;
use crate::postgres::{CatalogError, RelationId, Table, TableKind};
use crate::schema::SchemaTree;

/// The names of what we make in the database.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The publication.
    pub publication: &'a str,
    /// What our slots' names begin with.
    pub slot: &'a SlotPrefix,
}

/// Everything that keeps these trees from being followed, or makes it slow. Errors come first.
///
/// # Errors
/// [`CatalogError`] if a query fails: that is about the connection, not about the database's state.
pub async fn preflight(
    client: &Client,
    trees: &[SchemaTree],
    server: &ServerFacts,
    names: Names<'_>,
) -> Result<Findings, CatalogError> {
    let gathered = gather(client, trees, server, names).await?;
    Ok(judge::judge(trees, &gathered, names.publication))
}

/// The tables that the publication must hold for these trees, each once, by oid: of a view its base
/// tables, of everything else itself. Foreign tables are left out: nothing can publish them.
pub fn published_tables(trees: &[SchemaTree]) -> Vec<Arc<Table>> {
    let mut tables = read_tables(trees);
    tables.retain(|table| match table.kind {
        TableKind::Table | TableKind::Partitioned => true,
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => false,
    });
    tables
}

/// The relations that are read for these trees, base tables of views among them, each once, by oid.
pub fn read_tables(trees: &[SchemaTree]) -> Vec<Arc<Table>> {
    let mut tables: BTreeMap<RelationId, Arc<Table>> = BTreeMap::new();
    for tree in trees {
        let bases = tree.nodes.iter().flat_map(|node| node.base_tables.iter().cloned());
        for table in tree.tables().into_iter().chain(bases) {
            tables.insert(table.id, table);
        }
    }
    tables.into_values().collect()
}
