//! Which entries belong to which database, under which index names, and the tables they name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::SchemaError;
use super::problem::{Problems, member, shown};
use super::raw::{RawEntry, RawNode};

/// The entries of one database, in the order of the file: one pipeline with one slot runs them.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseEntries {
    /// The database's name.
    pub database: String,
    /// Its entries.
    pub entries: Vec<RawEntry>,
}

/// Groups the entries of a file by database, in order of first mention.
///
/// `connection_database` is the connection's own: that of entries that name none.
///
/// # Errors
/// [`SchemaError::Invalid`] if index names cannot be used or are used twice, in the whole file.
pub fn by_database(
    entries: Vec<RawEntry>,
    connection_database: &str,
) -> Result<Vec<DatabaseEntries>, SchemaError> {
    let mut problems = Problems::default();
    check_index_names(&entries, connection_database, &mut problems);
    let mut groups: Vec<DatabaseEntries> = Vec::new();
    for entry in entries {
        let database = entry.database.as_deref().unwrap_or(connection_database);
        match groups.iter_mut().find(|group| group.database == database) {
            Some(group) => group.entries.push(entry),
            None => {
                groups
                    .push(DatabaseEntries { database: database.to_owned(), entries: vec![entry] });
            }
        }
    }
    SchemaError::unless(groups, problems)
}

/// The index name of an entry: its own, or its database's.
pub(crate) fn index_of<'a>(entry: &'a RawEntry, connection_database: &'a str) -> &'a str {
    entry.index.as_deref().or(entry.database.as_deref()).unwrap_or(connection_database)
}

/// Reports index names that the server would refuse, and entries that share one.
pub(crate) fn check_index_names(
    entries: &[RawEntry],
    connection_database: &str,
    problems: &mut Problems,
) {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let index = index_of(entry, connection_database);
        let path = match (&entry.index, &entry.database) {
            (Some(_), _) => member(&entry.path, "index"),
            (None, Some(_)) => member(&entry.path, "database"),
            (None, None) => entry.path.clone(),
        };
        if let Some(reason) = refusal_of(index) {
            let what = format!("`{}` cannot be the name of an index: {reason}", shown(index));
            match entry.index {
                Some(_) => problems.add(path.as_str(), what),
                None => problems.add_with_hint(
                    path.as_str(),
                    what,
                    "it is the name of the database: set `index`",
                ),
            }
        }
        if let Some(other) = first.get(index) {
            problems.add_with_hint(
                path,
                format!("the index `{}` is already that of {other}", shown(index)),
                "give each entry an `index` of its own",
            );
        } else {
            first.insert(index, &entry.path);
        }
    }
}

/// Why Elasticsearch and OpenSearch would refuse an index of that name, `None` if they would not.
///
/// Source: Elasticsearch reference, "Create index API", path parameters. The limit leaves room for
/// the time stamp that the index behind the alias carries.
fn refusal_of(index: &str) -> Option<&'static str> {
    const LONGEST: usize = 255 - "-YYYYMMDDhhmmss".len();
    if index.chars().any(char::is_uppercase) {
        Some("it has to be lower case")
    } else if index.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':']) {
        Some("none of \\ / * ? \" < > | , # : and blank may be in it")
    } else if index.starts_with(['-', '_', '+', '.']) {
        Some("it may not begin with - _ + or .")
    } else if index.len() > LONGEST {
        Some("it may have 240 bytes at most")
    } else {
        None
    }
}

/// Schema and name of every table that the entries name, through tables and base tables included.
pub fn tables_named(entries: &[RawEntry]) -> Vec<(String, String)> {
    let mut tables = BTreeSet::new();
    for entry in entries {
        add_tables_of(&entry.nodes, &mut tables);
    }
    tables.into_iter().collect()
}

fn add_tables_of(node: &RawNode, tables: &mut BTreeSet<(String, String)>) {
    tables.insert((node.schema.clone(), node.table.clone()));
    let through = node.relationship.iter().flat_map(|relationship| &relationship.through_tables);
    for name in through.chain(&node.base_tables) {
        let (schema, table) = schema_and_table(name, &node.schema);
        tables.insert((schema.to_owned(), table.to_owned()));
    }
    for child in &node.children {
        add_tables_of(child, tables);
    }
}

/// `table` in the schema of the node that names it, or `schema.table`.
pub(crate) fn schema_and_table<'a>(name: &'a str, node_schema: &'a str) -> (&'a str, &'a str) {
    name.split_once('.').unwrap_or((node_schema, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::parse;

    fn entries(text: &str) -> Vec<RawEntry> {
        parse(text, &|_| None).unwrap()
    }

    #[test]
    fn entries_of_one_database_are_one_group_in_the_order_of_the_file() {
        let file = entries(
            r#"[{"index": "a", "nodes": {"table": "t"}},
                {"index": "b", "database": "other", "nodes": {"table": "t"}},
                {"index": "c", "database": "shop", "nodes": {"table": "t"}},
                {"database": "other", "nodes": {"table": "t"}}]"#,
        );
        let groups: Vec<(String, Vec<String>)> = by_database(file, "shop")
            .unwrap()
            .into_iter()
            .map(|group| {
                let names = group.entries.iter().map(|entry| index_of(entry, "shop").to_owned());
                (group.database.clone(), names.collect())
            })
            .collect();
        assert_eq!(
            groups,
            [
                ("shop".to_owned(), vec!["a".to_owned(), "c".to_owned()]),
                ("other".to_owned(), vec!["b".to_owned(), "other".to_owned()]),
            ]
        );
    }

    #[test]
    fn two_entries_with_one_index_are_refused_even_in_different_databases() {
        for text in [
            r#"[{"nodes": {"table": "t"}}, {"nodes": {"table": "u"}}]"#,
            r#"[{"index": "shop", "database": "x", "nodes": {"table": "t"}}, {"nodes": {"table": "u"}}]"#,
            r#"[{"database": "x", "nodes": {"table": "t"}}, {"index": "x", "nodes": {"table": "u"}}]"#,
        ] {
            let error = by_database(entries(text), "shop").unwrap_err().to_string();
            assert!(error.contains("is already that of $[0]"), "{text}: {error}");
            assert!(error.contains("$[1]"), "{text}: {error}");
        }
    }

    #[test]
    fn index_names_the_server_refuses_are_told_at_once() {
        for (index, good) in [
            ("books", true),
            ("größe", true),
            ("a.b-c_d", true),
            ("Books", false),
            ("a b", false),
            ("-a", false),
            ("..", false),
            ("a*", false),
        ] {
            assert_eq!(refusal_of(index).is_none(), good, "{index}");
        }
        assert!(refusal_of(&"x".repeat(241)).is_some());
        let unusable = by_database(entries(r#"{"nodes": {"table": "t"}}"#), "Shop");
        assert!(unusable.unwrap_err().to_string().contains("set `index`"));
    }

    #[test]
    fn every_table_is_named_once() {
        let file = entries(
            r#"{"nodes": {"table": "a", "schema": "s", "base_tables": ["b", "x.c"], "children": [
                {"table": "d", "relationship": {"type": "one_to_one", "variant": "object",
                    "through_tables": ["s.e"]}},
                {"table": "d", "relationship": {"type": "one_to_one", "variant": "object",
                    "through_tables": ["f"]}}]}}"#,
        );
        let named: Vec<String> =
            tables_named(&file).iter().map(|(schema, table)| format!("{schema}.{table}")).collect();
        assert_eq!(named, ["public.d", "public.f", "s.a", "s.b", "s.e", "x.c"]);
    }
}
