//! Tables that change their shape while the service runs.

use crate::harness::{Site, documents, until};

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_column_with_a_default_appears_in_every_document() {
    let site = Site::new(
        "add_column",
        "create table thing (id int primary key); insert into thing values (1), (2)",
    );
    site.schema(r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#);
    let service = site.service().start_ready();
    site.expect("things", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}}"#));
    site.run("alter table thing add column n int default 7");
    site.expect("things", &documents(r#"{"1": {"id": 1, "n": 7}, "2": {"id": 2, "n": 7}}"#));
    site.run("update thing set n = 8 where id = 2; alter table thing drop column n; insert into thing values (3)");
    site.expect("things", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}, "3": {"id": 3}}"#));
    until("the index that was replaced is gone", || match site.concretes() {
        one if one.len() == 1 => Ok(()),
        more => Err(format!("{more:?}")),
    });
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_column_of_a_child_may_change_its_type_and_its_table_its_rows() {
    let site = Site::new(
        "alter_type",
        "create table parent (id int primary key);
         create table child (id int primary key, parent_id int references parent, n int);
         insert into parent values (1); insert into child values (1, 1, 5)",
    );
    site.schema(
        r#"{"index": "parents", "meta": false, "nodes": {"table": "parent", "children": [
            {"table": "child", "label": "n", "columns": ["n"],
             "relationship": {"type": "one_to_many", "variant": "scalar"}}]}}"#,
    );
    site.run("alter table child replica identity full");
    let service = site.service().start_ready();
    site.expect("parents", &documents(r#"{"1": {"id": 1, "n": [5]}}"#));
    site.run("alter table child alter column n type text using n || ' pieces'");
    site.expect("parents", &documents(r#"{"1": {"id": 1, "n": ["5 pieces"]}}"#));
    site.run("insert into child values (2, 1, 'more')");
    site.expect("parents", &documents(r#"{"1": {"id": 1, "n": ["5 pieces", "more"]}}"#));
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_attached_partition_brings_its_rows() {
    let site = Site::new(
        "attach",
        "create table thing (id int primary key) partition by range (id);
         create table low partition of thing for values from (0) to (10);
         create table high (id int primary key); insert into low values (1); insert into high values (11)",
    );
    site.schema(r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#);
    let service = site.service().start_ready();
    site.expect("things", &documents(r#"{"1": {"id": 1}}"#));
    site.run("alter table thing attach partition high for values from (10) to (20)");
    site.expect("things", &documents(r#"{"1": {"id": 1}, "11": {"id": 11}}"#));
    site.run("insert into thing values (12); alter table thing detach partition low");
    site.expect("things", &documents(r#"{"11": {"id": 11}, "12": {"id": 12}}"#));
    service.stop();
}
