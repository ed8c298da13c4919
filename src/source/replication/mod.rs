//! Our own connection in replication mode, which `tokio-postgres` does not have: start-up, the
//! commands around a slot, and the stream (`stream.rs`). It knows frames, not their contents.

mod authenticate;
mod commands;
mod link;
mod stream;

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

use authenticate::{is_about_bytes, server_error};
use commands::Row;
use link::{Incoming, Link};

pub use commands::{CreatedSlot, Failover, SystemIdentity};
pub use stream::{Frame, Reply, StatusUpdate, WalStream};

use crate::postgres::wire::{Wire, establish};
use crate::postgres::{ConnectError, ConnectOptions, Lsn};
use crate::source::error::{Command, SourceError};

/// A connection that takes replication commands.
#[derive(Debug)]
pub struct ReplicationConnection {
    link: Link,
    server_major: u32,
}

impl ReplicationConnection {
    /// Opens one with the pinned session settings, under the TLS mode of `options`.
    ///
    /// # Errors
    /// [`ConnectError`] with the situation, its cause and a hint.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        establish(options, |wire| Self::start_up(wire, options)).await
    }

    async fn start_up(wire: Wire, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let mut link = Link::new(wire);
        let version = authenticate::start_up(&mut link, options).await?;
        let server_major = commands::major_version(&version).ok_or_else(|| {
            let text = format!("`{version}` is no server version");
            let source = io::Error::new(io::ErrorKind::InvalidData, text);
            ConnectError::Protocol { target: options.into(), source }
        })?;
        Ok(Self { link, server_major })
    }

    /// The server's major version.
    pub fn server_major(&self) -> u32 {
        self.server_major
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    /// [`SourceError`] if the server does not say.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        let row = self.ask("IDENTIFY_SYSTEM", &Command::IdentifySystem).await?;
        let identity = row.as_ref().and_then(commands::system_identity);
        identity.ok_or(SourceError::Answer { command: "IDENTIFY_SYSTEM" })
    }

    /// Makes a logical slot for pgoutput and exports the snapshot it starts with. The snapshot lives
    /// until this connection is given another command or dropped.
    ///
    /// # Errors
    /// [`SourceError::SlotExists`], [`SourceError::NoFreeSlot`], [`SourceError::WalLevel`],
    /// [`SourceError::NotPermitted`] and whatever else keeps a slot from being made.
    pub async fn create_slot(
        &mut self,
        name: &str,
        failover: Failover,
    ) -> Result<CreatedSlot, SourceError> {
        let text = commands::create_slot(name, failover, self.server_major);
        let row = self.ask(&text, &Command::CreateSlot { slot: name.to_owned() }).await?;
        let slot = row.as_ref().and_then(commands::created_slot);
        slot.ok_or(SourceError::Answer { command: "CREATE_REPLICATION_SLOT" })
    }

    /// Drops a slot nobody uses.
    ///
    /// # Errors
    /// [`SourceError::SlotMissing`], [`SourceError::SlotInUse`].
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), SourceError> {
        let command = Command::DropSlot { slot: name.to_owned() };
        self.ask(&commands::drop_slot(name), &command).await.map(drop)
    }

    /// Starts the stream of a slot at `start`, or where the slot was confirmed if that is later:
    /// PostgreSQL moves an older start forward without a word, so ask the slot afterwards.
    ///
    /// # Errors
    /// [`SourceError::SlotMissing`], [`SourceError::SlotInUse`], [`SourceError::SlotInvalidated`].
    pub async fn start(
        mut self,
        slot: &str,
        publication: &str,
        start: Lsn,
    ) -> Result<WalStream, SourceError> {
        let command = Command::StartReplication { slot: slot.to_owned() };
        self.send_query(&commands::start_replication(slot, publication, start)).await?;
        loop {
            match self.receive().await? {
                Incoming::CopyBoth => break,
                Incoming::Other(Message::ErrorResponse(body)) => {
                    let refusal = server_error(body.fields()).map_err(SourceError::protocol)?;
                    return Err(command.refused(refusal));
                }
                Incoming::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Other(_) | Incoming::CopyData(_) | Incoming::CopyDone => {
                    return Err(SourceError::Answer { command: "START_REPLICATION" });
                }
            }
        }
        let command =
            Command::Stream { slot: slot.to_owned(), publication: publication.to_owned() };
        Ok(WalStream::new(self.link, command))
    }

    /// Runs a command to its end and gives its last row.
    async fn ask(&mut self, text: &str, command: &Command) -> Result<Option<Row>, SourceError> {
        self.send_query(text).await?;
        let mut answer = Ok(None);
        loop {
            let Incoming::Other(message) = self.receive().await? else {
                return Err(SourceError::Answer { command: command.name() });
            };
            match message {
                Message::DataRow(body) => answer = row(&body).map(Some),
                Message::ErrorResponse(body) => {
                    let refusal = server_error(body.fields()).map_err(SourceError::protocol)?;
                    answer = Err(command.refused(refusal));
                }
                Message::ReadyForQuery(_) => return answer,
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::NoticeResponse(_)
                | Message::ParameterStatus(_) => {}
                _ => return Err(SourceError::Answer { command: command.name() }),
            }
        }
    }

    async fn send_query(&mut self, text: &str) -> Result<(), SourceError> {
        frontend::query(text, &mut self.link.outbox).map_err(SourceError::protocol)?;
        self.link.send().await.map_err(SourceError::lost_at(Lsn(0)))
    }

    async fn receive(&mut self) -> Result<Incoming, SourceError> {
        match self.link.receive().await {
            Ok(message) => Ok(message),
            Err(error) if is_about_bytes(&error) => Err(SourceError::protocol(error)),
            Err(error) => Err(SourceError::lost_at(Lsn(0))(error)),
        }
    }
}

fn row(body: &DataRowBody) -> Result<Row, SourceError> {
    let buffer = body.buffer();
    body.ranges()
        .map(|range| {
            let bytes = range.and_then(|range| buffer.get(range));
            Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect()
        .map_err(SourceError::protocol)
}
