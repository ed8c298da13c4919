//! Times as PostgreSQL sends them: microseconds since 2000-01-01 00:00 UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From the Unix epoch to PostgreSQL's: 10 957 days.
const POSTGRES_EPOCH: Duration = Duration::from_hours(10_957 * 24);

/// The time behind a number from the wire; `None` if the platform cannot hold it.
pub(super) fn from_wire(microseconds: i64) -> Option<SystemTime> {
    let epoch = UNIX_EPOCH.checked_add(POSTGRES_EPOCH)?;
    let distance = Duration::from_micros(microseconds.unsigned_abs());
    if microseconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }
}

/// The number for a time; zero for one before 2000.
pub(super) fn to_wire(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_wire() {
        for microseconds in [0, 1, 846_000_000_000_000] {
            assert_eq!(to_wire(from_wire(microseconds).unwrap()), microseconds);
        }
        let second_before = UNIX_EPOCH + Duration::from_secs(946_684_799);
        assert_eq!(from_wire(-1_000_000), Some(second_before));
        // Whether the far ends fit is the platform's business; they must not panic.
        let _ends = (from_wire(i64::MIN), from_wire(i64::MAX));
    }
}
