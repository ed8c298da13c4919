//! The table of settings as files: `.env.example`, `config/pgsyncd.toml`, `docs/configuration.md`.
//! `tests/shipped_files.rs` holds the shipped files to these texts.

use std::fmt::Write as _;

use super::setting::Setting;
use super::settings::ALL;

const ENVIRONMENT_HEAD: &str = "\
# Every variable that pgsyncd reads, with its default and unit. Copy to `.env` and set what you need.
# The environment of the process wins over this file; an empty value counts as not set.
# A `$` in a value is a reference to a variable unless the value stands in 'single quotes'.

# The settings file. Without it: config/pgsyncd.toml or /etc/pgsyncd/pgsyncd.toml if present.
# Default: none. Unit: path
#PGSYNCD_SETTINGS=
";

/// Read by Docker Compose alone. Values with blanks are quoted: we read the file too.
const ENVIRONMENT_TAIL: &str = "
# ---- docker-compose.yml alone ----

# Address on the host for published ports; nothing there asks for a password. ELASTICSEARCH_PORT
# (above) is Elasticsearch's port on the host, too.
# Default: 127.0.0.1. Unit: address
#BIND_ADDRESS=127.0.0.1

# Port of pgsyncd on the host: /live /ready /status /metrics.
# Default: 8080. Unit: port
#HTTP_PORT=8080

# Port of the example PostgreSQL on the host.
# Default: 5432. Unit: port
#POSTGRES_PORT=5432

# Heap of Elasticsearch.
# Default: -Xms1g -Xmx1g. Unit: JVM options
#ES_JAVA_OPTS=\"-Xms1g -Xmx1g\"

# Memory limits of the containers; that of Elasticsearch should be twice its heap.
# Default: 2g 384m 1g 1g. Unit: bytes, with b, k, m or g
#ELASTICSEARCH_MEMORY=2g
#REDIS_MEMORY=384m
#POSTGRES_MEMORY=1g
#DAEMON_MEMORY=1g

# Images.
# Default: elasticsearch:7.17.15 redis:7-alpine postgres:17. Unit: image
#ELASTICSEARCH_IMAGE=elasticsearch:7.17.15
#REDIS_IMAGE=redis:7-alpine
#POSTGRES_IMAGE=postgres:17

# The network that all join; an existing one, such as that of your PostgreSQL, is external.
# Default: pgsyncd, false. Unit: name; true, false
#DOCKER_NETWORK=pgsyncd
#DOCKER_NETWORK_EXTERNAL=false
";

const TOML_HEAD: &str = "\
# Every setting of pgsyncd, commented out, with its default and unit. Flags, environment and `.env`
# win over this file. Another file is named by `--settings PATH` or PGSYNCD_SETTINGS.
";

const MARKDOWN_HEAD: &str = "\
# Configuration

A setting is taken from the first of these that gives it: **flag, environment, `.env`, settings file, default**.
An empty value counts as not given. Every problem is reported at once, and ends the start with exit code 78.

* `.env` is read from the working directory. A `$` in a value refers to another variable unless the value stands in single quotes.
* The settings file is TOML: the one of `--settings PATH` or `PGSYNCD_SETTINGS`, else `config/pgsyncd.toml` or `/etc/pgsyncd/pgsyncd.toml` if present.
* Durations take `ms`, `s`, `m`, `h`; a bare number is seconds. Sizes take `kB`, `MB`, `GB` (powers of 1024); a bare number is bytes.
* Where a URL and its parts are given in the same place, the URL wins; a flag such as `--host` wins over the URL of the environment.
* Of PGSync's variables, those without a meaning here are named in one log line each at start. A variable that begins with `PGSYNCD_` and does not exist is an error.
* Variables that Kubernetes makes for services (`PGSYNCD_SERVICE_HOST`, `REDIS_PORT=tcp://…`) are not taken for settings.

Flags that are no settings: `--settings PATH`, `--once`, `--reindex [INDEX…]`, `-v`/`--verbose`, `-a`/`--analyze`, `-t`/`--teardown`; `-d`/`--daemon`, `-b`/`--bootstrap` and `--wal` are accepted and change nothing.
Exit codes: 0 stopped as asked, 1 gave up, 64 wrong usage, 78 configuration or schema.
";

/// `.env.example`.
pub fn environment_example() -> String {
    let mut text = ENVIRONMENT_HEAD.to_owned();
    each_in_sections(&mut text, |text, setting| {
        let also = match setting.names {
            [] | [_] => String::new(),
            [_, also @ ..] => format!(" Also: {}", also.join(", ")),
        };
        let default = setting.default.unwrap_or_default();
        let comment = format!("{}{also}", setting.doc);
        write_comment(text, &comment)?;
        writeln!(text, "# Default: {}. Unit: {}", default_words(setting), setting.unit)?;
        writeln!(text, "#{}={default}", setting.name())
    });
    text.push_str(ENVIRONMENT_TAIL);
    text
}

/// `config/pgsyncd.toml`.
pub fn settings_example() -> String {
    let mut text = TOML_HEAD.to_owned();
    let mut section = "";
    for setting in ALL {
        let (of_section, key) = setting.section_and_key();
        if of_section != section {
            section = of_section;
            append(&mut text, |text| writeln!(text, "\n[{section}]"));
        }
        append(&mut text, |text| {
            writeln!(text)?;
            write_comment(text, setting.doc)?;
            writeln!(text, "# Default: {}. Unit: {}", default_words(setting), setting.unit)?;
            writeln!(text, "#{key} = {:?}", setting.default.unwrap_or_default())
        });
    }
    text
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = MARKDOWN_HEAD.to_owned();
    let mut section = "";
    for setting in ALL {
        let (of_section, _) = setting.section_and_key();
        if of_section != section {
            section = of_section;
            append(&mut text, |text| {
                writeln!(text, "\n## {section}\n")?;
                writeln!(
                    text,
                    "| environment | flag | settings file | default | unit | meaning |"
                )?;
                writeln!(text, "|---|---|---|---|---|---|")
            });
        }
        let names: Vec<_> = setting.names.iter().map(|name| format!("`{name}`")).collect();
        let flag = setting.flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
        let default = setting.default.map(|default| format!("`{default}`")).unwrap_or_default();
        append(&mut text, |text| {
            let (names, toml) = (names.join(", "), setting.toml);
            let (unit, doc) = (setting.unit, setting.doc);
            writeln!(text, "| {names} | {flag} | `{toml}` | {default} | {unit} | {doc} |")
        });
    }
    text
}

fn default_words(setting: &Setting) -> &'static str {
    setting.default.unwrap_or("none")
}

fn each_in_sections(
    text: &mut String,
    write_one: impl Fn(&mut String, &Setting) -> std::fmt::Result,
) {
    let mut section = "";
    for setting in ALL {
        let (of_section, _) = setting.section_and_key();
        if of_section != section {
            section = of_section;
            append(text, |text| writeln!(text, "\n# ---- {section} ----"));
        }
        append(text, |text| {
            writeln!(text)?;
            write_one(text, setting)
        });
    }
}

/// Wraps at word ends, so that the shipped files can be read beside code.
fn write_comment(text: &mut String, comment: &str) -> std::fmt::Result {
    const WIDTH: usize = 98;
    let mut line = String::from("#");
    for word in comment.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            writeln!(text, "{line}")?;
            line = String::from("#");
        }
        write!(line, " {word}")?;
    }
    writeln!(text, "{line}")
}

fn append(text: &mut String, write: impl FnOnce(&mut String) -> std::fmt::Result) {
    // Writing to a String cannot fail; `write!` only wants to be asked.
    let written = write(text);
    debug_assert!(written.is_ok());
}
