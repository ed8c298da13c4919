//! The tables of a database by name and by oid.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::postgres::{RelationId, Table};

/// Every table, view and partitioned table that the connection's role may see, as of one query.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    by_name: BTreeMap<(String, String), Arc<Table>>,
}

impl Catalog {
    /// A catalog of these tables.
    pub fn new(tables: impl IntoIterator<Item = Table>) -> Self {
        let by_name = tables
            .into_iter()
            .map(|table| ((table.schema.clone(), table.name.clone()), Arc::new(table)))
            .collect();
        Self { by_name }
    }

    /// The table of that schema and name, both case-sensitive.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<Table>> {
        self.by_name.get(&(schema.to_owned(), name.to_owned()))
    }

    /// The table of that oid.
    pub fn by_id(&self, id: RelationId) -> Option<&Arc<Table>> {
        self.by_name.values().find(|table| table.id == id)
    }

    /// All of them, by schema and name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_name.values()
    }
}
