//! What the sink is doing: for status and metrics. Written by the sink alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::status::Durations;

/// Whether documents get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// They do, or there are none.
    Writing,
    /// The server takes nothing for the moment: too many requests, a full disk, a block.
    Refusing,
    /// No node answers.
    Unreachable,
}

/// Counters since the start, and the state.
#[derive(Debug)]
pub struct SinkProgress {
    counters: [AtomicU64; Counter::COUNT],
    standing: Mutex<Standing>,
    answers: Arc<Durations>,
}

/// The state, since when, and the last failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// State.
    pub state: SinkState,
    /// When it became so.
    pub since: SystemTime,
    /// The last failure that was tried again; kept when it is over.
    pub last_error: Option<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Documents written.
    Written,
    /// Documents deleted, also those that were not there.
    Deleted,
    /// Documents of which the index had a newer version.
    Superseded,
    /// Documents kept as dead letters.
    Rejected,
    /// Documents that were sent again.
    Retries,
    /// Requests sent.
    Requests,
    /// Bytes of request bodies, before compression.
    Bytes,
    /// Requests in flight, those that wait for another try included: a gauge.
    InFlight,
    /// Nanoseconds in which the next stage took nothing.
    Blocked,
}

impl Counter {
    const COUNT: usize = 9;
}

impl Default for SinkProgress {
    fn default() -> Self {
        let standing =
            Standing { state: SinkState::Writing, since: SystemTime::now(), last_error: None };
        let answers = Arc::default();
        Self { counters: Default::default(), standing: Mutex::new(standing), answers }
    }
}

impl SinkProgress {
    /// Counts there how long requests take, answered or not.
    pub fn timed_by(answers: Arc<Durations>) -> Self {
        Self { answers, ..Self::default() }
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// How long the next stage took nothing.
    pub fn blocked(&self) -> Duration {
        Duration::from_nanos(self.get(Counter::Blocked))
    }

    /// The state, since when, and the last failure.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, counter: Counter, count: u64) {
        if let Some(value) = self.counters.get(counter as usize) {
            value.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn set(&self, counter: Counter, count: u64) {
        if let Some(value) = self.counters.get(counter as usize) {
            value.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn answered_after(&self, took: Duration) {
        self.answers.observe(took);
    }

    pub(super) fn add_blocked(&self, time: Duration) {
        self.add(Counter::Blocked, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Notes the state and the failure behind it. Returns whether the state is another one: then it
    /// is worth a line in the log.
    pub(crate) fn note(&self, state: SinkState, error: Option<String>) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = standing.state != state;
        if changed {
            standing.state = state;
            standing.since = SystemTime::now();
        }
        if error.is_some() {
            standing.last_error = error;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_state_is_worth_a_line() {
        let progress = SinkProgress::default();
        assert!(!progress.note(SinkState::Writing, None));
        assert!(progress.note(SinkState::Unreachable, Some("refused".into())));
        assert!(!progress.note(SinkState::Unreachable, Some("still refused".into())));
        assert!(progress.note(SinkState::Writing, None));
        assert_eq!(progress.standing().last_error.as_deref(), Some("still refused"));
    }

    #[test]
    fn every_counter_has_its_place() {
        let progress = SinkProgress::default();
        progress.add_blocked(Duration::from_millis(3));
        assert_eq!(progress.blocked(), Duration::from_millis(3));
        assert_eq!(Counter::Blocked as usize, Counter::COUNT - 1);
    }
}
