//! Servers and rights that are not as they must be: the cause, the remedy, the exit code, and nothing
//! half made.

use crate::harness::servers::{address, connect, run, variable};
use crate::harness::{Ended, ServiceBuilder, Site};

const TABLE: &str =
    "create table thing (id int primary key, name text); insert into thing values (1, 'x')";
const SCHEMA: &str = r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#;

fn site(test: &str) -> Site {
    let site = Site::new(test, TABLE);
    site.schema(SCHEMA);
    site
}

/// Ends with this code and all of these words, and makes nothing.
fn refused(site: &Site, builder: &ServiceBuilder, code: i32, words: &[&str]) -> Ended {
    let ended = builder.clone().arguments(&["--once"]).run();
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word} is missing in:\n{}", ended.stderr);
    }
    site.assert_nothing_made();
    ended
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_postgresql_that_is_not_there_ends_with_1() {
    let site = site("no_postgres");
    let builder = site.service().set("PG_URL", "postgres://me:secret@127.0.0.1:1/db");
    let ended = refused(&site, &builder, 1, &["127.0.0.1:1", "cannot be reached"]);
    assert!(!ended.stderr.contains("secret"));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_service_waits_for_a_postgresql_that_is_not_there() {
    let site = site("wait_postgres");
    let builder = site.service().set("PG_URL", "postgres://me@127.0.0.1:1/db");
    let service = builder.start();
    crate::harness::until("a restart", || {
        match service.status()["pipelines"][0]["restarts"].as_u64() {
            Some(restarts) if restarts > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(crate::harness::servers::get(&service.url("/ready")).unwrap().0, 503);
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_elasticsearch_that_is_not_there_ends_with_1() {
    let site = site("no_search");
    let builder = site.service().set("ELASTICSEARCH_URL", "http://me:secret@127.0.0.1:1");
    let ended = refused(&site, &builder, 1, &["127.0.0.1:1"]);
    assert!(!ended.stderr.contains("secret"));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_server_that_is_no_elasticsearch_is_refused() {
    let site = site("wrong_search");
    let redis = address("REDIS");
    let wrong = format!("http://{}:{}", redis.host_str().unwrap(), redis.port().unwrap());
    let ended = site.service().set("ELASTICSEARCH_URL", &wrong).arguments(&["--once"]).run();
    assert!(matches!(ended.code, Some(1 | 78)), "{}", ended.stderr);
    assert!(ended.stderr.contains(&wrong), "{}", ended.stderr);
    site.assert_nothing_made();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_server_that_is_no_postgresql_is_refused() {
    let site = site("wrong_postgres");
    let search = address("ELASTICSEARCH");
    let wrong = format!("postgres://me@127.0.0.1:{}/db", search.port().unwrap());
    let ended = site.service().set("PG_URL", &wrong).arguments(&["--once"]).run();
    assert!(matches!(ended.code, Some(1 | 78)), "{}", ended.stderr);
    assert!(ended.stderr.contains("PostgreSQL at"), "{}", ended.stderr);
    site.assert_nothing_made();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_redis_that_is_not_there_is_named() {
    let site = site("no_redis");
    let builder =
        site.service().unset("CHECKPOINT_PATH").set("REDIS_URL", "redis://:secret@127.0.0.1:1/0");
    let ended = refused(&site, &builder, 1, &["127.0.0.1:1"]);
    assert!(!ended.stderr.contains("secret"));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_wrong_password_and_a_wrong_database_are_named() {
    let site = site("wrong_password");
    let mut url = site.url();
    url.set_password(Some("wrong")).unwrap();
    let ended = refused(&site, &site.service().set("PG_URL", &url), 78, &["password"]);
    assert!(!ended.stderr.contains("wrong@"), "{}", ended.stderr);
    let mut url = site.url();
    url.set_path("no_such_database");
    refused(&site, &site.service().set("PG_URL", &url), 78, &["no_such_database"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_role_that_may_not_replicate_gets_the_line_that_helps() {
    let site = site("no_replication");
    let role = format!("{}_role", site.name);
    site.add_role(&role, "password 'x'");
    let mut url = site.url();
    url.set_username(&role).unwrap();
    url.set_password(Some("x")).unwrap();
    refused(
        &site,
        &site.service().set("PG_URL", &url),
        78,
        &[
            "may not replicate",
            &format!("ALTER ROLE \"{role}\" REPLICATION;"),
            &format!("GRANT SELECT ON \"public\".\"thing\" TO \"{role}\";"),
            "CREATE PUBLICATION",
        ],
    );
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_server_without_logical_wal_is_refused_with_the_setting() {
    let site = site("wal_level");
    let mut url: url::Url = variable("PGSYNCD_TEST_POSTGRES_REPLICA_LEVEL_URL").parse().unwrap();
    let admin = connect(&url);
    run(&admin, &format!("create database {}", site.name));
    url.set_path(&site.name);
    run(&connect(&url), TABLE);
    let builder = site.service().set("PG_URL", &url);
    refused(&site, &builder, 78, &["wal_level", "ALTER SYSTEM SET wal_level = 'logical';"]);
    run(&admin, &format!("drop database {} with (force)", site.name));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_child_table_without_a_key_is_refused_with_the_identity_it_needs() {
    let site = Site::new(
        "no_key",
        "create table parent (id int primary key); create table child (parent_id int references parent, n int)",
    );
    site.schema(
        r#"{"index": "parents", "nodes": {"table": "parent", "children": [
            {"table": "child", "relationship": {"type": "one_to_many", "variant": "object"}}]}}"#,
    );
    refused(&site, &site.service(), 78, &["child", "REPLICA IDENTITY FULL"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_mapping_that_the_server_refuses_is_told_with_its_reason() {
    let site = Site::new("bad_mapping", TABLE);
    site.schema(
        r#"[{"index": "fine", "nodes": {"table": "thing"}},
            {"index": "things", "mapping": {"name": {"type": "txet"}},
             "nodes": {"table": "thing"}}]"#,
    );
    refused(&site, &site.service(), 78, &[&site.index("things"), "txet"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_ingest_pipeline_that_is_not_there_is_named_before_anything_is_made() {
    let site = Site::new("no_pipeline", TABLE);
    site.schema(
        r#"{"index": "things", "pipeline": "no_such_pipeline", "nodes": {"table": "thing"}}"#,
    );
    refused(&site, &site.service(), 78, &["no_such_pipeline"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn wrong_usage_ends_with_64_and_wrong_settings_with_78() {
    let site = site("usage");
    let ended = site.service().arguments(&["--no-such-flag"]).run();
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    let ended = site.service().set("NUM_WORKERS", "many").arguments(&["--once"]).run();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    site.assert_nothing_made();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_address_for_http_that_is_taken_is_named() {
    let site = site("taken");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    refused(&site, &site.service().set("PGSYNCD_HTTP_ADDR", taken), 78, &[&taken.to_string()]);
}
