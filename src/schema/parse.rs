//! JSON value → raw types. Goes on after a problem, so that all of them are told at once. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::problem::{Problems, element, listed, member, nearest, shown};
use super::raw::{DEFAULT_SCHEMA, RawEntry, RawForeignKey, RawNode, RawRelationship, RawTransform};
use super::tree::{Concat, RelationshipKind, Variant};

const ENTRY_KEYS: &[&str] = &[
    "database", "index", "nodes", "setting", "mapping", "mappings", "pipeline", "routing",
    "plugins", "where", "meta",
];
const NODE_KEYS: &[&str] = &[
    "table",
    "schema",
    "columns",
    "label",
    "primary_key",
    "relationship",
    "children",
    "transform",
    "base_tables",
];
const RELATIONSHIP_KEYS: &[&str] = &["type", "variant", "through_tables", "foreign_key"];
const FOREIGN_KEY_KEYS: &[&str] = &["parent", "child"];
const TRANSFORM_KEYS: &[&str] = &["replace", "rename", "concat", "mapping", "move"];
const CONCAT_KEYS: &[&str] = &["columns", "destination", "delimiter"];

/// Reads a value at a JSON path; `None` if it is wrong, which is then among the problems.
type Read<T> = fn(&str, &Json, &mut Problems) -> Option<T>;

/// Reads the file: an array of entries, or one entry alone.
pub(crate) fn read_file(file: &Json, problems: &mut Problems) -> Vec<RawEntry> {
    match file {
        Json::Array(entries) if entries.is_empty() => {
            problems.add("$", "the list of document entries is empty");
            Vec::new()
        }
        Json::Array(_) => list("$", file, problems, read_entry).unwrap_or_default(),
        Json::Object(_) => read_entry("$", file, problems).into_iter().collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            wrong_type::<()>("$", file, "an array of document entries", problems);
            Vec::new()
        }
    }
}

fn read_entry(path: &str, value: &Json, problems: &mut Problems) -> Option<RawEntry> {
    let mut fields = Fields::open(path, value, ENTRY_KEYS, problems)?;
    let nodes = fields.required("nodes", read_node);
    let entry = RawEntry {
        path: path.to_owned(),
        database: fields.optional("database", name),
        index: fields.optional("index", name),
        setting: fields.optional("setting", object),
        mapping: fields.optional("mapping", object),
        mappings: fields.optional("mappings", object),
        pipeline: fields.optional("pipeline", name),
        routing: fields.optional("routing", name),
        plugins: fields.optional("plugins", names).unwrap_or_default(),
        filter: fields.optional("where", name),
        meta: fields.optional("meta", boolean).unwrap_or(true),
        nodes: nodes?,
    };
    if entry.mapping.is_some() && entry.mappings.is_some() {
        problems.add_with_hint(
            member(path, "mapping"),
            "`mapping` and `mappings` say the same thing twice",
            "keep one: `mapping` holds the fields alone, `mappings` the whole mapping",
        );
    }
    Some(entry)
}

fn read_node(path: &str, value: &Json, problems: &mut Problems) -> Option<RawNode> {
    let mut fields = Fields::open(path, value, NODE_KEYS, problems)?;
    let table = fields.required("table", name);
    Some(RawNode {
        path: path.to_owned(),
        schema: fields.optional("schema", name).unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
        columns: fields.optional("columns", names).unwrap_or_default(),
        label: fields.optional("label", name),
        primary_key: fields.optional("primary_key", names).unwrap_or_default(),
        relationship: fields.optional("relationship", read_relationship),
        children: fields.optional("children", children).unwrap_or_default(),
        transform: fields.optional("transform", read_transform).unwrap_or_default(),
        base_tables: fields.optional("base_tables", names).unwrap_or_default(),
        table: table?,
    })
}

fn children(path: &str, value: &Json, problems: &mut Problems) -> Option<Vec<RawNode>> {
    list(path, value, problems, |path, value, problems| {
        let related = value.get("relationship").is_some_and(|relationship| !relationship.is_null());
        if value.is_object() && !related {
            problems.add_with_hint(
                path,
                "a child needs its `relationship`",
                "for example \"relationship\": {\"type\": \"one_to_many\", \"variant\": \"object\"}",
            );
        }
        read_node(path, value, problems)
    })
}

fn read_relationship(path: &str, value: &Json, problems: &mut Problems) -> Option<RawRelationship> {
    let mut fields = Fields::open(path, value, RELATIONSHIP_KEYS, problems)?;
    let kind = fields.required("type", |path, value, problems| {
        let known = [
            ("one_to_one", RelationshipKind::OneToOne),
            ("one_to_many", RelationshipKind::OneToMany),
        ];
        choice(path, value, &known, problems)
    });
    let variant = fields.required("variant", |path, value, problems| {
        choice(path, value, &[("object", Variant::Object), ("scalar", Variant::Scalar)], problems)
    });
    let through_tables = fields.optional("through_tables", names).unwrap_or_default();
    let foreign_key = fields.optional("foreign_key", read_foreign_key);
    if through_tables.len() > 1 {
        problems.add_with_hint(
            member(path, "through_tables"),
            format!("at most one through table was expected, not {}", through_tables.len()),
            "make the tables between nodes of their own",
        );
    }
    if !through_tables.is_empty() && foreign_key.is_some() {
        problems.add_with_hint(
            member(path, "foreign_key"),
            "`foreign_key` cannot say how a through table joins on both of its sides",
            "leave it out where the through table declares its foreign keys, else make the through \
             table a node of its own",
        );
    }
    Some(RawRelationship { kind: kind?, variant: variant?, through_tables, foreign_key })
}

fn read_foreign_key(path: &str, value: &Json, problems: &mut Problems) -> Option<RawForeignKey> {
    let mut fields = Fields::open(path, value, FOREIGN_KEY_KEYS, problems)?;
    let (parent, child) = (fields.required("parent", names), fields.required("child", names));
    let (parent, child) = (parent?, child?);
    if parent.len() != child.len() || parent.is_empty() {
        problems.add(
            path,
            format!(
                "`parent` and `child` join pairwise: as many columns on either side were expected, \
                 at least one, not {} and {}",
                parent.len(),
                child.len()
            ),
        );
        return None;
    }
    Some(RawForeignKey { parent, child })
}

fn read_transform(path: &str, value: &Json, problems: &mut Problems) -> Option<RawTransform> {
    let mut fields = Fields::open(path, value, TRANSFORM_KEYS, problems)?;
    Some(RawTransform {
        replace: fields.optional("replace", replacements).unwrap_or_default(),
        rename: fields.optional("rename", renaming).unwrap_or_default(),
        concat: fields.optional("concat", concat_rules).unwrap_or_default(),
        mapping: fields.optional("mapping", field_mappings).unwrap_or_default(),
        moves: fields.optional("move", moves).unwrap_or_default(),
    })
}

/// A field's searches and replacements, by field, in the order of the file.
type Replacements = Vec<(String, Vec<(String, String)>)>;

fn replacements(path: &str, value: &Json, problems: &mut Problems) -> Option<Replacements> {
    pairs(path, value, problems, |path, value, problems| {
        let searches = pairs(path, value, problems, string)?;
        if searches.iter().any(|(search, _)| search.is_empty()) {
            problems.add(path, "the text to search for is empty");
        }
        Some(searches)
    })
}

fn renaming(path: &str, value: &Json, problems: &mut Problems) -> Option<Map<String, Json>> {
    let Json::Object(rules) = value else {
        return wrong_type(path, value, "an object of old and new names", problems);
    };
    for (old, new) in rules {
        let path = member(path, old);
        match new {
            Json::Object(_) => {
                renaming(&path, new, problems);
            }
            Json::String(_) => {
                name(&path, new, problems);
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => {
                wrong_type::<()>(&path, new, "the new name, or an object of new names", problems);
            }
        }
    }
    Some(rules.clone())
}

fn concat_rules(path: &str, value: &Json, problems: &mut Problems) -> Option<Vec<Concat>> {
    if value.is_object() {
        return concat_rule(path, value, problems).map(|rule| vec![rule]);
    }
    list(path, value, problems, concat_rule)
}

fn concat_rule(path: &str, value: &Json, problems: &mut Problems) -> Option<Concat> {
    let mut fields = Fields::open(path, value, CONCAT_KEYS, problems)?;
    let columns =
        fields.required("columns", |path, value, problems| list(path, value, problems, string));
    let destination = fields.required("destination", name);
    let delimiter = fields.optional("delimiter", string).unwrap_or_default();
    Some(Concat { columns: columns?, destination: destination?, delimiter })
}

fn field_mappings(
    path: &str,
    value: &Json,
    problems: &mut Problems,
) -> Option<BTreeMap<String, Json>> {
    let mappings = pairs(path, value, problems, |path, value, problems| {
        object(path, value, problems).map(Json::Object)
    })?;
    Some(mappings.into_iter().collect())
}

fn moves(path: &str, value: &Json, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let moves = pairs(path, value, problems, name)?;
    for (source, destination) in &moves {
        if [source, destination].iter().any(|path| path.split('.').any(str::is_empty)) {
            problems.add(
                member(path, source),
                "keys joined with dots were expected on either side, such as \"a.b\": \"c\"",
            );
        }
    }
    Some(moves)
}

/// The keys of one JSON object, read one by one.
struct Fields<'a> {
    path: &'a str,
    map: &'a Map<String, Json>,
    problems: &'a mut Problems,
}

impl<'a> Fields<'a> {
    /// Opens an object and reports the keys that are not known.
    fn open(
        path: &'a str,
        value: &'a Json,
        known: &[&str],
        problems: &'a mut Problems,
    ) -> Option<Self> {
        let Json::Object(map) = value else {
            return wrong_type(path, value, "an object", problems);
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", listed(known.iter().copied())),
            };
            problems.add_with_hint(
                member(path, key),
                format!("unknown key `{}`", shown(key)),
                hint,
            );
        }
        Some(Self { path, map, problems })
    }

    /// The value of a key that may be absent; `null` counts as absent.
    fn optional<T>(&mut self, key: &str, read: Read<T>) -> Option<T> {
        match self.map.get(key) {
            None | Some(Json::Null) => None,
            Some(value) => read(&member(self.path, key), value, self.problems),
        }
    }

    /// The value of a key that has to be there.
    fn required<T>(&mut self, key: &str, read: Read<T>) -> Option<T> {
        match self.map.get(key) {
            None | Some(Json::Null) => {
                self.problems.add(self.path, format!("`{key}` is missing"));
                None
            }
            Some(value) => read(&member(self.path, key), value, self.problems),
        }
    }
}

fn string(path: &str, value: &Json, problems: &mut Problems) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        other => wrong_type(path, other, "a string", problems),
    }
}

/// A string that is not empty. PostgreSQL can hold no NUL, so no name has one.
fn name(path: &str, value: &Json, problems: &mut Problems) -> Option<String> {
    let text = string(path, value, problems)?;
    if text.is_empty() || text.contains('\0') {
        problems.add(path, "a name was expected, not an empty string or one with a NUL character");
        return None;
    }
    Some(text)
}

fn names(path: &str, value: &Json, problems: &mut Problems) -> Option<Vec<String>> {
    list(path, value, problems, name)
}

fn boolean(path: &str, value: &Json, problems: &mut Problems) -> Option<bool> {
    match value {
        Json::Bool(flag) => Some(*flag),
        other => wrong_type(path, other, "true or false", problems),
    }
}

fn object(path: &str, value: &Json, problems: &mut Problems) -> Option<Map<String, Json>> {
    match value {
        Json::Object(map) => Some(map.clone()),
        other => wrong_type(path, other, "an object", problems),
    }
}

/// The elements that can be read.
fn list<T>(path: &str, value: &Json, problems: &mut Problems, read: Read<T>) -> Option<Vec<T>> {
    let Json::Array(elements) = value else {
        return wrong_type(path, value, "a list", problems);
    };
    let read_element = |(position, value)| read(&element(path, position), value, problems);
    Some(elements.iter().enumerate().filter_map(read_element).collect())
}

/// Keys and the values that can be read, in the order of the file.
fn pairs<T>(
    path: &str,
    value: &Json,
    problems: &mut Problems,
    read: Read<T>,
) -> Option<Vec<(String, T)>> {
    let Json::Object(map) = value else {
        return wrong_type(path, value, "an object", problems);
    };
    let read_pair = |(key, value): (&String, &Json)| {
        read(&member(path, key), value, problems).map(|value| (key.clone(), value))
    };
    Some(map.iter().filter_map(read_pair).collect())
}

fn choice<T: Copy>(
    path: &str,
    value: &Json,
    known: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = string(path, value, problems)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    if found.is_none() {
        let names = || known.iter().map(|(name, _)| *name);
        let what = format!("{} was expected, not `{}`", listed(names()), shown(&text));
        match nearest(&text, names()) {
            Some(near) => problems.add_with_hint(path, what, format!("did you mean `{near}`?")),
            None => problems.add(path, what),
        }
    }
    found
}

/// Reports that the value has the wrong type.
fn wrong_type<T>(path: &str, value: &Json, expected: &str, problems: &mut Problems) -> Option<T> {
    let found = match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    };
    problems.add(path, format!("{expected} was expected, not {found}"));
    None
}
