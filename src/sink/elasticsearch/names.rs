//! The names behind one index of the schema: the public alias, the private write alias, and the
//! concrete indexes they point to.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::schema::tree::IndexName;

/// The service name that stays out of index names.
const DEFAULT_SERVICE: &str = "pgsyncd";
const SECONDS_PER_DAY: u64 = 86_400;

/// The names behind one index of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexNames {
    /// What people search: the name in the schema.
    pub public: String,
    /// What we write to, always with `require_alias`: a request that comes late to a deleted index
    /// would otherwise make it anew with guessed mappings. `orders-pgsyncd-write`, and
    /// `orders-pgsyncd-NAME-write` for a service of another name.
    pub write: String,
}

impl IndexNames {
    /// The names for `index` in the service of that name (`--name`).
    pub fn of(index: &IndexName, service: &str) -> Self {
        let write = if service == DEFAULT_SERVICE {
            format!("{index}-{DEFAULT_SERVICE}-write")
        } else {
            format!("{index}-{DEFAULT_SERVICE}-{service}-write")
        };
        Self { public: index.0.clone(), write }
    }

    /// The name of a concrete index made `at` that time: `orders-20260102030405` (UTC).
    pub fn concrete(&self, at: SystemTime) -> String {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
        let second = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{}-{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}", self.public)
    }
}

/// Why the server would take this for something else than the name of one index; `None` if it would
/// not. What else is wrong with a name the server says itself.
pub fn unusable(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("the name is empty")
    } else if name.contains(['*', '?', ',', '<', '>', '/', '\\', '|', '"', ' ', '#', ':']) {
        Some("the name holds one of * ? , < > / \\ | \" # : or a blank")
    } else if name.starts_with(['_', '-', '+', '.']) {
        Some("the name begins with one of _ - + .")
    } else {
        None
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let shifted = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_concrete_index_is_named_by_its_second() {
        let names = IndexNames::of(&IndexName("orders".into()), "pgsyncd");
        let cases = [
            (0, "orders-19700101000000"),
            (951_782_400, "orders-20000229000000"),
            (1_767_322_989, "orders-20260102030309"),
            (4_107_542_399, "orders-21000228235959"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(names.concrete(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn names_that_stand_for_several_indexes_are_found_out() {
        for name in ["", "a*", "a,b", "<a-{now}>", "_all", "-a", "a/b", ".kibana"] {
            assert!(unusable(name).is_some(), "{name}");
        }
        assert_eq!(unusable("books-2026.1_x"), None);
    }

    #[test]
    fn the_write_alias_names_a_service_that_is_not_the_default_one() {
        let index = IndexName("orders".into());
        assert_eq!(IndexNames::of(&index, "pgsyncd").write, "orders-pgsyncd-write");
        assert_eq!(IndexNames::of(&index, "blue").write, "orders-pgsyncd-blue-write");
    }
}
