//! What an operator sees: HTTP pages, `status`, `healthcheck`, `teardown`.

use serde_json::Value as Json;

use crate::harness::servers::get;
use crate::harness::{Site, until};
use crate::library::{ROWS, SCHEMA, TABLES, THROUGH_KEYS};

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_running_service_tells_how_it_is() {
    let site = Site::new("operation", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let service = site.service().start_ready();
    assert_eq!(get(&service.url("/live")).unwrap().0, 200);
    assert_eq!(get(&service.url("/ready")).unwrap().0, 200);
    site.run("update book set title = 'Uno' where id = 1");
    site.expect_library("after a change");

    let caught_up = until("everything is durable", || {
        let status = service.status();
        let pipeline = &status["pipelines"][0];
        let done = pipeline["behind_bytes"] == 0 && pipeline["reported"] == pipeline["durable"];
        if done { Ok(status) } else { Err(status.to_string()) }
    });
    let pipeline = &caught_up["pipelines"][0];
    assert_eq!(pipeline["database"], site.name.as_str());
    assert_eq!(pipeline["phase"], "streaming");
    assert_eq!(
        (&pipeline["source"]["state"], &pipeline["sink"]["state"]),
        (&"up".into(), &"up".into())
    );
    let books = &pipeline["indexes"][0];
    assert_eq!(books["index"], site.index("books"));
    assert_eq!(books["load_rows"], 3);
    assert!(books["written"].as_u64() >= Some(4), "{books}");
    assert!(books["concrete"].as_str().is_some_and(|it| it.starts_with(&site.index("books-20"))));

    // Figures are copied a few times a second.
    until("figures that are not zero", || {
        let (code, metrics) = get(&service.url("/metrics"))?;
        assert_eq!(code, 200);
        assert!(metrics.lines().any(|line| line == "pgsyncd_ready 1"), "{metrics}");
        let is_positive = |name: &&str| {
            let value =
                metrics.lines().find_map(|line| line.strip_prefix(name)?.rsplit(' ').next());
            value.and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value > 0.0)
        };
        let names = [
            "pgsyncd_bulk_requests_total",
            "pgsyncd_transactions_total",
            "pgsyncd_received_bytes_total",
        ];
        if names.iter().all(is_positive) { Ok(()) } else { Err(metrics) }
    });

    let asked = site.service().set("PGSYNCD_HTTP_ADDR", service.address());
    let health = asked.clone().arguments(&["healthcheck"]).run();
    assert_eq!((health.code, health.stdout.trim()), (Some(0), "alive"));
    let text = asked.clone().arguments(&["status"]).run();
    assert_eq!(text.code, Some(0));
    assert!(text.stdout.contains(&site.index("books")), "{}", text.stdout);
    let status = asked.clone().arguments(&["status", "--json"]).run();
    let status: Json = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["ready"], true);
    service.stop();
    assert_eq!(asked.arguments(&["healthcheck"]).run().code, Some(1));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_service_is_not_ready_before_its_first_load_is_complete() {
    let site = Site::new("unready", TABLES);
    site.run(THROUGH_KEYS);
    site.run(&crate::library::many(6000, 2));
    site.schema(SCHEMA);
    let service = site.service().set("BLOCK_SIZE", 100).start();
    service.wait_phase("snapshot");
    let (code, text) = get(&service.url("/ready")).unwrap();
    assert_eq!(code, 503, "{text}");
    assert_eq!(get(&service.url("/live")).unwrap().0, 200);
    service.wait_ready();
    assert_eq!(site.documents("books").len(), 6000, "ready means complete");
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_teardown_leaves_neither_slot_nor_publication() {
    let site = Site::new("teardown", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    site.service().once();
    assert_eq!((site.slots().len(), site.publications().len()), (1, 1));
    let ended = site.service().arguments(&["teardown"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!((site.slots().len(), site.publications().len()), (0, 0));
    // And everything can begin again.
    site.service().once();
    site.expect_library("after a teardown and a new start");
}
