//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Far above what anything here takes on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is an answer, and returns it.
///
/// # Panics
/// After [`PATIENCE`], with what was seen last.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, look)
}

/// Like [`until`], with a limit of its own.
pub(crate) fn within<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        let seen = match look() {
            Ok(answer) => return answer,
            Err(seen) => seen,
        };
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}; last seen:\n{seen}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of the test waits, no runtime")]
fn pause() {
    std::thread::sleep(PAUSE);
}
