//! Two instances of one service: one works, the other waits and takes over.

use crate::harness::{ServiceBuilder, Site};
use crate::library::{ROWS, SCHEMA, TABLES, THROUGH_KEYS};

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_second_instance_stands_by_and_takes_over_when_the_first_is_killed() {
    let site = Site::new("standby", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let builder = ServiceBuilder::with_redis(site.service());
    let first = builder.start_ready();
    let second = builder.start();
    second.wait_phase("standby");
    site.run("update book set title = 'by the first' where id = 1");
    site.expect_library("while the second stands by");
    first.kill();
    site.run("update book set title = 'by the second' where id = 1; delete from book where id = 2");
    second.wait_phase("streaming");
    site.expect_library("after the second took over");
    assert_eq!(second.index_figure(&site.index("books"), "load_rows"), 0);
    assert_eq!(site.slots().len(), 1);
    second.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_standby_that_is_stopped_ends_well() {
    let site = Site::new("standby_stop", TABLES);
    site.run(THROUGH_KEYS);
    site.schema(SCHEMA);
    let builder = ServiceBuilder::with_redis(site.service());
    let first = builder.start_ready();
    let second = builder.start();
    second.wait_phase("standby");
    second.stop();
    first.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn two_services_of_different_names_follow_one_database() {
    let site = Site::new("two_names", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let builder = site.service();
    let service = builder.start_ready();
    site.run("update book set title = 'both' where id = 1");
    let other = site
        .prefixed(r#"{"index": "blue", "meta": false, "nodes": {"table": "tag"}}"#, &site.prefix);
    site.write("other.json", &other);
    let blue =
        builder.clone().set("SCHEMA", "other.json").set("PGSYNCD_NAME", "blue").start_ready();
    site.run("insert into tag values (7, 'seven'); insert into book_tag values (1, 7)");
    site.expect_library("of the first");
    site.expect(
        "blue",
        &crate::harness::documents(
            r#"{"1": {"id": 1, "name": "red"}, "2": {"id": 2, "name": "green"},
                "3": {"id": 3, "name": "blue"}, "7": {"id": 7, "name": "seven"}}"#,
        ),
    );
    assert_eq!((site.slots().len(), site.publications().len()), (2, 2));
    blue.stop();
    service.stop();
}
