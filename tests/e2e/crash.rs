//! SIGKILL at any moment loses nothing, and SIGTERM ends within its limit.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::servers::{elasticsearch, run};
use crate::harness::wait::pause;
use crate::harness::{Service, ServiceBuilder, Site, until};
use crate::library::{SCHEMA, TABLES, THROUGH_KEYS, many};
use reqwest::Method;

/// Enough for the load to be met at work: it takes seconds.
const BOOKS: u32 = 12_000;

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_first_load_that_is_killed_goes_on_with_the_embedded_store() {
    killed_load("kill_load", |builder| builder);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_first_load_that_is_killed_goes_on_with_redis() {
    killed_load("kill_load_redis", ServiceBuilder::with_redis);
}

fn killed_load(test: &str, store: fn(ServiceBuilder) -> ServiceBuilder) {
    let site = Site::new(test, TABLES);
    site.run(THROUGH_KEYS);
    site.run(&many(BOOKS, 2));
    site.schema(SCHEMA);
    let builder = store(site.service().set("BLOCK_SIZE", 100).set("QUERY_CHUNK_SIZE", 100));
    for part in [1, 2] {
        let service = builder.start();
        kill_in_the_load(&site, service, 3000 / part);
        // Rows of ranges that are done, and of ranges that are not.
        site.run(&format!(
            "update book set title = 'changed {part}' where id % 100 = {part};
             delete from book where id % 100 = {part} + 50; update chapter set book_id = book_id + 1 where id % 99 = {part}"
        ));
    }
    let service = builder.start_ready();
    site.expect_library("after two kills in the first load");
    let written = service.index_figure(&site.index("books"), "written");
    assert!(written < u64::from(BOOKS), "{written}: the load began again");
    assert_eq!((site.slots().len(), site.concretes().len()), (1, 2), "{:?}", site.concretes());
    service.stop();
}

/// Kills when some documents are written and the index does not serve yet.
fn kill_in_the_load(site: &Site, service: Service, least: u64) {
    let index = site.index("books");
    until("the load is at work", || match service.index_figure(&index, "written") {
        written if written >= least => Ok(()),
        _ => Err(service.status().to_string()),
    });
    service.kill();
    assert_eq!(
        elasticsearch(Method::GET, &format!("/_alias/{index}"), None).0,
        404,
        "over too soon"
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn streaming_that_is_killed_under_load_goes_on_with_the_embedded_store() {
    killed_streaming("kill_stream", |builder| builder);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn streaming_that_is_killed_under_load_goes_on_with_redis() {
    killed_streaming("kill_stream_redis", ServiceBuilder::with_redis);
}

fn killed_streaming(test: &str, store: fn(ServiceBuilder) -> ServiceBuilder) {
    ended_under_load(test, store, |service| drop(service.kill()));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_stop_under_load_is_clean_and_the_next_start_goes_on() {
    ended_under_load("stop_stream", |builder| builder, |service| drop(service.stop()));
}

fn ended_under_load(test: &str, store: fn(ServiceBuilder) -> ServiceBuilder, end: fn(Service)) {
    let site = Site::new(test, TABLES);
    site.run(THROUGH_KEYS);
    site.run(&many(300, 2));
    site.schema(SCHEMA);
    let builder = store(site.service());
    builder.once();
    under_load(&site, || {
        for _ in 0..3 {
            let service = builder.start_ready();
            until("writes under load", || {
                match service.index_figure(&site.index("books"), "written") {
                    written if written > 200 => Ok(()),
                    written => Err(written.to_string()),
                }
            });
            end(service);
        }
    });
    let service = builder.start_ready();
    site.expect_library("after the last start");
    let status = service.status();
    assert_eq!(status["pipelines"][0]["indexes"][0]["load_rows"], 0, "{status}");
    service.stop();
}

/// Writes to all tables of the library in a second thread while `work` goes on.
fn under_load(site: &Site, work: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = site.connect();
        scope.spawn(|| {
            let client = client;
            for n in 1.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                pause();
                let (book, other) = (n % 300 + 1, n * 7 % 300 + 1);
                run(
                    &client,
                    &format!(
                        "begin; update book set title = 'title {n}' where id = {book};
                     update chapter set book_id = {other} where id = {book} * 2;
                     insert into page values (100000 + {n}, {book}, 'page {n}'); commit;
                     delete from page where id = 100000 + {n} - 50;
                     update tag set name = 'name {n}' where id = {n} % 20;
                     insert into book values (1000 + {n}, 'late', 1);
                     delete from book where id = 1000 + {n} - 20"
                    ),
                );
            }
        });
        let _end = EndWhenDropped(&ended);
        work();
    });
}

/// The writer ends also when the work fails.
struct EndWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_stop_in_the_first_load_is_clean_and_the_next_start_goes_on() {
    let site = Site::new("stop_load", TABLES);
    site.run(THROUGH_KEYS);
    site.run(&many(BOOKS, 2));
    site.schema(SCHEMA);
    let builder = site.service().set("BLOCK_SIZE", 100).set("QUERY_CHUNK_SIZE", 100);
    let service = builder.start();
    until("the load is at work", || match service.index_figure(&site.index("books"), "written") {
        0 => Err(service.status().to_string()),
        _ => Ok(()),
    });
    service.stop();
    site.run("delete from book where id % 100 = 3; update tag set name = 'x' where id = 4");
    let service = builder.start_ready();
    site.expect_library("after a stop in the first load");
    service.stop();
}
