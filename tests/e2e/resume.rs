//! A start after a stop goes on where the last one ended: nothing is loaded again, nothing is missed.

use crate::harness::{ServiceBuilder, Site};
use crate::library::{ROWS, SCHEMA, TABLES, THROUGH_KEYS};

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn changes_of_the_time_it_was_stopped_are_followed_with_the_embedded_store() {
    resumes("resume", |builder| builder);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn changes_of_the_time_it_was_stopped_are_followed_with_redis() {
    resumes("resume_redis", ServiceBuilder::with_redis);
}

fn resumes(test: &str, store: fn(ServiceBuilder) -> ServiceBuilder) {
    let site = Site::new(test, TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let builder = store(site.service());
    builder.start_ready().stop();
    site.expect_library("after the first load");
    let (slots, indexes) = (site.slots(), site.concretes());

    site.run(
        "update book set title = 'Uno' where id = 1; update chapter set book_id = 3 where id = 3;
         delete from shelf where id = 4; insert into book values (7, 'Seven', 1);
         delete from book where id = 2",
    );
    let service = builder.start_ready();
    site.expect_library("after the stop");
    let status = service.status();
    for index in ["books", "shelves"] {
        assert_eq!(service.index_figure(&site.index(index), "load_rows"), 0, "{status}");
    }
    let written = service.index_figure(&site.index("books"), "written");
    assert!(written <= 4, "only what changed is written: {status}");
    service.stop();

    // Changes that nothing follows, then `--once`: it catches up and ends.
    site.run("create table other (id int); insert into other select generate_series(1, 1000)");
    site.run("update city set name = 'Roma' where id = 1");
    builder.once();
    site.expect_library("after --once");
    assert_eq!((site.slots(), site.concretes()), (slots, indexes));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_schema_that_changed_is_built_anew_and_the_rest_is_kept() {
    let site = Site::new("resume_schema", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let builder = site.service();
    builder.once();
    let before = site.concretes();
    site.run("insert into shelf values (9, 'kept', null)");
    site.schema(&SCHEMA.replace(
        r#""columns": ["id", "title"], "children""#,
        r#""columns": ["title"], "children""#,
    ));
    builder.once();
    let after = site.concretes();
    assert!(site.documents("books")["1"].get("id").is_none());
    assert_eq!(site.documents("shelves").len(), 5);
    let kept: Vec<_> = after.iter().filter(|index| before.contains(index)).collect();
    assert_eq!((after.len(), kept.len()), (2, 1), "{before:?} {after:?}");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_lost_checkpoint_is_made_good_by_a_new_index() {
    let site = Site::new("resume_lost", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    site.service().once();
    site.run("delete from book where id = 1; truncate chapter");
    let elsewhere = site.directory().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    site.service().set("CHECKPOINT_PATH", elsewhere.display()).once();
    site.expect_library("after the checkpoint was lost");
    assert_eq!(site.slots().len(), 1);
    assert_eq!(site.concretes().len(), 2);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_lost_slot_is_made_good_by_a_new_index() {
    let site = Site::new("resume_slot", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    site.service().once();
    site.drop_slots("pgsyncd_");
    site.run("delete from book where id = 1; truncate chapter");
    site.service().once();
    site.expect_library("after the slot was lost");
    assert_eq!(site.slots().len(), 1);
    assert_eq!(site.concretes().len(), 2);
}
