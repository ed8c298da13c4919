//! The settings every session starts with, so that text means the same on every server.

use crate::postgres::ConnectOptions;

/// What the output of values, the visibility of names and the life of statements depend on.
///
/// `row_security = off` turns silently missing rows into an error; the timeouts would end readers
/// and idle guards that are meant to live long. A missing publication is told by a warning only
/// (PostgreSQL 18), which no setting of the role may hide.
const PINNED: [(&str, &str); 12] = [
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("search_path", ""),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("row_security", "off"),
    ("client_min_messages", "warning"),
];

/// The value of the start-up parameter `options`: `-c name=value …`.
pub(crate) fn startup_options(options: &ConnectOptions) -> String {
    let work_mem = options.work_mem.as_deref().map(|value| ("work_mem", value));
    let settings = PINNED.into_iter().chain(work_mem);
    settings
        .map(|(name, value)| format!("-c {name}={}", escape(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The server splits `options` at white space that no backslash protects.
fn escape(value: &str) -> String {
    value
        .chars()
        .flat_map(|c| (c == '\\' || c.is_whitespace()).then_some('\\').into_iter().chain([c]))
        .collect()
}

/// What `pg_stat_activity` shows: `pgsyncd: read`.
pub(crate) fn application_name(
    options: &ConnectOptions,
    purpose: crate::postgres::Purpose,
) -> String {
    format!("{}: {purpose}", options.application_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_backslashes_are_protected() {
        assert_eq!(escape("64 MB"), "64\\ MB");
        assert_eq!(escape("a\\b"), "a\\\\b");
    }
}
