//! How long to wait before the next try: doubling from a first wait to a longest one, with jitter so
//! that many clients of one recovering server do not come back in the same instant.

use std::time::Duration;

/// The waits between tries of one operation.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Starts at about `initial` and doubles up to `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, ceiling: initial.min(max) }
    }

    /// The next wait: between half of the present ceiling and all of it.
    #[expect(clippy::should_implement_trait, reason = "the waits never end, and nobody iterates")]
    pub fn next(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::random_range(0.5..=1.0));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        wait
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.initial.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_reset() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 5);
        for ceiling in [1, 2, 4, 5, 5] {
            let wait = backoff.next();
            assert!(wait >= second * ceiling / 2 && wait <= second * ceiling, "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= second);
    }
}
