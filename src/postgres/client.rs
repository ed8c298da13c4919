//! Connections that carry SQL.

use std::future::{Ready, ready};
use std::io;

use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls};
use tracing::debug;

use crate::postgres::session::{application_name, startup_options};
use crate::postgres::wire::{Wire, establish};
use crate::postgres::{ConnectError, ConnectOptions, Purpose, ServerError};

/// Opens a session whose settings are pinned (see `session.rs`).
///
/// # Errors
/// [`ConnectError`] with the situation, its cause and a hint.
pub async fn connect(options: &ConnectOptions, purpose: Purpose) -> Result<Client, ConnectError> {
    establish(options, |wire| start(wire, options, purpose)).await
}

async fn start(
    wire: Wire,
    options: &ConnectOptions,
    purpose: Purpose,
) -> Result<Client, ConnectError> {
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .application_name(application_name(options, purpose))
        .options(startup_options(options));
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    if wire.is_encrypted() {
        // The handshake is done: the client only has to take the stream for an encrypted one.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        let connected = config.connect_raw(wire, Handshaken).await;
        let (client, connection) = connected.map_err(|error| classify(options, error))?;
        drive(connection, purpose);
        Ok(client)
    } else {
        config.ssl_mode(SslMode::Disable);
        let connected = config.connect_raw(wire, NoTls).await;
        let (client, connection) = connected.map_err(|error| classify(options, error))?;
        drive(connection, purpose);
        Ok(client)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a connection driver: it ends with its client, whose calls report its errors"
)]
fn drive<T>(connection: tokio_postgres::Connection<Wire, T>, purpose: Purpose)
where
    T: TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%purpose, %error, "SQL connection ended");
        }
    });
}

/// Which situation an error of the SQL client is.
fn classify(options: &ConnectOptions, error: tokio_postgres::Error) -> ConnectError {
    let target = options.into();
    if let Some(refusal) = error.as_db_error() {
        return ConnectError::refused(target, ServerError::from(refusal));
    }
    let is_io =
        std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<io::Error>);
    if is_io || error.is_closed() {
        let source = error.into_source().map_or_else(
            || io::ErrorKind::UnexpectedEof.into(),
            |cause| cause.downcast::<io::Error>().map_or_else(io::Error::other, |cause| *cause),
        );
        return ConnectError::Lost { target, source };
    }
    // The client has one kind for "the server asks for what the configuration lacks".
    if options.password.is_none() {
        return ConnectError::PasswordMissing { target };
    }
    ConnectError::Session { target, source: error }
}

/// Hands over a stream that is encrypted already.
struct Handshaken;

impl TlsConnect<Wire> for Handshaken {
    type Stream = Wire;
    type Error = io::Error;
    type Future = Ready<io::Result<Wire>>;

    fn connect(self, stream: Wire) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match Wire::channel_binding(self) {
            Some(binding) => ChannelBinding::tls_server_end_point(binding.to_vec()),
            None => ChannelBinding::none(),
        }
    }
}
