//! The byte stream to a server: TCP or Unix socket, TLS when both sides want it, and the order in
//! which plain and encrypted attempts are made. What is said over it belongs to the connections.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::postgres::channel_binding::tls_server_end_point;
use crate::postgres::{ConnectError, ConnectOptions, SslMode, tls};

/// A peer that vanished without a word is noticed after about a minute: our sessions have no
/// statement timeout that would do it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// How one attempt encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Plain,
    IfOffered,
    Demanded,
}

/// What a mode tries, in order. Unix sockets are never encrypted, as in libpq.
fn attempts(options: &ConnectOptions) -> &'static [Encryption] {
    if options.is_unix_socket() {
        return &[Encryption::Plain];
    }
    match options.ssl.mode {
        SslMode::Disable => &[Encryption::Plain],
        SslMode::Allow => &[Encryption::Plain, Encryption::Demanded],
        SslMode::Prefer => &[Encryption::IfOffered, Encryption::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Demanded],
    }
}

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// An open connection to a server, before start-up.
pub(crate) struct Wire {
    transport: Box<dyn Transport>,
    is_encrypted: bool,
    /// `tls-server-end-point` data, where TLS and the server's certificate give it.
    channel_binding: Option<Vec<u8>>,
}

impl Wire {
    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    pub(crate) fn channel_binding(&self) -> Option<&[u8]> {
        self.channel_binding.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn scripted(stream: tokio::io::DuplexStream) -> Self {
        Self::plain(stream)
    }

    fn plain(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), is_encrypted: false, channel_binding: None }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("is_encrypted", &self.is_encrypted).finish_non_exhaustive()
    }
}

/// Opens wires in the order of the SSL mode and runs `start` over each, until one attempt passes or
/// fails for a reason that the other encryption does not change.
pub(crate) async fn establish<T, F>(
    options: &ConnectOptions,
    start: impl Fn(Wire) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let mut first = None;
    for encryption in attempts(options) {
        let attempt = async { start(open(options, *encryption).await?).await };
        let outcome = tokio::time::timeout(options.connect_timeout, attempt).await;
        let error = match outcome {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_elapsed) => {
                ConnectError::Timeout { target: options.into(), after: options.connect_timeout }
            }
        };
        let is_final = !error.may_pass_otherwise_encrypted();
        // A second attempt that only finds no TLS adds nothing to what the first was told.
        let error = match (first.take(), error) {
            (Some(first), ConnectError::TlsNotOffered { .. }) => first,
            (_, error) => error,
        };
        if is_final {
            return Err(error);
        }
        first = Some(error);
    }
    let timeout =
        || ConnectError::Timeout { target: options.into(), after: options.connect_timeout };
    Err(first.unwrap_or_else(timeout))
}

async fn open(options: &ConnectOptions, encryption: Encryption) -> Result<Wire, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { target: options.into(), source };
    if options.is_unix_socket() {
        let path = Path::new(&options.host).join(format!(".s.PGSQL.{}", options.port));
        return Ok(Wire::plain(UnixStream::connect(path).await.map_err(unreachable)?));
    }
    // Our own mistakes in the TLS settings are told before the server is bothered.
    let config = match encryption {
        Encryption::Plain => None,
        Encryption::IfOffered | Encryption::Demanded => Some(
            tls::client_config(&options.ssl)
                .await
                .map_err(|source| ConnectError::TlsSettings { target: options.into(), source })?,
        ),
    };
    let mut socket =
        TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
    keep_alive(&socket).map_err(unreachable)?;
    let Some(config) = config else { return Ok(Wire::plain(socket)) };
    let offered = offers_tls(&mut socket)
        .await
        .map_err(|source| ConnectError::Lost { target: options.into(), source })?;
    match (offered, encryption) {
        (Some(true), _) => encrypt(socket, options, config).await,
        (Some(false), Encryption::Demanded) => {
            Err(ConnectError::TlsNotOffered { target: options.into(), mode: options.ssl.mode })
        }
        (Some(false), Encryption::Plain | Encryption::IfOffered) => Ok(Wire::plain(socket)),
        (None, _) => Err(ConnectError::Protocol {
            target: options.into(),
            source: io::Error::new(io::ErrorKind::InvalidData, "no answer to an SSLRequest"),
        }),
    }
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Asks for TLS; `None` if the answer is neither yes nor no. One byte is read, no more: what an
/// attacker might have sent behind it must not be taken for the encrypted stream.
async fn offers_tls(socket: &mut TcpStream) -> io::Result<Option<bool>> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    Ok(match socket.read_u8().await? {
        b'S' => Some(true),
        b'N' => Some(false),
        _ => None,
    })
}

async fn encrypt(
    socket: TcpStream,
    options: &ConnectOptions,
    config: Arc<ClientConfig>,
) -> Result<Wire, ConnectError> {
    let Some(name) = tls::server_name(&options.ssl, &options.host) else {
        return Err(ConnectError::TlsHostName { target: options.into() });
    };
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|source| ConnectError::TlsHandshake { target: options.into(), source })?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let channel_binding = certificate.and_then(|certificate| tls_server_end_point(certificate));
    Ok(Wire { transport: Box::new(stream), is_encrypted: true, channel_binding })
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::SslSettings;

    fn options(host: &str, mode: SslMode) -> ConnectOptions {
        ConnectOptions {
            host: host.into(),
            port: 5432,
            user: "u".into(),
            password: None,
            database: "d".into(),
            ssl: SslSettings { mode, root_cert: None },
            application_name: "test".into(),
            connect_timeout: Duration::from_secs(1),
            work_mem: None,
        }
    }

    #[test]
    fn a_unix_socket_is_never_encrypted() {
        assert_eq!(attempts(&options("/run", SslMode::Require)), [Encryption::Plain]);
    }

    #[test]
    fn prefer_ends_plain_and_require_never_starts_so() {
        assert_eq!(
            attempts(&options("h", SslMode::Prefer)),
            [Encryption::IfOffered, Encryption::Plain]
        );
        assert_eq!(attempts(&options("h", SslMode::Require)), [Encryption::Demanded]);
    }
}
