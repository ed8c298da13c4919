//! Facts about the server, the session's role and its database: what preflight judges and the
//! checkpoint compares. Read by ordinary SQL, nothing is changed.

use std::time::Duration;

use serde::Deserialize;

use crate::postgres::Lsn;
use crate::postgres::catalog_query::CatalogError;
use crate::postgres::lsn::InvalidLsn;

const SUBJECT: &str = "the server's settings";

/// What the server says about itself and about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`, such as 170011.
    pub version_num: u32,
    /// Identifier of the cluster; `None` if the role may not execute `pg_control_system()`
    /// (everybody may by default): then `IDENTIFY_SYSTEM` tells, see [`ServerFacts::identified_by`].
    pub system_identifier: Option<u64>,
    /// Timeline. On a primary it is the one being written; on a standby the last checkpoint's, or
    /// `None` if the role may not execute `pg_control_checkpoint()`.
    pub timeline: Option<u32>,
    /// When the postmaster started, in UTC: it changes with every restart.
    pub postmaster_started: String,
    /// Setting `wal_level`.
    pub wal_level: String,
    /// Setting `max_replication_slots`.
    pub max_replication_slots: u32,
    /// Slots that exist, in all databases.
    pub used_slots: u32,
    /// Setting `max_wal_senders`.
    pub max_wal_senders: u32,
    /// WAL senders at work.
    pub used_senders: u32,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// End of the WAL written so far; on a standby, of the WAL replayed.
    pub wal_insert: Lsn,
    /// End of the WAL flushed; on a standby, of the WAL received.
    pub wal_flush: Lsn,
    /// The role whose rights count.
    pub role: String,
    /// Whether it is a superuser.
    pub role_superuser: bool,
    /// Whether it may replicate: by its REPLICATION attribute, as superuser, or by membership in the
    /// role that stands for the right on a managed server (`rds_replication`).
    pub role_replication: bool,
    /// The database.
    pub database: String,
    /// Setting `max_slot_wal_keep_size` in bytes; `None` if slots may keep any amount.
    pub max_slot_wal_keep_size: Option<u64>,
    /// Setting `wal_sender_timeout`; `None` if the server waits for ever.
    pub wal_sender_timeout: Option<Duration>,
}

/// The query's answer, as JSON.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
struct Answer {
    version_num: u32,
    timeline: Option<String>,
    postmaster_started: String,
    wal_level: String,
    max_replication_slots: u32,
    used_slots: u32,
    max_wal_senders: u32,
    used_senders: u32,
    in_recovery: bool,
    wal_insert: Option<String>,
    wal_flush: Option<String>,
    role: String,
    role_superuser: bool,
    role_replication: bool,
    database: String,
    max_slot_wal_keep_megabytes: i64,
    wal_sender_timeout_milliseconds: u64,
    may_read_system: bool,
    may_read_checkpoint: bool,
}

impl ServerFacts {
    /// Fills what the role may not read by SQL from an answer of `IDENTIFY_SYSTEM`.
    #[must_use]
    pub fn identified_by(mut self, system_identifier: u64, timeline: u32) -> Self {
        self.system_identifier = self.system_identifier.or(Some(system_identifier));
        self.timeline = self.timeline.or(Some(timeline));
        self
    }

    /// Major version, such as 17.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// Reads the facts by an ordinary connection.
///
/// # Errors
/// [`CatalogError`] if a query fails or its answer is not understood. A missing right to the
/// `pg_control_*` functions is no error: the fields are `None`.
pub async fn read_server(client: &tokio_postgres::Client) -> Result<ServerFacts, CatalogError> {
    let row = client.query_one(FACTS, &[]).await.map_err(CatalogError::query(SUBJECT))?;
    let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
    let answer: Answer = serde_json::from_str(text).map_err(CatalogError::shape(SUBJECT))?;
    let system =
        if answer.may_read_system { control(client, SYSTEM_IDENTIFIER).await? } else { None };
    let checkpoint = if answer.may_read_checkpoint && answer.timeline.is_none() {
        control(client, CHECKPOINT_TIMELINE).await?
    } else {
        None
    };
    let mut facts =
        facts(answer).map_err(|source| CatalogError::Lsn { subject: SUBJECT, source })?;
    facts.system_identifier = system.map(i64::cast_unsigned);
    facts.timeline =
        facts.timeline.or(checkpoint.and_then(|timeline| u32::try_from(timeline).ok()));
    Ok(facts)
}

/// One number from a `pg_control_*` function; `None` if the right was taken away in between.
///
/// # Errors
/// [`CatalogError::Query`] if the query fails otherwise.
async fn control(
    client: &tokio_postgres::Client,
    query: &str,
) -> Result<Option<i64>, CatalogError> {
    match client.query_one(query, &[]).await {
        Ok(row) => row.try_get(0).map(Some).map_err(CatalogError::query(SUBJECT)),
        Err(error) if is_denied(&error) => Ok(None),
        Err(error) => Err(CatalogError::query(SUBJECT)(error)),
    }
}

/// Whether the server refused for want of a right (SQLSTATE 42501).
pub(crate) fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
}

/// The facts in the answer, without what the control functions tell.
///
/// # Errors
/// If a position is none.
fn facts(answer: Answer) -> Result<ServerFacts, InvalidLsn> {
    let lsn = |text: Option<String>| text.map_or(Ok(Lsn::default()), |text| text.parse());
    let timeout = Duration::from_millis(answer.wal_sender_timeout_milliseconds);
    Ok(ServerFacts {
        version_num: answer.version_num,
        system_identifier: None,
        timeline: answer.timeline.and_then(|digits| u32::from_str_radix(&digits, 16).ok()),
        postmaster_started: answer.postmaster_started,
        wal_level: answer.wal_level,
        max_replication_slots: answer.max_replication_slots,
        used_slots: answer.used_slots,
        max_wal_senders: answer.max_wal_senders,
        used_senders: answer.used_senders,
        in_recovery: answer.in_recovery,
        wal_insert: lsn(answer.wal_insert)?,
        wal_flush: lsn(answer.wal_flush)?,
        role: answer.role,
        role_superuser: answer.role_superuser,
        role_replication: answer.role_replication,
        database: answer.database,
        max_slot_wal_keep_size: u64::try_from(answer.max_slot_wal_keep_megabytes)
            .ok()
            .map(|megabytes| megabytes.saturating_mul(1024 * 1024)),
        wal_sender_timeout: (!timeout.is_zero()).then_some(timeout),
    })
}

/// The signed form of an unsigned 64-bit identifier, as the function returns it.
const SYSTEM_IDENTIFIER: &str = "select system_identifier from pg_catalog.pg_control_system()";
const CHECKPOINT_TIMELINE: &str =
    "select timeline_id::pg_catalog.int8 from pg_catalog.pg_control_checkpoint()";

/// On a primary the timeline is read from the name of the WAL file being written: the control file
/// names the last checkpoint's, which lags behind a promotion. In `case`, as these functions fail on
/// a standby.
const FACTS: &str = r#"
select pg_catalog.json_build_object(
    'version_num', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    'timeline', case when not standby then
        pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) end,
    'postmaster_started', pg_catalog.to_char(
        pg_catalog.pg_postmaster_start_time() at time zone 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'wal_level', pg_catalog.current_setting('wal_level'),
    'max_replication_slots', pg_catalog.current_setting('max_replication_slots')::pg_catalog.int4,
    'used_slots', (select pg_catalog.count(*) from pg_catalog.pg_replication_slots),
    'max_wal_senders', pg_catalog.current_setting('max_wal_senders')::pg_catalog.int4,
    'used_senders', (select pg_catalog.count(*) from pg_catalog.pg_stat_replication),
    'in_recovery', standby,
    'wal_insert', case when standby then pg_catalog.pg_last_wal_replay_lsn()
        else pg_catalog.pg_current_wal_insert_lsn() end,
    'wal_flush', case when standby then pg_catalog.pg_last_wal_receive_lsn()
        else pg_catalog.pg_current_wal_flush_lsn() end,
    'role', role.rolname,
    'role_superuser', role.rolsuper,
    'role_replication', role.rolsuper or role.rolreplication or exists (
        select from pg_catalog.pg_roles managed where managed.rolname = 'rds_replication'
        and pg_catalog.pg_has_role(role.oid, managed.oid, 'member')),
    'database', pg_catalog.current_database(),
    'max_slot_wal_keep_megabytes', (select setting::pg_catalog.int8
        from pg_catalog.pg_settings where name = 'max_slot_wal_keep_size'),
    'wal_sender_timeout_milliseconds', (select setting::pg_catalog.int8
        from pg_catalog.pg_settings where name = 'wal_sender_timeout'),
    'may_read_system', pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute'),
    'may_read_checkpoint',
        pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'execute')
)::pg_catalog.text
from pg_catalog.pg_roles role, pg_catalog.pg_is_in_recovery() as standby
where role.rolname = current_user"#;
