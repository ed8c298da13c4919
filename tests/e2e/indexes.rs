//! The indexes the service makes: names, aliases, mappings, settings, and how one replaces another.

use reqwest::Method;
use serde_json::Value as Json;

use crate::harness::servers::elasticsearch;
use crate::harness::{Site, documents, json, until};

const TABLE: &str =
    "create table thing (id int primary key, price numeric, name text, at timestamptz,
        on_ date, ok boolean, raw bytea, body jsonb, uid uuid, tags text[], ratio real);
    insert into thing (id, price, name) values (1, 'NaN', 'x')";
const SCHEMA: &str = r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#;

/// The one concrete index of a site, and its definition.
fn definition(site: &Site) -> (String, Json) {
    // One that was replaced goes a moment after the switch.
    let concrete = until("one index", || match site.concretes().as_slice() {
        [(concrete, _)] => Ok(concrete.clone()),
        more => Err(format!("{more:?}")),
    });
    let (_, mut answer) = elasticsearch(Method::GET, &format!("/{concrete}"), None);
    let definition = answer[&concrete].take();
    (concrete, definition)
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_public_alias_and_a_private_write_alias_point_to_one_dated_index() {
    let site = Site::new("aliases", TABLE);
    site.schema(SCHEMA);
    site.service().once();
    let (concrete, definition) = definition(&site);
    let public = site.index("things");
    let date = concrete.strip_prefix(&format!("{public}-")).unwrap();
    assert!(date.len() == 14 && date.bytes().all(|byte| byte.is_ascii_digit()), "{concrete}");
    let aliases: Vec<&String> = definition["aliases"].as_object().unwrap().keys().collect();
    let write = format!("{public}-pgsyncd-write");
    assert_eq!(aliases.len(), 2, "{aliases:?}");
    assert!(aliases.contains(&&public) && aliases.contains(&&write), "{aliases:?}");
    let settings = &definition["settings"]["index"];
    assert_ne!(settings["refresh_interval"], "-1", "the load's settings are gone");
    assert_eq!(settings["number_of_replicas"], "1");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn fields_are_mapped_by_the_types_of_their_columns() {
    let site = Site::new("mapping", TABLE);
    site.schema(SCHEMA);
    site.service().once();
    let (_, definition) = definition(&site);
    let fields = &definition["mappings"]["properties"];
    for (field, kind) in [
        ("id", "long"),
        ("price", "double"),
        ("name", "text"),
        ("at", "date"),
        ("on_", "date"),
        ("ok", "boolean"),
        ("raw", "keyword"),
        ("uid", "text"),
        ("tags", "text"),
        ("ratio", "double"),
    ] {
        assert_eq!(fields[field]["type"], kind, "{field}: {fields}");
    }
    assert_eq!(fields["name"]["fields"]["keyword"]["ignore_above"], 256);
    assert_eq!(definition["mappings"]["date_detection"], false);
    assert_eq!(site.documents("things")["1"]["price"], "NaN");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_schemas_own_mapping_and_settings_win() {
    let site = Site::new("own_mapping", TABLE);
    site.schema(
        r#"{"index": "things", "meta": false,
            "setting": {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "7s",
              "analysis": {"analyzer": {"plain": {"type": "custom", "tokenizer": "whitespace"}}}},
            "mapping": {"price": {"type": "float"},
              "name": {"type": "text", "analyzer": "plain"}},
            "nodes": {"table": "thing", "columns": ["id", "price", "name"]}}"#,
    );
    site.run("update thing set price = 1");
    site.service().once();
    let (_, definition) = definition(&site);
    let settings = &definition["settings"]["index"];
    let shown =
        ["number_of_shards", "number_of_replicas", "refresh_interval"].map(|it| &settings[it]);
    assert_eq!(shown, ["2", "0", "7s"]);
    let fields = &definition["mappings"]["properties"];
    assert_eq!(fields["price"]["type"], "float");
    assert_eq!(fields["name"], json(r#"{"type": "text", "analyzer": "plain"}"#));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_rebuild_replaces_the_index_and_leaves_nothing_of_the_old_one() {
    let site = Site::new(
        "reindex",
        "create table thing (id int primary key, name text); insert into thing values (1, 'x')",
    );
    site.schema(SCHEMA);
    let service = site.service().start_ready();
    let (before, _) = definition(&site);
    // A document that is nobody's row goes with the old index.
    let stray = json(r#"{"name": "stray"}"#);
    elasticsearch(Method::PUT, &format!("/{before}/_doc/99?refresh=true"), Some(&stray));
    service.stop();
    site.run("insert into thing values (2, 'y')");
    let builder = site.service();
    let rebuild = builder.clone().arguments(&["--reindex"]).start();
    rebuild.wait_ready();
    site.run("update thing set name = 'z' where id = 1");
    site.expect(
        "things",
        &documents(r#"{"1": {"id": 1, "name": "z"}, "2": {"id": 2, "name": "y"}}"#),
    );
    let (after, definition) = definition(&site);
    assert_ne!(before, after);
    assert_eq!(definition["aliases"].as_object().unwrap().len(), 2);
    rebuild.stop();
    assert_eq!(site.slots().len(), 1);
    // By name, and an unknown one is refused.
    builder.clone().arguments(&["--reindex", &site.index("things")]).once();
    assert_eq!(site.documents("things").len(), 2);
    let refused = builder.clone().arguments(&["--once", "--reindex", "nosuch"]).run();
    assert!(matches!(refused.code, Some(64 | 78)), "{refused:?}");
    assert!(refused.stderr.contains("nosuch"), "{}", refused.stderr);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_index_of_the_public_name_serves_on_until_ours_is_complete() {
    let site =
        Site::new("adopt", "create table thing (id int primary key); insert into thing values (1)");
    let public = site.index("things");
    let stray = json(r#"{"old": true}"#);
    elasticsearch(Method::PUT, &format!("/{public}/_doc/99?refresh=true"), Some(&stray));
    site.schema(SCHEMA);
    site.service().once();
    assert_eq!(site.documents("things"), documents(r#"{"1": {"id": 1}}"#));
    let (concrete, _) = definition(&site);
    assert_ne!(concrete, public);
}
