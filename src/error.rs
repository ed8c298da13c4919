//! The errors of all stages under one type, how an error is told to a person, and the exit code.

use std::error::Error as StdError;

use crate::cli::UsageError;
use crate::config::ConfigError;
use crate::http::HttpError;
use crate::pipeline::PipelineError;
use crate::schema::SchemaError;

/// Why the program ends other than asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The schema cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The address for HTTP cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A pipeline gave up.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The runtime cannot start its threads.
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
}

impl Error {
    /// How the process ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::Usage,
            Self::Config(_) | Self::Http(_) => ExitCode::Configuration,
            Self::Pipeline(error) => error.exit_code(),
            Self::Schema(error) => schema_exit_code(error),
            Self::Runtime(_) => ExitCode::GaveUp,
        }
    }

    /// What the reader can do; `None` if the text says it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Http(_) => Some(
                "another program may listen there: name another address with PGSYNCD_HTTP_ADDR, or \
                 `off`",
            ),
            Self::Pipeline(error) => error.hint(),
            Self::Schema(error) => error.hint(),
            Self::Usage(_) | Self::Config(_) | Self::Runtime(_) => None,
        }
    }
}

/// A server that cannot be reached may come back, hence another start may help.
pub(crate) fn schema_exit_code(error: &SchemaError) -> ExitCode {
    match error {
        SchemaError::Unreachable { .. } | SchemaError::Http { status: 500.., .. } => {
            ExitCode::GaveUp
        }
        SchemaError::Unreadable { .. }
        | SchemaError::NotText { .. }
        | SchemaError::TooLarge { .. }
        | SchemaError::Address { .. }
        | SchemaError::Http { .. }
        | SchemaError::WebPage { .. }
        | SchemaError::Malformed { .. }
        | SchemaError::Invalid { .. } => ExitCode::Configuration,
    }
}

/// How the process ends, for service managers and scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Stopped as asked.
    Stopped = 0,
    /// Gave up, or the answer is no.
    GaveUp = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Configuration or schema is wrong (`EX_CONFIG`): a restart cannot help.
    Configuration = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The error and its causes in one text. A cause whose text the level above already ends with is
/// skipped: tokio-postgres, for one, prints its own cause.
pub fn report(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(present) = cause {
        let level = present.to_string();
        if !last.ends_with(&level) {
            text.push_str(": ");
            text.push_str(&level);
            last = level;
        }
        cause = present.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Level>>,
    }

    fn chain(texts: &[&'static str]) -> Level {
        let (text, rest) = texts.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(chain(rest)));
        Level { text, source }
    }

    #[test]
    fn the_chain_reads_from_outside_in() {
        let error = chain(&["cannot connect", "tls failed", "certificate expired"]);
        assert_eq!(report(&error), "cannot connect: tls failed: certificate expired");
    }

    #[test]
    fn a_cause_that_was_just_said_is_skipped() {
        let error = chain(&["cannot read", "db error: no such table", "no such table", "oid 7"]);
        assert_eq!(report(&error), "cannot read: db error: no such table: oid 7");
    }
}
