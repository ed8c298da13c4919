//! How a value of each PostgreSQL type becomes JSON, and part of an `_id`. Pure.
//!
//! Values come as the type's text output, the same text that the WAL carries. Types not listed here
//! are selected through `to_jsonb(…)::text`, which is the rule for all of them: what a type renders
//! here must equal what `to_jsonb` gives in a session with `TimeZone=UTC`.

use crate::postgres::Column;

/// How the text of a column is written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// The text is a JSON number or one of `NaN`, `Infinity`, `-Infinity`, which become strings.
    Number,
    /// `t` and `f`.
    Boolean,
    /// A JSON string of the text.
    Text,
    /// `2020-01-02 03:04:05.678+00` becomes `2020-01-02T03:04:05.678+00:00`.
    Timestamp,
    /// The text is JSON, on one line, without duplicate keys (`jsonb`).
    Json,
    /// The text is JSON as somebody wrote it: newlines and duplicate keys are kept by PostgreSQL and
    /// both break bulk requests.
    LooseJson,
    /// Not rendered here: selected as `to_jsonb(column)::text`.
    ThroughJsonb,
}

/// Oids of `pg_type` that never change (`pg_type.dat`).
mod oid {
    pub(super) const BOOL: u32 = 16;
    /// `"char"`, a string to PostgreSQL 14 and "internal" since 15.
    pub(super) const CHAR: u32 = 18;
    pub(super) const NUMBERS: [u32; 6] = [20, 21, 23, 700, 701, 1700];
    pub(super) const TIMESTAMPS: [u32; 2] = [1114, 1184];
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMP_WITH_TIME_ZONE: u32 = 1184;
    pub(super) const JSON: u32 = 114;
    pub(super) const JSONB: u32 = 3802;
    /// bytea, "char", name, oid, text, xml, macaddr, macaddr8, money, cidr, inet, bpchar, varchar, date, time,
    /// interval, timetz, bit, varbit, uuid, `pg_lsn`, tsvector, tsquery and the geometric types.
    pub(super) const TEXTS: [u32; 30] = [
        17, 18, 19, 25, 26, 142, 600, 601, 602, 603, 604, 628, 650, 718, 774, 790, 829, 869, 1042,
        1043, 1082, 1083, 1186, 1266, 1560, 1562, 2950, 3220, 3614, 3615,
    ];
}

impl Rendering {
    /// The rendering of a column's values.
    pub fn of(column: &Column) -> Self {
        match column.type_oid {
            oid::BOOL => Self::Boolean,
            oid::JSON => Self::LooseJson,
            oid::JSONB => Self::Json,
            number if oid::NUMBERS.contains(&number) => Self::Number,
            time if oid::TIMESTAMPS.contains(&time) => Self::Timestamp,
            text if oid::TEXTS.contains(&text) || column.type_category == 'E' => Self::Text,
            _ => Self::ThroughJsonb,
        }
    }

    /// Appends the JSON of a value, `null` for SQL null.
    pub fn write(self, value: Option<&str>, out: &mut Vec<u8>) {
        let Some(text) = value else {
            out.extend_from_slice(b"null");
            return;
        };
        match self {
            Self::Number => write_number(text, out),
            Self::Boolean => out.extend_from_slice(if text == "t" { b"true" } else { b"false" }),
            Self::Text => write_string(text, out),
            Self::Timestamp => write_timestamp(text, out),
            Self::Json | Self::ThroughJsonb => out.extend_from_slice(text.as_bytes()),
            Self::LooseJson => write_loose_json(text, out),
        }
    }
}

/// Appends a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(needs_escape) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = tail.chars();
        if let Some(character) = characters.next() {
            write_escape(character, out);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// The text of a key column as it stands in an `_id`.
///
/// Booleans and timestamps look as Python prints them: the ids of PGSync's documents stay the same.
pub fn id_text(column: &Column, text: &str) -> String {
    match column.type_oid {
        oid::BOOL if text == "t" => "True".to_owned(),
        oid::BOOL => "False".to_owned(),
        oid::TIMESTAMP_WITH_TIME_ZONE => with_six_digits(text).replace("+00", "+00:00"),
        oid::TIMESTAMP => with_six_digits(text),
        _ => text.to_owned(),
    }
}

/// Python prints the fraction of a second with six digits or not at all.
fn with_six_digits(text: &str) -> String {
    let Some((whole, fraction, rest)) = fraction_of(text) else { return text.to_owned() };
    format!("{whole}.{fraction:0<6}{rest}")
}

/// PostgreSQL prints it without trailing zeros.
fn with_fewest_digits(text: &str) -> String {
    let Some((whole, fraction, rest)) = fraction_of(text) else { return text.to_owned() };
    format!("{whole}.{}{rest}", fraction.trim_end_matches('0'))
}

/// What stands before, in and after the fraction of a second.
fn fraction_of(text: &str) -> Option<(&str, &str, &str)> {
    let (whole, behind) = text.split_once('.')?;
    let end = behind.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(behind.len());
    let (fraction, rest) = behind.split_at_checked(end)?;
    Some((whole, fraction, rest))
}

/// The text of a key column from its part of an `_id`, such that the type's input takes it.
pub fn text_of_id(column: &Column, part: &str) -> String {
    match column.type_oid {
        oid::BOOL if part == "True" => "t".to_owned(),
        oid::BOOL => "f".to_owned(),
        oid::TIMESTAMP_WITH_TIME_ZONE => with_fewest_digits(part).replace("+00:00", "+00"),
        oid::TIMESTAMP => with_fewest_digits(part),
        _ => part.to_owned(),
    }
}

/// The term that finds a column's value where a document's `_meta` holds it; `None` if it is held
/// there as a list or an object, of which the WAL's text says nothing.
pub fn search_term(column: &Column, text: &str) -> Option<Box<str>> {
    let mut json = Vec::new();
    match Rendering::of(column) {
        Rendering::Json | Rendering::LooseJson => return None,
        Rendering::ThroughJsonb if matches!(column.type_category, 'A' | 'C') => return None,
        // Every other type that `to_jsonb` does not know becomes a string of its text.
        Rendering::ThroughJsonb | Rendering::Text => return Some(text.into()),
        rendering @ (Rendering::Number | Rendering::Boolean | Rendering::Timestamp) => {
            rendering.write(Some(text), &mut json);
        }
    }
    let term = String::from_utf8_lossy(&json);
    Some(term.trim_matches('"').into())
}

/// Whether the `_id` delimiter may be part of the column's text, and any text is a value of its type:
/// a part of an `_id` that is no value (of an enum, say) would fail in every statement.
pub fn may_hold_delimiter(column: &Column) -> bool {
    column.type_category == 'S' || column.type_oid == oid::CHAR
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escape(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        control => out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes()),
    }
}

fn write_number(text: &str, out: &mut Vec<u8>) {
    let last = text.as_bytes().last();
    if last.is_some_and(u8::is_ascii_digit) {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_string(text, out);
    }
}

fn write_timestamp(text: &str, out: &mut Vec<u8>) {
    let Some((date, time)) = text.split_once(' ') else {
        write_string(text, out);
        return;
    };
    let (time, era) = time.split_once(' ').map_or((time, ""), |(time, era)| (time, era));
    out.push(b'"');
    out.extend_from_slice(date.as_bytes());
    out.push(b'T');
    out.extend_from_slice(time.as_bytes());
    if time.ends_with("+00") {
        out.extend_from_slice(b":00");
    }
    if !era.is_empty() {
        out.push(b' ');
        out.extend_from_slice(era.as_bytes());
    }
    out.push(b'"');
}

/// Rewrites JSON on one line, the last of duplicate keys kept as `jsonb` does. A value too deep for
/// the parser keeps its text: only its newlines, which lie outside of strings, are taken out.
fn write_loose_json(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let written = parsed.is_some_and(|value| serde_json::to_writer(&mut *out, &value).is_ok());
    if !written {
        out.truncate(start);
        out.extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
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

    fn render(type_oid: u32, text: &str) -> String {
        let mut out = Vec::new();
        Rendering::of(&column(type_oid, 'X')).write(Some(text), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_builtin_type_renders_as_to_jsonb_does() {
        let cases = [
            (23, "-7", "-7"),
            (1700, "1.50", "1.50"),
            (1700, "NaN", "\"NaN\""),
            (701, "1e+20", "1e+20"),
            (701, "-Infinity", "\"-Infinity\""),
            (16, "t", "true"),
            (16, "f", "false"),
            (25, "a\"b\\c\n\u{1}é", "\"a\\\"b\\\\c\\n\\u0001é\""),
            (1042, "ab  ", "\"ab  \""),
            (1082, "2020-01-02", "\"2020-01-02\""),
            (1082, "infinity", "\"infinity\""),
            (1114, "2020-01-02 03:04:05.678", "\"2020-01-02T03:04:05.678\""),
            (1184, "2020-01-02 03:04:05+00", "\"2020-01-02T03:04:05+00:00\""),
            (1184, "0044-03-15 00:00:00+00 BC", "\"0044-03-15T00:00:00+00:00 BC\""),
            (1184, "-infinity", "\"-infinity\""),
            (17, "\\xdeadbeef", "\"\\\\xdeadbeef\""),
            (3802, "{\"a\": 1}", "{\"a\": 1}"),
            (114, "{\"a\": 1,\n \"a\": 2.50}", "{\"a\":2.50}"),
        ];
        for (type_oid, text, expected) in cases {
            assert_eq!(render(type_oid, text), expected, "type {type_oid}");
        }
    }

    #[test]
    fn null_is_null_in_every_rendering() {
        let mut out = Vec::new();
        Rendering::Text.write(None, &mut out);
        assert_eq!(out, b"null");
    }

    #[test]
    fn json_too_deep_to_parse_loses_its_newlines_only() {
        let deep = format!("{}\n{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(render(114, &deep), deep.replace('\n', " "));
    }

    #[test]
    fn ids_look_as_python_prints_them_and_come_back() {
        for (type_oid, text, id) in [
            (16, "t", "True"),
            (16, "f", "False"),
            (1184, "2020-01-01 00:00:00+00", "2020-01-01 00:00:00+00:00"),
            (1184, "2020-01-01 00:00:00.25+00", "2020-01-01 00:00:00.250000+00:00"),
            (1114, "2020-01-01 00:00:00.000001", "2020-01-01 00:00:00.000001"),
            (1114, "2020-01-01 00:00:00.5", "2020-01-01 00:00:00.500000"),
            (23, "5", "5"),
        ] {
            let column = column(type_oid, 'X');
            assert_eq!(id_text(&column, text), id);
            assert_eq!(text_of_id(&column, id), text);
        }
    }

    #[test]
    fn enums_are_text_and_unknown_types_go_through_jsonb() {
        assert_eq!(Rendering::of(&column(99_999, 'E')), Rendering::Text);
        assert_eq!(Rendering::of(&column(1007, 'A')), Rendering::ThroughJsonb);
    }
}
