//! What the fields of an index are: the user's mapping, and an explicit one from the column's type
//! for every field it leaves out. Pure.
//!
//! The server would guess from the first value it sees: `5` makes a `long`, and a later `5.5` is then
//! found by range queries as 5.
//!
//! Fields of `json` columns, composites and types of extensions that can render as objects are left
//! to the server: only it sees what is in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::postgres::Column;
use crate::schema::tree::{
    Join, Link, Node, NodeId, OutputColumn, SchemaTree, UserMapping, Variant,
};

/// Longer strings are found by their words only, as in the server's own guess.
const KEYWORD_LIMIT: u32 = 256;

/// Takes what we render: `2020-01-02`, `2020-01-02T03:04:05.678+00:00`, years above 9999 (which the
/// strict form refuses), and the number of milliseconds in queries, as the server's own guess does.
/// `infinity` and years BC are in the document, but not searchable as dates.
const DATE_FORMAT: &str = "strict_date_optional_time||date_optional_time||epoch_millis";

/// Where the mapping of fields comes from that the schema file does not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldMapping {
    /// From the columns' types.
    FromColumns,
    /// From the first value the server sees, as PGSync leaves it.
    Dynamic,
}

/// The `mappings` object of an entry's index; `stamp` is kept in its `_meta` as `pgsyncd`.
pub fn mappings(tree: &SchemaTree, fields: FieldMapping, stamp: Json) -> Json {
    let mut mappings = match &tree.mapping {
        Some(UserMapping::Whole(Json::Object(whole))) => whole.clone(),
        Some(UserMapping::Properties(properties)) => object([("properties", properties.clone())]),
        Some(UserMapping::Whole(_)) | None => Map::new(),
    };
    let ours = match fields {
        FieldMapping::FromColumns if leaves_fields_to_us(&mappings) => {
            mappings.entry("date_detection").or_insert(Json::Bool(false));
            fields_of(tree, NodeId::ROOT, FieldMapping::FromColumns)
        }
        // What the user says of new fields, in templates or by `dynamic`, is not overruled.
        FieldMapping::FromColumns => Map::new(),
        FieldMapping::Dynamic => fields_of(tree, NodeId::ROOT, FieldMapping::Dynamic),
    };
    if let Some(properties) = properties_of(&mut mappings) {
        merge_under(properties, ours);
        if tree.meta {
            properties.insert("_meta".into(), meta_fields(tree));
        }
    }
    let notes = mappings.entry("_meta").or_insert_with(|| json!({}));
    if let Json::Object(notes) = notes {
        notes.insert("pgsyncd".into(), stamp);
    }
    Json::Object(mappings)
}

/// How many fields a `mappings` object declares, counted as the server's limit counts them.
pub fn count_fields(mappings: &Json) -> usize {
    ["properties", "fields"]
        .iter()
        .filter_map(|name| mappings.get(name)?.as_object())
        .flat_map(Map::values)
        .map(|field| 1 + count_fields(field))
        .sum()
}

/// The mapping for a column of that type; `None` leaves it to the server.
pub fn field_of(column: &Column) -> Option<Json> {
    let mut name = column.type_name.as_str();
    // Elasticsearch has no arrays: each element is a value of the field.
    while let Some(element) = name.strip_suffix("[]") {
        name = element;
    }
    let date = || json!({"type": "date", "format": DATE_FORMAT, "ignore_malformed": true});
    match name {
        "smallint" | "integer" | "bigint" => {
            Some(json!({"type": "long", "ignore_malformed": true}))
        }
        "numeric" | "real" | "double precision" => {
            Some(json!({"type": "double", "ignore_malformed": true}))
        }
        "date" | "timestamp without time zone" | "timestamp with time zone" => Some(date()),
        "boolean" => Some(json!({"type": "boolean"})),
        "bytea" => Some(json!({"type": "keyword", "index": false, "doc_values": false})),
        "json" | "jsonb" | "record" => None,
        // A type outside of pg_catalog may render as an object: hstore and geometry do.
        name if name.contains('.') && !matches!(column.type_category, 'E' | 'S') => None,
        _ if column.type_category == 'C' => None,
        _ => Some(text()),
    }
}

fn text() -> Json {
    json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": KEYWORD_LIMIT}}})
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Map<String, Json> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn leaves_fields_to_us(mappings: &Map<String, Json>) -> bool {
    let templates = mappings.get("dynamic_templates").and_then(Json::as_array);
    let dynamic = mappings.get("dynamic").is_none_or(is_true);
    templates.is_none_or(Vec::is_empty) && dynamic
}

fn is_true(value: &Json) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// The `properties` of a node's object.
fn fields_of(tree: &SchemaTree, id: NodeId, fields: FieldMapping) -> Map<String, Json> {
    let node = tree.node(id);
    let mut ours = Map::new();
    if fields == FieldMapping::FromColumns {
        for output in &node.columns {
            put(&mut ours, renamed(node, &output.field), column_field(node, output));
        }
    }
    for child in &node.children {
        let child = (*child, tree.node(*child));
        put(&mut ours, renamed(node, &child.1.label), child_field(tree, child, fields));
    }
    for (source, destination) in &node.transform.moves {
        let moved = take_path(&mut ours, source);
        take_path(&mut ours, destination);
        if let Some(moved) = moved {
            put_path(&mut ours, destination, moved);
        }
    }
    if fields == FieldMapping::FromColumns {
        for rule in &node.transform.concat {
            ours.insert(rule.destination.clone(), text());
        }
    }
    if tree.mapping.is_some() {
        return ours;
    }
    let mut properties: Map<String, Json> = node.transform.mapping.clone().into_iter().collect();
    merge_under(&mut properties, ours);
    properties
}

fn put(fields: &mut Map<String, Json>, name: String, field: Option<Json>) {
    match field {
        Some(field) => fields.insert(name, field),
        None => fields.remove(&name),
    };
}

fn renamed(node: &Node, field: &str) -> String {
    let rules = node.transform.rename.as_ref();
    let renamed = rules.and_then(|rules| rules.get(field)).and_then(Json::as_str);
    renamed.unwrap_or(field).to_owned()
}

fn column_field(node: &Node, output: &OutputColumn) -> Option<Json> {
    match &output.path {
        Some(path) => path.0.last().filter(|step| step.as_text).map(|_| text()),
        None => field_of(node.table.column(&output.column)?),
    }
}

fn child_field(
    tree: &SchemaTree,
    (id, child): (NodeId, &Node),
    fields: FieldMapping,
) -> Option<Json> {
    if child.link.as_ref().is_some_and(|link| link.variant == Variant::Scalar) {
        return scalar_field(tree, child, fields);
    }
    let properties = fields_of(tree, id, fields);
    let worth_it = fields == FieldMapping::FromColumns || !properties.is_empty();
    worth_it.then(|| json!({ "properties": properties }))
}

/// A scalar child has no fields of its own: its rule for the column is about the values.
fn scalar_field(tree: &SchemaTree, child: &Node, fields: FieldMapping) -> Option<Json> {
    let output = child.columns.first()?;
    let rules = &child.transform.mapping;
    let own = rules.get(&renamed(child, &output.field)).or_else(|| rules.get(&output.field));
    match (own, fields) {
        (Some(own), _) if tree.mapping.is_none() => Some(own.clone()),
        (_, FieldMapping::FromColumns) => column_field(child, output),
        (_, FieldMapping::Dynamic) => None,
    }
}

/// Adds `ours` to the user's fields; where both have a field, the user's stands, and ours is added
/// below it if it is an object whose new fields the user has not restricted.
fn merge_under(user: &mut Map<String, Json>, ours: Map<String, Json>) {
    for (name, field) in ours {
        let Some(existing) = user.get_mut(&name) else {
            user.insert(name, field);
            continue;
        };
        if let (Json::Object(existing), Some(Json::Object(below))) =
            (existing, field.get("properties").cloned())
            && takes_fields(existing)
            && let Some(properties) = properties_of(existing)
        {
            merge_under(properties, below);
        }
    }
}

fn takes_fields(field: &Map<String, Json>) -> bool {
    let kind = field.get("type").and_then(Json::as_str);
    let enabled = field.get("enabled").is_none_or(is_true);
    let dynamic = field.get("dynamic").is_none_or(is_true);
    kind.is_none_or(|kind| matches!(kind, "object" | "nested")) && enabled && dynamic
}

/// The `properties` of an object, made if they are missing; `None` if the user wrote something else
/// there, which the server will refuse with its reason.
fn properties_of(object: &mut Map<String, Json>) -> Option<&mut Map<String, Json>> {
    object.entry("properties").or_insert_with(|| json!({})).as_object_mut()
}

fn take_path(fields: &mut Map<String, Json>, path: &str) -> Option<Json> {
    match path.split_once('.') {
        None => fields.remove(path),
        Some((first, rest)) => {
            let below = fields.get_mut(first)?.get_mut("properties")?.as_object_mut()?;
            take_path(below, rest)
        }
    }
}

fn put_path(fields: &mut Map<String, Json>, path: &str, field: Json) {
    match path.split_once('.') {
        None => {
            fields.insert(path.to_owned(), field);
        }
        Some((first, rest)) => {
            let above = fields.entry(first).or_insert_with(|| json!({}));
            if let Json::Object(above) = above
                && takes_fields(above)
                && let Some(properties) = properties_of(above)
            {
                put_path(properties, rest, field);
            }
        }
    }
}

/// `_meta.<table>.<column>`, all keywords: rows are looked up by them, so nothing is guessed, and
/// nothing else is searchable there.
fn meta_fields(tree: &SchemaTree) -> Json {
    let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for id in tree.ids() {
        let node = tree.node(id);
        let columns = tables.entry(&node.table.name).or_default();
        columns.extend(node.key.iter().map(String::as_str));
        if id == NodeId::ROOT {
            columns.extend(tree.key.iter().map(String::as_str));
        }
        if let Some(Link { join: Join::Through { table, upper, lower }, .. }) = &node.link {
            columns.extend(lower.iter().map(|pair| pair.lower.as_str()));
            let through = tables.entry(&table.name).or_default();
            through.extend(table.primary_key.iter().map(String::as_str));
            through.extend(upper.iter().map(|pair| pair.lower.as_str()));
            through.extend(lower.iter().map(|pair| pair.upper.as_str()));
        }
    }
    let keywords = |columns: BTreeSet<&str>| -> Map<String, Json> {
        columns.into_iter().map(|column| (column.to_owned(), json!({"type": "keyword"}))).collect()
    };
    let tables: Map<String, Json> = tables
        .into_iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(table, columns)| (table.to_owned(), json!({ "properties": keywords(columns) })))
        .collect();
    json!({ "dynamic": false, "properties": tables })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tree::{ColumnPair, Concat, JsonPath, JsonStep};
    use crate::sink::fixtures::{child, column, node, table, tree};

    fn built(tree: &SchemaTree) -> Json {
        mappings(tree, FieldMapping::FromColumns, json!({"generation": 1}))
    }

    fn kind<'a>(mappings: &'a Json, path: &str) -> Option<&'a str> {
        let pointer = path.split('.').map(|part| format!("/properties/{part}"));
        mappings.pointer(&pointer.collect::<String>())?.get("type")?.as_str()
    }

    fn books() -> Node {
        let columns =
            [("id", "bigint"), ("title", "text"), ("price", "numeric"), ("extra", "jsonb")];
        node(table("book", &columns))
    }

    fn reviews(variant: Variant) -> Node {
        child(table("review", &[("stars", "integer"), ("id", "bigint")]), variant)
    }

    #[test]
    fn every_type_has_its_mapping() {
        let cases = [
            ("smallint", Some("long")),
            ("bigint[]", Some("long")),
            ("numeric", Some("double")),
            ("double precision[][]", Some("double")),
            ("boolean", Some("boolean")),
            ("date", Some("date")),
            ("timestamp with time zone", Some("date")),
            ("time without time zone", Some("text")),
            ("interval", Some("text")),
            ("uuid", Some("text")),
            ("inet", Some("text")),
            ("money", Some("text")),
            ("oid", Some("text")),
            ("public.mood", Some("text")),
            ("public.citext", Some("text")),
            ("bytea", Some("keyword")),
            ("jsonb", None),
            ("json[]", None),
            ("public.point3", None),
            ("public.point3[]", None),
            ("public.hstore", None),
        ];
        for (type_name, expected) in cases {
            let field = field_of(&column("c", type_name));
            let kind = field.as_ref().and_then(|field| field["type"].as_str());
            assert_eq!(kind, expected, "{type_name}");
        }
        assert_eq!(field_of(&column("c", "bytea")).unwrap()["index"], false);
        assert_eq!(field_of(&column("c", "integer")).unwrap()["ignore_malformed"], true);
        assert_eq!(text()["fields"]["keyword"]["ignore_above"], 256);
    }

    #[test]
    fn fields_follow_columns_and_children_and_nothing_is_guessed() {
        let built = built(&tree(books(), vec![reviews(Variant::Object)]));
        assert_eq!(built["date_detection"], false);
        assert_eq!(built["_meta"]["pgsyncd"]["generation"], 1);
        assert_eq!(kind(&built, "title"), Some("text"));
        assert_eq!(kind(&built, "review.stars"), Some("long"));
        assert_eq!(built["properties"].get("extra"), None);
        assert_eq!(built["properties"]["review"].get("type"), None, "a plain object");
    }

    #[test]
    fn a_scalar_child_has_the_type_of_its_first_column_or_its_own_rule() {
        let mut reviews = reviews(Variant::Scalar);
        assert_eq!(kind(&built(&tree(books(), vec![reviews.clone()])), "review"), Some("long"));
        reviews.transform.mapping.insert("stars".into(), json!({"type": "byte"}));
        assert_eq!(kind(&built(&tree(books(), vec![reviews])), "review"), Some("byte"));
    }

    #[test]
    fn renames_move_mappings_even_when_they_swap() {
        let mut root = books();
        let rules = json!({"title": "price", "price": "title", "review": "reviews"});
        root.transform.rename = rules.as_object().cloned();
        let built = built(&tree(root, vec![reviews(Variant::Object)]));
        assert_eq!(kind(&built, "price"), Some("text"));
        assert_eq!(kind(&built, "title"), Some("double"));
        assert_eq!(kind(&built, "reviews.stars"), Some("long"));
        assert_eq!(built["properties"].get("review"), None);
    }

    #[test]
    fn a_mapping_for_a_childs_label_keeps_the_childs_fields() {
        let mut root = books();
        root.transform.mapping.insert("review".into(), json!({"type": "nested"}));
        root.transform.mapping.insert("title".into(), json!({"type": "keyword"}));
        let mut review = reviews(Variant::Object);
        review.transform.mapping.insert("stars".into(), json!({"type": "byte"}));
        let built = built(&tree(root, vec![review]));
        assert_eq!(kind(&built, "review"), Some("nested"));
        assert_eq!(kind(&built, "review.stars"), Some("byte"));
        assert_eq!(kind(&built, "review.id"), Some("long"));
        assert_eq!(kind(&built, "title"), Some("keyword"));
    }

    #[test]
    fn a_child_mapped_as_something_else_gets_no_fields() {
        for field in [json!({"type": "flattened"}), json!({"type": "object", "enabled": false})] {
            let mut root = books();
            root.transform.mapping.insert("review".into(), field.clone());
            let built = built(&tree(root, vec![reviews(Variant::Object)]));
            assert_eq!(built["properties"]["review"], field);
        }
    }

    #[test]
    fn the_files_mapping_replaces_those_of_the_nodes_and_leaves_the_rest_to_us() {
        let mut root = books();
        root.transform.mapping.insert("title".into(), json!({"type": "keyword"}));
        let mut tree = tree(root, vec![reviews(Variant::Object)]);
        let user =
            json!({"price": {"type": "keyword"}, "review": {"properties": {"id": {"type": "ip"}}}});
        tree.mapping = Some(UserMapping::Properties(user));
        let built = built(&tree);
        assert_eq!(kind(&built, "price"), Some("keyword"));
        assert_eq!(kind(&built, "title"), Some("text"), "the node's rule does not count");
        assert_eq!(kind(&built, "review.id"), Some("ip"));
        assert_eq!(kind(&built, "review.stars"), Some("long"));
    }

    #[test]
    fn templates_and_dynamic_of_the_user_are_not_overruled() {
        for whole in [json!({"dynamic_templates": [{"t": {}}]}), json!({"dynamic": "strict"})] {
            let mut tree = tree(books(), Vec::new());
            tree.mapping = Some(UserMapping::Whole(whole.clone()));
            let built = built(&tree);
            assert_eq!(kind(&built, "title"), None);
            assert_eq!(built.get("date_detection"), None);
            assert_eq!(kind(&built, "_meta.book.id"), Some("keyword"));
            for (name, value) in whole.as_object().unwrap() {
                assert_eq!(&built[name], value);
            }
        }
    }

    #[test]
    fn dynamic_mapping_keeps_what_the_user_maps_and_nothing_else() {
        let mut root = books();
        root.transform.mapping.insert("title".into(), json!({"type": "keyword"}));
        let tree = tree(root, vec![reviews(Variant::Object)]);
        let built = mappings(&tree, FieldMapping::Dynamic, json!({}));
        let names: Vec<&String> = built["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["title", "_meta"]);
        assert_eq!(built.get("date_detection"), None);
    }

    #[test]
    fn concat_is_text_and_move_takes_its_mapping_along() {
        let mut root = books();
        let rule = Concat {
            columns: vec!["id".into()],
            destination: "price".into(),
            delimiter: String::new(),
        };
        root.transform.concat = vec![rule];
        root.transform.moves = vec![("review.stars".into(), "best.stars".into())];
        let built = built(&tree(root, vec![reviews(Variant::Object)]));
        assert_eq!(kind(&built, "price"), Some("text"));
        assert_eq!(kind(&built, "best.stars"), Some("long"));
        assert_eq!(kind(&built, "review.stars"), None);
    }

    #[test]
    fn a_path_into_json_is_text_if_it_asks_for_text() {
        let step = |as_text| JsonStep { keys: vec!["a".into()], as_text, hash: false };
        let mut root = books();
        for as_text in [true, false] {
            root.columns.push(OutputColumn {
                column: "extra".into(),
                path: Some(JsonPath(vec![step(as_text)])),
                field: format!("extra_{as_text}"),
            });
        }
        let built = built(&tree(root, Vec::new()));
        assert_eq!(kind(&built, "extra_true"), Some("text"));
        assert_eq!(kind(&built, "extra_false"), None);
    }

    #[test]
    fn meta_has_a_keyword_for_every_key_and_through_column() {
        let mut author = child(table("author", &[("id", "bigint")]), Variant::Object);
        let pair = |upper: &str, lower: &str| {
            vec![ColumnPair { upper: upper.into(), lower: lower.into() }]
        };
        author.link.as_mut().unwrap().join = Join::Through {
            table: table("book_author", &[("id", "bigint")]),
            upper: pair("id", "book_id"),
            lower: pair("author_id", "id"),
        };
        let built = built(&tree(books(), vec![author]));
        let paths = ["book.id", "author.id", "book_author.id", "book_author.book_id"];
        for path in paths {
            assert_eq!(kind(&built, &format!("_meta.{path}")), Some("keyword"), "{path}");
        }
        assert_eq!(built["properties"]["_meta"]["dynamic"], false);
    }

    #[test]
    fn without_meta_there_is_no_mapping_for_it() {
        let mut tree = tree(books(), Vec::new());
        tree.meta = false;
        assert_eq!(built(&tree)["properties"].get("_meta"), None);
    }

    #[test]
    fn fields_are_counted_with_what_is_below_them() {
        let mappings = json!({"properties": {
            "a": {"type": "text", "fields": {"keyword": {}}},
            "b": {"properties": {"c": {}}},
        }});
        assert_eq!(count_fields(&mappings), 4);
    }
}
