//! The state of the process at one moment, as `/status` shows it. Pure.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::pipeline::{LinkState, Phase};
use crate::postgres::Lsn;

/// The state of the process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether the supervisor was at work lately.
    pub live: bool,
    /// Whether documents are current.
    pub ready: bool,
    /// Why not; empty if ready.
    pub not_ready: Vec<NotReady>,
    /// One per database.
    pub pipelines: Vec<PipelineReport>,
}

/// One pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineReport {
    /// Its database.
    pub database: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Read from PostgreSQL.
    pub received: Lsn,
    /// Written by all sinks.
    pub written: Lsn,
    /// Kept by a saved checkpoint.
    pub durable: Lsn,
    /// Told to PostgreSQL.
    pub reported: Lsn,
    /// The end of the server's WAL, as it last said.
    pub server: Lsn,
    /// Bytes of WAL between the checkpoint and the server.
    pub behind_bytes: u64,
    /// When the newest transaction that is written was committed.
    pub last_commit: Option<Timestamp>,
    /// The replication connection.
    pub source: LinkReport,
    /// Elasticsearch.
    pub sink: LinkReport,
    /// How often it was built again after an error.
    pub restarts: u64,
    /// The error that ended it last.
    pub last_error: Option<TimedError>,
    /// One per index of the schema.
    pub indexes: Vec<IndexReport>,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Whether it works.
    pub state: LinkState,
    /// Since when; `None` before the first try ended.
    pub since: Option<Timestamp>,
    /// Kept when the link is up again.
    pub last_error: Option<TimedError>,
}

/// One index of the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReport {
    /// The alias.
    pub index: String,
    /// The index behind it.
    pub concrete: Option<String>,
    /// Root rows read by the load under way or the last one.
    pub load_rows: u64,
    /// How many there are, as far as known.
    pub load_total: Option<u64>,
    /// Documents written.
    pub written: u64,
    /// Documents deleted.
    pub deleted: u64,
    /// Writes that found a newer document.
    pub superseded: u64,
    /// Documents that Elasticsearch refused.
    pub rejected: u64,
}

/// An error and when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedError {
    /// The whole chain of causes.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// Why documents may not be current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum NotReady {
    /// No pipeline was built yet.
    Starting,
    /// The pipeline is not following the WAL.
    Phase {
        /// Of which database.
        database: String,
        /// Where it is in its life.
        phase: Phase,
    },
    /// PostgreSQL cannot be reached.
    SourceDown {
        /// Of which database.
        database: String,
        /// Its last error.
        error: Option<String>,
    },
    /// Elasticsearch cannot be reached.
    SinkDown {
        /// Of which database.
        database: String,
        /// Its last error.
        error: Option<String>,
    },
    /// More WAL than allowed is not written yet.
    Behind {
        /// Of which database.
        database: String,
        /// How much.
        bytes: u64,
    },
}

impl StatusReport {
    pub(super) fn new(
        started_at: SystemTime,
        live: bool,
        ready_lag: u64,
        pipelines: Vec<PipelineReport>,
    ) -> Self {
        let not_ready = if pipelines.is_empty() {
            vec![NotReady::Starting]
        } else {
            pipelines.iter().flat_map(|pipeline| pipeline.not_ready(ready_lag)).collect()
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp(started_at).truncated(),
            live,
            ready: not_ready.is_empty(),
            not_ready,
            pipelines,
        }
    }
}

impl PipelineReport {
    fn not_ready(&self, ready_lag: u64) -> Vec<NotReady> {
        let database = || self.database.clone();
        match self.phase {
            // A standby that is not ready would keep a rolling update from ending the active one.
            Phase::Standby => return Vec::new(),
            Phase::Streaming => {}
            Phase::Starting | Phase::Snapshot | Phase::Draining | Phase::Stopped => {
                return vec![NotReady::Phase { database: database(), phase: self.phase }];
            }
        }
        let error = |link: &LinkReport| link.last_error.as_ref().map(|error| error.text.clone());
        let mut reasons = Vec::new();
        if self.source.state != LinkState::Up {
            let error = error(&self.source);
            reasons.push(NotReady::SourceDown { database: database(), error });
        }
        if self.sink.state == LinkState::Down {
            let error = error(&self.sink);
            reasons.push(NotReady::SinkDown { database: database(), error });
        }
        if self.behind_bytes > ready_lag {
            let bytes = self.behind_bytes;
            reasons.push(NotReady::Behind { database: database(), bytes });
        }
        reasons
    }
}

impl LinkReport {
    pub(super) fn enter(&mut self, state: LinkState) {
        if self.state != state || self.since.is_none() {
            self.state = state;
            self.since = Some(Timestamp::now());
        }
    }
}

impl TimedError {
    /// The error happens now.
    pub fn now(text: String) -> Self {
        Self { text, at: Timestamp::now() }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let down = |f: &mut fmt::Formatter<'_>, what, database, error: &Option<String>| {
            write!(f, "{database}: {what} is down")?;
            error.iter().try_for_each(|error| write!(f, ": {error}"))
        };
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Phase { database, phase } => write!(f, "{database}: {phase}"),
            Self::SourceDown { database, error } => down(f, "source", database, error),
            Self::SinkDown { database, error } => down(f, "sink", database, error),
            Self::Behind { database, bytes } => write!(f, "{database}: {bytes} bytes behind"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Snapshot => "first load is under way",
            Self::Streaming => "streaming",
            Self::Draining => "stopping",
            Self::Stopped => "stopped",
            Self::Standby => "standby: another instance is at work",
        })
    }
}

/// A moment, shown as `2026-01-02T03:04:05.678Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// This moment.
    pub fn now() -> Self {
        Self(SystemTime::now()).truncated()
    }

    /// Whole milliseconds, as it is shown.
    fn truncated(self) -> Self {
        Self(UNIX_EPOCH + Duration::from_millis(self.milliseconds()))
    }

    fn milliseconds(self) -> u64 {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.milliseconds();
        let (days, of_day) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
        let (year, month, day) = date_of(days);
        let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (seconds, fraction) = (of_day / 1000 % 60, of_day % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z"
        )
    }
}

/// Days since 1970 as a date of the Gregorian calendar.
///
/// Counted in eras of 400 years that begin on 1 March, so that a leap day ends its year.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_YEAR_0: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + DAYS_FROM_YEAR_0;
    let (era, of_era) = (days / ERA, days % ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let invalid = || serde::de::Error::custom("expected 2026-01-02T03:04:05.678Z");
        milliseconds_of(&text)
            .map(|milliseconds| Self(UNIX_EPOCH + Duration::from_millis(milliseconds)))
            .ok_or_else(invalid)
    }
}

/// The inverse of `Display`.
fn milliseconds_of(text: &str) -> Option<u64> {
    let numbers: Option<Vec<u64>> = text
        .strip_suffix('Z')?
        .split(['-', 'T', ':', '.'])
        .map(|digits| digits.parse().ok())
        .collect();
    let [year, month, day, hours, minutes, seconds, fraction] = numbers?.try_into().ok()?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month) && day >= 1;
    let days = (is_date && day <= 31).then(|| days_of(year, month, day))?;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + fraction)
}

/// The inverse of [`date_of`].
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_the_calendar_says() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            let moment = Timestamp(UNIX_EPOCH + Duration::from_millis(milliseconds));
            assert_eq!(moment.to_string(), text);
            assert_eq!(milliseconds_of(text), Some(milliseconds), "{text}");
        }
        for text in ["", "2026-01-02", "2026-13-01T00:00:00.000Z", "x-01-02T03:04:05.678Z"] {
            assert_eq!(milliseconds_of(text), None, "{text}");
        }
    }
}
