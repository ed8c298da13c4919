//! The configuration as it was written: each setting as text, with the name the user wrote and
//! where. Nothing is interpreted here.

use std::collections::BTreeMap;
use std::fmt;

use super::setting::Setting;

/// Where a value was given; a later one of this list wins over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The settings file (TOML).
    SettingsFile,
    /// The file `.env`.
    Dotenv,
    /// The environment of the process.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SettingsFile => "settings file",
            Self::Dotenv => ".env",
            Self::Environment => "environment",
            Self::Flag => "command line",
        })
    }
}

/// A value as it was written.
#[derive(Clone)]
pub struct Given {
    /// The value; perhaps a secret, hence no part of `Debug`.
    pub text: String,
    /// The name that the user wrote: `PG_PORT`, `--port`, `postgres.port`.
    pub name: String,
    /// Where.
    pub origin: Origin,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.origin)
    }
}

/// Every setting that was given, by the name of the setting.
#[derive(Debug, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, Given>,
}

impl Raw {
    /// Keeps the value unless one of higher rank is there already; of two values of one rank the
    /// first stays. An empty value counts as not given: compose files pass unset variables so.
    pub fn offer(&mut self, setting: &'static Setting, given: Given) {
        if given.text.is_empty() {
            return;
        }
        let present = self.values.get(setting.name()).map(|present| present.origin);
        if present.is_none_or(|present| present < given.origin) {
            self.values.insert(setting.name(), given);
        }
    }

    /// What was given for a setting; `None` leaves its default.
    pub fn get(&self, setting: &Setting) -> Option<&Given> {
        self.values.get(setting.name())
    }

    /// Where the setting was given; `None` if nowhere. Ordered: `None` is the lowest rank.
    pub fn origin(&self, setting: &Setting) -> Option<Origin> {
        self.get(setting).map(|given| given.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::PG_HOST;
    use super::*;

    fn given(text: &str, origin: Origin) -> Given {
        Given { text: text.to_owned(), name: "PG_HOST".to_owned(), origin }
    }

    #[test]
    fn the_higher_rank_stays_whatever_the_order() {
        let ranks =
            [Origin::Flag, Origin::SettingsFile, Origin::Environment, Origin::Dotenv].into_iter();
        let mut raw = Raw::default();
        ranks.for_each(|origin| raw.offer(&PG_HOST, given(&origin.to_string(), origin)));
        assert_eq!(raw.get(&PG_HOST).unwrap().text, "command line");
    }

    #[test]
    fn an_empty_value_counts_as_not_given() {
        let mut raw = Raw::default();
        raw.offer(&PG_HOST, given("db", Origin::SettingsFile));
        raw.offer(&PG_HOST, given("", Origin::Environment));
        assert_eq!(raw.get(&PG_HOST).unwrap().text, "db");
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", given("hunter2", Origin::Dotenv)), "PG_HOST (.env)");
    }
}
