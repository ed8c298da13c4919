//! What the source has done so far, for status and metrics: written by the source alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::postgres::Lsn;
use crate::source::Change;
use crate::status::Changes;

/// Counters and positions; all zero until the stream starts, kept over restarts by its owner.
#[derive(Debug, Default)]
pub struct SourceProgress {
    received: AtomicU64,
    server_wal_end: AtomicU64,
    reported: AtomicU64,
    last_message: AtomicU64,
    bytes: AtomicU64,
    transactions: AtomicU64,
    inserts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    truncates: AtomicU64,
    last_commit: AtomicU64,
    blocked: AtomicU64,
}

impl SourceProgress {
    /// Position read so far.
    pub fn received(&self) -> Lsn {
        Lsn(self.received.load(Ordering::Relaxed))
    }

    /// How far the server has read its WAL, by its last frame.
    pub fn server_wal_end(&self) -> Lsn {
        Lsn(self.server_wal_end.load(Ordering::Relaxed))
    }

    /// Position confirmed to the server.
    pub fn reported(&self) -> Lsn {
        Lsn(self.reported.load(Ordering::Relaxed))
    }

    /// When the server was heard last; `None` if never.
    pub fn last_message(&self) -> Option<SystemTime> {
        time(self.last_message.load(Ordering::Relaxed))
    }

    /// When the transaction read last was committed, by the server's clock; `None` before the first.
    pub fn last_commit(&self) -> Option<SystemTime> {
        time(self.last_commit.load(Ordering::Relaxed))
    }

    /// Transactions handed on.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Bytes of messages read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Changes handed on.
    pub fn changes(&self) -> Changes {
        Changes {
            inserts: self.inserts.load(Ordering::Relaxed),
            updates: self.updates.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
            truncates: self.truncates.load(Ordering::Relaxed),
        }
    }

    /// Time spent waiting for room in the queue.
    pub fn blocked(&self) -> Duration {
        Duration::from_micros(self.blocked.load(Ordering::Relaxed))
    }

    pub(super) fn heard(&self, wal_end: Lsn, at: SystemTime) {
        self.server_wal_end.fetch_max(wal_end.0, Ordering::Relaxed);
        self.last_message.store(microseconds(at), Ordering::Relaxed);
    }

    pub(super) fn set_received(&self, lsn: Lsn) {
        self.received.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn set_reported(&self, lsn: Lsn) {
        self.reported.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn handed_on(&self, changes: &[Change]) {
        let mut counted = Changes::default();
        for change in changes {
            match change {
                Change::Insert { .. } => counted.inserts += 1,
                Change::Update { .. } => counted.updates += 1,
                Change::Delete { .. } => counted.deletes += 1,
                Change::Truncate { .. } => counted.truncates += 1,
            }
        }
        self.inserts.fetch_add(counted.inserts, Ordering::Relaxed);
        self.updates.fetch_add(counted.updates, Ordering::Relaxed);
        self.deletes.fetch_add(counted.deletes, Ordering::Relaxed);
        self.truncates.fetch_add(counted.truncates, Ordering::Relaxed);
    }

    pub(super) fn committed(&self, at: SystemTime) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.last_commit.store(microseconds(at), Ordering::Relaxed);
    }

    pub(super) fn waited(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.blocked.fetch_add(microseconds, Ordering::Relaxed);
    }
}

/// Zero stands for never.
fn microseconds(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

fn time(microseconds: u64) -> Option<SystemTime> {
    (microseconds > 0).then(|| UNIX_EPOCH + Duration::from_micros(microseconds))
}
