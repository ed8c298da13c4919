//! `.env.example`, `config/pgsyncd.toml` and `docs/configuration.md` are what the table of settings
//! says. To write them anew: `PGSYNCD_TEST_WRITE_FILES=1 cargo test --test shipped_files`.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pgsyncd::config::{Sources, TextFile, gather, parse_dotenv, reference, settings};

fn path_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn assert_shipped(file: &str, expected: &str) {
    if std::env::var_os("PGSYNCD_TEST_WRITE_FILES").is_some() {
        std::fs::write(path_of(file), expected).unwrap();
    }
    let shipped = std::fs::read_to_string(path_of(file)).unwrap();
    assert!(shipped == expected, "{file} differs from the table of settings, write it anew");
}

#[test]
fn the_example_environment_is_what_the_table_says() {
    assert_shipped(".env.example", &reference::environment_example());
}

#[test]
fn the_settings_file_is_what_the_table_says() {
    assert_shipped("config/pgsyncd.toml", &reference::settings_example());
}

#[test]
fn the_documentation_is_what_the_table_says() {
    assert_shipped("docs/configuration.md", &reference::markdown());
}

#[test]
fn every_setting_stands_in_every_file_with_default_and_unit() {
    let environment = reference::environment_example();
    let file = reference::settings_example();
    let documentation = reference::markdown();
    for setting in settings::ALL {
        let (_, key) = setting.section_and_key();
        let default = setting.default.unwrap_or("none");
        let described = format!("# Default: {default}. Unit: {}\n", setting.unit);
        for (text, line) in [
            (&environment, format!("{described}#{}=", setting.name())),
            (&file, format!("{described}#{key} = ")),
        ] {
            assert!(text.contains(&line), "{line}");
        }
        for name in setting.names {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
            assert!(environment.contains(name), "{name}");
        }
        assert!(documentation.contains(&format!("| {} | {}", setting.unit, setting.doc)));
    }
}

#[test]
fn names_and_keys_are_used_once() {
    let names = settings::ALL.iter().flat_map(|setting| setting.names.iter().copied());
    let keys = settings::ALL.iter().map(|setting| setting.toml);
    let mut seen = BTreeSet::new();
    for name in names.chain(keys) {
        assert!(seen.insert(name), "{name}");
    }
}

#[test]
fn uncommented_examples_are_understood() {
    let uncommented = |text: &str, sign: &str| -> String {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && rest.contains(sign) => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let environment = uncommented(&reference::environment_example(), "=");
    let (variables, bad_lines) = parse_dotenv(&environment);
    // The settings file, and what Docker Compose alone reads.
    assert_eq!((variables.len(), bad_lines), (settings::ALL.len() + 1 + 13, Vec::new()));
    let text = uncommented(&reference::settings_example(), " = ");
    let settings_file = Some(TextFile { path: PathBuf::from("example"), text });
    let gathered = gather(&Sources { settings_file, ..Sources::default() });
    assert!(gathered.problems.is_empty(), "{:?}", gathered.problems);
}

/// What is given in `.env` must not stop at the container's door.
#[test]
fn the_compose_file_hands_every_setting_on() {
    let compose = std::fs::read_to_string(path_of("docker-compose.yml")).unwrap();
    // Composed there into a URL, by which the containers know each other.
    let part_of_url = |name: &str| {
        let url_wins = ["ELASTICSEARCH_SCHEME", "ELASTICSEARCH_HOST", "ELASTICSEARCH_PORT"];
        url_wins.contains(&name) || (name.starts_with("REDIS_") && name != "REDIS_URL")
    };
    let known: BTreeSet<&str> =
        compose.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
    for setting in settings::ALL.iter().filter(|setting| !part_of_url(setting.name())) {
        for name in setting.names {
            assert!(known.contains(name), "docker-compose.yml does not hand on {name}");
        }
    }
}

#[test]
fn the_documentation_of_metrics_is_what_the_table_of_families_says() {
    assert_shipped("docs/metrics.md", &pgsyncd::metrics::markdown());
}
