//! Servers that go away for a while: nothing is lost, and the status says what is down.

use crate::harness::proxy::Proxy;
use crate::harness::servers::address;
use crate::harness::{Service, Site, until};
use crate::library::{ROWS, SCHEMA, TABLES, THROUGH_KEYS};

fn site(test: &str) -> Site {
    let site = Site::new(test, TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    site
}

/// Waits until the state of a link is this one.
fn wait_link(service: &Service, link: &str, state: &str) {
    until(&format!("{link} is {state}"), || {
        let status = service.status();
        match status["pipelines"][0][link]["state"].as_str() {
            Some(now) if now == state => Ok(()),
            _ => Err(status.to_string()),
        }
    });
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn changes_of_an_outage_of_elasticsearch_are_written_when_it_is_back() {
    let site = site("outage_search");
    let proxy = Proxy::new("127.0.0.1", &address("ELASTICSEARCH"));
    let url = format!("http://{}", proxy.address);
    let service = site.service().set("ELASTICSEARCH_URL", url).start_ready();
    proxy.cut();
    site.run("update book set title = 'cut' where id = 1; delete from book where id = 2; truncate tag cascade");
    wait_link(&service, "sink", "down");
    site.run(
        "insert into book values (8, 'Eight', 1); update chapter set book_id = 8 where id = 1",
    );
    proxy.mend();
    site.expect_library("after the outage");
    wait_link(&service, "sink", "up");
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn changes_of_an_outage_of_postgresql_are_followed_when_it_is_back() {
    let site = site("outage_source");
    let proxy = Proxy::new("127.0.0.1", &address("POSTGRES"));
    let mut url = site.url();
    url.set_port(Some(proxy.address.port())).unwrap();
    let service = site.service().set("PG_URL", url).start_ready();
    proxy.cut();
    site.run("update book set title = 'cut' where id = 1; delete from book where id = 2");
    until("a restart", || match service.status()["pipelines"][0]["restarts"].as_u64() {
        Some(restarts) if restarts > 0 => Ok(()),
        _ => Err(service.status().to_string()),
    });
    site.run(
        "insert into book values (8, 'Eight', 1); update chapter set book_id = 8 where id = 1",
    );
    proxy.mend();
    site.expect_library("after the outage");
    assert_eq!((site.slots().len(), site.concretes().len()), (1, 2));
    service.wait_ready();
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_outage_of_redis_stops_neither_the_documents_nor_the_service() {
    let site = site("outage_redis");
    let proxy = Proxy::new("127.0.0.1", &address("REDIS"));
    let url = format!("redis://{}/0", proxy.address);
    let builder = site.service().unset("CHECKPOINT_PATH").set("REDIS_URL", url);
    let service = builder.start_ready();
    proxy.cut();
    site.run("update book set title = 'cut' where id = 1; delete from book where id = 2");
    site.expect_library("while Redis is away");
    assert_eq!(service.status()["pipelines"][0]["restarts"], 0);
    proxy.mend();
    until("everything is durable", || {
        let status = service.status();
        let behind = &status["pipelines"][0]["behind_bytes"];
        if *behind == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    service.stop();
    site.run("update book set title = 'after' where id = 1");
    builder.once();
    site.expect_library("after a restart");
}
