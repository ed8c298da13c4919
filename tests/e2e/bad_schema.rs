//! Schema files that cannot be followed: every problem at once, with the place and the remedy; nothing
//! is made.

use crate::harness::Site;

const TABLES: &str = "
    create table book (id int primary key, title text, author_id int, editor_id int);
    create table author (id int primary key, name text);
    create table review (id int primary key, book_id int);
    create table edge (a int references author, b int references author);
    alter table book add foreign key (author_id) references author, add foreign key (editor_id) references author;";

/// Ends with 78 and all of these words, and makes nothing.
fn refused(test: &str, schema: &str, words: &[&str]) {
    let site = Site::new(test, TABLES);
    site.write("schema.json", schema);
    let ended = site.service().arguments(&["--once"]).run();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word} is missing in:\n{}", ended.stderr);
    }
    site.assert_nothing_made();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn text_that_is_no_json_is_refused_with_its_place() {
    refused("bad_json", "[{\"index\": \"x\",\n  \"nodes\": }]", &["not valid JSON", "line 2"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_unknown_key_is_named_at_once_with_the_nearest() {
    refused(
        "bad_keys",
        r#"{"index": "x", "nodez": 1, "nodes": {"table": "book", "colums": ["id"], "children": [
            {"table": "review", "relationship": {"type": "one_to_some", "variant": "object"}}]}}"#,
        &["nodez", "nodes", "colums", "columns", "one_to_some", "one_to_many"],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_unknown_table_and_column_is_named_at_once() {
    refused(
        "bad_names",
        r#"[{"index": "x", "nodes": {"table": "boook", "columns": ["id"]}},
            {"index": "y", "nodes": {"table": "book", "columns": ["id", "titel"], "children": [
              {"table": "review", "relationship": {"type": "one_to_many", "variant": "object",
                "foreign_key": {"parent": ["id"], "child": ["bookid"]}}}]}}]"#,
        &["boook", "did you mean `book`", "titel", "title", "bookid", "book_id", "$[0]", "$[1]"],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_missing_and_an_ambiguous_foreign_key_are_refused_with_the_candidates() {
    refused(
        "bad_joins",
        r#"{"index": "x", "nodes": {"table": "book", "children": [
            {"table": "author", "relationship": {"type": "one_to_one", "variant": "object"}},
            {"table": "review", "relationship": {"type": "one_to_many", "variant": "object"}}]}}"#,
        &["author_id", "editor_id", "foreign_key", "review", "no foreign key"],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_root_without_a_key_is_refused() {
    refused("bad_root", r#"{"index": "x", "nodes": {"table": "edge"}}"#, &["edge", "key"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn two_entries_of_one_index_and_unknown_variables_are_refused() {
    refused(
        "bad_twice",
        r#"[{"index": "x", "nodes": {"table": "book"}}, {"index": "x", "nodes": {"table": "author"}},
            {"index": "${NO_SUCH_VARIABLE}", "nodes": {"table": "author"}}]"#,
        &["NO_SUCH_VARIABLE"],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_schema_file_that_is_not_there_is_refused() {
    let site = Site::new("bad_file", TABLES);
    let ended = site.service().set("SCHEMA", "gone.json").arguments(&["--once"]).run();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("gone.json"), "{}", ended.stderr);
    site.assert_nothing_made();
}
