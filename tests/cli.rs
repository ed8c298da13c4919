//! The program as a process: exit codes, and what it prints where.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use pgsyncd::http::{HttpState, bind, serve};
use pgsyncd::metrics::Metrics;
use pgsyncd::status::Status;

/// Runs the program in an empty environment and directory.
fn pgsyncd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    pgsyncd_in(directory.path(), arguments, environment)
}

fn pgsyncd_in(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgsyncd"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_and_version_end_with_0_on_stdout() {
    for (arguments, part) in
        [(["--version"].as_slice(), env!("CARGO_PKG_VERSION")), (&["--help"], "--schema-url <URL>")]
    {
        let output = pgsyncd(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn wrong_usage_ends_with_64_and_the_remedy() {
    for (arguments, part) in [
        (["--no-such-flag"].as_slice(), "unexpected argument '--no-such-flag'"),
        (&["-c", "a", "--schema-url", "http://x"], "cannot be used with"),
        (&["-h", "localhost", "-c", "a"], "--host localhost"),
        (&["--polling"], "pgsyncd --once"),
        (&["status", "more"], "unexpected argument"),
    ] {
        let output = pgsyncd(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_every_problem() {
    let environment =
        [("PGSYNCD_HTPP_ADDR", "off"), ("NUM_WORKERS", "many"), ("PG_PASSWORD", "hunter2")];
    let output = pgsyncd(&["--port", "0"], &environment);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    for part in [
        "5 problems in the configuration",
        "PGSYNCD_HTPP_ADDR (environment) is no setting, did you mean PGSYNCD_HTTP_ADDR?",
        "NUM_WORKERS (environment): found `many`",
        "--port (command line): found `0`",
        "SCHEMA is missing",
        "PG_URL is missing",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_named_settings_file_must_exist() {
    let output = pgsyncd(&["--settings", "gone.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("settings file `gone.toml` cannot be read: No such file"));
}

#[test]
fn dotenv_and_the_usual_settings_file_are_read_from_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "PG_PORT=0\n").unwrap();
    std::fs::create_dir(directory.path().join("config")).unwrap();
    let settings = "[service]\nnum_workers = 0\n";
    std::fs::write(directory.path().join("config/pgsyncd.toml"), settings).unwrap();
    let output = pgsyncd_in(directory.path(), &[], &[]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("PG_PORT (.env): found `0`"), "{text}");
    assert!(text.contains("service.num_workers (settings file): found `0`"), "{text}");
}

#[test]
fn a_check_of_a_service_that_is_not_there_ends_with_1_and_one_line() {
    for (address, part) in [
        ("127.0.0.1:1", "no answer from 127.0.0.1:1"),
        ("off", "no HTTP"),
        ("nowhere", "PGSYNCD_HTTP_ADDR (environment): found `nowhere`"),
    ] {
        let output = pgsyncd(&["healthcheck"], &[("PGSYNCD_HTTP_ADDR", address)]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(part) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn the_schema_is_shown_with_the_variables_of_process_and_dotenv() {
    let directory = tempfile::tempdir().unwrap();
    let schema = r#"{"index": "${PREFIX}book", "nodes": {"table": "$TABLE"}}"#;
    std::fs::write(directory.path().join("schema.json"), schema).unwrap();
    std::fs::write(directory.path().join(".env"), "SCHEMA=schema.json\nPREFIX=x\nTABLE=b\n")
        .unwrap();
    let output = pgsyncd_in(directory.path(), &["schema", "print"], &[("PREFIX", "my-")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown[0]["index"], "my-book");
    assert_eq!(shown[0]["nodes"]["table"], "b");
}

#[test]
fn a_wrong_schema_ends_with_78() {
    let directory = tempfile::tempdir().unwrap();
    let schema = r#"{"index": "$GONE", "nodes": {"table": "b"}}"#;
    std::fs::write(directory.path().join("schema.json"), schema).unwrap();
    for (file, part) in [("schema.json", "GONE"), ("gone.json", "the schema file gone.json")] {
        let output = pgsyncd_in(directory.path(), &["schema", "print", "-c", file], &[]);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn the_json_schema_is_the_one_that_is_shipped() {
    let output = pgsyncd(&["schema", "json-schema"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema.schema.json");
    let shipped: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), shipped);
}

#[test]
fn a_log_line_is_text_without_colours_or_json() {
    let least = [("SCHEMA", "s"), ("PG_URL", "postgres://me@db/x"), ("POLL_TIMEOUT", "1")];
    let output = pgsyncd(&["-t"], &least);
    let text = stderr(&output);
    assert!(text.contains("setting of pgsync has no effect") && !text.contains('\u{1b}'), "{text}");
    let json = [least.as_slice(), &[("PGSYNCD_LOG_FORMAT", "json")]].concat();
    let text = stderr(&pgsyncd(&["-t"], &json));
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["name"], "POLL_TIMEOUT");
    let quiet = [least.as_slice(), &[("LOG_LEVEL", "WARNING")]].concat();
    assert!(!stderr(&pgsyncd(&["-t"], &quiet)).contains("no effect"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_answers_healthcheck_and_status() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let status = Arc::new(Status::new(1));
    status.pipeline("shop");
    let state = HttpState { metrics: Metrics::new(Arc::clone(&status)), status };
    let environment = [("PGSYNCD_HTTP_ADDR".to_owned(), address)];
    let asked = tokio::task::spawn_blocking(move || {
        let environment: Vec<_> =
            environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let commands: [&[&str]; 3] = [&["healthcheck"], &["status"], &["status", "--json"]];
        commands.map(|arguments| pgsyncd(arguments, &environment))
    });
    let outputs = tokio::select! {
        outputs = asked => outputs.unwrap(),
        ended = serve(listener, state, std::future::pending()) => panic!("{ended:?}"),
    };
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    }
    assert_eq!(stdout(&outputs[0]), "alive\n");
    assert!(stdout(&outputs[1]).contains("shop: starting"));
    let json: serde_json::Value = serde_json::from_slice(&outputs[2].stdout).unwrap();
    assert_eq!(json["pipelines"][0]["phase"], "starting");
}
