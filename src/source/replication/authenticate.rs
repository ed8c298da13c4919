//! Start-up of a replication connection: session settings, authentication, first answers.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, ErrorFields, Message};
use postgres_protocol::message::frontend;
use tracing::{debug, warn};

use super::link::{Incoming, Link};
use crate::postgres::session::{application_name, startup_options};
use crate::postgres::{ConnectError, ConnectOptions, Purpose, Secret, ServerError};

/// Brings the connection to its first `ReadyForQuery`; gives `server_version`.
pub(super) async fn start_up(
    link: &mut Link,
    options: &ConnectOptions,
) -> Result<String, ConnectError> {
    let mut start_up = StartUp { link, options };
    start_up.introduce().await?;
    start_up.authenticate().await?;
    start_up.await_ready().await
}

struct StartUp<'a> {
    link: &'a mut Link,
    options: &'a ConnectOptions,
}

impl StartUp<'_> {
    async fn introduce(&mut self) -> Result<(), ConnectError> {
        let settings = startup_options(self.options);
        let name = application_name(self.options, Purpose::Replication);
        let parameters = [
            ("user", self.options.user.as_str()),
            ("database", self.options.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", name.as_str()),
            ("options", settings.as_str()),
        ];
        frontend::startup_message(parameters, &mut self.link.outbox)
            .map_err(|error| self.protocol(error))?;
        self.send().await
    }

    async fn authenticate(&mut self) -> Result<(), ConnectError> {
        match self.receive().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                self.warn("cleartext");
                let password = self.password()?.clone();
                self.send_password(password.expose().as_bytes()).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                self.warn("md5");
                let password = self.password()?.expose().as_bytes();
                let hash = md5_hash(self.options.user.as_bytes(), password, body.salt());
                self.send_password(hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => self.scram(&body).await?,
            Message::AuthenticationGss => return Err(self.unsupported("GSSAPI")),
            Message::AuthenticationSspi => return Err(self.unsupported("SSPI")),
            Message::AuthenticationKerberosV5 => return Err(self.unsupported("Kerberos 5")),
            Message::AuthenticationScmCredential => return Err(self.unsupported("SCM credentials")),
            _ => return Err(self.unexpected("an authentication request")),
        }
        match self.receive().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(self.unexpected("the end of the authentication")),
        }
    }

    async fn scram(&mut self, body: &AuthenticationSaslBody) -> Result<(), ConnectError> {
        let (mechanism, binding) = self.mechanism(body)?;
        let password = self.password()?.clone();
        let mut scram = ScramSha256::new(password.expose().as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.link.outbox)
            .map_err(|error| self.protocol(error))?;
        self.send().await?;
        let Message::AuthenticationSaslContinue(body) = self.receive().await? else {
            return Err(self.unexpected("the server's part of SCRAM"));
        };
        scram.update(body.data()).map_err(|error| self.impostor(error))?;
        frontend::sasl_response(scram.message(), &mut self.link.outbox)
            .map_err(|error| self.protocol(error))?;
        self.send().await?;
        let Message::AuthenticationSaslFinal(body) = self.receive().await? else {
            return Err(self.unexpected("the server's proof in SCRAM"));
        };
        scram.finish(body.data()).map_err(|error| self.impostor(error))
    }

    /// The strongest mechanism both sides have. A server without the binding variant is told that we
    /// could have bound, so that it can notice an attacker who struck the variant from its offer.
    fn mechanism(
        &self,
        body: &AuthenticationSaslBody,
    ) -> Result<(&'static str, ChannelBinding), ConnectError> {
        let (mut plain, mut plus) = (false, false);
        let mut offered = body.mechanisms();
        while let Some(mechanism) = offered.next().map_err(|error| self.protocol(error))? {
            plain |= mechanism == SCRAM_SHA_256;
            plus |= mechanism == SCRAM_SHA_256_PLUS;
        }
        match self.link.channel_binding() {
            Some(data) if plus => {
                debug!(mechanism = SCRAM_SHA_256_PLUS, "authenticating with channel binding");
                Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data.to_vec())))
            }
            Some(_) if plain => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
            None if plain => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
            Some(_) | None => Err(self.unsupported("an unknown SASL mechanism")),
        }
    }

    async fn await_ready(&mut self) -> Result<String, ConnectError> {
        let mut version = String::new();
        loop {
            match self.receive().await? {
                Message::ReadyForQuery(_) => return Ok(version),
                Message::ParameterStatus(body) => {
                    let name = body.name().map_err(|error| self.protocol(error))?;
                    if name == "server_version" {
                        body.value()
                            .map_err(|error| self.protocol(error))?
                            .clone_into(&mut version);
                    }
                }
                Message::BackendKeyData(_) => {}
                _ => return Err(self.unexpected("the end of the start-up")),
            }
        }
    }

    /// The next message that is neither notice nor refusal.
    async fn receive(&mut self) -> Result<Message, ConnectError> {
        loop {
            match self.link.receive().await {
                Ok(Incoming::Other(Message::ErrorResponse(body))) => {
                    let refusal =
                        server_error(body.fields()).map_err(|error| self.protocol(error))?;
                    return Err(ConnectError::refused(self.options.into(), refusal));
                }
                Ok(Incoming::Other(Message::NoticeResponse(_))) => {}
                Ok(Incoming::Other(message)) => return Ok(message),
                Ok(Incoming::CopyBoth | Incoming::CopyData(_) | Incoming::CopyDone) => {
                    return Err(self.unexpected("an answer to the start-up"));
                }
                Err(error) if is_about_bytes(&error) => return Err(self.protocol(error)),
                Err(source) => {
                    return Err(ConnectError::Lost { target: self.options.into(), source });
                }
            }
        }
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), ConnectError> {
        frontend::password_message(password, &mut self.link.outbox)
            .map_err(|error| self.protocol(error))?;
        self.send().await
    }

    async fn send(&mut self) -> Result<(), ConnectError> {
        let target = self.options.into();
        self.link.send().await.map_err(|source| ConnectError::Lost { target, source })
    }

    fn password(&self) -> Result<&Secret, ConnectError> {
        let missing = || ConnectError::PasswordMissing { target: self.options.into() };
        self.options.password.as_ref().ok_or_else(missing)
    }

    fn warn(&self, method: &str) {
        let encrypted = self.link.is_encrypted();
        let (host, user) = (self.options.host.as_str(), self.options.user.as_str());
        warn!(host, user, method, encrypted, "weak password authentication, use scram-sha-256");
    }

    fn unsupported(&self, method: &'static str) -> ConnectError {
        ConnectError::Method { target: self.options.into(), method }
    }

    fn impostor(&self, source: io::Error) -> ConnectError {
        ConnectError::Impostor { target: self.options.into(), source }
    }

    fn protocol(&self, source: io::Error) -> ConnectError {
        ConnectError::Protocol { target: self.options.into(), source }
    }

    fn unexpected(&self, wanted: &str) -> ConnectError {
        let text = format!("another message where {wanted} belongs");
        self.protocol(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// Whether an error comes from bytes that are no message, not from the network.
pub(super) fn is_about_bytes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

/// Reads the fields of an `ErrorResponse` or a `NoticeResponse`.
pub(super) fn server_error(mut fields: ErrorFields<'_>) -> io::Result<ServerError> {
    let mut error = ServerError::default();
    while let Some(field) = fields.next()? {
        let value = String::from_utf8_lossy(field.value_bytes()).into();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'H' => error.hint = Some(value),
            b'R' => error.routine = Some(value),
            _ => {}
        }
    }
    Ok(error)
}
