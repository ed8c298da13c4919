//! How many requests may be in flight: one more after each round of good answers, half as many after
//! a bad one. Pure.

use std::time::Duration;

/// Additive increase, multiplicative decrease, between 1 and a maximum.
#[derive(Clone, Debug)]
pub struct InFlightLimit {
    limit: f64,
    maximum: f64,
    slow_after: Duration,
}

/// Where the limit starts: enough to hide one round trip, too little to flood a small server.
const INITIAL: f64 = 2.0;

impl InFlightLimit {
    /// At most `maximum` requests, at least 1; answers that take longer than `slow_after` count as
    /// overload.
    pub fn new(maximum: u16, slow_after: Duration) -> Self {
        let maximum = f64::from(maximum.max(1));
        Self { limit: INITIAL.min(maximum), maximum, slow_after }
    }

    /// Whether one more may go beside `in_flight`.
    pub fn allows_beside(&self, in_flight: usize) -> bool {
        u32::try_from(in_flight).is_ok_and(|in_flight| f64::from(in_flight) + 1.0 <= self.limit)
    }

    /// A request was answered without complaint.
    pub fn answered(&mut self, took: Duration) {
        if took > self.slow_after {
            self.overloaded();
        } else {
            self.limit = (self.limit + 1.0 / self.limit).min(self.maximum);
        }
    }

    /// The server asked for less, or did not answer.
    pub fn overloaded(&mut self) {
        self.limit = (self.limit / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(10);

    fn allowed(limit: &InFlightLimit) -> usize {
        (0..100).find(|in_flight| !limit.allows_beside(*in_flight)).unwrap()
    }

    #[test]
    fn good_answers_raise_it_to_the_maximum_and_no_further() {
        let mut limit = InFlightLimit::new(5, SLOW);
        assert_eq!(allowed(&limit), 2);
        (0..100).for_each(|_| limit.answered(Duration::ZERO));
        assert_eq!(allowed(&limit), 5);
    }

    #[test]
    fn overload_and_slowness_halve_it_down_to_one() {
        let mut limit = InFlightLimit::new(8, SLOW);
        (0..100).for_each(|_| limit.answered(Duration::ZERO));
        limit.overloaded();
        assert_eq!(allowed(&limit), 4);
        limit.answered(2 * SLOW);
        assert_eq!(allowed(&limit), 2);
        (0..10).for_each(|_| limit.overloaded());
        assert_eq!(allowed(&limit), 1);
    }

    #[test]
    fn a_maximum_of_zero_still_lets_one_go() {
        assert_eq!(allowed(&InFlightLimit::new(0, SLOW)), 1);
    }
}
