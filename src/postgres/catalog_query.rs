//! Reads the [`Catalog`] by one query: tables, columns, keys, identities, leaves, foreign keys.
//!
//! The server builds each table as one JSON object of the shape of [`Table`], so a list inside a
//! table costs no further round trip. Every name is qualified: the session's search path is empty.

use crate::postgres::{Catalog, RelationId, Table};

/// Why the catalog, or another fact about the server, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The query failed.
    #[error("cannot read {subject} from PostgreSQL")]
    Query {
        /// What was asked for.
        subject: &'static str,
        /// The server's or the connection's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The answer is none that PostgreSQL 14–18 gives.
    #[error("PostgreSQL described {subject} in an unknown way")]
    Shape {
        /// What was asked for.
        subject: &'static str,
        /// Where the answer differs.
        #[source]
        source: serde_json::Error,
    },
    /// A WAL position in the answer cannot be read.
    #[error("PostgreSQL gave no WAL position for {subject}")]
    Lsn {
        /// What was asked for.
        subject: &'static str,
        /// The text.
        #[source]
        source: crate::postgres::lsn::InvalidLsn,
    },
}

impl CatalogError {
    /// For `map_err`: a failed query about `subject`.
    pub(crate) fn query(subject: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Query { subject, source }
    }

    /// For `map_err`: a text about `subject` that is no WAL position.
    pub(crate) fn lsn(subject: &'static str) -> impl Fn(crate::postgres::lsn::InvalidLsn) -> Self {
        move |source| Self::Lsn { subject, source }
    }

    /// For `map_err`: JSON about `subject` that does not fit.
    pub(crate) fn shape(subject: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Shape { subject, source }
    }
}

/// Reads the tables, partitioned tables, views, materialised views and foreign tables of the
/// database, or only those `wanted`; an oid that no longer exists is absent from the answer.
///
/// The system schemas and temporary tables are left out. Each partition is a table of its own, too.
///
/// # Errors
/// [`CatalogError::Query`] if the query fails, [`CatalogError::Shape`] if its answer is not understood.
pub async fn load_catalog(
    client: &tokio_postgres::Client,
    wanted: Option<&[RelationId]>,
) -> Result<Catalog, CatalogError> {
    const SUBJECT: &str = "the tables of the database";
    let wanted: Option<Vec<u32>> = wanted.map(|ids| ids.iter().map(|id| id.0).collect());
    let rows = client.query(TABLES, &[&wanted]).await.map_err(CatalogError::query(SUBJECT))?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
        tables.push(serde_json::from_str::<Table>(text).map_err(CatalogError::shape(SUBJECT))?);
    }
    Ok(Catalog::new(tables))
}

/// One row per table: a JSON object with the fields of [`Table`]. `$1`: oids, or null for all.
///
/// * `identity`: an index serves only if it is valid and immediate, so a DEFERRABLE primary key is
///   none (`RelationGetIndexList`, tried: UPDATE of a published table fails).
/// * `declared`: beside the key as it was declared, `pg_constraint` holds one row for each partition
///   of the *referenced* table; those have a parent that points elsewhere. A partition's copy of its
///   parent's foreign key points to the same table and stays.
/// * `conperiod` (PostgreSQL 18) marks a temporal key, which is no equality; older rows lack it.
const TABLES: &str = r#"
with recursive
wanted as (
    select c.oid, c.relname, n.nspname, c.relkind, c.relreplident, c.relrowsecurity, c.relowner
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
      and n.nspname !~ '^pg_(toast_)?temp_'
      and ($1::oid[] is null or c.oid = any ($1::oid[]))
),
domain_step (domain, type) as (
    select t.oid, t.typbasetype from pg_catalog.pg_type t where t.typtype = 'd'
    union all
    select s.domain, t.typbasetype
    from domain_step s join pg_catalog.pg_type t on t.oid = s.type and t.typtype = 'd'
),
base (domain, type) as (
    select s.domain, s.type
    from domain_step s join pg_catalog.pg_type t on t.oid = s.type and t.typtype <> 'd'
),
descendant (root, oid) as (
    select w.oid, i.inhrelid
    from wanted w
    join pg_catalog.pg_inherits i on i.inhparent = w.oid and not i.inhdetachpending
    where w.relkind = 'p'
    union all
    select d.root, i.inhrelid
    from descendant d
    join pg_catalog.pg_class c on c.oid = d.oid and c.relkind = 'p'
    join pg_catalog.pg_inherits i on i.inhparent = d.oid and not i.inhdetachpending
),
leaf as (
    select d.root, c.oid, n.nspname, c.relname, c.relreplident
    from descendant d
    join pg_catalog.pg_class c on c.oid = d.oid and c.relkind <> 'p'
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
),
key as (
    select i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate,
           (select pg_catalog.json_agg(a.attname order by k.position)
            from pg_catalog.unnest(i.indkey::pg_catalog.int2[]) with ordinality k (number, position)
            join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
            where k.position <= i.indnkeyatts) as columns
    from pg_catalog.pg_index i
    where i.indisvalid and (i.indisprimary or i.indisreplident)
      and i.indrelid in (select oid from wanted union all select oid from leaf)
),
identity as (
    select c.oid, k.columns
    from (select oid, relreplident from wanted union select oid, relreplident from leaf) c
    join key k on k.indrelid = c.oid and k.indimmediate
     and ((c.relreplident = 'd' and k.indisprimary) or (c.relreplident = 'i' and k.indisreplident))
),
declared (oid, target) as (
    select f.oid, f.confrelid
    from pg_catalog.pg_constraint f where f.contype = 'f' and f.conparentid = 0
    union all
    select f.oid, f.confrelid
    from declared d
    join pg_catalog.pg_constraint f
      on f.conparentid = d.oid and f.contype = 'f' and f.confrelid = d.target
),
word (letter, identity) as (
    values ('d'::"char", 'default'), ('n', 'nothing'), ('f', 'full'), ('i', 'index')
),
leaves as (
    select l.root, pg_catalog.json_agg(pg_catalog.json_build_object(
        'id', l.oid::pg_catalog.int8,
        'name', pg_catalog.format('%I.%I', l.nspname, l.relname),
        'identity', word.identity,
        'identity_columns', coalesce(i.columns, '[]')) order by l.oid) as leaves
    from leaf l
    join word on word.letter = l.relreplident
    left join identity i on i.oid = l.oid
    group by l.root
),
foreign_keys as (
    select f.conrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', f.conname,
        'target', f.confrelid::pg_catalog.int8,
        'columns', (
            select pg_catalog.json_agg(a.attname order by k.position)
            from pg_catalog.unnest(f.conkey) with ordinality k (number, position)
            join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number),
        'target_columns', (
            select pg_catalog.json_agg(a.attname order by k.position)
            from pg_catalog.unnest(f.confkey) with ordinality k (number, position)
            join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.number)
        ) order by f.conname) as foreign_keys
    from pg_catalog.pg_constraint f
    join declared d on d.oid = f.oid
    where f.conrelid in (select oid from wanted)
      and not coalesce((pg_catalog.to_jsonb(f) ->> 'conperiod')::pg_catalog.bool, false)
    group by f.conrelid
)
select pg_catalog.json_build_object(
    'id', w.oid::pg_catalog.int8,
    'schema', w.nspname,
    'name', w.relname,
    'kind', w.relkind,
    'owner', pg_catalog.pg_get_userbyid(w.relowner),
    'row_security', w.relrowsecurity,
    'identity', word.identity,
    'identity_columns', coalesce(i.columns, '[]'),
    'primary_key', coalesce(p.columns, '[]'),
    'leaves', coalesce(l.leaves, '[]'),
    'foreign_keys', coalesce(f.foreign_keys, '[]'),
    'columns', coalesce((
        select pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', a.attname,
            'number', a.attnum,
            'type_oid', t.oid::pg_catalog.int8,
            'type_name', pg_catalog.format_type(t.oid, -1),
            'type_category', t.typcategory,
            'not_null', a.attnotnull,
            'generated', a.attgenerated <> '') order by a.attnum)
        from pg_catalog.pg_attribute a
        left join base b on b.domain = a.atttypid
        join pg_catalog.pg_type t on t.oid = coalesce(b.type, a.atttypid)
        where a.attrelid = w.oid and a.attnum > 0 and not a.attisdropped), '[]')
)::pg_catalog.text
from wanted w
join word on word.letter = w.relreplident
left join identity i on i.oid = w.oid
left join key p on p.indrelid = w.oid and p.indisprimary
left join leaves l on l.root = w.oid
left join foreign_keys f on f.conrelid = w.oid
order by w.oid"#;
