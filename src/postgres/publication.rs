//! The publication: what it holds, what it lacks for us, and how it comes to be.
//!
//! [`ensure`] is the only function here that changes the database. It makes the publication or adds
//! tables to it; anything else about one that exists is its owner's choice and only named.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::postgres::catalog_query::CatalogError;
use crate::postgres::identity::{IdentityGap, identity_gaps};
use crate::postgres::server::is_denied;
use crate::postgres::{RelationId, ReplicaIdentity, Table, TableKind, quote_identifier};

const SUBJECT: &str = "the publication";

/// A publication as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are the catalog's own columns")]
pub struct PublicationState {
    /// Name.
    pub name: String,
    /// Owner, for messages.
    pub owner: String,
    /// Whether the session's role has the owner's rights.
    pub owned: bool,
    /// Whether it carries INSERT.
    pub insert: bool,
    /// Whether it carries UPDATE.
    pub update: bool,
    /// Whether it carries DELETE.
    pub delete: bool,
    /// Whether it carries TRUNCATE.
    pub truncate: bool,
    /// Whether changes of partitions appear under their root.
    pub via_root: bool,
    /// Whether it is FOR ALL TABLES.
    pub all_tables: bool,
    /// Whether it carries stored generated columns; never before PostgreSQL 18.
    pub generated: bool,
    /// The server's major version: what the publication's SQL may say.
    pub major: u32,
    /// Tables whose changes it carries, under the names the stream gives them: the root of a
    /// partitioned table with `via_root`, else its partitions. By oid.
    pub tables: Vec<PublishedTable>,
    /// Oids of the tables that were added by name.
    pub named: Vec<RelationId>,
}

/// A table in a publication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PublishedTable {
    /// Oid.
    pub id: RelationId,
    /// `schema.table`, quoted where needed.
    pub name: String,
    /// The column list; `None` if every column is carried. PostgreSQL 15 and later.
    pub columns: Option<Vec<String>>,
    /// The row filter. PostgreSQL 15 and later.
    pub row_filter: Option<String>,
}

/// What a publication lacks for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationProblem {
    /// It does not carry these operations.
    Operations(Vec<&'static str>),
    /// Changes of this partitioned table would come under its partitions' names.
    PartitionRoot(Arc<Table>),
    /// Rows of this table are left out.
    RowFilter(Arc<Table>),
    /// Columns of this table are left out, or would be once they are added.
    ColumnList(Arc<Table>),
    /// The identity of this table holds generated columns that the publication leaves out:
    /// PostgreSQL 18 refuses UPDATE and DELETE of such a table.
    GeneratedColumns(Arc<Table>),
    /// This table is not in it.
    Missing(Arc<Table>),
}

/// What [`ensure`] found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Created,
    /// These tables were added.
    Extended(Vec<String>),
    /// It was right already.
    Fits,
}

/// Why the publication is not what we need.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// It could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It lacks something that its owner decides on.
    #[error("publication `{name}` cannot be used: {}", list(problems))]
    Unfit {
        /// The publication.
        name: String,
        /// What it lacks.
        problems: Vec<PublicationProblem>,
        /// The statements that put it right.
        sql: String,
    },
    /// A table without replica identity would refuse UPDATE and DELETE once published.
    #[error("{} has no replica identity: published, its UPDATE and DELETE would fail", names(gaps))]
    NoIdentity {
        /// The tables and partitions.
        gaps: Vec<IdentityGap>,
        /// The statements that put it right.
        sql: String,
    },
    /// The role may not do it.
    #[error("no right to make publication `{name}` or to add tables to it")]
    Denied {
        /// The publication.
        name: String,
        /// The one statement for the tables' owner.
        sql: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement failed otherwise.
    #[error("cannot make publication `{name}`")]
    Statement {
        /// The publication.
        name: String,
        /// The server's or the connection's answer.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl PublicationError {
    /// The SQL that helps, for whoever may run it.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Unfit { sql, .. } | Self::NoIdentity { sql, .. } | Self::Denied { sql, .. } => {
                Some(sql)
            }
            Self::Catalog(_) | Self::Statement { .. } => None,
        }
    }
}

impl PublicationState {
    /// Whether changes of the table are carried, under whatever name.
    pub fn contains(&self, table: &Table) -> bool {
        let carried = |id: RelationId| self.tables.iter().any(|published| published.id == id);
        self.all_tables || self.named.contains(&table.id) || carried(table.id)
    }

    /// What it lacks to carry every change of these tables, all at once. Relations that are in no
    /// publication (views, foreign tables) are passed over.
    pub fn problems(&self, tables: &[Arc<Table>]) -> Vec<PublicationProblem> {
        let mut problems = Vec::new();
        let operations = [
            (self.insert, "insert"),
            (self.update, "update"),
            (self.delete, "delete"),
            (self.truncate, "truncate"),
        ];
        let missing: Vec<_> =
            operations.iter().filter(|(carried, _)| !carried).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            problems.push(PublicationProblem::Operations(missing));
        }
        for table in tables.iter().filter(|table| is_publishable(table)) {
            self.table_problems(table, &mut problems);
        }
        problems
    }

    fn table_problems(&self, table: &Arc<Table>, problems: &mut Vec<PublicationProblem>) {
        if !self.contains(table) {
            problems.push(PublicationProblem::Missing(Arc::clone(table)));
            return;
        }
        if table.kind == TableKind::Partitioned && !self.via_root {
            problems.push(PublicationProblem::PartitionRoot(Arc::clone(table)));
        }
        if self.major >= 18 && !self.generated && identity_is_generated(table) {
            problems.push(PublicationProblem::GeneratedColumns(Arc::clone(table)));
        }
        let published = self.tables.iter().find(|published| published.id == table.id);
        if published.is_some_and(|published| published.row_filter.is_some()) {
            problems.push(PublicationProblem::RowFilter(Arc::clone(table)));
        }
        if published.is_some_and(|published| published.columns.is_some()) {
            problems.push(PublicationProblem::ColumnList(Arc::clone(table)));
        }
    }
}

impl PublicationProblem {
    /// The statement by which the publication's owner solves it.
    pub fn fix(&self, publication: &str) -> String {
        let name = quote_identifier(publication);
        match self {
            Self::Operations(_) => format!(
                "ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"
            ),
            Self::PartitionRoot(_) => {
                format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);")
            }
            Self::GeneratedColumns(_) => {
                format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);")
            }
            Self::RowFilter(table) | Self::ColumnList(table) => {
                let table = table.qualified();
                format!(
                    "BEGIN; ALTER PUBLICATION {name} DROP TABLE {table}; \
                     ALTER PUBLICATION {name} ADD TABLE {table}; COMMIT;"
                )
            }
            Self::Missing(table) => alter_add_sql(publication, std::slice::from_ref(table)),
        }
    }
}

impl fmt::Display for PublicationProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operations(missing) => write!(f, "it does not carry {}", missing.join(", ")),
            Self::PartitionRoot(table) => write!(
                f,
                "it carries partitioned table `{}.{}` under the names of its partitions",
                table.schema, table.name
            ),
            Self::RowFilter(table) => {
                write!(f, "its row filter hides rows of `{}.{}`", table.schema, table.name)
            }
            Self::ColumnList(table) => {
                write!(f, "its column list limits `{}.{}`", table.schema, table.name)
            }
            Self::GeneratedColumns(table) => write!(
                f,
                "it leaves out generated columns of the replica identity of `{}.{}`",
                table.schema, table.name
            ),
            Self::Missing(table) => write!(f, "`{}.{}` is not in it", table.schema, table.name),
        }
    }
}

/// Whether the kind of relation can be in a publication.
pub fn is_publishable(table: &Table) -> bool {
    match table.kind {
        TableKind::Table | TableKind::Partitioned => true,
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => false,
    }
}

/// The statement that makes the publication as we need it. `major`: the server's version.
///
/// From PostgreSQL 18 on stored generated columns are carried, too: without them UPDATE of a table
/// that has one and REPLICA IDENTITY FULL fails.
pub fn create_sql(publication: &str, tables: &[Arc<Table>], major: u32) -> String {
    let generated = if major >= 18 { ", publish_generated_columns = stored" } else { "" };
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', \
         publish_via_partition_root = true{generated});",
        quote_identifier(publication),
        qualified_list(tables),
    )
}

/// The statement that adds tables to the publication.
pub fn alter_add_sql(publication: &str, tables: &[Arc<Table>]) -> String {
    let name = quote_identifier(publication);
    format!("ALTER PUBLICATION {name} ADD TABLE {};", qualified_list(tables))
}

/// The statements that solve all of it, one for all missing tables together.
pub fn fix_sql(publication: &str, problems: &[PublicationProblem]) -> String {
    let mut missing = Vec::new();
    let mut statements = Vec::new();
    for problem in problems {
        if let PublicationProblem::Missing(table) = problem {
            missing.push(Arc::clone(table));
            continue;
        }
        let statement = problem.fix(publication);
        if !statements.contains(&statement) {
            statements.push(statement);
        }
    }
    if !missing.is_empty() {
        statements.push(alter_add_sql(publication, &missing));
    }
    statements.join("\n")
}

/// Reads the publication of that name; `None` if there is none.
///
/// # Errors
/// [`CatalogError`] if a query fails or its answer is not understood.
pub async fn read_publication(
    client: &tokio_postgres::Client,
    name: &str,
) -> Result<Option<PublicationState>, CatalogError> {
    let query = query_of(major(client).await?);
    let row = client.query_opt(&query, &[&name]).await.map_err(CatalogError::query(SUBJECT))?;
    let Some(row) = row else { return Ok(None) };
    let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
    serde_json::from_str(text).map(Some).map_err(CatalogError::shape(SUBJECT))
}

/// Makes the publication, or adds the tables that one of ours lacks; one that fits is used as it
/// is, whoever made it. Relations that are in no publication (views, foreign tables) are passed over.
///
/// # Errors
/// [`PublicationError`], with the SQL for whoever may run it.
pub async fn ensure(
    client: &tokio_postgres::Client,
    name: &str,
    tables: &[Arc<Table>],
) -> Result<Outcome, PublicationError> {
    let tables: Vec<_> = tables.iter().filter(|table| is_publishable(table)).cloned().collect();
    let Some(state) = read_publication(client, name).await? else {
        refuse_gaps(&tables)?;
        let sql = create_sql(name, &tables, major(client).await?);
        execute(client, name, sql).await?;
        return Ok(Outcome::Created);
    };
    let problems = state.problems(&tables);
    let missing: Vec<_> = problems
        .iter()
        .filter_map(|problem| match problem {
            PublicationProblem::Missing(table) => Some(Arc::clone(table)),
            PublicationProblem::Operations(_)
            | PublicationProblem::PartitionRoot(_)
            | PublicationProblem::RowFilter(_)
            | PublicationProblem::GeneratedColumns(_)
            | PublicationProblem::ColumnList(_) => None,
        })
        .collect();
    if missing.len() < problems.len() {
        let sql = fix_sql(name, &problems);
        return Err(PublicationError::Unfit { name: name.to_owned(), problems, sql });
    }
    if missing.is_empty() {
        return Ok(Outcome::Fits);
    }
    refuse_gaps(&missing)?;
    execute(client, name, alter_add_sql(name, &missing)).await?;
    Ok(Outcome::Extended(missing.iter().map(|table| table.qualified()).collect()))
}

/// The session's major server version.
///
/// # Errors
/// [`CatalogError`] if it cannot be read.
async fn major(client: &tokio_postgres::Client) -> Result<u32, CatalogError> {
    const QUERY: &str = "select pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    let row = client.query_one(QUERY, &[]).await.map_err(CatalogError::query(SUBJECT))?;
    let version: i32 = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
    Ok(version.unsigned_abs() / 10_000)
}

/// Holds back tables that must not be published.
///
/// # Errors
/// [`PublicationError::NoIdentity`] names them all.
fn refuse_gaps(tables: &[Arc<Table>]) -> Result<(), PublicationError> {
    let gaps: Vec<_> = tables.iter().flat_map(|table| identity_gaps(table)).collect();
    if gaps.is_empty() {
        return Ok(());
    }
    let sql = gaps.iter().map(|gap| gap.sql.as_str()).collect::<Vec<_>>().join("\n");
    Err(PublicationError::NoIdentity { gaps, sql })
}

/// Runs a statement about the publication.
///
/// # Errors
/// [`PublicationError::Denied`] without the right, else [`PublicationError::Statement`].
async fn execute(
    client: &tokio_postgres::Client,
    name: &str,
    sql: String,
) -> Result<(), PublicationError> {
    let name = name.to_owned();
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(source) if is_denied(&source) => Err(PublicationError::Denied { name, sql, source }),
        Err(source) => Err(PublicationError::Statement { name, source }),
    }
}

fn identity_is_generated(table: &Table) -> bool {
    let full = table.identity == ReplicaIdentity::Full
        || table.leaves.iter().any(|leaf| leaf.identity == ReplicaIdentity::Full);
    table
        .columns
        .iter()
        .any(|column| column.generated && (full || table.identity_columns.contains(&column.name)))
}

fn qualified_list(tables: &[Arc<Table>]) -> String {
    tables.iter().map(|table| table.qualified()).collect::<Vec<_>>().join(", ")
}

fn list(problems: &[PublicationProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn names(gaps: &[IdentityGap]) -> String {
    gaps.iter().map(|gap| format!("`{}`", gap.table)).collect::<Vec<_>>().join(", ")
}

/// Row filters and column lists came with PostgreSQL 15. `pg_get_publication_tables` resolves
/// FOR ALL TABLES, FOR TABLES IN SCHEMA and the partition root; since 16 it fills the column list of
/// a table that has none, so lists are read from `pg_publication_rel`.
fn query_of(major: u32) -> String {
    let limits = if major >= 15 {
        "'columns', (
            select pg_catalog.json_agg(a.attname order by a.attnum)
            from pg_catalog.pg_attribute a
            where a.attrelid = r.prrelid and a.attnum = any (r.prattrs::pg_catalog.int2[])),
         'row_filter', pg_catalog.pg_get_expr(r.prqual, r.prrelid),"
    } else {
        ""
    };
    format!(
        r"
select pg_catalog.json_build_object(
    'name', p.pubname,
    'owner', pg_catalog.pg_get_userbyid(p.pubowner),
    'owned', pg_catalog.pg_has_role(p.pubowner, 'usage'),
    'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
    'truncate', p.pubtruncate,
    'via_root', p.pubviaroot,
    'all_tables', p.puballtables,
    'generated', coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's', false),
    'major', {major},
    'named', coalesce((
        select pg_catalog.json_agg(r.prrelid::pg_catalog.int8 order by r.prrelid)
        from pg_catalog.pg_publication_rel r where r.prpubid = p.oid), '[]'),
    'tables', coalesce((
        select pg_catalog.json_agg(pg_catalog.json_build_object(
            {limits}
            'id', g.relid::pg_catalog.int8,
            'name', pg_catalog.format('%I.%I', n.nspname, c.relname)) order by g.relid)
        from pg_catalog.pg_get_publication_tables(p.pubname::pg_catalog.text) g
        join pg_catalog.pg_class c on c.oid = g.relid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = g.relid
    ), '[]')
)::pg_catalog.text
from pg_catalog.pg_publication p
where p.pubname = $1::pg_catalog.text"
    )
}
