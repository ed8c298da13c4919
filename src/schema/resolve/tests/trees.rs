//! Names, fields, keys, identities, digests.

use super::*;

#[test]
fn unknown_names_come_with_the_nearest_one() {
    for (text, part) in [
        (
            r#"{"nodes": {"table": "bok"}}"#,
            "$.nodes.table: there is no table `public.bok`; did you mean `book`?",
        ),
        (r#"{"nodes": {"table": "Book"}}"#, "case-sensitive"),
        (r#"{"nodes": {"table": "author", "schema": "stock"}}"#, r#"set "schema": "public""#),
        (
            r#"{"nodes": {"table": "book", "columns": ["isbn", "titel"]}}"#,
            "$.nodes.columns[1]: \"public\".\"book\" has no column `titel`; did you mean `title`?",
        ),
        (r#"{"nodes": {"table": "book", "columns": ["dta->a"]}}"#, "did you mean `data`?"),
        (r#"{"nodes": {"table": "book", "columns": ["title->a"]}}"#, "`title` is text"),
        (r#"{"nodes": {"table": "book", "columns": ["data->"]}}"#, "has no key behind it"),
        (r#"{"nodes": {"table": "remote", "primary_key": ["id"]}}"#, "foreign table"),
        (r#"{"nodes": {"table": "书"}}"#, "there is no table `public.书`"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
    }
}

#[test]
fn problems_below_an_unknown_table_are_told_too() {
    let found = problems(
        r#"[{"nodes": {"table": "nope", "children": [
              {"table": "book", "columns": ["nope"], "relationship": {"type": "one_to_one", "variant": "object"},
               "children": [{"table": "subject", "relationship": {"type": "one_to_one", "variant": "object"}}]}]}},
            {"index": "db", "nodes": {"table": "log"}}]"#,
    );
    let expected = [
        "$[1].index: the index `db` is already that of $[0]",
        "$[0].nodes.table: there is no table",
        "$[0].nodes.children[0].columns[0]: ",
        "$[0].nodes.children[0].children[0].relationship: no foreign key",
        "$[1].nodes: \"public\".\"log\" has no primary key",
    ];
    for start in expected {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}: {found:#?}");
    }
}

#[test]
fn fields_are_all_columns_or_those_written_each_once() {
    let fields = |text: &str| {
        let columns = tree(text).nodes.remove(0).columns;
        columns.into_iter().map(|column| column.field).collect::<Vec<_>>()
    };
    assert_eq!(fields(r#"{"nodes": {"table": "author"}}"#), ["id", "name", "born"]);
    assert_eq!(fields(r#"{"nodes": {"table": "author", "columns": []}}"#), ["id", "name", "born"]);
    assert_eq!(
        fields(r#"{"nodes": {"table": "book", "columns": ["title", "data->a->0", "title"]}}"#),
        ["title", "data_a_0"]
    );
    let twice = problems(r#"{"nodes": {"table": "book", "columns": ["data->a", "data->>a"]}}"#);
    assert!(twice[0].contains("two columns give the field `data_a`"), "{twice:?}");
}

#[test]
fn a_scalar_has_its_first_column_and_no_children() {
    let scalar = |children: &str| {
        format!(
            r#"{{"nodes": {{"table": "author", "children": [{{"table": "book", "columns": ["title", "isbn"],
                "relationship": {{"type": "one_to_many", "variant": "scalar"}}{children}}}]}}}}"#
        )
    };
    let columns = tree(&scalar("")).nodes.remove(1).columns;
    assert_eq!(columns, [plain_column("title")]);
    let child = r#", "children": [{"table": "publisher", "relationship": {"type": "one_to_one", "variant": "object"}}]"#;
    let found = problems(&scalar(child));
    assert!(
        found[0].starts_with("$.nodes.children[0].children: a scalar has no room"),
        "{found:?}"
    );
}

#[test]
fn siblings_have_different_labels() {
    let relationship = r#""relationship": {"type": "one_to_one", "variant": "object"}"#;
    let found = problems(&format!(
        r#"{{"nodes": {{"table": "book", "children": [{{"table": "author", {relationship}}},
            {{"table": "publisher", "label": "author", {relationship}}}]}}}}"#
    ));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with(
        "$.nodes.children[1]: the label `author` is already that of $.nodes.children[0]"
    ));
}

#[test]
fn the_id_orders_a_declared_key_by_name_and_a_written_one_as_written() {
    let stock = tree(r#"{"nodes": {"table": "book", "schema": "stock"}}"#);
    assert_eq!(stock.key, ["a", "z"]);
    assert_eq!(stock.root().key, ["z", "a"]);
    let view = tree(
        r#"{"nodes": {"table": "book_view", "primary_key": ["title", "isbn"], "base_tables": ["book"]}}"#,
    );
    assert_eq!(view.key, ["title", "isbn"]);
    assert_eq!(view.root().base_tables[0].name, "book");
}

#[test]
fn views_need_key_and_base_tables() {
    let found = problems(r#"{"nodes": {"table": "book_view"}}"#);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|problem| problem.contains(r#""primary_key": ["…"]"#)));
    assert!(found.iter().any(|problem| problem.contains(r#""base_tables": ["…"]"#)));
    for (text, part) in [
        (
            r#"{"nodes": {"table": "book_view", "primary_key": ["isbn"], "base_tables": ["nope"]}}"#,
            "$.nodes.base_tables[0]: there is no table",
        ),
        (
            r#"{"nodes": {"table": "book_view", "primary_key": ["isbn"], "base_tables": ["book_view"]}}"#,
            "name the tables beneath it",
        ),
        (
            r#"{"nodes": {"table": "book_view", "primary_key": ["ibsn"], "base_tables": ["book"]}}"#,
            "did you mean `isbn`?",
        ),
        (r#"{"nodes": {"table": "book", "base_tables": ["author"]}}"#, "is not a view"),
        (
            r#"{"nodes": {"table": "book", "primary_key": ["title"]}}"#,
            "declares another primary key: `isbn`",
        ),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
    }
    assert_eq!(tree(r#"{"nodes": {"table": "book", "primary_key": ["isbn"]}}"#).key, ["isbn"]);
}

/// The outcome for one table as root, without children.
fn root_alone(table: Table, text: &str) -> Result<Vec<SchemaTree>, SchemaError> {
    resolve(&parse(text, &|_| None).unwrap(), &Catalog::new([table]), "db")
}

#[test]
fn the_identity_of_the_root_covers_its_key() {
    let text = r#"{"nodes": {"table": "t", "primary_key": ["id"]}}"#;
    let plain = || table(1, "t", "id other");
    let keyed = || table(1, "t", "id* other");
    let partitioned = |identity| {
        let leaf = Leaf {
            id: RelationId(2),
            name: "public.t_1".to_owned(),
            identity,
            identity_columns: Vec::new(),
        };
        Table { leaves: vec![leaf], ..keyed().of_kind(TableKind::Partitioned) }
    };
    for (table, good) in [
        (keyed(), true),
        (plain(), false),
        (plain().with_identity(ReplicaIdentity::Full, &[]), true),
        (plain().with_identity(ReplicaIdentity::Index, &["id"]), true),
        (keyed().with_identity(ReplicaIdentity::Index, &["other"]), false),
        (keyed().with_identity(ReplicaIdentity::Nothing, &[]), false),
        (partitioned(ReplicaIdentity::Full), true),
        (partitioned(ReplicaIdentity::Nothing), false),
    ] {
        let outcome = root_alone(table.clone(), text);
        assert_eq!(outcome.is_ok(), good, "{table:?}");
        if let Err(error) = outcome {
            assert!(error.to_string().contains("REPLICA IDENTITY FULL;"), "{error}");
        }
    }
    let mut generated = keyed();
    generated.columns[0].generated = true;
    let error = root_alone(generated, text).unwrap_err().to_string();
    assert!(error.contains("generated column"), "{error}");
}

#[test]
fn without_meta_the_columns_that_lead_to_the_root_are_covered() {
    let without_meta = |text: String| text.replacen('{', r#"{"meta": false, "#, 1);
    // The author's key is its identity; a book's author is not in that of the book.
    assert!(resolved(&without_meta(with_child("book", "author", ""))).is_ok());
    let found = problems(&without_meta(with_child("author", "book", "")));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("has to cover `author_id`"), "{found:?}");
    assert!(found[0].contains("ALTER TABLE \"public\".\"book\" REPLICA IDENTITY FULL;"));
    // The through table is identified by both of its columns.
    let many = with_child("book", "subject", r#", "through_tables": ["book_subject"]"#);
    assert!(resolved(&without_meta(many)).is_ok());
    let many = with_child("author", "publisher", r#", "through_tables": ["book"]"#);
    assert_eq!(problems(&without_meta(many)).len(), 1);
}

#[test]
fn the_mapping_is_whole_or_its_fields() {
    let mapping = |key: &str, value: &str| {
        tree(&format!(r#"{{"nodes": {{"table": "book"}}, "{key}": {value}}}"#)).mapping.unwrap()
    };
    assert!(matches!(mapping("mapping", r#"{"a": {"type": "text"}}"#), UserMapping::Properties(_)));
    assert!(matches!(mapping("mapping", r#"{"dynamic_templates": []}"#), UserMapping::Whole(_)));
    assert!(matches!(mapping("mappings", r#"{"dynamic": false}"#), UserMapping::Whole(_)));
    assert!(tree(r#"{"nodes": {"table": "book"}}"#).mapping.is_none());
}

#[test]
fn what_is_not_resolved_is_passed_through() {
    let tree = tree(
        r#"{"database": "shop", "setting": {"number_of_shards": 3}, "pipeline": "p", "routing": "r",
            "plugins": ["b", "a"], "where": "id > 0", "meta": false, "nodes": {"table": "book",
            "transform": {"replace": {"title": {"b": "c", "a": "d"}}, "rename": {"data": {"x": "y"}},
              "concat": {"columns": ["isbn", "title"], "destination": "d"},
              "mapping": {"d": {"type": "keyword"}}, "move": {"a.b": "c"}}}}"#,
    );
    assert_eq!(tree.index.0, "shop");
    assert_eq!(tree.filter.as_deref(), Some("id > 0"));
    assert_eq!(tree.plugins, ["b", "a"]);
    assert_eq!(tree.setting.as_ref().unwrap()["number_of_shards"], 3);
    assert!(!tree.meta);
    let transform = &tree.root().transform;
    let searches = [("b".to_owned(), "c".to_owned()), ("a".to_owned(), "d".to_owned())];
    assert_eq!(transform.replace, [("title".to_owned(), searches.to_vec())]);
    assert_eq!(transform.concat[0].delimiter, "");
    assert_eq!(transform.moves, [("a.b".to_owned(), "c".to_owned())]);
    assert_eq!(transform.mapping["d"]["type"], "keyword");
}

#[test]
fn parents_stand_before_their_children() {
    let relationship = r#""relationship": {"type": "one_to_one", "variant": "object"}"#;
    let tree = tree(&format!(
        r#"{{"nodes": {{"table": "book", "children": [
            {{"table": "author", {relationship}}},
            {{"table": "publisher", {relationship}, "children": [
                {{"table": "publisher", "label": "branches", {relationship}}}]}}]}}}}"#
    ));
    let labels: Vec<&str> = tree.nodes.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["book", "author", "publisher", "branches"]);
    assert_eq!(tree.root().children, [NodeId(1), NodeId(2)]);
    assert_eq!(tree.node(NodeId(3)).link.as_ref().unwrap().parent, NodeId(2));
    assert_eq!(tree.node(NodeId(3)).path, "$.nodes.children[1].children[0]");
}

#[test]
fn the_digest_follows_what_is_meant_and_not_how_it_is_written() {
    let digest = |text: &str| tree(text).digest;
    let plain = digest(r#"{"nodes": {"table": "book"}}"#);
    assert_eq!(plain.len(), 64);
    for same in [
        r#"[{"nodes": {"columns": [], "table": "book", "schema": "public"}, "meta": true}]"#,
        r#"{"index": "db", "database": "db", "plugins": [], "nodes": {"table": "book"}}"#,
        r#"{"nodes": {"table": "book", "label": "book", "children": [], "transform": {"rename": {}}}}"#,
    ] {
        assert_eq!(digest(same), plain, "{same}");
    }
    for other in [
        r#"{"nodes": {"table": "author"}}"#,
        r#"{"nodes": {"table": "book"}, "where": "true"}"#,
        r#"{"nodes": {"table": "book"}, "meta": false}"#,
        r#"{"nodes": {"table": "book", "columns": ["isbn"]}}"#,
    ] {
        assert_ne!(digest(other), plain, "{other}");
    }
    let replace = |rules: &str| {
        digest(&format!(
            r#"{{"nodes": {{"table": "book", "transform": {{"replace": {{"title": {rules}}}}}}}}}"#
        ))
    };
    assert_ne!(replace(r#"{"a": "b", "b": "c"}"#), replace(r#"{"b": "c", "a": "b"}"#));
}

#[test]
fn the_shape_follows_the_columns_that_are_used_and_not_the_identity() {
    let text = r#"{"nodes": {"table": "t", "columns": ["a"]}}"#;
    let shape = |table: Table| root_alone(table, text).unwrap().remove(0).shape;
    let plain = shape(table(1, "t", "id* a:text b"));
    assert_eq!(shape(table(1, "t", "id* a:text b c")), plain);
    let full = table(1, "t", "id* a:text b").with_identity(ReplicaIdentity::Full, &[]);
    assert_eq!(shape(full), plain);
    assert_ne!(shape(table(1, "t", "id* a:varchar b")), plain);
    assert_ne!(shape(table(1, "t", "id*:bigint a:text b")), plain);
    assert_ne!(shape(table(2, "t", "id* a:text b")), plain);
    assert_ne!(shape(table(1, "t", "id* a:text b*")), plain);
}
