//! Ground: the user's schema file, from its text to trees resolved against the catalog.
//!
//! [`fetch()`] text → [`parse()`] → [`by_database`] → [`resolve()`].

pub mod databases;
pub mod fetch;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod key_sql;
mod parse;
pub mod paths;
pub mod problem;
pub mod raw;
mod resolve;
mod substitute;
pub mod tree;

use std::path::PathBuf;

use crate::postgres::Catalog;

pub use databases::{DatabaseEntries, by_database, tables_named};
pub use fetch::{Origin, fetch};
pub use problem::{Problem, Problems};
pub use raw::{RawEntry, json_schema};
pub use substitute::Lookup;
pub use tree::{ColumnPair, Join, Link, Node, NodeId, OutputColumn, SchemaTree};

/// Why there is no schema to work with.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The file cannot be read.
    #[error("the schema file {} cannot be read", path.display())]
    Unreadable {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not UTF-8.
    #[error("the schema at {origin} is not UTF-8 text")]
    NotText {
        /// Where it came from, without secrets.
        origin: String,
    },
    /// The text is larger than a schema can be.
    #[error("the schema at {origin} is larger than {limit} bytes")]
    TooLarge {
        /// Where it came from, without secrets.
        origin: String,
        /// The limit.
        limit: usize,
    },
    /// The text of an origin is not one that can be fetched.
    #[error("`{text}` is no address of a schema: {expected} was expected")]
    Address {
        /// It, without secrets.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The server could not be asked, or its answer broke off.
    #[error("the schema at {origin} cannot be fetched after {attempts} attempts")]
    Unreachable {
        /// The URL, without secrets.
        origin: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered, but not with the file.
    #[error("the schema at {origin} cannot be fetched: the server answered {status}")]
    Http {
        /// The URL, without secrets.
        origin: String,
        /// HTTP status.
        status: u16,
    },
    /// The server answered with a web page.
    #[error("the schema at {origin} is a web page, not a JSON file")]
    WebPage {
        /// The URL, without secrets.
        origin: String,
    },
    /// The text is not JSON.
    #[error("the schema is not valid JSON: line {line}, column {column}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The JSON is not a schema, or not one of this database.
    #[error("the schema has {}:\n{problems}", counted(problems.len()))]
    Invalid {
        /// All of them.
        problems: Problems,
    },
}

impl SchemaError {
    /// What to do about it, where the text does not say so itself.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { .. } => {
                Some("name the file with --config, or its address with --schema-url")
            }
            Self::NotText { .. } => Some("save the file as UTF-8"),
            Self::TooLarge { .. } => Some("check that the address is that of the schema file"),
            Self::Unreachable { .. } => Some("check address, network and proxy"),
            Self::Http { status: 401 | 403, .. } => Some(
                "the file has to be readable without credentials, or by credentials in its \
                 address (https://user:password@host/…); for S3 make the object public or give a \
                 presigned https address with --schema-url",
            ),
            Self::Http { status: 404 | 410, .. } => {
                Some("there is no such file: check the address")
            }
            Self::WebPage { .. } => {
                Some("use the address of the raw file, not that of the page that shows it")
            }
            Self::Malformed { .. } => {
                Some("look for a missing comma or quote, or a trailing comma, just before there")
            }
            Self::Http { .. } | Self::Address { .. } | Self::Invalid { .. } => None,
        }
    }

    /// The value, unless there are problems.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`] with the problems, if there are any.
    pub(crate) fn unless<T>(value: T, problems: Problems) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self::Invalid { problems }) }
    }
}

/// Reads the text of a schema file; `lookup` knows the environment.
///
/// # Errors
/// [`SchemaError::Malformed`] if it is not JSON, [`SchemaError::Invalid`] with everything else that
/// is wrong with it.
pub fn parse(text: &str, lookup: Lookup<'_>) -> Result<Vec<RawEntry>, SchemaError> {
    // Editors on Windows put a byte order mark in front, which JSON does not know.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file = serde_json::from_str(text).map_err(|source| SchemaError::Malformed {
        line: source.line(),
        column: source.column(),
        source,
    })?;
    let mut problems = Problems::default();
    substitute::substitute_in(&mut file, "$", lookup, &mut problems);
    let entries = parse::read_file(&file, &mut problems);
    SchemaError::unless(entries, problems)
}

/// Resolves the entries of one database against its catalog.
///
/// # Errors
/// [`SchemaError::Invalid`] with everything in which schema and catalog do not agree.
pub fn resolve(
    entries: &[RawEntry],
    catalog: &Catalog,
    connection_database: &str,
) -> Result<Vec<SchemaTree>, SchemaError> {
    let mut problems = Problems::default();
    let trees = resolve::resolve_entries(entries, catalog, connection_database, &mut problems);
    SchemaError::unless(trees, problems)
}

fn counted(problems: usize) -> String {
    if problems == 1 { "a problem".to_owned() } else { format!("{problems} problems") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match parse(text, &|_| None) {
            Err(SchemaError::Invalid { problems }) => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn text_that_is_not_json_is_told_with_line_and_column() {
        for (text, line, column) in
            [("[\n  {\"a\": 1,}\n]", 2, 11), ("", 1, 0), ("{} x", 1, 4), ("[{]", 1, 3)]
        {
            match parse(text, &|_| None) {
                Err(SchemaError::Malformed { line: found_line, column: found_column, .. }) => {
                    assert_eq!((found_line, found_column), (line, column), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn nesting_beyond_any_use_is_refused_before_it_is_walked() {
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(&deep, &|_| None), Err(SchemaError::Malformed { .. })));
        let level = r#"{"table": "t", "children": ["#;
        let nodes = format!(r#"{{"nodes": {}{}"#, level.repeat(5_000), "]}".repeat(5_000));
        assert!(matches!(parse(&nodes, &|_| None), Err(SchemaError::Malformed { .. })));
    }

    #[test]
    fn one_entry_needs_no_array_and_a_byte_order_mark_is_no_harm() {
        let one = parse("\u{feff}{\"nodes\": {\"table\": \"größe\"}}", &|_| None).unwrap();
        let many = parse(r#"[{"nodes": {"table": "größe"}}]"#, &|_| None).unwrap();
        assert_eq!(one[0].nodes.table, "größe");
        assert_eq!((one[0].path.as_str(), many[0].path.as_str()), ("$", "$[0]"));
        assert_eq!(many[0].nodes.path, "$[0].nodes");
        assert_eq!(many[0].nodes.schema, "public");
        assert!(many[0].meta);
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_place() {
        let found = problems(
            r#"[{"idnex": "a", "nodes": {"table": 5, "colums": ["a"], "children": [
                 {"table": "b", "relationship": {"type": "one_to_may", "variant": "object",
                   "through_tables": ["x", "y"]}},
                 {"table": "c"},
                 {"table": "d", "relationship": {"type": "one_to_one", "variant": "object",
                   "foreign_key": {"parent": ["a", "b"], "child": ["a"]}}}]}},
               {"index": ""}, 7]"#,
        );
        let expected = [
            "$[0].idnex: unknown key `idnex`; did you mean `index`?",
            "$[0].nodes.colums: unknown key `colums`; did you mean `columns`?",
            "$[0].nodes.table: a string was expected, not a number",
            "$[0].nodes.children[0].relationship.type: `one_to_one`, `one_to_many` was expected, \
             not `one_to_may`; did you mean `one_to_many`?",
            "$[0].nodes.children[0].relationship.through_tables: at most one",
            "$[0].nodes.children[1]: a child needs its `relationship`",
            "$[0].nodes.children[2].relationship.foreign_key: `parent` and `child` join pairwise",
            "$[1]: `nodes` is missing",
            "$[1].index: a name was expected",
            "$[2]: an object was expected, not a number",
        ];
        for start in expected {
            assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}\n{found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn a_value_of_any_wrong_type_is_a_problem_at_its_key() {
        let good = serde_json::json!({"database": "d", "index": "i", "nodes": {"table": "t",
            "schema": "s", "columns": ["c"], "label": "l", "primary_key": ["k"], "children": [
                {"table": "t", "relationship": {"type": "one_to_one", "variant": "object",
                    "foreign_key": {"parent": ["a"], "child": ["b"]}}}],
            "transform": {"replace": {"a": {"b": "c"}}, "rename": {"a": "b"}, "mapping": {"a": {}},
                "concat": {"columns": ["a"], "destination": "b", "delimiter": "-"},
                "move": {"a": "b"}},
            "base_tables": ["b"]},
            "setting": {}, "mapping": {}, "pipeline": "p", "routing": "r", "plugins": ["p"],
            "where": "true", "meta": true});
        assert!(parse(&good.to_string(), &|_| None).is_ok());
        for pointer in pointers_of(&good, "") {
            for wrong in ["7", "[[7]]", "{\"x\": [1]}", "false"] {
                let mut bad = good.clone();
                *bad.pointer_mut(&pointer).unwrap() = serde_json::from_str(wrong).unwrap();
                let is_object = good.pointer(&pointer).unwrap().is_object();
                let is_same_kind = (wrong == "false" && pointer == "/meta")
                    || (wrong.starts_with('{') && is_object);
                // The file itself may be a list; what is in objects of users is not looked at.
                if !is_same_kind {
                    assert!(parse(&bad.to_string(), &|_| None).is_err(), "{pointer} = {wrong}");
                }
            }
        }
    }

    /// JSON pointers of everything below a value.
    fn pointers_of(value: &Json, at: &str) -> Vec<String> {
        let below: Vec<(String, &Json)> = match value {
            Json::Object(map) => {
                map.iter().map(|(key, inner)| (format!("{at}/{key}"), inner)).collect()
            }
            Json::Array(elements) => elements
                .iter()
                .enumerate()
                .map(|(position, inner)| (format!("{at}/{position}"), inner))
                .collect(),
            _ => Vec::new(),
        };
        below
            .into_iter()
            .flat_map(|(pointer, inner)| {
                let deeper = pointers_of(inner, &pointer);
                std::iter::once(pointer).chain(deeper)
            })
            .collect()
    }

    #[test]
    fn transforms_that_cannot_work_are_refused() {
        for (transform, part) in [
            (r#"{"replace": {"a": {"": "b"}}}"#, "transform.replace.a: the text to search for"),
            (r#"{"replace": {"a": "b"}}"#, "transform.replace.a: an object"),
            (r#"{"rename": {"a": {"b": {"c": 1}}}}"#, "transform.rename.a.b.c: the new name"),
            (r#"{"rename": {"a": ""}}"#, "transform.rename.a: a name was expected"),
            (r#"{"concat": [{"columns": ["a"]}]}"#, "concat[0]: `destination` is missing"),
            (r#"{"concat": {"column": ["a"], "destination": "b"}}"#, "did you mean `columns`?"),
            (r#"{"move": {"a..b": "c"}}"#, "transform.move[\"a..b\"]: keys joined with dots"),
            (r#"{"mapping": {"a": "text"}}"#, "transform.mapping.a: an object"),
            (r#"{"renam": {}}"#, "did you mean `rename`?"),
        ] {
            let text = format!(r#"{{"nodes": {{"table": "t", "transform": {transform}}}}}"#);
            let found = problems(&text);
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn files_without_entries_are_refused() {
        for text in ["[]", "null", "7", "\"nodes\"", "[null]", "[[]]", "{}"] {
            assert_eq!(problems(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn names_in_the_environment_and_problems_of_the_file_are_told_together() {
        let found = problems(r#"{"database": "$NOPE", "nodes": {"tabel": "t"}}"#);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("`NOPE`"), "{found:?}");
    }

    #[test]
    fn contradictions_within_an_entry_are_refused() {
        let found = problems(r#"{"nodes": {"table": "t"}, "mapping": {}, "mappings": {}}"#);
        assert!(found[0].starts_with("$.mapping: "), "{found:?}");
        let through = problems(
            r#"{"nodes": {"table": "t", "children": [{"table": "u", "relationship": {
                "type": "one_to_one", "variant": "object", "through_tables": ["x"],
                "foreign_key": {"parent": ["a"], "child": ["b"]}}}]}}"#,
        );
        assert!(through[0].contains("foreign_key: `foreign_key` cannot say"), "{through:?}");
    }

    #[test]
    fn every_example_is_a_schema_whose_indexes_are_all_expected() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let mut examples = 0;
        for example in std::fs::read_dir(folder).unwrap() {
            let example = example.unwrap().path();
            let Ok(text) = std::fs::read_to_string(example.join("schema.json")) else { continue };
            let entries = parse(&text, &|_| None)
                .unwrap_or_else(|error| panic!("{}: {error}", example.display()));
            let indexes: Vec<&str> =
                entries.iter().map(|entry| databases::index_of(entry, "db")).collect();
            let expected = std::fs::read_to_string(example.join("expected.json")).unwrap();
            let expected: serde_json::Map<String, Json> = serde_json::from_str(&expected).unwrap();
            assert_eq!(expected.keys().collect::<Vec<_>>(), indexes, "{}", example.display());
            examples += 1;
        }
        assert!(examples >= 3, "only {examples} examples were found");
    }

    /// JSON of any shape whose keys and strings are often those of the format.
    fn any_json() -> impl Strategy<Value = Json> {
        let word = prop_oneof![
            "[a-z]{0,3}|\\PC{0,6}|doc(->|->>|#>|#>>)[{}a,0]{0,4}|\\$[{]?[A-Z]{0,2}[}]?",
            prop::sample::select(vec![
                "nodes",
                "table",
                "columns",
                "children",
                "relationship",
                "type",
                "variant",
                "one_to_one",
                "object",
                "transform",
                "replace",
                "rename",
                "concat",
                "move",
                "destination",
                "through_tables",
                "foreign_key",
                "parent",
                "child",
                "index",
            ])
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            word.clone().prop_map(Json::from),
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::vec((word.clone(), inner), 0..6)
                    .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_file_holds_is_read_or_refused(nodes in any_json(), file in any_json()) {
            let lookup = |name: &str| (name.len() == 1).then(|| "x".to_owned());
            for text in [file.to_string(), format!(r#"[{{"nodes": {nodes}}}, {file}]"#)] {
                if let Ok(entries) = parse(&text, &lookup) {
                    tables_named(&entries);
                    let catalog = Catalog::default();
                    prop_assert!(resolve(&entries, &catalog, "db").is_err(), "it has no table");
                }
            }
        }

        #[test]
        fn any_text_of_a_column_is_a_path_or_refused(text in "\\PC{0,8}((->|->>|#>|#>>)\\PC{0,4}){0,3}") {
            if let Ok(column) = paths::parse_column(&text) {
                prop_assert!(text.starts_with(&column.column) || text.trim() != text);
            }
        }
    }

    #[test]
    fn the_display_has_a_line_for_each_problem() {
        let error = parse(r#"{"a": 1, "nodes": {"table": "t", "b": 2}}"#, &|_| None).unwrap_err();
        let text = error.to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("the schema has 2 problems:\n  $.a: "), "{text}");
    }
}
