//! Why a connection did not come about, and what helps. Pure: the connections classify by it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::postgres::tls::TlsError;
use crate::postgres::{ConnectOptions, ServerError, SslMode};

/// Where a connection was to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host or socket directory.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
}

impl From<&ConnectOptions> for Box<Target> {
    fn from(options: &ConnectOptions) -> Self {
        Box::new(Target {
            host: options.host.clone(),
            port: options.port,
            user: options.user.clone(),
            database: options.database.clone(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, database } = self;
        write!(f, "PostgreSQL at `{host}:{port}` (user `{user}`, database `{database}`)")
    }
}

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the fields mean the same in every variant: where to, and the cause"
)]
pub enum ConnectError {
    /// No name, no route, nobody listening.
    #[error("{target} cannot be reached")]
    Unreachable { target: Box<Target>, source: io::Error },
    /// The attempt took too long.
    #[error("{target} did not answer within {after:?}")]
    Timeout { target: Box<Target>, after: Duration },
    /// The connection broke while it was being set up.
    #[error("{target} closed the connection during start-up")]
    Lost { target: Box<Target>, source: io::Error },
    /// The server has no TLS, the mode demands it.
    #[error("{target} offers no TLS, but the SSL mode is `{mode}`")]
    TlsNotOffered { target: Box<Target>, mode: SslMode },
    /// The handshake failed: certificate, name, protocol.
    #[error("{target} and this client do not agree on TLS")]
    TlsHandshake { target: Box<Target>, source: io::Error },
    /// The host cannot stand in a certificate.
    #[error("{target} has a host that no certificate can name, as `verify-full` demands")]
    TlsHostName { target: Box<Target> },
    /// Our own TLS settings are wrong.
    #[error("{target}: TLS cannot be set up")]
    TlsSettings { target: Box<Target>, source: TlsError },
    /// Wrong password, or no such role (28P01).
    #[error("{target} refused the password")]
    Password { target: Box<Target>, source: ServerError },
    /// The server asks for a password, none is configured.
    #[error("{target} asks for a password, none is configured")]
    PasswordMissing { target: Box<Target> },
    /// No line of `pg_hba.conf` lets us in.
    #[error("{target} does not let this client in")]
    NoHbaEntry { target: Box<Target>, source: ServerError },
    /// The role does not exist, may not log in, or fits no certificate (28000).
    #[error("{target} refused the role")]
    Role { target: Box<Target>, source: ServerError },
    /// The role lacks REPLICATION or CONNECT (42501).
    #[error("{target} denied the role what it asks for")]
    NotPermitted { target: Box<Target>, source: ServerError },
    /// No such database (3D000).
    #[error("{target} has no such database")]
    DatabaseMissing { target: Box<Target>, source: ServerError },
    /// All connections are taken (53300).
    #[error("{target} has no connection left")]
    TooManyConnections { target: Box<Target>, source: ServerError },
    /// Starting up, shutting down or recovering (57P01, 57P02, 57P03).
    #[error("{target} does not take connections at present")]
    NotReady { target: Box<Target>, source: ServerError },
    /// A setting of the session is unknown to the server (42704) or refused (22023).
    #[error("{target} refused a setting of the session")]
    Setting { target: Box<Target>, source: ServerError },
    /// The server said no for another reason.
    #[error("{target} refused the connection")]
    Refused { target: Box<Target>, source: ServerError },
    /// An authentication method we do not speak.
    #[error("{target} asks for authentication by {method}, which is not supported")]
    Method { target: Box<Target>, method: &'static str },
    /// The server could not prove that it knows the password.
    #[error("{target} failed to authenticate itself")]
    Impostor { target: Box<Target>, source: io::Error },
    /// Bytes that do not follow the protocol.
    #[error("{target} does not speak the PostgreSQL protocol")]
    Protocol { target: Box<Target>, source: io::Error },
    /// Any other failure the SQL client reports.
    #[error("{target}: the session cannot be started")]
    Session { target: Box<Target>, source: tokio_postgres::Error },
}

impl ConnectError {
    /// The situation behind an `ErrorResponse` during start-up.
    pub(crate) fn refused(target: Box<Target>, source: ServerError) -> Self {
        let by_hba = source.routine.as_deref() == Some("ClientAuthentication");
        match &*source.code {
            "28P01" => Self::Password { target, source },
            "28000" if by_hba => Self::NoHbaEntry { target, source },
            "28000" => Self::Role { target, source },
            "42501" => Self::NotPermitted { target, source },
            "3D000" => Self::DatabaseMissing { target, source },
            "53300" => Self::TooManyConnections { target, source },
            "57P01" | "57P02" | "57P03" => Self::NotReady { target, source },
            "42704" | "22023" => Self::Setting { target, source },
            _ => Self::Refused { target, source },
        }
    }

    /// Whether the other choice of encryption may fare better, where the mode allows both.
    pub(crate) fn may_pass_otherwise_encrypted(&self) -> bool {
        match self {
            Self::NoHbaEntry { .. } | Self::Role { .. } | Self::TlsHandshake { .. } => true,
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::TlsNotOffered { .. }
            | Self::TlsHostName { .. }
            | Self::TlsSettings { .. }
            | Self::Password { .. }
            | Self::PasswordMissing { .. }
            | Self::NotPermitted { .. }
            | Self::DatabaseMissing { .. }
            | Self::TooManyConnections { .. }
            | Self::NotReady { .. }
            | Self::Setting { .. }
            | Self::Refused { .. }
            | Self::Method { .. }
            | Self::Impostor { .. }
            | Self::Protocol { .. }
            | Self::Session { .. } => false,
        }
    }

    /// Whether waiting may help: nothing is wrong with the configuration as far as one can tell.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::TooManyConnections { .. }
            | Self::NotReady { .. }
            | Self::Refused { .. }
            | Self::Session { .. } => true,
            Self::TlsNotOffered { .. }
            | Self::TlsHandshake { .. }
            | Self::TlsHostName { .. }
            | Self::TlsSettings { .. }
            | Self::Password { .. }
            | Self::PasswordMissing { .. }
            | Self::NoHbaEntry { .. }
            | Self::Role { .. }
            | Self::NotPermitted { .. }
            | Self::DatabaseMissing { .. }
            | Self::Setting { .. }
            | Self::Method { .. }
            | Self::Impostor { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "is the server running, are host and port right, does `listen_addresses` include this network?"
            }
            Self::Timeout { .. } => {
                "is a firewall in between? raise the connect timeout if the server is slow"
            }
            Self::TlsNotOffered { .. } => {
                "turn on `ssl` in the server, or use the SSL mode `prefer` or `disable`"
            }
            Self::TlsHandshake { .. } => {
                "give the certificate of the server's authority as root certificate; `verify-ca` does not compare the host name, `require` without a root certificate checks nothing"
            }
            Self::TlsHostName { .. } => "connect by a DNS name or address, or use `verify-ca`",
            Self::TlsSettings { .. } => "give a PEM file of certificates as root certificate",
            Self::Password { .. } => "set the right user and password",
            Self::PasswordMissing { .. } => "set the password",
            Self::NoHbaEntry { .. } => {
                "add a line to `pg_hba.conf` for this user, database and address (mind `hostssl` and `hostnossl`), then `SELECT pg_reload_conf()`"
            }
            Self::Role { .. } => "create the role, or `ALTER ROLE … LOGIN`",
            Self::NotPermitted { .. } => {
                "`ALTER ROLE … REPLICATION` for the WAL stream, `GRANT CONNECT ON DATABASE …` for the database"
            }
            Self::DatabaseMissing { .. } => "create the database, or name the right one",
            Self::TooManyConnections { .. } => {
                "raise `max_connections` (or `max_wal_senders`, or the role's `CONNECTION LIMIT`), or close other sessions"
            }
            Self::NotReady { .. } => "the server is starting or stopping: wait",
            Self::Setting { .. } => {
                "PostgreSQL 14 or newer is needed, reached directly (a pooler may not pass `options` on); `work_mem` must be a size such as `64MB`"
            }
            Self::Method { .. } => "let `pg_hba.conf` ask for `scram-sha-256` here",
            Self::Impostor { .. } => {
                "something between here and the server may be listening in: check host and TLS"
            }
            Self::Protocol { .. } => "is it a PostgreSQL server that listens on this port?",
            Self::Lost { .. } | Self::Refused { .. } | Self::Session { .. } => {
                "the server's log says more"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, routine: &str) -> ConnectError {
        let target = Target { host: "h".into(), port: 1, user: "u".into(), database: "d".into() };
        ConnectError::refused(Box::new(target), server_error(code, routine))
    }

    fn server_error(code: &str, routine: &str) -> ServerError {
        ServerError { code: code.into(), routine: Some(routine.into()), ..ServerError::default() }
    }

    #[test]
    fn one_sqlstate_can_mean_two_situations() {
        assert!(matches!(
            refused("28000", "ClientAuthentication"),
            ConnectError::NoHbaEntry { .. }
        ));
        assert!(matches!(refused("28000", "InitializeSessionUserId"), ConnectError::Role { .. }));
    }

    #[test]
    fn an_unknown_refusal_keeps_what_the_server_said() {
        let error = refused("XX000", "f");
        assert!(matches!(&error, ConnectError::Refused { source, .. } if &*source.code == "XX000"));
        assert_eq!(
            error.to_string(),
            "PostgreSQL at `h:1` (user `u`, database `d`) refused the connection"
        );
    }
}
