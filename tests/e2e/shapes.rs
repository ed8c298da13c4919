//! What a schema file can ask for: forms of `_id`, several documents and databases, `where`, transforms,
//! routing, scalars, views' keys.

use reqwest::Method;
use serde_json::json as literal;

use crate::harness::servers::{connect, database_url, elasticsearch, run};
use crate::harness::{Documents, Site, documents, json, until};

/// The first load and a row that comes later give the same `_id`.
fn ids(test: &str, table: &str, first: &str, second: &str, expected: [&str; 2]) {
    let site = Site::new(test, table);
    site.run(&format!("insert into thing values ({first})"));
    site.schema(
        r#"{"index": "things", "meta": false, "nodes": {"table": "thing", "columns": ["note"]}}"#,
    );
    let _service = site.service().start_ready();
    site.run(&format!("insert into thing values ({second})"));
    let document = |id: &str, note: u32| (id.to_owned(), literal!({ "note": note }));
    let all: Documents = [document(expected[0], 1), document(expected[1], 2)].into();
    site.expect("things", &all);
    site.run("delete from thing where note = 1; update thing set note = 3");
    site.expect("things", &[document(expected[1], 3)].into());
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_id_has_the_key_in_alphabetical_order_of_its_columns() {
    ids(
        "id_order",
        "create table thing (z int, note int, a text, m boolean, primary key (z, m, a))",
        "1, 1, 'x|y', true",
        "-2, 2, 'é ', false",
        ["x|y|True|1", "é |False|-2"],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_id_shows_dates_times_and_numbers_as_pgsync_does() {
    ids(
        "id_times",
        "create table thing (a date, b timestamptz, c numeric, d float8, note int, primary key (a, b, c, d))",
        "'2020-01-01', '2020-01-01 02:00:00+02', 1.50, 0.1, 1",
        "'1999-12-31', '1999-12-31 23:59:59.5+00', 100, 1e20, 2",
        [
            "2020-01-01|2020-01-01 00:00:00+00:00|1.50|0.1",
            "1999-12-31|1999-12-31 23:59:59.500000+00:00|100|1e+20",
        ],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_id_shows_padding_bytes_uuids_addresses_and_enums_as_text() {
    ids(
        "id_texts",
        "create type mood as enum ('sad', 'happy');
         create table thing (a char(4), b bytea, c uuid, d inet, e mood, note int, primary key (a, b, c, d, e))",
        r"'ab', '\xdead', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', 'happy', 1",
        r"'abcd', '', '00000000-0000-0000-0000-000000000000', '::1', 'sad', 2",
        [
            r"ab  |\xdead|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|10.0.0.1|happy",
            r"abcd|\x|00000000-0000-0000-0000-000000000000|::1|sad",
        ],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn documents_of_several_databases_come_from_one_file() {
    let table = "create table thing (id int primary key); insert into thing values (1)";
    let site = Site::new("databases", table);
    let other = site.add_database("b", table);
    site.schema(&format!(
        r#"[{{"index": "here", "meta": false, "nodes": {{"table": "thing"}}}},
            {{"index": "there", "database": "{other}", "meta": false, "nodes": {{"table": "thing"}}}},
            {{"index": "here_too", "meta": false, "nodes": {{"table": "thing"}}}}]"#
    ));
    let service = site.service().start_ready();
    site.run("insert into thing values (2)");
    run(&connect(&database_url(&other)), "insert into thing values (3)");
    site.expect("here", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}}"#));
    site.expect("here_too", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}}"#));
    site.expect("there", &documents(r#"{"1": {"id": 1}, "3": {"id": 3}}"#));
    assert_eq!(site.slots().len(), 2, "one slot per database");
    assert_eq!(service.status()["pipelines"].as_array().unwrap().len(), 2);
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_row_that_stops_matching_the_condition_loses_its_document() {
    let site = Site::new(
        "condition",
        "create table thing (id int primary key, state text, n int);
         insert into thing values (1, 'open', 1), (2, 'closed', 1), (3, null, 1)",
    );
    site.schema(
        r#"{"index": "things", "meta": false, "where": "state = 'open' or n > 5",
            "nodes": {"table": "thing", "columns": ["id"]}}"#,
    );
    let _service = site.service().start_ready();
    site.expect("things", &documents(r#"{"1": {"id": 1}}"#));
    site.run("update thing set state = 'closed' where id = 1; update thing set n = 6 where id = 3");
    site.expect("things", &documents(r#"{"3": {"id": 3}}"#));
    site.run("update thing set state = 'open'");
    site.expect("things", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}, "3": {"id": 3}}"#));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_document_is_sent_with_the_routing_and_the_pipeline_of_its_entry() {
    let site = Site::new(
        "routing",
        "create table thing (id int primary key, tenant text); insert into thing values (1, 'a')",
    );
    let pipeline = format!("{}nothing", site.prefix);
    let path = format!("/_ingest/pipeline/{pipeline}");
    let body = json(r#"{"processors": []}"#);
    assert_eq!(elasticsearch(Method::PUT, &path, Some(&body)).0, 200);
    site.schema(&format!(
        r#"{{"index": "things", "meta": false, "routing": "owner", "pipeline": "{pipeline}",
            "nodes": {{"table": "thing", "transform": {{"rename": {{"tenant": "owner"}}}}}}}}"#
    ));
    let service = site.service().start_ready();
    site.run("insert into thing values (2, 'b')");
    let expected = r#"{"1": {"id": 1, "owner": "a"}, "2": {"id": 2, "owner": "b"}}"#;
    site.expect("things", &documents(expected));
    for (id, routing) in [(1, "a"), (2, "b")] {
        let path = format!("/{}/_doc/{id}?routing={routing}", site.index("things"));
        assert_eq!(elasticsearch(Method::GET, &path, None).1["_routing"], routing);
    }
    service.stop();
    elasticsearch(Method::DELETE, &path, None);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_document_that_the_server_refuses_is_a_dead_letter_and_stops_nothing() {
    let site = Site::new(
        "refused",
        "create table thing (id int primary key, body jsonb);
         insert into thing values (1, '{\"a\": 1}'), (2, '{\"a\": {\"b\": 1}}')",
    );
    site.schema(
        r#"{"index": "things", "meta": false, "nodes": {"table": "thing", "transform":
            {"mapping": {"body": {"type": "object", "properties": {"a": {"type": "long"}}}}}}}"#,
    );
    let service = site.service().start_ready();
    site.run("insert into thing values (3, '{\"a\": 3}'), (4, '{\"a\": \"word\"}')");
    let good = documents(r#"{"1": {"id": 1, "body": {"a": 1}}, "3": {"id": 3, "body": {"a": 3}}}"#);
    site.expect("things", &good);
    until("two dead letters", || match service.index_figure(&site.index("things"), "rejected") {
        2 => Ok(()),
        other => Err(other.to_string()),
    });
    let builder = service.stop();
    let service = builder.start_ready();
    site.run("update thing set body = '{\"a\": 4}' where id = 4");
    until("the mended row has its document", || {
        let found = site.document("things", "4");
        found.map(|_| ()).ok_or_else(|| "no document".to_owned())
    });
    service.stop();
}

const TREE: &str = "
    create table parent (id int primary key, name text);
    create table child (id int primary key, parent_id int references parent, a text, b int);
    create table partner (parent_id int primary key references parent, a text, b int);
    insert into parent values (1, 'full'), (2, 'empty');
    insert into child values (2, 1, null, 2), (1, 1, 'x', 1), (3, 1, 'y', 3);
    insert into partner values (1, 'p', 5);";

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn scalars_and_objects_are_null_where_there_are_no_rows() {
    let site = Site::new("variants", TREE);
    site.schema(
        r#"{"index": "parents", "meta": false, "nodes": {"table": "parent", "columns": ["name"], "children": [
            {"table": "child", "label": "scalars", "columns": ["a", "b"],
             "relationship": {"type": "one_to_many", "variant": "scalar"}},
            {"table": "child", "label": "objects", "columns": ["b", "a"],
             "relationship": {"type": "one_to_many", "variant": "object"}},
            {"table": "child", "label": "first", "columns": ["a"],
             "relationship": {"type": "one_to_one", "variant": "object"}},
            {"table": "partner", "label": "value", "columns": ["b"],
             "relationship": {"type": "one_to_one", "variant": "scalar"}},
            {"table": "partner", "label": "name", "columns": ["a"],
             "relationship": {"type": "one_to_one", "variant": "object"}}]}}"#,
    );
    site.run("alter table child replica identity full; alter table partner replica identity full");
    let _service = site.service().start_ready();
    let empty = r#"{"scalars": null, "objects": null, "first": null, "value": null, "name": null}"#;
    let full = r#"{"scalars": ["x", null, "y"], "objects": [{"b": 1, "a": "x"}, {"b": 2, "a": null},
        {"b": 3, "a": "y"}], "first": {"a": "x"}, "value": 5, "name": {"a": "p"}}"#;
    site.expect("parents", &documents(&format!(r#"{{"1": {full}, "2": {empty}}}"#)));
    site.run("update child set parent_id = 2; update partner set parent_id = 2");
    site.expect("parents", &documents(&format!(r#"{{"1": {empty}, "2": {full}}}"#)));
    site.run("delete from child; delete from partner");
    site.expect("parents", &documents(&format!(r#"{{"1": {empty}, "2": {empty}}}"#)));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn transforms_work_on_live_changes_as_on_the_first_load() {
    let site = Site::new("transforms", TREE);
    site.schema(
        r#"{"index": "parents", "meta": false, "nodes": {"table": "parent",
          "transform": {"replace": {"name": {"ful": "brimful"}}, "rename": {"name": "id", "id": "name"},
            "concat": [{"columns": ["id", "of", "name"], "destination": "line", "delimiter": " "}]},
          "children": [
            {"table": "child", "label": "kids", "columns": ["id", "a"],
             "relationship": {"type": "one_to_many", "variant": "object"},
             "transform": {"rename": {"a": "letter"}, "move": {"letter": "deep.letter"}}}]}}"#,
    );
    site.run("alter table child replica identity full");
    let _service = site.service().start_ready();
    site.run("insert into parent values (3, 'ful'); insert into child values (4, 3, 'z', 0)");
    site.expect(
        "parents",
        &documents(
            r#"{"1": {"name": 1, "id": "brimfull", "line": "brimfull of 1",
                 "kids": [{"id": 1, "deep": {"letter": "x"}}, {"id": 2, "deep": {"letter": null}},
                   {"id": 3, "deep": {"letter": "y"}}]},
                "2": {"name": 2, "id": "empty", "line": "empty of 2", "kids": null},
                "3": {"name": 3, "id": "brimful", "line": "brimful of 3",
                  "kids": [{"id": 4, "deep": {"letter": "z"}}]}}"#,
        ),
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn partitions_are_followed_under_the_name_of_their_table() {
    let site = Site::new(
        "partitions",
        "create table thing (id int primary key, n int) partition by range (id);
         create table thing_low partition of thing for values from (0) to (10);
         create table thing_high partition of thing for values from (10) to (20);
         insert into thing values (1, 1), (11, 1)",
    );
    site.schema(r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#);
    let _service = site.service().start_ready();
    site.run("update thing set n = 2 where id = 1; update thing set id = 12 where id = 1; insert into thing_low values (2, 2)");
    site.expect(
        "things",
        &documents(
            r#"{"2": {"id": 2, "n": 2}, "11": {"id": 11, "n": 1}, "12": {"id": 12, "n": 2}}"#,
        ),
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn names_that_need_quotes_work_everywhere() {
    let site = Site::new(
        "quotes",
        r#"create schema "My Schema";
           create table "My Schema"."Order" ("Id" int primary key, "select" text, "a'b" text);
           create table "My Schema"."L""ine" ("Id" int primary key, "Order Id" int references "My Schema"."Order");
           insert into "My Schema"."Order" values (1, 'x', 'y'); insert into "My Schema"."L""ine" values (1, 1)"#,
    );
    site.schema(
        r#"{"index": "orders", "nodes": {"table": "Order", "schema": "My Schema", "children": [
            {"table": "L\"ine", "schema": "My Schema", "label": "lines", "columns": ["Id"],
             "relationship": {"type": "one_to_many", "variant": "scalar"}}]}}"#,
    );
    let _service = site.service().start_ready();
    site.run(r#"insert into "My Schema"."L""ine" values (2, 1)"#);
    site.expect(
        "orders",
        &documents(
            r#"{"1": {"Id": 1, "select": "x", "a'b": "y", "lines": [1, 2],
                "_meta": {"Order": {"Id": ["1"]}, "L\"ine": {"Id": [1, 2]}}}}"#,
        ),
    );
}
