//! How to reach a database: resolved settings, without defaults and without parsing of URLs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::postgres::Secret;

/// Everything a connection needs, SQL or replication.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Host name or address; a value that begins with `/` is the directory of a Unix socket.
    pub host: String,
    /// Port, also part of the Unix socket's name.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password; `None` if the server is expected not to ask.
    pub password: Option<Secret>,
    /// Database.
    pub database: String,
    /// Encryption.
    pub ssl: SslSettings,
    /// What `pg_stat_activity` shows, in front of the connection's purpose.
    pub application_name: String,
    /// How long one attempt may take: address, TLS and authentication together.
    pub connect_timeout: Duration,
    /// `work_mem` of the session as PostgreSQL writes it (`64MB`); `None` leaves the server's.
    pub work_mem: Option<String>,
}

impl ConnectOptions {
    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// Whether the host is the directory of a Unix socket.
    pub fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// When to encrypt and what to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SslSettings {
    /// Mode.
    pub mode: SslMode,
    /// PEM file of the certificates to trust. Where it is given, the server's chain is checked in
    /// every mode; `None` leaves `verify-ca` and `verify-full` with the system's certificates.
    pub root_cert: Option<PathBuf>,
}

/// `sslmode`.
///
/// Source: PostgreSQL 17 manual, 32.19.3 "Protection Provided in Different Modes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Plain first, encrypted if the server insists.
    Allow,
    /// Encrypted first, plain if the server cannot or refuses.
    Prefer,
    /// Encrypted, with whomever answers.
    Require,
    /// Encrypted, with a server whose certificate comes from a trusted authority.
    VerifyCa,
    /// Encrypted, and the certificate names the host as well.
    VerifyFull,
}

impl SslMode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The value of `sslmode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Text that is no `sslmode`.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{text}` is no SSL mode, expected `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`"
)]
pub struct InvalidSslMode {
    text: String,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SslMode {
    type Err = InvalidSslMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| InvalidSslMode { text: text.to_owned() })
    }
}

/// What a connection is for: shown in `pg_stat_activity` behind the application name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Catalog queries, publication, slot, checks.
    Control,
    /// The session that holds the advisory lock of the one instance at work.
    Lock,
    /// Climbing from changed rows to roots.
    Lookup,
    /// Reading documents.
    Read,
    /// The WAL stream.
    Replication,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Lock => "lock",
            Self::Lookup => "lookup",
            Self::Read => "read",
            Self::Replication => "replication",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssl_modes_are_read_as_libpq_writes_them() {
        for mode in SslMode::ALL {
            assert_eq!(mode.to_string().parse::<SslMode>().unwrap(), mode);
        }
        assert!("on".parse::<SslMode>().is_err());
    }

    #[test]
    fn the_password_is_not_in_the_debug_text() {
        let options = ConnectOptions {
            host: "localhost".into(),
            port: 5432,
            user: "u".into(),
            password: Some(Secret::new("sesame")),
            database: "d".into(),
            ssl: SslSettings { mode: SslMode::Prefer, root_cert: None },
            application_name: "pgsyncd".into(),
            connect_timeout: Duration::from_secs(10),
            work_mem: None,
        };
        assert!(!format!("{options:?}").contains("sesame"));
        assert_eq!(options.with_database("other").database, "other");
    }
}
