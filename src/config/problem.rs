//! What can be wrong with a configuration. Problems are collected, and reported all at once.

use std::fmt;
use std::path::PathBuf;

use super::raw::{Given, Origin};

/// One thing to correct. No value of a secret setting is ever part of it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A value is not what the setting takes.
    #[error("{name} ({origin}): {}expected {expected}", shown(found.as_ref()))]
    Value {
        /// The name that the user wrote.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// What was written; `None` for secrets.
        found: Option<String>,
        /// What the setting takes.
        expected: String,
    },
    /// A setting without a default is not given.
    #[error("{name} is missing: {hint}")]
    Missing {
        /// Name of the setting.
        name: &'static str,
        /// How to give it.
        hint: &'static str,
    },
    /// Two settings that exclude each other.
    #[error("{first} and {second} exclude each other: {hint}")]
    Conflict {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// Which to keep when.
        hint: &'static str,
    },
    /// A variable with our prefix, or a key of the settings file, that does not exist.
    #[error("{name} ({origin}) is no setting{}", nearest_hint(nearest.as_ref()))]
    Unknown {
        /// What the user wrote.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// Something of PGSync that is not done here.
    #[error("{name} is not supported yet: {instead}")]
    NotSupported {
        /// What the user wrote.
        name: String,
        /// What works in its place.
        instead: &'static str,
    },
    /// A file cannot be read.
    #[error("{} `{}` cannot be read", what, path.display())]
    Unreadable {
        /// `settings file`, `.env file`.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings file is no TOML.
    #[error("settings file `{}` is not valid TOML at line {line}", path.display())]
    Toml {
        /// The path.
        path: PathBuf,
        /// The first line is 1.
        line: usize,
    },
    /// A line of `.env` is no assignment. Its text may hold a secret and is not shown.
    #[error(
        "`{}` line {line} is no assignment: expected NAME=value, quotes closed, values with blanks in quotes",
        path.display()
    )]
    DotenvLine {
        /// The path.
        path: PathBuf,
        /// The first line is 1.
        line: usize,
    },
}

impl Problem {
    /// A value that is not what the setting takes; the value is shown unless it is secret.
    pub(super) fn value(given: &Given, secret: bool, expected: String) -> Self {
        let found = (!secret).then(|| given.text.clone());
        Self::Value { name: given.name.clone(), origin: given.origin, found, expected }
    }
}

/// The configuration cannot be used, for all of these reasons.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 problem in the configuration")?,
            number => write!(f, "{number} problems in the configuration")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
            if let Some(cause) = std::error::Error::source(problem) {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

fn shown(found: Option<&String>) -> String {
    found.map(|found| format!("found `{found}`, ")).unwrap_or_default()
}

fn nearest_hint(nearest: Option<&String>) -> String {
    nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}
