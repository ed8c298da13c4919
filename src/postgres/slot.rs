//! Replication slots: their names, their state, whether they are lost, and their end.
//!
//! A slot is made on the replication connection, not here. PostgreSQL keeps no incarnation of a slot,
//! so its name ends in a random suffix that is made with it.

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;

use crate::postgres::Lsn;
use crate::postgres::catalog_query::CatalogError;

const SUBJECT: &str = "the replication slots";
/// `NAMEDATALEN - 1`.
const NAME_LIMIT: usize = 63;
/// Letters of the suffix: 32 of them make 40 bits in eight.
const SUFFIX_LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SUFFIX_LENGTH: usize = 8;
/// Hexadecimal digits that tell apart names which differ in what a slot name cannot hold.
const DIGEST_LENGTH: usize = 8;

/// Name of a replication slot: 1 to 63 of `a-z`, `0-9` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotName(String);

/// What the names of one service's slots in one database begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPrefix(String);

/// Text that names no slot.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is no slot name, expected 1 to 63 of `a-z`, `0-9` and `_`")]
pub struct InvalidSlotName {
    name: String,
}

/// Why a slot could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropSlotError {
    /// Another connection streams from it.
    #[error("replication slot `{slot}` is in use")]
    Active {
        /// The slot.
        slot: SlotName,
        /// The server's answer, which names the process.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The role has no REPLICATION right.
    #[error("no right to drop replication slot `{slot}`")]
    Denied {
        /// The slot.
        slot: SlotName,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The query failed otherwise.
    #[error("cannot drop replication slot `{slot}`")]
    Query {
        /// The slot.
        slot: SlotName,
        /// The server's or the connection's answer.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// What became of a slot that was to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It was there and is gone.
    Gone,
    /// There was none of that name.
    Absent,
}

/// `pg_replication_slots.wal_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Past `max_wal_size`, still kept.
    Extended,
    /// To be removed at the next checkpoint, unless the slot moves on.
    Unreserved,
    /// Removed: the slot is of no use any more.
    Lost,
}

/// A logical slot as the server describes it.
///
/// Fields of newer servers have their older meaning by default: `failover` and `synced` (17) are
/// false, `invalidation_reason` (17) and `conflicting` (16) absent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SlotState {
    /// Name.
    #[serde(rename = "slot_name")]
    pub name: SlotName,
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Database; `None` for a physical slot.
    pub database: Option<String>,
    /// Whether it goes with its session.
    pub temporary: bool,
    /// Process that streams from it.
    pub active_pid: Option<i32>,
    /// Oldest transaction whose catalog rows vacuum must keep.
    pub catalog_xmin: Option<String>,
    /// Oldest WAL the slot keeps; `None` once the WAL is lost or before it is reserved.
    pub restart_lsn: Option<Lsn>,
    /// Up to where its reader reported; `None` while the slot is being made.
    #[serde(rename = "confirmed_flush_lsn")]
    pub confirmed_flush: Option<Lsn>,
    /// Whether its WAL is still there; `None` before it is reserved.
    pub wal_status: Option<WalStatus>,
    /// Bytes of WAL that may yet be written before the slot is in danger; `None` if there is no limit.
    pub safe_wal_size: Option<i64>,
    /// Why it was invalidated (17 and later).
    #[serde(default)]
    pub invalidation_reason: Option<String>,
    /// Whether it was invalidated by a conflict with recovery (16 and later).
    #[serde(default)]
    pub conflicting: Option<bool>,
    /// Since when nothing streams from it (17 and later), as the server writes it.
    #[serde(default)]
    pub inactive_since: Option<String>,
    /// Whether standbys get a copy (17 and later).
    #[serde(default)]
    pub failover: bool,
    /// Whether it is such a copy (17 and later).
    #[serde(default)]
    pub synced: bool,
}

/// Why a slot is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotLoss {
    /// The WAL it needs was removed: `max_slot_wal_keep_size` was exceeded.
    WalRemoved,
    /// Catalog rows it needs were removed (a slot on a standby).
    RowsRemoved,
    /// `wal_level` was lowered.
    WalLevelLowered,
    /// `idle_timeout`: nobody read from it for `idle_replication_slot_timeout` (18 and later).
    IdleTimeout,
    /// A conflict with recovery that PostgreSQL 16 does not explain.
    Conflict,
    /// A reason that PostgreSQL 14–18 does not give, as the server writes it.
    Unknown(String),
}

impl SlotPrefix {
    /// The prefix for a service (`--name`) in a database.
    ///
    /// What a slot name cannot hold becomes `_`; where that, or a cut to fit, loses something, a
    /// digest of the full names keeps different ones apart.
    pub fn new(service: &str, database: &str) -> Self {
        let exact = format!("{service}_{database}");
        let longest = NAME_LIMIT - SUFFIX_LENGTH - 1;
        let mut base: String =
            exact.chars().map(|letter| if is_allowed(letter) { letter } else { '_' }).collect();
        if base != exact || base.len() > longest {
            let digest = hex(&Sha256::digest(format!("{service}\0{database}")));
            base.truncate(longest - DIGEST_LENGTH - 1);
            base = format!("{base}_{}", digest.chars().take(DIGEST_LENGTH).collect::<String>());
        }
        Self(format!("{base}_"))
    }

    /// A name that no other slot has or had.
    pub fn new_slot_name(&self) -> SlotName {
        let mut random = rand::rng();
        let letters = (0..SUFFIX_LENGTH).filter_map(|_| {
            SUFFIX_LETTERS
                .get(random.random_range(0..SUFFIX_LETTERS.len()))
                .copied()
                .map(char::from)
        });
        SlotName(self.0.chars().chain(letters).collect())
    }

    /// Whether the name is this prefix and a suffix of ours: not that of a service whose name is longer.
    pub fn matches(&self, name: &SlotName) -> bool {
        name.0.strip_prefix(&self.0).is_some_and(|suffix| {
            suffix.len() == SUFFIX_LENGTH
                && suffix.bytes().all(|letter| SUFFIX_LETTERS.contains(&letter))
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SlotName {
    /// A name given from outside.
    ///
    /// # Errors
    /// If the server would refuse it.
    pub fn parse(name: &str) -> Result<Self, InvalidSlotName> {
        let fits = (1..=NAME_LIMIT).contains(&name.len()) && name.chars().all(is_allowed);
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidSlotName { name: name.to_owned() })
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SlotState {
    /// Why nothing can be streamed from it any more; `None` if it is usable.
    ///
    /// Before PostgreSQL 17 the status alone tells, and its only cause is removed WAL.
    pub fn loss(&self) -> Option<SlotLoss> {
        match self.invalidation_reason.as_deref() {
            Some("wal_removed") => return Some(SlotLoss::WalRemoved),
            Some("rows_removed") => return Some(SlotLoss::RowsRemoved),
            Some("wal_level_insufficient") => return Some(SlotLoss::WalLevelLowered),
            Some("idle_timeout") => return Some(SlotLoss::IdleTimeout),
            Some(reason) => return Some(SlotLoss::Unknown(reason.to_owned())),
            None => {}
        }
        if self.conflicting == Some(true) {
            return Some(SlotLoss::Conflict);
        }
        (self.wal_status == Some(WalStatus::Lost)).then_some(SlotLoss::WalRemoved)
    }
}

impl fmt::Display for SlotLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WalRemoved => f.write_str("its WAL was removed (`max_slot_wal_keep_size`)"),
            Self::RowsRemoved => f.write_str("catalog rows it needs were removed"),
            Self::WalLevelLowered => f.write_str("`wal_level` was lowered below `logical`"),
            Self::IdleTimeout => f.write_str("it was idle for `idle_replication_slot_timeout`"),
            Self::Conflict => f.write_str("it conflicted with recovery"),
            Self::Unknown(reason) => write!(f, "the server says `{reason}`"),
        }
    }
}

/// Our pgoutput slots in the session's database, lost ones too, by name.
///
/// # Errors
/// [`CatalogError`] if the query fails or its answer is not understood.
pub async fn find_slots(
    client: &tokio_postgres::Client,
    prefix: &SlotPrefix,
) -> Result<Vec<SlotState>, CatalogError> {
    const QUERY: &str = "select pg_catalog.to_jsonb(s)::pg_catalog.text \
        from pg_catalog.pg_replication_slots s \
        where pg_catalog.starts_with(s.slot_name::pg_catalog.text, $1) and s.plugin = 'pgoutput' \
        and s.database = pg_catalog.current_database() and not s.temporary order by s.slot_name";
    let rows =
        client.query(QUERY, &[&prefix.as_str()]).await.map_err(CatalogError::query(SUBJECT))?;
    let mut slots = rows.iter().map(state).collect::<Result<Vec<_>, _>>()?;
    slots.retain(|slot| prefix.matches(&slot.name));
    Ok(slots)
}

/// The slot of that name; `None` if there is none.
///
/// # Errors
/// [`CatalogError`] if the query fails or its answer is not understood.
pub async fn read_slot(
    client: &tokio_postgres::Client,
    name: &SlotName,
) -> Result<Option<SlotState>, CatalogError> {
    const QUERY: &str = "select pg_catalog.to_jsonb(s)::pg_catalog.text \
        from pg_catalog.pg_replication_slots s where s.slot_name = $1::pg_catalog.text";
    let row =
        client.query_opt(QUERY, &[&name.as_str()]).await.map_err(CatalogError::query(SUBJECT))?;
    row.as_ref().map(state).transpose()
}

/// Drops the slot.
///
/// # Errors
/// [`DropSlotError::Active`] if somebody streams from it, [`DropSlotError::Denied`] without the
/// REPLICATION right, [`DropSlotError::Query`] otherwise.
pub async fn drop_slot(
    client: &tokio_postgres::Client,
    name: &SlotName,
) -> Result<Dropped, DropSlotError> {
    const QUERY: &str = "select pg_catalog.pg_drop_replication_slot($1::pg_catalog.text)";
    let Err(source) = client.execute(QUERY, &[&name.as_str()]).await else {
        return Ok(Dropped::Gone);
    };
    let slot = name.clone();
    match source.code() {
        Some(code) if *code == SqlState::UNDEFINED_OBJECT => Ok(Dropped::Absent),
        Some(code) if *code == SqlState::OBJECT_IN_USE => {
            Err(DropSlotError::Active { slot, source })
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Err(DropSlotError::Denied { slot, source })
        }
        Some(_) | None => Err(DropSlotError::Query { slot, source }),
    }
}

/// The slot in a row.
///
/// # Errors
/// [`CatalogError::Shape`] if it is not understood.
fn state(row: &tokio_postgres::Row) -> Result<SlotState, CatalogError> {
    let text: &str = row.try_get(0).map_err(CatalogError::query(SUBJECT))?;
    serde_json::from_str(text).map_err(CatalogError::shape(SUBJECT))
}

fn is_allowed(letter: char) -> bool {
    matches!(letter, 'a'..='z' | '0'..='9' | '_')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_name_is_service_database_and_suffix() {
        let prefix = SlotPrefix::new("pgsyncd", "shop");
        assert_eq!(prefix.as_str(), "pgsyncd_shop_");
        let name = prefix.new_slot_name();
        assert!(SlotName::parse(name.as_str()).is_ok(), "{name}");
        assert!(prefix.matches(&name));
        assert_ne!(name, prefix.new_slot_name());
    }

    #[test]
    fn names_that_lose_letters_stay_apart_and_fit() {
        let long = "d".repeat(63);
        let prefixes =
            [("pgsyncd", "Shop"), ("pgsyncd", "sHop"), ("a-b", "x"), ("a.b", "x"), ("a", &long)]
                .map(|(service, database)| SlotPrefix::new(service, database));
        for (n, prefix) in prefixes.iter().enumerate() {
            assert!(SlotName::parse(prefix.new_slot_name().as_str()).is_ok(), "{prefix:?}");
            assert!(!prefixes.iter().skip(n + 1).any(|other| other == prefix), "{prefix:?}");
        }
    }

    #[test]
    fn a_longer_service_name_is_not_ours() {
        let ours = SlotPrefix::new("a", "d");
        let theirs = SlotPrefix::new("a_d", "d").new_slot_name();
        assert!(theirs.as_str().starts_with(ours.as_str()));
        assert!(!ours.matches(&theirs));
    }

    /// What servers of these versions said of a slot whose WAL they had removed.
    const LOST: [&str; 3] = [
        r#"{"xmin": null, "active": false, "datoid": "5", "plugin": "pgoutput", "database": "postgres",
            "slot_name": "lost1", "slot_type": "logical", "temporary": false, "two_phase": false,
            "active_pid": null, "wal_status": "lost", "restart_lsn": null, "catalog_xmin": "852",
            "safe_wal_size": null, "confirmed_flush_lsn": "0/501BBB8"}"#,
        r#"{"xmin": null, "active": false, "datoid": "5", "plugin": "pgoutput", "synced": false,
            "database": "postgres", "failover": false, "slot_name": "lost1", "slot_type": "logical",
            "temporary": false, "two_phase": false, "active_pid": null, "wal_status": "lost",
            "conflicting": false, "restart_lsn": null, "catalog_xmin": "858", "safe_wal_size": null,
            "inactive_since": "2026-11-21T12:08:14.540496+00:00", "confirmed_flush_lsn": "0/501BBB8",
            "invalidation_reason": "wal_removed"}"#,
        r#"{"xmin": null, "active": false, "datoid": "5", "plugin": "pgoutput", "synced": false,
            "database": "postgres", "failover": false, "slot_name": "lost1", "slot_type": "logical",
            "temporary": false, "two_phase": false, "active_pid": null, "wal_status": "lost",
            "conflicting": false, "restart_lsn": null, "catalog_xmin": "893", "two_phase_at": null,
            "safe_wal_size": null, "inactive_since": "2026-11-21T12:08:14.580541+00:00",
            "confirmed_flush_lsn": "0/501BBB8", "invalidation_reason": "wal_removed"}"#,
    ];

    #[test]
    fn a_lost_slot_is_known_by_what_versions_15_17_and_18_say() {
        for text in LOST {
            let state: SlotState = serde_json::from_str(text).unwrap();
            assert_eq!(state.confirmed_flush, Some("0/501BBB8".parse().unwrap()));
            assert_eq!((state.restart_lsn, state.loss()), (None, Some(SlotLoss::WalRemoved)));
        }
    }

    #[test]
    fn the_reason_of_a_loss_is_kept_where_the_server_gives_one() {
        let state = |text: &str| serde_json::from_str::<SlotState>(text).unwrap();
        let idle = LOST[2].replace("wal_removed", "idle_timeout");
        assert_eq!(state(&idle).loss(), Some(SlotLoss::IdleTimeout));
        let level = LOST[2].replace("wal_removed", "wal_level_insufficient");
        assert_eq!(state(&level).loss(), Some(SlotLoss::WalLevelLowered));
        let conflict = LOST[0].replace("\"active\": false", "\"conflicting\": true");
        assert_eq!(state(&conflict).loss(), Some(SlotLoss::Conflict));
        let kept = LOST[0].replace("\"lost\"", "\"unreserved\"");
        assert_eq!(state(&kept).loss(), None, "it may still be saved");
    }
}
