//! Asks the server for what preflight judges. Reads only.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Names, read_tables};
use crate::postgres::publication::PublicationState;
use crate::postgres::publication_query::read_publication;
use crate::postgres::server::ServerFacts;
use crate::postgres::slot::{SlotState, find_slots};
use crate::postgres::{CatalogError, RelationId};
use crate::schema::SchemaTree;
use crate::schema::key_sql::filter;

const SUBJECT: &str = "rights and storage of the tables";

/// What the server said.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Server, role and database.
    pub server: ServerFacts,
    /// Our slots in this database.
    pub slots: Vec<SlotState>,
    /// The publication, if there is one.
    pub publication: Option<PublicationState>,
    /// Whether the role has CREATE on the database.
    pub may_create: bool,
    /// The relations that are read; one that was dropped since the schema was resolved is absent.
    pub tables: BTreeMap<RelationId, TableFacts>,
    /// The conditions that the server does not understand.
    pub refused_conditions: Vec<RefusedCondition>,
}

/// A `where` of the schema that the server does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCondition {
    /// The entry's index.
    pub index: String,
    /// The server's words.
    pub reason: String,
}

/// `pg_class.relpersistence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Persistence {
    /// In the WAL.
    #[serde(rename = "p")]
    Permanent,
    /// Not in the WAL, emptied by a crash.
    #[serde(rename = "u")]
    Unlogged,
    /// Of one session only.
    #[serde(rename = "t")]
    Temporary,
}

/// What the catalog's shape of a table does not say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub struct TableFacts {
    /// Oid.
    pub id: RelationId,
    /// Whether the role may use the schema.
    pub usage: bool,
    /// Whether the role may SELECT from the whole table: a right to single columns does not suffice
    /// for LOCK TABLE.
    pub select: bool,
    /// Whether the role has the owner's rights.
    pub owned: bool,
    /// Whether policies decide which rows the role sees.
    pub policies: bool,
    /// Whether it is in the WAL.
    pub persistence: Persistence,
    /// Whether tables inherit from it that are no partitions.
    pub inherited: bool,
    /// Whether it has virtual generated columns (PostgreSQL 18).
    pub virtual_columns: bool,
    /// The partitioned tables that it is a partition of, at any level.
    pub ancestors: Vec<RelationId>,
    /// Partitions that are not in the WAL: unlogged or foreign.
    pub unlogged_leaves: Vec<UnloggedLeaf>,
    /// Columns of each unique index that holds for every row at once.
    pub unique: Vec<Vec<String>>,
}

/// A partition that is not in the WAL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UnloggedLeaf {
    /// `schema.table`, quoted where needed.
    pub name: String,
    /// Whether it is a foreign table, else it is unlogged.
    pub foreign: bool,
}

/// Asks the server, for the relations of these trees.
///
/// # Errors
/// [`CatalogError`] if a query fails or its answer is not understood.
pub async fn gather(
    client: &Client,
    trees: &[SchemaTree],
    server: &ServerFacts,
    names: Names<'_>,
) -> Result<Gathered, CatalogError> {
    let ids: Vec<u32> = read_tables(trees).iter().map(|table| table.id.0).collect();
    let mut tables = BTreeMap::new();
    for row in client.query(TABLES, &[&ids]).await.map_err(CatalogError::query(SUBJECT))? {
        let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
        let facts: TableFacts = serde_json::from_str(text).map_err(CatalogError::shape(SUBJECT))?;
        tables.insert(facts.id, facts);
    }
    let row = client.query_one(MAY_CREATE, &[]).await;
    let may_create = row.and_then(|row| row.try_get(0)).map_err(CatalogError::query(SUBJECT))?;
    Ok(Gathered {
        server: server.clone(),
        slots: find_slots(client, names.slot).await?,
        publication: read_publication(client, names.publication).await?,
        may_create,
        tables,
        refused_conditions: refused_conditions(client, trees).await?,
    })
}

/// Lets the server parse each condition, without running it: a mistake is found before anything is
/// made. Prepared, since that takes one statement only.
async fn refused_conditions(
    client: &Client,
    trees: &[SchemaTree],
) -> Result<Vec<RefusedCondition>, CatalogError> {
    let mut refused = Vec::new();
    for tree in trees.iter().filter(|tree| tree.filter.is_some()) {
        let (table, condition) = (tree.root().table.qualified(), filter(tree, "and"));
        let sql = format!("select 1 from {table} c where true {condition}");
        let Err(error) = client.prepare(&sql).await else { continue };
        match error.as_db_error() {
            // A missing right is a finding of its own, and a table that is gone, too.
            Some(said)
                if matches!(
                    *said.code(),
                    SqlState::INSUFFICIENT_PRIVILEGE | SqlState::UNDEFINED_TABLE
                ) => {}
            Some(said) => refused.push(RefusedCondition {
                index: tree.index.to_string(),
                reason: said.message().to_owned(),
            }),
            None => return Err(CatalogError::query("the conditions of the schema")(error)),
        }
    }
    Ok(refused)
}

const MAY_CREATE: &str = "select pg_catalog.has_database_privilege(\
    pg_catalog.current_database(), 'create')";

/// `pg_partition_ancestors` lists the table itself, too. `row_security_active` answers for the
/// session's role, whether it is a superuser, has BYPASSRLS or owns the table.
const TABLES: &str = r"
select pg_catalog.json_build_object(
    'id', c.oid::pg_catalog.int8,
    'usage', pg_catalog.has_schema_privilege(c.relnamespace, 'usage'),
    'select', pg_catalog.has_table_privilege(c.oid, 'select'),
    'owned', pg_catalog.pg_has_role(c.relowner, 'usage'),
    'policies', pg_catalog.row_security_active(c.oid),
    'persistence', c.relpersistence,
    'inherited', c.relkind <> 'p' and exists (
        select from pg_catalog.pg_inherits i where i.inhparent = c.oid),
    'virtual_columns', exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attgenerated = 'v' and not a.attisdropped),
    'ancestors', coalesce((
        select pg_catalog.json_agg(p.relid::pg_catalog.oid::pg_catalog.int8)
        from pg_catalog.pg_partition_ancestors(c.oid) p
        where c.relispartition and p.relid::pg_catalog.oid <> c.oid), '[]'),
    'unlogged_leaves', coalesce((
        select pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', pg_catalog.format('%I.%I', n.nspname, l.relname),
            'foreign', l.relkind = 'f') order by l.oid)
        from pg_catalog.pg_partition_tree(c.oid) p
        join pg_catalog.pg_class l on l.oid = p.relid
        join pg_catalog.pg_namespace n on n.oid = l.relnamespace
        where c.relkind = 'p' and p.isleaf
          and (l.relkind = 'f' or l.relpersistence <> 'p') and l.relkind <> 'p'), '[]'),
    'unique', coalesce((
        select pg_catalog.json_agg((
            select pg_catalog.json_agg(a.attname)
            from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality k (number, position)
            join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
            where k.position <= i.indnkeyatts))
        from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indisunique and i.indisvalid
          and i.indpred is null and i.indexprs is null), '[]')
)::pg_catalog.text
from pg_catalog.pg_class c
where c.oid = any ($1::pg_catalog.oid[])";
