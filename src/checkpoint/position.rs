//! What the checkpoint store keeps: the position, the state of each document entry, and the
//! documents that were held back. Plain values and their JSON; no I/O.

use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::plan::RootKey;
use crate::postgres::{Lsn, Snapshot};
use crate::schema::tree::IndexName;

/// The JSON format of everything in the store. A store of a later format is refused, not guessed at.
const FORMAT: u32 = 1;

/// The position up to which everything is written, and the life of the server it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// `system_identifier` of the cluster.
    pub system_identifier: String,
    /// The timeline that was streamed.
    pub timeline: u32,
    /// The slot, random suffix included: its incarnation.
    pub slot: String,
    /// Rises with each life of the server; from 1.
    pub generation: u64,
    /// Everything up to here is written.
    pub lsn: Lsn,
    /// `pg_postmaster_start_time()` as text.
    pub postmaster_started: String,
    /// When it was saved, by our clock.
    pub saved_at: SystemTime,
}

/// What orders checkpoints: a later generation wins, then a later LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The generation.
    pub generation: u64,
    /// The LSN in it.
    pub lsn: Lsn,
}

/// What is known of one document entry's index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    /// The index as the user knows it.
    pub index: IndexName,
    /// The index behind it, `index-YYYYMMDDhhmmss`.
    pub concrete: String,
    /// [`crate::schema::SchemaTree::digest`] that `concrete` was filled with.
    pub schema_digest: String,
    /// [`crate::schema::SchemaTree::shape`] that `concrete` was filled with.
    pub shape_digest: String,
    /// How far its first load is.
    pub load: LoadState,
}

/// How far the first load of an index is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LoadState {
    /// Key ranges are being read.
    Running {
        /// What the slot's first snapshot saw; `None` if nothing older than the stream matters.
        floor: Option<Snapshot>,
        /// Every root row up to this key is written; `None` before the first range.
        done_upto: Option<RootKey>,
        /// Root rows up to `done_upto`.
        rows: u64,
        /// Ranges up to `done_upto`, over all starts of this load.
        ranges: u64,
    },
    /// Every row is written and the index serves.
    Done,
}

/// How far a running load came. Kept apart from [`EntryState`], so that the checkpoint stage, which
/// writes this, and whoever starts and ends loads, who writes that, never undo each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadProgress {
    /// Whose load.
    pub index: IndexName,
    /// The index that it fills.
    pub concrete: String,
    /// As in [`LoadState::Running`].
    pub done_upto: Option<RootKey>,
    /// As in [`LoadState::Running`].
    pub rows: u64,
    /// As in [`LoadState::Running`].
    pub ranges: u64,
}

/// A document that the search engine did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Index as the user knows it.
    pub index: IndexName,
    /// `_id`.
    pub id: String,
    /// The root row, for replays.
    pub key: RootKey,
    /// Why, in the words of who refused it.
    pub reason: String,
    /// When, by our clock.
    pub at: SystemTime,
    /// The change that led to it; `None` in a load.
    pub lsn: Option<Lsn>,
}

impl Checkpoint {
    /// What orders it among other checkpoints.
    pub fn position(&self) -> Position {
        Position { generation: self.generation, lsn: self.lsn }
    }
}

impl Position {
    /// The position as forty decimal digits, whose order as text is the order of positions.
    ///
    /// Redis compares it in Lua, where numbers are doubles and strings compare by the server's
    /// locale: digits of equal number are the same everywhere.
    pub fn sortable(self) -> String {
        format!("{:020}{:020}", self.generation, self.lsn.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in generation {}", self.lsn, self.generation)
    }
}

impl EntryState {
    /// Brings a running load of the same index up to `progress`; anything else is left as it is.
    pub fn advance(&mut self, progress: LoadProgress) {
        if progress.concrete != self.concrete {
            return;
        }
        if let LoadState::Running { done_upto, rows, ranges, .. } = &mut self.load {
            *done_upto = progress.done_upto;
            *rows = progress.rows;
            *ranges = progress.ranges;
        }
    }
}

/// A value with the format it was written in.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    value: T,
}

/// Only the format, read first: a later format may have another shape.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// The JSON of `value` for the store; `what` names it in errors.
pub(super) fn to_json<T: Serialize>(
    what: &'static str,
    value: &T,
) -> Result<String, CheckpointError> {
    serde_json::to_string(&Versioned { version: FORMAT, value })
        .map_err(|source| CheckpointError::Unreadable { what, source })
}

/// The value of JSON from the store; `what` names it in errors.
pub(super) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    json: &[u8],
) -> Result<T, CheckpointError> {
    let unreadable = |source| CheckpointError::Unreadable { what, source };
    let VersionOnly { version } = serde_json::from_slice(json).map_err(unreadable)?;
    if version > FORMAT {
        return Err(CheckpointError::LaterFormat { what, found: version, known: FORMAT });
    }
    let versioned: Versioned<T> = serde_json::from_slice(json).map_err(unreadable)?;
    Ok(versioned.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> EntryState {
        EntryState {
            index: IndexName("books".to_owned()),
            concrete: "books-20260101000000".to_owned(),
            schema_digest: "a".to_owned(),
            shape_digest: "b".to_owned(),
            load: LoadState::Running {
                floor: "726:730:726,728".parse().ok(),
                done_upto: Some(RootKey(Box::new(["o'k".into(), "2".into()]))),
                rows: u64::MAX,
                ranges: 7,
            },
        }
    }

    #[test]
    fn json_survives_a_round_trip() {
        for load in [running().load, LoadState::Done] {
            let state = EntryState { load, ..running() };
            let json = to_json("state", &state).unwrap();
            assert_eq!(from_json::<EntryState>("state", json.as_bytes()).unwrap(), state);
        }
    }

    #[test]
    fn a_later_format_is_refused_even_if_its_shape_is_unknown() {
        let error = from_json::<EntryState>("state", br#"{"version":2,"entry":1}"#).unwrap_err();
        assert!(matches!(error, CheckpointError::LaterFormat { found: 2, known: 1, .. }));
    }

    #[test]
    fn positions_sort_as_text_as_they_sort_as_numbers() {
        let position = |generation, lsn| Position { generation, lsn: Lsn(lsn) };
        let ordered = [position(1, 9), position(1, 10), position(1, u64::MAX), position(2, 0)];
        assert!(ordered.is_sorted());
        assert!(ordered.map(Position::sortable).is_sorted());
    }

    #[test]
    fn progress_of_another_index_or_of_an_ended_load_is_ignored() {
        let progress = LoadProgress {
            index: IndexName("books".to_owned()),
            concrete: "books-20260101000000".to_owned(),
            done_upto: None,
            rows: 5,
            ranges: 1,
        };
        let mut same = running();
        same.advance(progress.clone());
        assert!(matches!(same.load, LoadState::Running { rows: 5, ranges: 1, .. }));
        let mut other = EntryState { concrete: "books-1".to_owned(), ..running() };
        other.advance(progress.clone());
        assert_eq!(other.load, running().load);
        let mut ended = EntryState { load: LoadState::Done, ..running() };
        ended.advance(progress);
        assert_eq!(ended.load, LoadState::Done);
    }
}
