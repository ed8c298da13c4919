//! Every value type of PostgreSQL: the same JSON from the first load and after a change.

use crate::harness::{Site, documents, json};

/// Column name, type, a value as SQL, and the JSON it must be.
const VALUES: &[(&str, &str, &str, &str)] = &[
    ("int2", "smallint", "-32768", "-32768"),
    ("int4", "integer", "2147483647", "2147483647"),
    ("int8", "bigint", "9223372036854775807", "9223372036854775807"),
    (
        "num",
        "numeric",
        "12345678901234567890.12345678901234567890",
        "12345678901234567890.12345678901234567890",
    ),
    ("num_scale", "numeric(8,2)", "1.5", "1.50"),
    ("num_nan", "numeric", "'NaN'", "\"NaN\""),
    ("num_inf", "numeric", "'-Infinity'", "\"-Infinity\""),
    ("f4", "real", "0.1", "0.1"),
    ("f8", "double precision", "0.1::float8 + 0.2", "0.30000000000000004"),
    ("f8_nan", "double precision", "'NaN'", "\"NaN\""),
    ("f8_inf", "double precision", "'Infinity'", "\"Infinity\""),
    ("bool_t", "boolean", "true", "true"),
    ("bool_f", "boolean", "false", "false"),
    (
        "txt",
        "text",
        r#"E'quote " back \\ line\n tab\t é 😀 \x01'"#,
        r#""quote \" back \\ line\n tab\t é 😀 \u0001""#,
    ),
    ("txt_empty", "text", "''", "\"\""),
    ("vc", "varchar(10)", "'abc'", "\"abc\""),
    ("ch", "char(5)", "'ab'", "\"ab   \""),
    ("nm", "name", "'a_name'", "\"a_name\""),
    ("js", "json", r#"'{"b": [1, 2.50, null], "a": "x"}'"#, r#"{"b": [1, 2.50, null], "a": "x"}"#),
    ("jb", "jsonb", r#"'{"b": {"c": [true, "x\ny"]}}'"#, r#"{"b": {"c": [true, "x\ny"]}}"#),
    ("ints", "int[]", "'{1,null,3}'", "[1, null, 3]"),
    ("matrix", "int[]", "'{{1,2},{3,4}}'", "[[1, 2], [3, 4]]"),
    ("empty", "text[]", "'{}'", "[]"),
    ("texts", "text[]", r#"array['a,b', 'c"d', null, '']"#, r#"["a,b", "c\"d", null, ""]"#),
    ("nums", "numeric[]", "'{1.10,NaN}'", "[1.10, \"NaN\"]"),
    ("stamps", "timestamptz[]", "'{2020-01-02 03:04:05+02}'", "[\"2020-01-02T01:04:05+00:00\"]"),
    ("bools", "boolean[]", "'{t,f}'", "[true, false]"),
    ("d", "date", "'2020-01-02'", "\"2020-01-02\""),
    ("d_inf", "date", "'infinity'", "\"infinity\""),
    ("d_bc", "date", "'0044-03-15 BC'", "\"0044-03-15 BC\""),
    ("ts", "timestamp", "'2020-01-02 03:04:05.678000'", "\"2020-01-02T03:04:05.678\""),
    ("ts_plain", "timestamp", "'2020-01-02 03:04:05'", "\"2020-01-02T03:04:05\""),
    ("ts_inf", "timestamp", "'-infinity'", "\"-infinity\""),
    (
        "tz",
        "timestamptz",
        "'2020-01-02 03:04:05.600001+02'",
        "\"2020-01-02T01:04:05.600001+00:00\"",
    ),
    ("tz_inf", "timestamptz", "'infinity'", "\"infinity\""),
    ("t", "time", "'03:04:05'", "\"03:04:05\""),
    ("ttz", "timetz", "'03:04:05+02'", "\"03:04:05+02\""),
    ("iv", "interval", "'1 day 02:03:04'", "\"1 day 02:03:04\""),
    ("bin", "bytea", r"'\xdeadbeef'", r#""\\xdeadbeef""#),
    (
        "uid",
        "uuid",
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
    ),
    ("ip", "inet", "'10.0.0.1/8'", "\"10.0.0.1/8\""),
    ("net", "cidr", "'10.0.0.0/8'", "\"10.0.0.0/8\""),
    ("mac", "macaddr", "'08:00:2b:01:02:03'", "\"08:00:2b:01:02:03\""),
    ("doc", "xml", "'<a>b</a>'", "\"<a>b</a>\""),
    ("bits", "bit(4)", "B'1010'", "\"1010\""),
    ("lsn", "pg_lsn", "'16/B374D848'", "\"16/B374D848\""),
    ("mood", "mood", "'happy'", "\"happy\""),
    ("moods", "mood[]", "'{happy,sad}'", "[\"happy\", \"sad\"]"),
    ("vec", "tsvector", "'a b'", "\"'a' 'b'\""),
    ("rng", "int4range", "'[1,5)'", "\"[1,5)\""),
    ("rngs", "int4multirange", "'{[1,3),[5,7)}'", "\"{[1,3),[5,7)}\""),
    ("pt", "point", "'(1,2)'", "\"(1,2)\""),
    ("cash", "money", "'12.34'", "\"$12.34\""),
    ("o", "oid", "4294967295", "\"4294967295\""),
    ("pair", "pair", "row(1, 'x y')", r#"{"n": 1, "t": "x y"}"#),
    ("positive", "positive", "7", "7"),
    ("nothing", "text", "null", "null"),
    ("default_", "text", "repeat('x', 3)", "\"xxx\""),
];

const TYPES: &str =
    "create type mood as enum ('sad', 'happy'); create type pair as (n int, t text);
    create domain positive as int check (value > 0);";

fn columns() -> String {
    VALUES.iter().map(|(name, kind, _, _)| format!(", {name} {kind}")).collect()
}

fn row(id: u32) -> String {
    let values: String = VALUES.iter().map(|(_, _, value, _)| format!(", {value}")).collect();
    format!("insert into thing values ({id}, 'x'{values})")
}

fn expected(id: u32, note: &str) -> serde_json::Value {
    let values: String =
        VALUES.iter().map(|(name, _, _, value)| format!(r#", "{name}": {value}"#)).collect();
    json(&format!(
        r#"{{"id": {id}, "note": "{note}"{values}, "_meta": {{"thing": {{"id": ["{id}"]}}}}}}"#
    ))
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_type_is_the_same_after_the_first_load_and_after_a_change() {
    let tables =
        format!("{TYPES} create table thing (id int primary key, note text{});", columns());
    let site = Site::new("values", &tables);
    site.run("set lc_monetary = 'C'");
    site.run(&row(1));
    // JSON whose values change their type within one document can be kept, not searched.
    site.schema(
        r#"{"index": "things", "nodes": {"table": "thing", "transform": {"mapping": {
            "js": {"type": "object", "enabled": false}, "jb": {"type": "object", "enabled": false}}}}}"#,
    );
    let _service = site.service().start_ready();
    let mut all = documents("{}");
    all.insert("1".into(), expected(1, "x"));
    site.expect("things", &all);
    site.run(&row(2));
    site.run("update thing set note = 'y' where id = 1");
    all.insert("1".into(), expected(1, "y"));
    all.insert("2".into(), expected(2, "x"));
    site.expect("things", &all);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_large_value_that_an_update_does_not_send_is_still_in_the_document() {
    let site = Site::new("toast", "create table thing (id int primary key, note text, big text)");
    // Incompressible, hence stored out of line.
    site.run(
        "insert into thing select 1, 'x', string_agg(md5(n::text), '') from generate_series(1, 2000) n",
    );
    site.schema(r#"{"index": "things", "nodes": {"table": "thing"}}"#);
    let _service = site.service().start_ready();
    let big = site.texts("select big from thing").remove(0);
    site.run("update thing set note = 'y'");
    let meta = r#""_meta": {"thing": {"id": ["1"]}}"#;
    let expected = format!(r#"{{"1": {{"id": 1, "note": "y", "big": "{big}", {meta}}}}}"#);
    site.expect("things", &documents(&expected));
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn types_of_extensions_are_rendered_where_the_server_has_them() {
    let site = Site::new("extensions", "");
    let available = site.texts(
        "select name::text from pg_available_extensions where name in ('citext', 'hstore') order by 1",
    );
    let mut values = vec![("plain", "int", "1", "1")];
    for extension in &available {
        site.run(&format!("create extension {extension}"));
        values.push(match extension.as_str() {
            "citext" => ("ci", "citext", "'AbC'", "\"AbC\""),
            _ => ("hs", "hstore", "'a=>1, b=>NULL'", r#"{"a": "1", "b": null}"#),
        });
    }
    let columns: String =
        values.iter().map(|(name, kind, ..)| format!(", {name} {kind}")).collect();
    let row: String = values.iter().map(|(_, _, value, _)| format!(", {value}")).collect();
    let fields: String =
        values.iter().map(|(name, _, _, json)| format!(r#", "{name}": {json}"#)).collect();
    site.run(&format!(
        "create table thing (id int primary key{columns}); insert into thing values (1{row})"
    ));
    site.schema(r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#);
    let _service = site.service().start_ready();
    site.run(&format!("insert into thing values (2{row})"));
    let document = |id: u32| format!(r#""{id}": {{"id": {id}{fields}}}"#);
    site.expect("things", &documents(&format!("{{{}, {}}}", document(1), document(2))));
}
