//! How much is logged, and in which form.

use tracing_subscriber::EnvFilter;

use super::resolver::Resolver;
use super::settings::{LOG_LEVEL, PGSYNCD_LOG_FORMAT};
use super::value::{self, Expected};

/// How much is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Filter directives of `tracing-subscriber`, checked.
    pub directives: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

impl Resolver<'_> {
    pub(super) fn log(&mut self) -> LogConfig {
        LogConfig {
            directives: self.value(&LOG_LEVEL, directives),
            format: self.value(&PGSYNCD_LOG_FORMAT, value::one_of(FORMATS)),
        }
    }
}

/// A bare level speaks for us alone: at `debug` the PostgreSQL client would log the parameters of
/// its statements, which are cell values.
fn directives(text: &str) -> Result<String, Expected> {
    let own = match text.to_ascii_lowercase().as_str() {
        "trace" | "notset" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "critical" | "fatal" => return Ok("error".to_owned()),
        "off" => return Ok("off".to_owned()),
        _ => return filter(text),
    };
    Ok(format!("warn,pgsyncd={own}"))
}

/// Directives as `tracing-subscriber` takes them.
fn filter(text: &str) -> Result<String, Expected> {
    let expected = "`error`, `warn`, `info`, `debug`, `trace`, or directives such as \
                    `info,pgsyncd::source=debug`";
    // A single word that is no level would be taken for the name of a crate and silence the rest.
    let looks_like_directives = text.contains('=') || text.contains(',');
    let parses = EnvFilter::builder().parse(text).is_ok();
    if looks_like_directives && parses { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_speaks_for_us_alone() {
        assert_eq!(directives("DEBUG"), Ok("warn,pgsyncd=debug".to_owned()));
        assert_eq!(directives("WARNING"), Ok("warn,pgsyncd=warn".to_owned()));
        assert_eq!(directives("CRITICAL"), Ok("error".to_owned()));
    }

    #[test]
    fn directives_pass_when_they_parse() {
        let text = "info,pgsyncd::source=debug";
        assert_eq!(directives(text), Ok(text.to_owned()));
        assert!(directives("loud").is_err());
        assert!(directives("pgsyncd=loud").is_err());
    }
}
