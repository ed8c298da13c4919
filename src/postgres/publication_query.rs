//! Reads the publication and makes it.
//!
//! [`ensure`] and [`drop_publication`] are the only functions of the ground that change the user's
//! database beside the slot's. The first makes the publication or adds tables to it; anything else about one that exists is its owner's
//! choice and only named.

use std::sync::Arc;

use crate::postgres::catalog_query::CatalogError;
use crate::postgres::identity::{IdentityGap, identity_gaps};
use crate::postgres::publication::{
    PublicationProblem, PublicationState, alter_add_sql, create_sql, fix_sql, is_publishable,
};
use crate::postgres::server::is_denied;
use crate::postgres::{Table, quote_identifier};

const SUBJECT: &str = "the publication";

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
    /// It could not be dropped.
    #[error("cannot drop publication `{name}`")]
    Undropped {
        /// The publication.
        name: String,
        /// The server's or the connection's answer.
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
            Self::Catalog(_) | Self::Undropped { .. } | Self::Statement { .. } => None,
        }
    }
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

/// Drops the publication, if it is there.
///
/// # Errors
/// [`PublicationError`] if the server refuses.
pub async fn drop_publication(
    client: &tokio_postgres::Client,
    name: &str,
) -> Result<(), PublicationError> {
    let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_identifier(name));
    let name = name.to_owned();
    client.batch_execute(&sql).await.map_err(|source| PublicationError::Undropped { name, source })
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
