//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Far above what anything here takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is an answer, and returns it.
///
/// # Panics
/// After [`PATIENCE`], with what was seen last.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let seen = match look() {
            Ok(answer) => return answer,
            Err(seen) => seen,
        };
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; last seen:\n{seen}");
        pause();
    }
}

/// Until it is worth looking again.
#[expect(clippy::disallowed_methods, reason = "a thread of the test waits, no runtime")]
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}
