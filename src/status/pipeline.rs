//! The figures of one pipeline: positions, phase, links, and a tally per index.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::lock;
use super::report::{IndexReport, LinkReport, PipelineReport, TimedError, Timestamp};
use super::stages::StageTally;
use crate::postgres::Lsn;

/// Where a pipeline is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Connecting and checking.
    #[default]
    Starting,
    /// The first load, or a rebuild of everything.
    Snapshot,
    /// Following the WAL.
    Streaming,
    /// Asked to stop, finishing what is under way.
    Draining,
    /// Ended.
    Stopped,
    /// Another instance is at work; this one waits to take over.
    Standby,
}

/// Whether the other side can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Not tried yet.
    #[default]
    Connecting,
    /// Works.
    Up,
    /// Does not, see the last error.
    Down,
}

/// The figures of one pipeline, which serves one database.
#[derive(Debug, Default)]
pub struct PipelineStatus {
    phase: Mutex<Phase>,
    /// Read from PostgreSQL.
    pub received: Position,
    /// Written by all sinks.
    pub written: Position,
    /// Kept by a saved checkpoint.
    pub durable: Position,
    /// Told to PostgreSQL.
    pub reported: Position,
    /// The end of the server's WAL, as it last said.
    pub server: Position,
    /// The replication connection.
    pub source: Link,
    /// Elasticsearch.
    pub sink: Link,
    /// How often the pipeline was built again after an error.
    pub restarts: Tally,
    /// What its stages count.
    pub stages: StageTally,
    last_commit: Mutex<Option<SystemTime>>,
    last_error: Mutex<Option<TimedError>>,
    indexes: Mutex<BTreeMap<String, Arc<IndexStatus>>>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

/// A position in the WAL.
#[derive(Debug, Default)]
pub struct Position(AtomicU64);

/// The state of a connection, since when, and its last error.
#[derive(Debug, Default)]
pub struct Link(Mutex<LinkReport>);

/// The figures of one index of the schema.
#[derive(Debug, Default)]
pub struct IndexStatus {
    concrete: Mutex<Option<String>>,
    load_total: Mutex<Option<u64>>,
    /// Root rows read by the load under way or the last one.
    pub load_rows: Tally,
    /// Documents written.
    pub written: Tally,
    /// Documents deleted.
    pub deleted: Tally,
    /// Writes that found a newer document: no error.
    pub superseded: Tally,
    /// Documents that Elasticsearch refused: dead letters.
    pub rejected: Tally,
}

impl Tally {
    /// Adds to the number.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Starts again at a number: for the rows of a load that starts over, or goes on.
    pub fn start_from(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }
}

impl Position {
    /// Replaces the position: it may move back when a pipeline is built again from its checkpoint.
    pub fn set(&self, lsn: Lsn) {
        self.0.store(lsn.0, Ordering::Relaxed);
    }

    /// The position; 0/0 if none is known.
    pub fn get(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Relaxed))
    }
}

impl Link {
    /// It works.
    pub fn up(&self) {
        lock(&self.0).enter(LinkState::Up);
    }

    /// It does not, for this reason.
    pub fn down(&self, error: String) {
        let mut report = lock(&self.0);
        report.enter(LinkState::Down);
        report.last_error = Some(TimedError::now(error));
    }

    /// State, since when, and the last error.
    pub fn report(&self) -> LinkReport {
        lock(&self.0).clone()
    }
}

impl PipelineStatus {
    /// The pipeline enters a phase.
    pub fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// The phase it is in.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// A transaction committed at this time is written completely.
    pub fn wrote_commit_of(&self, committed_at: SystemTime) {
        *lock(&self.last_commit) = Some(committed_at);
    }

    /// The pipeline ended with this error, and is built again unless the process gives up.
    pub fn failed(&self, error: String) {
        *lock(&self.last_error) = Some(TimedError::now(error));
    }

    /// The figures of an index; made at the first call.
    pub fn index(&self, name: &str) -> Arc<IndexStatus> {
        Arc::clone(lock(&self.indexes).entry(name.to_owned()).or_default())
    }

    pub(super) fn snapshot(&self, database: &str) -> PipelineReport {
        let (durable, server) = (self.durable.get(), self.server.get());
        let indexes = lock(&self.indexes);
        PipelineReport {
            database: database.to_owned(),
            phase: self.phase(),
            received: self.received.get(),
            written: self.written.get(),
            durable,
            reported: self.reported.get(),
            server,
            behind_bytes: server.0.saturating_sub(durable.0),
            last_commit: lock(&self.last_commit).map(Timestamp),
            source: self.source.report(),
            sink: self.sink.report(),
            restarts: self.restarts.get(),
            last_error: lock(&self.last_error).clone(),
            indexes: indexes.iter().map(|(name, index)| index.snapshot(name)).collect(),
        }
    }
}

impl IndexStatus {
    /// The index behind the alias; `None` while there is none.
    pub fn set_concrete(&self, name: Option<String>) {
        *lock(&self.concrete) = name;
    }

    /// Notes how many root rows the load has, as far as known.
    pub fn set_load_total(&self, rows: Option<u64>) {
        *lock(&self.load_total) = rows;
    }

    /// How many root rows the load has, as far as known.
    pub fn load_total(&self) -> Option<u64> {
        *lock(&self.load_total)
    }

    fn snapshot(&self, name: &str) -> IndexReport {
        IndexReport {
            index: name.to_owned(),
            concrete: lock(&self.concrete).clone(),
            load_rows: self.load_rows.get(),
            load_total: self.load_total(),
            written: self.written.get(),
            deleted: self.deleted.get(),
            superseded: self.superseded.get(),
            rejected: self.rejected.get(),
        }
    }
}
