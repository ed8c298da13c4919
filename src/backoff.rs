//! How long to wait before another try: exponential, with jitter. It counts, the caller sleeps.

use std::time::Duration;

/// How much of a delay is left to chance, so that clients which failed together do not come back
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Anything between nothing and the whole delay.
    Full,
    /// Half of the delay, and anything up to the other half.
    Equal,
}

/// Exponential delays: each twice the one before it, from `initial` up to `ceiling`.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    ceiling: Duration,
    jitter: Jitter,
    following: Duration,
}

impl Backoff {
    /// Delays from `initial` to `ceiling`; the ceiling is at least the initial delay.
    pub fn new(initial: Duration, ceiling: Duration, jitter: Jitter) -> Self {
        Self { initial, ceiling: ceiling.max(initial), jitter, following: initial }
    }

    /// The delay before the next try, longer each time.
    pub fn next_delay(&mut self) -> Duration {
        let delay = jittered(self.following, self.jitter, rand::random::<f64>());
        self.following = self.following.saturating_mul(2).min(self.ceiling);
        delay
    }

    /// Starts again from the initial delay: what was tried has worked.
    pub fn reset(&mut self) {
        self.following = self.initial;
    }
}

/// From 1 s to 60 s, half of each delay left to chance.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_mins(1), Jitter::Equal)
    }
}

/// `chance` lies between 0 and 1.
fn jittered(delay: Duration, jitter: Jitter, chance: f64) -> Duration {
    match jitter {
        Jitter::Full => delay.mul_f64(chance),
        Jitter::Equal => delay / 2 + (delay / 2).mul_f64(chance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_ceiling() {
        let mut backoff = Backoff::new(SECOND, 10 * SECOND, Jitter::Equal);
        for whole in [1, 2, 4, 8, 10, 10] {
            let delay = backoff.next_delay();
            assert!(delay >= whole * SECOND / 2, "{delay:?} is under half of {whole} s");
            assert!(delay <= whole * SECOND, "{delay:?} is over {whole} s");
        }
    }

    #[test]
    fn a_success_starts_from_the_beginning() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= SECOND);
    }

    #[test]
    fn full_jitter_reaches_down_to_nothing_and_equal_jitter_to_the_half() {
        assert_eq!(jittered(SECOND, Jitter::Full, 0.0), Duration::ZERO);
        assert_eq!(jittered(SECOND, Jitter::Full, 1.0), SECOND);
        assert_eq!(jittered(SECOND, Jitter::Equal, 0.0), SECOND / 2);
        assert_eq!(jittered(SECOND, Jitter::Equal, 1.0), SECOND);
    }

    #[test]
    fn a_ceiling_below_the_initial_delay_is_raised_to_it() {
        let mut backoff = Backoff::new(10 * SECOND, SECOND, Jitter::Equal);
        backoff.next_delay();
        assert!(backoff.next_delay() >= 5 * SECOND);
    }
}
