//! Pieces of SQL text: quoting, and keys as arrays that a statement joins on. Pure.
//!
//! Keys go in as arrays with an ordinal each, and the ordinal comes back with the row: equality is
//! the server's (`1.0 = 1.00`, `citext`), and the client finds the parent by a number.

use crate::postgres::{Column, Table};

/// Values to join on, by column: as many columns as the join has pairs, as many values as ordinals.
#[derive(Debug, Default)]
pub struct JoinKeys {
    /// One vector a column.
    pub columns: Vec<Vec<Box<str>>>,
}

impl JoinKeys {
    /// Appends one key, a value for each column.
    pub fn push(&mut self, values: &[&str]) {
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push((*value).into());
        }
    }
}

/// Quotes an SQL identifier: `a"b` becomes `"a""b"`.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes an SQL string literal, also under `standard_conforming_strings = off`.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// An array in PostgreSQL's text form, every element quoted.
pub fn array_literal<S: AsRef<str>>(elements: &[S]) -> String {
    let mut literal = String::from("{");
    for (position, element) in elements.iter().enumerate() {
        if position > 0 {
            literal.push(',');
        }
        literal.push('"');
        for character in element.as_ref().chars() {
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

/// `unnest('{…}'::type[], …) with ordinality as k(v0, …, n)`; the types are those of `table`'s columns,
/// where the values came from: a value of a wider type must not fail in a narrower one.
pub fn unnest<'a>(
    table: &Table,
    columns: impl Iterator<Item = &'a String>,
    keys: &JoinKeys,
) -> String {
    let arrays: Vec<String> = columns
        .zip(&keys.columns)
        .map(|(name, values)| {
            let type_name = table.column(name).map_or("text", |c| c.type_name.as_str());
            format!("{}::{type_name}[]", quote_literal(&array_literal(values)))
        })
        .collect();
    let names: Vec<String> = (0..arrays.len()).map(|at| format!("v{at}")).collect();
    format!(
        "rows from (pg_catalog.unnest({})) with ordinality as k({}, n)",
        arrays.join("), pg_catalog.unnest("),
        names.join(", "),
    )
}

/// `k.v0 = c."a" and …`: the keys, whose values are of `source`'s columns, against the columns of
/// `target`, pairwise.
pub fn equals<'a>(
    (source, target): (&Table, &Table),
    pairs: impl Iterator<Item = (&'a String, &'a String)>,
    alias: &str,
) -> String {
    let pairs: Vec<String> = pairs
        .enumerate()
        .map(|(at, (value, name))| {
            let operator = operator(source.column(value), target.column(name));
            format!("k.v{at} {operator} {alias}.{}", quote_identifier(name))
        })
        .collect();
    pairs.join(" and ")
}

/// The equality of two columns. Sessions have an empty `search_path`: an extension's operator
/// (`citext`) is named with the schema of its type, or the comparison would silently be that of `text`.
/// Between an extension's type and another it is that of `text`, on both sides of the join alike: the
/// extension has no operator for the pair.
pub fn operator(left: Option<&Column>, right: Option<&Column>) -> String {
    let of_both = left.zip(right).filter(|(left, right)| left.type_oid == right.type_oid);
    of_both
        .and_then(|(column, _)| extension_schema(column))
        .map_or_else(|| "=".to_owned(), |schema| format!("operator({schema}.=)"))
}

/// The schema, quoted, of a type that an extension made.
pub fn extension_schema(column: &Column) -> Option<&str> {
    let built_in_operators = matches!(column.type_category, 'A' | 'C' | 'E' | 'R');
    if built_in_operators {
        None
    } else {
        column.type_name.rsplit_once('.').map(|(schema, _)| schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_literals_are_quoted() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("o'k"), "'o''k'");
        assert_eq!(quote_literal("a\\'"), " E'a\\\\'''");
    }
}
