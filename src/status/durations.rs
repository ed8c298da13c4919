//! How long something took, counted in buckets: as Prometheus draws it. It lives as long as the
//! process, so that a pipeline that is built again goes on counting.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds: each is twice the one before.
const FIRST_BOUND: Duration = Duration::from_millis(1);
/// 1 ms to about 70 min: a backlog may be long.
const BOUNDS: usize = 23;

/// Time added up.
#[derive(Debug, Default)]
pub struct TimeSum(AtomicU64);

/// Durations by size. Written by one stage, read by anybody.
#[derive(Debug, Default)]
pub struct Durations {
    /// By bound; what is beyond the last stands alone.
    counts: [AtomicU64; BOUNDS],
    beyond: AtomicU64,
    /// In microseconds: those of half a million years fit.
    sum: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DurationsReport {
    /// All of them added up, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// By upper bound in seconds, the last [`f64::MAX`]: how many were in it and in none before it.
    pub buckets: Vec<(f64, u64)>,
}

impl TimeSum {
    /// Awaits, and adds how long it took once it is over.
    pub async fn over<T>(&self, wait: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let output = wait.await;
        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(microseconds, Ordering::Relaxed);
        output
    }

    /// The sum so far.
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let bucket = self.counts.get(bucket_of(duration)).unwrap_or(&self.beyond);
        bucket.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn report(&self) -> DurationsReport {
        let bounds = (0..).map(|bucket| (FIRST_BOUND * (1 << bucket)).as_secs_f64());
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let mut buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        buckets.push((f64::MAX, self.beyond.load(Ordering::Relaxed)));
        DurationsReport {
            sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)).as_secs_f64(),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

/// The first bucket whose bound is not exceeded; [`BOUNDS`] if there is none.
fn bucket_of(duration: Duration) -> usize {
    (0..BOUNDS).find(|bucket| duration <= FIRST_BOUND * (1 << bucket)).unwrap_or(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_it_fits() {
        let durations = Durations::default();
        for milliseconds in [0, 1, 2, 3, 4, 100_000_000] {
            durations.observe(Duration::from_millis(milliseconds));
        }
        let report = durations.report();
        assert_eq!(report.count, 6);
        assert!((report.sum - 100_000.01).abs() < 1e-6, "{}", report.sum);
        let filled: Vec<_> = report.buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [&(0.001, 2), &(0.002, 1), &(0.004, 2), &(f64::MAX, 1)]);
    }
}
