//! Which columns are searched by, and which of them no index serves. The decision is pure;
//! [`read_indexes`] asks the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio_postgres::Client;

use crate::postgres::{CatalogError, RelationId, Table, TableKind, quote_identifier};
use crate::preflight::{Check, Finding};
use crate::schema::SchemaTree;
use crate::schema::tree::{ColumnPair, Join};

const SUBJECT: &str = "the indexes of the tables";

/// The columns that rows are searched by, of all trees of a database, each group once.
#[derive(Debug, Default)]
pub struct SearchedBy {
    groups: BTreeMap<(RelationId, BTreeSet<String>), Arc<Table>>,
}

/// Columns of the indexes of each table, in their order.
pub type Indexes = BTreeMap<RelationId, Vec<Vec<String>>>;

#[derive(Deserialize)]
struct IndexRow {
    table: RelationId,
    columns: Vec<String>,
}

impl SearchedBy {
    /// Documents are read from the root down by the lower columns of each join, and found from a
    /// changed row up by the upper ones.
    pub fn of(trees: &[SchemaTree]) -> Self {
        let mut searched = Self::default();
        for tree in trees {
            searched.add(&tree.root().table, tree.key.iter());
            for node in &tree.nodes {
                let Some(link) = &node.link else { continue };
                let parent = &tree.node(link.parent).table;
                match &link.join {
                    Join::Direct(pairs) => {
                        searched.join(parent, pairs, &node.table);
                    }
                    Join::Through { table, upper, lower } => {
                        searched.join(parent, upper, table);
                        searched.join(table, lower, &node.table);
                    }
                }
            }
        }
        searched
    }

    fn join(&mut self, upper: &Arc<Table>, pairs: &[ColumnPair], lower: &Arc<Table>) {
        self.add(upper, pairs.iter().map(|pair| &pair.upper));
        self.add(lower, pairs.iter().map(|pair| &pair.lower));
    }

    /// Views and foreign tables have no indexes of ours to make.
    fn add<'a>(&mut self, table: &Arc<Table>, columns: impl Iterator<Item = &'a String>) {
        match table.kind {
            TableKind::Table | TableKind::Partitioned | TableKind::MaterializedView => {
                let columns = columns.cloned().collect();
                self.groups.insert((table.id, columns), Arc::clone(table));
            }
            TableKind::View | TableKind::Foreign => {}
        }
    }
}

/// A warning for each group that no index serves, with the statement that makes one.
pub fn missing_indexes(searched: &SearchedBy, indexes: &Indexes) -> Vec<Finding> {
    let unserved = searched.groups.iter().filter(|((table, columns), _)| {
        let serves = |index: &Vec<String>| is_served(columns, index);
        !indexes.get(table).is_some_and(|indexes| indexes.iter().any(serves))
    });
    unserved.map(|((_, columns), table)| finding(table, columns)).collect()
}

/// An index serves if it begins with these columns in any order, or is on some of them alone.
fn is_served(columns: &BTreeSet<String>, index: &[String]) -> bool {
    !index.is_empty() && index.iter().take(columns.len()).all(|column| columns.contains(column))
}

fn finding(table: &Table, columns: &BTreeSet<String>) -> Finding {
    let names: Vec<String> = columns.iter().map(|name| quote_identifier(name)).collect();
    let (names, table_name) = (names.join(", "), table.qualified());
    // A partitioned table cannot have its index made concurrently.
    let concurrently = if table.kind == TableKind::Partitioned { "" } else { "CONCURRENTLY " };
    let situation = format!("no index of {table_name} begins with ({names}).");
    let reason = "Rows are searched by them: each search reads the whole table.";
    Finding::warning(Check::JoinIndex, situation, reason)
        .fixed_by(format!("CREATE INDEX {concurrently}ON {table_name} ({names});"))
}

/// Reads the indexes of these tables that can find a row by equality: valid, whole, on columns.
///
/// # Errors
/// [`CatalogError`] if the query fails or its answer is not understood.
pub async fn read_indexes(client: &Client, searched: &SearchedBy) -> Result<Indexes, CatalogError> {
    let ids: BTreeSet<u32> = searched.groups.keys().map(|(table, _)| table.0).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let mut indexes = Indexes::new();
    for row in client.query(INDEXES, &[&ids]).await.map_err(CatalogError::query(SUBJECT))? {
        let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
        let IndexRow { table, columns } =
            serde_json::from_str(text).map_err(CatalogError::shape(SUBJECT))?;
        indexes.entry(table).or_default().push(columns);
    }
    Ok(indexes)
}

/// The columns before the first expression; those of INCLUDE are no keys.
const INDEXES: &str = r"
select pg_catalog.json_build_object(
    'table', i.indrelid::pg_catalog.int8,
    'columns', coalesce((
        select pg_catalog.json_agg(a.attname order by k.position)
        from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality k (number, position)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
        where k.position <= i.indnkeyatts and not exists (
            select from pg_catalog.unnest(i.indkey::pg_catalog.int2[])
                with ordinality e (number, position)
            where e.number = 0 and e.position <= k.position)), '[]')
)::pg_catalog.text
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_am m on m.oid = c.relam
where i.indrelid = any ($1::pg_catalog.oid[]) and i.indisvalid and i.indpred is null
  and m.amname in ('btree', 'hash')";

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_index_serves_when_it_begins_with_the_columns_or_is_on_some_of_them() {
        let searched: BTreeSet<String> = columns(&["a", "b"]).into_iter().collect();
        for index in [&["a", "b"][..], &["b", "a", "c"], &["b"]] {
            assert!(is_served(&searched, &columns(index)), "{index:?}");
        }
        for index in [&["c", "a"][..], &["a", "c", "b"], &[]] {
            assert!(!is_served(&searched, &columns(index)), "{index:?}");
        }
    }
}
