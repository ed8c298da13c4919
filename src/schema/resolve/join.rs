//! How a child joins its parent: by the columns written, or by the one declared foreign key. Pure.
//!
//! A declared key counts in either direction. Between a table and itself (an adjacency list) it is
//! read one way only: the row farther from the root points to the row nearer to it, so that the
//! node holds the children of a row.

use std::sync::Arc;

use super::unknown_column;
use crate::postgres::{Column, ForeignKey, Table};
use crate::schema::problem::{Problems, member};
use crate::schema::raw::RawForeignKey;
use crate::schema::tree::{ColumnPair, Join};

/// Types that have no equality: `json`, `xml`, `point`, `polygon`.
const WITHOUT_EQUALITY: [u32; 4] = [114, 142, 600, 604];

/// Types that compare with each other: integers (with `oid`) and other numbers, dates and time
/// stamps, times of day, networks, bits.
///
/// Source: PostgreSQL 17 `pg_operator`, `=` with the implicit casts of `pg_cast`.
const FAMILIES: [&[u32]; 5] = [
    &[20, 21, 23, 26, 700, 701, 1700],
    &[1082, 1114, 1184],
    &[1083, 1266],
    &[650, 869],
    &[1560, 1562],
];

/// The join without a through table.
pub(super) fn direct(
    path: &str,
    upper: &Table,
    lower: &Table,
    written: Option<&RawForeignKey>,
    problems: &mut Problems,
) -> Option<Join> {
    let Some(written) = written else {
        let pairs = declared(path, upper, lower, true, problems)?;
        return Some(Join::Direct(pairs));
    };
    let path = member(path, "foreign_key");
    let mut pairs = Vec::with_capacity(written.parent.len());
    for (parent, child) in written.parent.iter().zip(&written.child) {
        let parent = column_of(&member(&path, "parent"), parent, upper, problems);
        let child = column_of(&member(&path, "child"), child, lower, problems);
        let (Some(parent), Some(child)) = (parent, child) else { continue };
        if let Some(what) = incomparable(parent, child) {
            problems.add(path.as_str(), what);
        }
        pairs.push(ColumnPair { upper: parent.name.clone(), lower: child.name.clone() });
    }
    (pairs.len() == written.parent.len()).then_some(Join::Direct(pairs))
}

/// The join over a through table: both sides by declared foreign keys.
pub(super) fn through(
    path: &str,
    upper: &Table,
    through: &Arc<Table>,
    lower: &Table,
    problems: &mut Problems,
) -> Option<Join> {
    let path = member(path, "through_tables");
    let upper = declared(&path, upper, through, false, problems);
    let lower = declared(&path, through, lower, false, problems);
    Some(Join::Through { table: Arc::clone(through), upper: upper?, lower: lower? })
}

/// The pairs of the one foreign key between two tables; none or several are a problem.
///
/// `writable` says whether a `foreign_key` in the file can decide.
fn declared(
    path: &str,
    upper: &Table,
    lower: &Table,
    writable: bool,
    problems: &mut Problems,
) -> Option<Vec<ColumnPair>> {
    let mut candidates = candidates(upper, lower);
    if candidates.len() == 1 {
        return candidates.pop();
    }
    let (upper_name, lower_name) = (upper.qualified(), lower.qualified());
    if candidates.is_empty() {
        let what = format!("no foreign key is declared between {upper_name} and {lower_name}");
        let hint = if writable {
            "write the columns that join: \
             \"foreign_key\": {\"parent\": [\"…\"], \"child\": [\"…\"]}"
        } else {
            "declare one, or make the through table a node of its own with a `foreign_key`"
        };
        problems.add_with_hint(path, what, hint);
        return None;
    }
    let what = format!("{} foreign keys join {upper_name} and {lower_name}", candidates.len());
    let lines: Vec<String> = candidates.iter().map(|pairs| line_of(pairs)).collect();
    let hint = if writable {
        format!("write the one that is meant: {}", lines.join(" or "))
    } else {
        format!(
            "they are {}; make the through table a node of its own and write the one that is meant",
            lines.join(" and ")
        )
    };
    problems.add_with_hint(path, what, hint);
    None
}

/// The distinct foreign keys between two tables, as pairs.
fn candidates(upper: &Table, lower: &Table) -> Vec<Vec<ColumnPair>> {
    let downwards = lower
        .foreign_keys
        .iter()
        .filter(|key| key.target == upper.id)
        .map(|key| pairs_of(&key.target_columns, &key.columns));
    let upwards = upper
        .foreign_keys
        .iter()
        .filter(|key| key.target == lower.id && upper.id != lower.id)
        .map(|key: &ForeignKey| pairs_of(&key.columns, &key.target_columns));
    let mut distinct: Vec<Vec<ColumnPair>> = Vec::new();
    for pairs in downwards.chain(upwards) {
        // The same constraint declared twice, or from either side, joins the same rows.
        let known = |other: &Vec<ColumnPair>| {
            other.len() == pairs.len() && pairs.iter().all(|pair| other.contains(pair))
        };
        if !distinct.iter().any(known) {
            distinct.push(pairs);
        }
    }
    distinct
}

fn pairs_of(upper: &[String], lower: &[String]) -> Vec<ColumnPair> {
    let pair = |(upper, lower): (&String, &String)| ColumnPair {
        upper: upper.clone(),
        lower: lower.clone(),
    };
    upper.iter().zip(lower).map(pair).collect()
}

/// The line of the file that chooses a join.
fn line_of(pairs: &[ColumnPair]) -> String {
    let side = |name: fn(&ColumnPair) -> &String| {
        let names: Vec<String> = pairs.iter().map(|pair| format!("{:?}", name(pair))).collect();
        names.join(", ")
    };
    format!(
        "\"foreign_key\": {{\"parent\": [{}], \"child\": [{}]}}",
        side(|pair| &pair.upper),
        side(|pair| &pair.lower)
    )
}

fn column_of<'a>(
    path: &str,
    name: &str,
    table: &'a Table,
    problems: &mut Problems,
) -> Option<&'a Column> {
    let column = table.column(name);
    if column.is_none() {
        unknown_column(path, name, table, problems);
    }
    column
}

/// Why two columns cannot be compared; `None` if they can.
pub(super) fn incomparable(parent: &Column, child: &Column) -> Option<String> {
    let without = [parent, child].into_iter().find(|c| WITHOUT_EQUALITY.contains(&c.type_oid));
    if let Some(column) = without {
        return Some(format!(
            "`{}` cannot join: the type {} has no equality",
            column.name, column.type_name
        ));
    }
    // Every string type compares as text, those of extensions too.
    let alike = parent.type_oid == child.type_oid
        || (parent.type_category == 'S' && child.type_category == 'S')
        || FAMILIES
            .iter()
            .any(|family| family.contains(&parent.type_oid) && family.contains(&child.type_oid));
    (!alike).then(|| {
        format!(
            "`{}` is {} and `{}` is {}: they cannot be compared",
            parent.name, parent.type_name, child.name, child.type_name
        )
    })
}
