//! From the text of a setting to a duration, a size, a number or a truth value. An error is the
//! expectation in words: "a duration such as `10s` or `500ms`".

use std::ops::RangeInclusive;
use std::time::Duration;

/// What was expected instead of the text that was given.
pub(super) type Expected = String;

/// One day: no wait of ours is meant to be longer, so a larger number is a wrong unit.
const LONGEST: Duration = Duration::from_hours(24);

/// A number with `ms`, `s`, `m` or `h`; a bare number is seconds, as in PGSync.
pub(super) fn duration(text: &str) -> Result<Duration, Expected> {
    let expected = || "a duration up to 24h, such as `10s`, `500ms` or `2m`".to_owned();
    let (number, unit) = split_unit(text);
    let seconds_in_unit = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let seconds = number.parse::<f64>().ok().ok_or_else(expected)? * seconds_in_unit;
    let duration = Duration::try_from_secs_f64(seconds).ok().ok_or_else(expected)?;
    if duration > LONGEST { Err(expected()) } else { Ok(duration) }
}

/// A [`duration`] that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, Expected> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("a duration above zero".to_owned()) } else { Ok(duration) }
}

/// A whole number with `kB`, `MB`, `GB` or `KiB`, `MiB`, `GiB`, all of them powers of 1024 as in
/// PostgreSQL's own settings; a bare number is bytes.
pub(super) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, Expected> {
    move |text| {
        let expected = || {
            let (low, high) = (range.start(), range.end());
            format!("a size from {low} to {high} bytes, such as `4MB` or `500kB`")
        };
        let (number, unit) = split_unit(text);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(expected()),
        };
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        size.filter(|size| range.contains(size)).ok_or_else(expected)
    }
}

/// A whole number within the range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, Expected>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    move |text| {
        let number = text.parse::<T>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

/// `true` or `false`, and what Python's tools take for it.
pub(super) fn boolean(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err("`true` or `false`".to_owned()),
    }
}

/// One of some words, in any case.
pub(super) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, Expected> {
    move |text| {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("one of {}", words.join(", "))
        })
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2 m"), Ok(Duration::from_mins(2)));
        for text in ["", "s", "-1", "1x", "25h", "1e9", "NaN", "inf"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0").is_err());
    }

    #[test]
    fn a_size_has_a_unit_or_is_bytes() {
        let size = bytes(1..=1 << 40);
        assert_eq!(size("100"), Ok(100));
        assert_eq!(size("4MB"), Ok(4 << 20));
        assert_eq!(size("4 MiB"), Ok(4 << 20));
        for text in ["", "0", "4XB", "1.5MB", "99999999999999999999", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_keeps_to_its_range() {
        assert_eq!(number(1..=8)("8"), Ok(8));
        assert_eq!(number(1..=8)("9"), Err("a whole number from 1 to 8".to_owned()));
        assert!(number(1..=8)("").is_err());
        assert!(number(1..=8)("eight").is_err());
    }

    #[test]
    fn a_word_is_one_of_the_list_in_any_case() {
        let words = one_of(&[("text", 1), ("json", 2)]);
        assert_eq!(words("JSON"), Ok(2));
        assert_eq!(words("xml"), Err("one of `text`, `json`".to_owned()));
        assert_eq!(boolean("True"), Ok(true));
        assert!(boolean("maybe").is_err());
    }
}
