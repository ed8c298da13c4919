//! What the stages of a pipeline count. The stages count from zero each time the pipeline is built;
//! here the runs are added up, so that a counter never goes down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::durations::{Durations, DurationsReport};
use super::lock;

/// The figures of all stages of one run, or of all runs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageFigures {
    /// Bytes of WAL messages read.
    pub received_bytes: u64,
    /// Committed transactions read.
    pub transactions: u64,
    /// Changes of rows read, by operation.
    pub changes: Changes,
    /// Times the plan took everything that was queued.
    pub rounds: u64,
    /// Root keys touched, after merging.
    pub touched_keys: u64,
    /// Rows whose former documents had to be asked of the index.
    pub held_rows: u64,
    /// Reads of PostgreSQL that were done again: a change was not visible yet, or a table was locked.
    pub rereads: u64,
    /// Snapshots read to the end.
    pub reads: u64,
    /// Documents made, deletes included.
    pub documents: u64,
    /// One-to-one relations that had several rows.
    pub ambiguous_one_to_one: u64,
    /// Bulk requests sent, those sent again included.
    pub bulk_requests: u64,
    /// Bytes of their bodies, before compression.
    pub bulk_bytes: u64,
    /// Documents sent again.
    pub bulk_retries: u64,
    /// Bulk requests under way at this moment.
    pub bulk_in_flight: u64,
    /// How long each stage waited for those behind it.
    pub blocked: Blocked,
}

/// Changes of rows by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// INSERT.
    pub inserts: u64,
    /// UPDATE.
    pub updates: u64,
    /// DELETE.
    pub deletes: u64,
    /// TRUNCATE, each statement once.
    pub truncates: u64,
}

/// How long each stage waited for those behind it; all workers of a stage together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Stage 1.
    pub source: Duration,
    /// Stage 2.
    pub plan: Duration,
    /// Stage 3.
    pub document: Duration,
    /// Stage 4.
    pub sink: Duration,
}

/// The figures over all runs, kept when the pipeline is built again.
#[derive(Debug, Default)]
pub struct StageTally {
    runs: Mutex<Runs>,
    /// How long bulk requests took.
    pub bulk_duration: Arc<Durations>,
    /// From a commit in PostgreSQL until its documents were written.
    pub commit_to_written: Arc<Durations>,
}

#[derive(Debug, Default)]
struct Runs {
    ended: StageFigures,
    present: StageFigures,
}

/// The figures of one pipeline at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct StageReport {
    /// Its database.
    pub database: String,
    /// Since the process started.
    pub figures: StageFigures,
    /// How long bulk requests took.
    pub bulk_duration: DurationsReport,
    /// From a commit in PostgreSQL until its documents were written.
    pub commit_to_written: DurationsReport,
}

impl StageTally {
    /// The run under way has counted so much since it began.
    pub fn counted(&self, present: StageFigures) {
        lock(&self.runs).present = present;
    }

    /// The run is over, and has counted so much: the next one begins at zero.
    pub fn run_ended(&self, last: StageFigures) {
        let mut runs = lock(&self.runs);
        runs.ended = runs.ended.and(last);
        runs.present = StageFigures::default();
        // A gauge: what has ended has nothing under way.
        runs.ended.bulk_in_flight = 0;
    }

    pub(super) fn report(&self, database: &str) -> StageReport {
        let runs = lock(&self.runs);
        StageReport {
            database: database.to_owned(),
            figures: runs.ended.and(runs.present),
            bulk_duration: self.bulk_duration.report(),
            commit_to_written: self.commit_to_written.report(),
        }
    }
}

impl StageFigures {
    /// Both added up.
    fn and(self, other: Self) -> Self {
        Self {
            received_bytes: self.received_bytes + other.received_bytes,
            transactions: self.transactions + other.transactions,
            changes: self.changes.and(other.changes),
            rounds: self.rounds + other.rounds,
            touched_keys: self.touched_keys + other.touched_keys,
            held_rows: self.held_rows + other.held_rows,
            rereads: self.rereads + other.rereads,
            reads: self.reads + other.reads,
            documents: self.documents + other.documents,
            ambiguous_one_to_one: self.ambiguous_one_to_one + other.ambiguous_one_to_one,
            bulk_requests: self.bulk_requests + other.bulk_requests,
            bulk_bytes: self.bulk_bytes + other.bulk_bytes,
            bulk_retries: self.bulk_retries + other.bulk_retries,
            bulk_in_flight: self.bulk_in_flight + other.bulk_in_flight,
            blocked: self.blocked.and(other.blocked),
        }
    }
}

impl Changes {
    fn and(self, other: Self) -> Self {
        Self {
            inserts: self.inserts + other.inserts,
            updates: self.updates + other.updates,
            deletes: self.deletes + other.deletes,
            truncates: self.truncates + other.truncates,
        }
    }
}

impl Blocked {
    fn and(self, other: Self) -> Self {
        Self {
            source: self.source + other.source,
            plan: self.plan + other.plan,
            document: self.document + other.document,
            sink: self.sink + other.sink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(transactions: u64, bulk_in_flight: u64) -> StageFigures {
        let blocked = Blocked { sink: Duration::from_secs(transactions), ..Blocked::default() };
        StageFigures { transactions, bulk_in_flight, blocked, ..StageFigures::default() }
    }

    #[test]
    fn a_pipeline_that_is_built_again_counts_on() {
        let tally = StageTally::default();
        let transactions = || tally.report("shop").figures.transactions;
        tally.counted(counted(3, 1));
        assert_eq!(transactions(), 3);
        tally.run_ended(counted(5, 1));
        assert_eq!(transactions(), 5, "what came after the last look counts too");
        tally.counted(counted(0, 0));
        assert_eq!(transactions(), 5);
        tally.counted(counted(2, 4));
        let figures = tally.report("shop").figures;
        assert_eq!((figures.transactions, figures.blocked.sink), (7, Duration::from_secs(7)));
        assert_eq!(figures.bulk_in_flight, 4, "requests of the run that ended are not under way");
    }
}
