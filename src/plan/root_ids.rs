//! `_id` → the root keys it may stand for. Pure.
//!
//! The parts of an `_id` are joined with `|`, which a text key may hold too: then there are several
//! readings, all of the same `_id`. Reading them all is harmless: a key without a row has no document.

use crate::plan::RootKey;
use crate::postgres::Column;
use crate::postgres::render::{may_hold_delimiter, text_of_id};

/// Readings of one id at most: a hostile key must not multiply without end.
const MOST_READINGS: usize = 64;

/// Every way to read `id` as values of these columns.
pub(crate) fn readings(id: &str, columns: &[&Column]) -> Vec<RootKey> {
    if let [column] = columns {
        return vec![RootKey([text_of_id(column, id).into()].into())];
    }
    let parts: Vec<&str> = id.split('|').collect();
    let mut readings = Vec::new();
    split(&parts, columns, &mut Vec::new(), &mut readings);
    readings
}

fn split(parts: &[&str], columns: &[&Column], taken: &mut Vec<Box<str>>, out: &mut Vec<RootKey>) {
    let Some((column, rest)) = columns.split_first() else {
        if parts.is_empty() && out.len() < MOST_READINGS {
            out.push(RootKey(taken.clone().into()));
        }
        return;
    };
    let most = parts.len().saturating_sub(rest.len());
    let longest = if may_hold_delimiter(column) { most } else { most.min(1) };
    for length in 1..=longest {
        if out.len() >= MOST_READINGS {
            return;
        }
        let (mine, others) = parts.split_at(length);
        taken.push(text_of_id(column, &mine.join("|")).into());
        split(others, rest, taken, out);
        taken.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_oid: u32, type_category: char) -> Column {
        Column {
            name: "c".into(),
            number: 1,
            type_oid,
            type_name: "t".into(),
            type_category,
            not_null: true,
            generated: false,
        }
    }

    fn texts(id: &str, columns: &[&Column]) -> Vec<Vec<String>> {
        readings(id, columns)
            .into_iter()
            .map(|key| key.0.iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn one_column_takes_everything() {
        assert_eq!(texts("a|b", &[&column(25, 'S')]), [["a|b"]]);
        assert_eq!(texts("True", &[&column(16, 'B')]), [["t"]]);
        assert_eq!(texts("a|b", &[&column(90_000, 'E')]), [["a|b"]]);
    }

    #[test]
    fn two_text_columns_have_two_readings() {
        let text = column(25, 'S');
        assert_eq!(texts("a|b|c", &[&text, &text]), [["a", "b|c"], ["a|b", "c"]]);
    }

    #[test]
    fn a_number_holds_no_delimiter() {
        let (number, text) = (column(23, 'N'), column(25, 'S'));
        assert_eq!(texts("1|b|c", &[&number, &text]), [["1", "b|c"]]);
        assert_eq!(texts("a|b|3", &[&text, &number]), [["a|b", "3"]]);
        assert!(texts("1|2|3", &[&number, &number]).is_empty());
    }

    #[test]
    fn a_label_of_an_enum_is_never_guessed() {
        let (label, text) = (column(90_000, 'E'), column(25, 'S'));
        assert_eq!(texts("new|b|c", &[&label, &text]), [["new", "b|c"]]);
    }

    #[test]
    fn a_hostile_key_has_a_bounded_number_of_readings() {
        let text = column(25, 'S');
        assert_eq!(readings(&"|".repeat(300), &[&text, &text, &text]).len(), MOST_READINGS);
    }
}
