//! Waiting for PostgreSQL without a limit, but not without a word: what takes longer than ten seconds
//! is told once, and again when it is over.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longer waits are told.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// First and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A transaction whose commit is in the WAL, to be visible to readers.
    Visible { xid: u64 },
    /// Tables that somebody has locked, or waits to lock, exclusively.
    Unlocked { tables: String },
}

/// Tries that are repeated until PostgreSQL shows what must be seen.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    /// Tries that were repeated.
    repeated: &'a AtomicU64,
    /// The index, or the stage: who waits.
    who: &'a str,
    began: Instant,
    pause: Duration,
    /// Longer waits are told.
    told_after: Duration,
    told: Option<Awaited>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(who: &'a str, repeated: &'a AtomicU64) -> Self {
        let (began, pause) = (Instant::now(), PAUSES.0);
        Self { repeated, who, began, pause, told_after: TOLD_AFTER, told: None }
    }

    /// Counts a try in vain, and pauses before the next.
    pub(crate) async fn pause(&mut self, awaited: Awaited) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
        if self.told.is_none() && self.began.elapsed() >= self.told_after {
            let (who, after) = (self.who, self.began.elapsed().as_secs());
            tracing::warn!(who, after, %awaited, "waiting for PostgreSQL");
            self.told = Some(awaited);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// What was waited for is there.
    pub(crate) fn rewarded(self) {
        if let Some(awaited) = self.told {
            let (who, after) = (self.who, self.began.elapsed().as_secs());
            tracing::warn!(who, after, %awaited, "PostgreSQL was waited for, going on");
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Visible { xid } => {
                write!(
                    f,
                    "transaction {xid} is committed but not visible yet (synchronous standby?)"
                )
            }
            Self::Unlocked { tables } => write!(f, "an exclusive lock on one of {tables}"),
        }
    }
}

/// Awaits an answer, and tells when it takes long: a statement of ours waits for locks without a limit.
pub(crate) async fn told_if_slow<T>(
    who: &str,
    tables: impl FnOnce() -> String,
    answer: impl Future<Output = T>,
) -> T {
    told_after(TOLD_AFTER, who, tables, answer).await
}

async fn told_after<T>(
    limit: Duration,
    who: &str,
    tables: impl FnOnce() -> String,
    answer: impl Future<Output = T>,
) -> T {
    tokio::pin!(answer);
    let began = Instant::now();
    let answered = tokio::select! { biased;
        answered = &mut answer => Some(answered),
        () = sleep(limit) => None,
    };
    if let Some(answered) = answered {
        return answered;
    }
    let (tables, after) = (tables(), began.elapsed().as_secs());
    tracing::warn!(who, after, tables, "PostgreSQL does not answer, a lock may be held");
    let answered = answer.await;
    let after = began.elapsed().as_secs();
    tracing::warn!(who, after, tables, "PostgreSQL answered at last");
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_long_wait_is_told_once_and_every_try_is_counted() {
        let repeated = AtomicU64::new(0);
        let mut patience = Patience { told_after: LIMIT, ..Patience::new("book", &repeated) };
        patience.pause(Awaited::Visible { xid: 7 }).await;
        assert_eq!(patience.told, None);
        for _ in 1..8 {
            patience.pause(Awaited::Visible { xid: 8 }).await;
        }
        assert_eq!(patience.told, Some(Awaited::Visible { xid: 8 }));
        assert_eq!(repeated.load(Ordering::Relaxed), 8);
        patience.rewarded();
    }

    #[tokio::test]
    async fn a_slow_answer_is_still_the_answer() {
        let slow = async {
            sleep(LIMIT * 2).await;
            5
        };
        assert_eq!(told_after(LIMIT, "book", || "public.book".to_owned(), slow).await, 5);
        assert_eq!(told_if_slow("book", String::new, std::future::ready(6)).await, 6);
    }
}
