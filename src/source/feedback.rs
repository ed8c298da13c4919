//! When the server hears from us, and what; and when its silence becomes an idle position. Pure: the
//! clock is an argument.
//!
//! `reported ≤ durable` always. A keepalive's position may go down the road as [`SourceEvent::Idle`]
//! only between transactions: the server has then sent everything before it, and the events it
//! follows in the queue answer for the rest.
//!
//! [`SourceEvent::Idle`]: crate::source::SourceEvent::Idle

use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::Lsn;
use crate::source::replication::{Reply, StatusUpdate};

/// Without a report for longer than this the positions in `pg_stat_replication` look stale.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Each idle position is saved, so a quiet database costs one save per interval.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Positions and clocks of the feedback.
#[derive(Debug)]
pub struct Feedback {
    interval: Duration,
    received: Lsn,
    durable: Lsn,
    /// What a status update confirmed last.
    reported: Lsn,
    due: Instant,
    idle_due: Instant,
    /// Position that has gone down the road, by a commit or as idle.
    handed_on: Lsn,
}

impl Feedback {
    /// Feedback for a stream that starts at `start`, due at once.
    pub fn new(start: Lsn, wal_sender_timeout: Option<Duration>, now: Instant) -> Self {
        // The server asks for a sign of life at half of its patience: be earlier.
        let quarter = wal_sender_timeout.map(|timeout| timeout / 4);
        Self {
            interval: quarter.map_or(REPORT_INTERVAL, |quarter| quarter.min(REPORT_INTERVAL)),
            received: start,
            durable: Lsn(0),
            reported: Lsn(0),
            due: now,
            idle_due: now,
            handed_on: start,
        }
    }

    /// When the next report is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Position read so far.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Everything up to `lsn` is durable.
    pub fn durable(&mut self, lsn: Lsn) {
        self.durable = self.durable.max(lsn);
    }

    /// A transaction has been read to its end.
    pub fn committed(&mut self, end: Lsn) {
        self.received = self.received.max(end);
        self.handed_on = self.handed_on.max(end);
    }

    /// The server wants to hear from us at once.
    pub fn asked(&mut self, now: Instant) {
        self.due = now;
    }

    /// A keepalive came between two transactions; never call it inside of one. Gives the position to
    /// hand on as idle, if there is one to tell and it is time.
    ///
    /// A server that wants an answer may be shutting down: it waits until all that it sent is
    /// confirmed, so then it is time at once.
    pub fn idle(&mut self, wal_end: Lsn, reply: Reply, now: Instant) -> Option<Lsn> {
        self.received = self.received.max(wal_end);
        let is_time = now >= self.idle_due || reply == Reply::Wanted;
        if !is_time || wal_end <= self.handed_on {
            return None;
        }
        self.handed_on = wal_end;
        self.idle_due = now + IDLE_INTERVAL;
        Some(wal_end)
    }

    /// What to report now. The server is always asked to answer: its keepalive is the only way to
    /// see progress while nothing is published.
    pub fn report(&mut self, now: Instant) -> StatusUpdate {
        self.due = now + self.interval;
        self.reported = self.durable;
        StatusUpdate {
            // The checkpoint may lie ahead of a stream that has just begun.
            received: self.received.max(self.durable),
            durable: self.reported,
            reply: Reply::Wanted,
        }
    }

    /// What was reported last.
    pub fn reported(&self) -> Lsn {
        self.reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn reports_are_due_every_second_or_four_times_in_the_servers_patience() {
        let now = Instant::now();
        let mut patient = Feedback::new(Lsn(1), Some(seconds(60)), now);
        assert_eq!(patient.due(), now);
        patient.report(now);
        assert_eq!(patient.due(), now + seconds(1));
        let mut hasty = Feedback::new(Lsn(1), Some(seconds(1)), now);
        hasty.report(now);
        assert_eq!(hasty.due(), now + Duration::from_millis(250));
    }

    #[test]
    fn a_server_that_asks_is_answered_at_once() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Lsn(1), None, now);
        feedback.report(now);
        let later = now + Duration::from_millis(10);
        feedback.asked(later);
        assert_eq!(feedback.due(), later);
    }

    #[test]
    fn no_more_is_reported_than_is_durable() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Lsn(10), None, now);
        feedback.committed(Lsn(50));
        assert_eq!(feedback.report(now).durable, Lsn(0));
        feedback.durable(Lsn(30));
        feedback.durable(Lsn(20));
        let update = feedback.report(now);
        assert_eq!((update.received, update.durable), (Lsn(50), Lsn(30)));
        assert_eq!(feedback.reported(), Lsn(30));
    }

    #[test]
    fn idle_positions_come_early_then_every_ten_seconds() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Lsn(10), None, now);
        let mut idle = |lsn, at| feedback.idle(Lsn(lsn), Reply::NotWanted, at);
        assert_eq!(idle(10, now), None, "nothing new");
        assert_eq!(idle(20, now), Some(Lsn(20)));
        assert_eq!(idle(30, now + seconds(9)), None, "too early");
        assert_eq!(idle(30, now + seconds(10)), Some(Lsn(30)));
    }

    #[test]
    fn a_server_that_shuts_down_need_not_wait_for_the_idle_interval() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Lsn(10), None, now);
        feedback.idle(Lsn(20), Reply::NotWanted, now);
        let soon = now + Duration::from_millis(1);
        assert_eq!(feedback.idle(Lsn(21), Reply::Wanted, soon), Some(Lsn(21)));
    }
}
