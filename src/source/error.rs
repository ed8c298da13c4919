//! Why the stream of changes cannot be had, situation by situation, and what helps.

use std::io;
use std::time::Duration;

use crate::postgres::{ConnectError, Lsn, ServerError};
use crate::source::assemble::AssembleError;
use crate::source::pgoutput::DecodeError;

/// An error of the source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The replication connection cannot be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("the replication connection broke behind {lsn}")]
    ConnectionLost {
        /// How far the stream was read; zero before it started.
        lsn: Lsn,
        /// Cause.
        source: io::Error,
    },
    /// The server heard nothing from us for longer than it waits.
    #[error(
        "the server closed the stream behind {lsn}: no report for {silence:?}, `wal_sender_timeout` is {timeout:?}"
    )]
    WalSenderTimeout {
        /// How far the stream was read.
        lsn: Lsn,
        /// Time since our last report.
        silence: Duration,
        /// The server's setting.
        timeout: Duration,
        /// How the connection ended.
        source: io::Error,
    },
    /// Another session streams from the slot.
    #[error("replication slot `{slot}` is in use{}", by(*pid))]
    SlotInUse {
        /// Slot.
        slot: String,
        /// Process of that session, if the server names it.
        pid: Option<u32>,
        /// Cause.
        source: ServerError,
    },
    /// There is no such slot.
    #[error("replication slot `{slot}` does not exist")]
    SlotMissing {
        /// Slot.
        slot: String,
        /// Cause.
        source: ServerError,
    },
    /// The WAL the slot needs is gone, or the slot is not ours to read.
    #[error("replication slot `{slot}` cannot be read any more")]
    SlotInvalidated {
        /// Slot.
        slot: String,
        /// Cause.
        source: ServerError,
    },
    /// The slot to be made is there already.
    #[error("replication slot `{slot}` exists already")]
    SlotExists {
        /// Slot.
        slot: String,
        /// Cause.
        source: ServerError,
    },
    /// All slots or senders of the server are taken.
    #[error("the server has no replication slot left for `{slot}`")]
    NoFreeSlot {
        /// Slot.
        slot: String,
        /// Cause.
        source: ServerError,
    },
    /// The server writes no WAL that can be decoded.
    #[error("the server's WAL cannot be decoded")]
    WalLevel {
        /// Cause.
        source: ServerError,
    },
    /// The publication went, or was made after the WAL that is to be decoded.
    #[error("publication `{publication}` does not exist where replication slot `{slot}` reads")]
    PublicationMissing {
        /// Publication.
        publication: String,
        /// Slot.
        slot: String,
        /// Cause.
        source: ServerError,
    },
    /// The role may not replicate.
    #[error("the role may not run {command}")]
    NotPermitted {
        /// Command.
        command: &'static str,
        /// Cause.
        source: ServerError,
    },
    /// The server stops, or somebody ended our session.
    #[error("the server ended the session during {command}")]
    ServerStopping {
        /// Command.
        command: &'static str,
        /// Cause.
        source: ServerError,
    },
    /// Another refusal.
    #[error("the server failed at {command}")]
    Server {
        /// Command.
        command: &'static str,
        /// Cause.
        source: ServerError,
    },
    /// An answer that does not fit the command.
    #[error("the server's answer to {command} is not what the protocol says")]
    Answer {
        /// Command.
        command: &'static str,
    },
    /// The server ended the stream without a reason.
    #[error("the server ended the stream behind {lsn}")]
    StreamEnded {
        /// How far the stream was read.
        lsn: Lsn,
    },
    /// A frame that is neither data nor keepalive.
    #[error("a frame behind {lsn} is neither data nor keepalive")]
    Frame {
        /// How far the stream was read.
        lsn: Lsn,
    },
    /// Bytes that do not follow the protocol.
    #[error("the connection does not follow the PostgreSQL protocol")]
    Protocol {
        /// Cause.
        source: io::Error,
    },
    /// A message of the output plugin that cannot be read. It is never skipped.
    #[error("a change at {lsn}{} cannot be decoded", of(table.as_deref()))]
    Decode {
        /// Position of the message.
        lsn: Lsn,
        /// `schema.table`, if it is known.
        table: Option<String>,
        /// Cause.
        source: DecodeError,
    },
    /// Messages that contradict each other.
    #[error("the stream contradicts itself at {lsn}")]
    Contradiction {
        /// Position of the message.
        lsn: Lsn,
        /// Cause.
        source: AssembleError,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

fn of(table: Option<&str>) -> String {
    table.map(|table| format!(" of table `{table}`")).unwrap_or_default()
}

impl SourceError {
    pub(super) fn protocol(source: io::Error) -> Self {
        Self::Protocol { source }
    }

    pub(super) fn lost_at(lsn: Lsn) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::ConnectionLost { lsn, source }
    }

    /// Whether another try may go better; the rest needs an operator.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_transient(),
            Self::ConnectionLost { .. }
            | Self::WalSenderTimeout { .. }
            | Self::SlotInUse { .. }
            | Self::NoFreeSlot { .. }
            | Self::ServerStopping { .. }
            | Self::Server { .. }
            | Self::StreamEnded { .. } => true,
            Self::SlotMissing { .. }
            | Self::SlotInvalidated { .. }
            | Self::SlotExists { .. }
            | Self::WalLevel { .. }
            | Self::PublicationMissing { .. }
            | Self::NotPermitted { .. }
            | Self::Answer { .. }
            | Self::Frame { .. }
            | Self::Protocol { .. }
            | Self::Decode { .. }
            | Self::Contradiction { .. } => false,
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.hint(),
            Self::ConnectionLost { .. } | Self::Server { .. } => "the server's log says more",
            Self::StreamEnded { .. } => "the server is stopping, or its log says more",
            Self::WalSenderTimeout { .. } => {
                "was this process stopped or starved? raise `wal_sender_timeout` if the network is slow"
            }
            Self::SlotInUse { .. } => {
                "another instance may be at work; a dead one keeps the slot until `wal_sender_timeout`: SELECT active_pid FROM pg_replication_slots"
            }
            Self::SlotMissing { .. } => {
                "it was dropped: changes since then are lost, the indexes must be rebuilt (`--reindex`)"
            }
            Self::SlotInvalidated { .. } => {
                "see `wal_status` in pg_replication_slots: if it is `lost`, raise `max_slot_wal_keep_size`, drop the slot and rebuild the indexes (`--reindex`)"
            }
            Self::SlotExists { .. } => {
                "drop it with SELECT pg_drop_replication_slot(…) if nobody needs it"
            }
            Self::NoFreeSlot { .. } => {
                "raise `max_replication_slots`, or drop slots nobody needs: SELECT slot_name, active FROM pg_replication_slots"
            }
            Self::WalLevel { .. } => {
                "ALTER SYSTEM SET wal_level = 'logical', then restart the server"
            }
            Self::PublicationMissing { .. } => {
                "CREATE PUBLICATION … FOR TABLE …; a publication must be older than its slot: drop the slot if it is not"
            }
            Self::NotPermitted { .. } => "ALTER ROLE … REPLICATION",
            Self::ServerStopping { .. } => "the server is stopping: wait",
            Self::Answer { .. } | Self::Frame { .. } | Self::Protocol { .. } => {
                "is there a proxy or pooler in between? connect to PostgreSQL directly"
            }
            Self::Decode { .. } | Self::Contradiction { .. } => {
                "this is a bug here or in the server: report it with the server's version"
            }
        }
    }
}

/// What was asked of the server: one SQLSTATE means different things for different commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `IDENTIFY_SYSTEM`.
    IdentifySystem,
    /// `CREATE_REPLICATION_SLOT`.
    CreateSlot {
        /// Slot.
        slot: String,
    },
    /// `DROP_REPLICATION_SLOT`.
    DropSlot {
        /// Slot.
        slot: String,
    },
    /// `START_REPLICATION`, until the stream begins.
    StartReplication {
        /// Slot.
        slot: String,
    },
    /// The stream itself.
    Stream {
        /// Slot.
        slot: String,
        /// Publication.
        publication: String,
    },
}

impl Command {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::IdentifySystem => "IDENTIFY_SYSTEM",
            Self::CreateSlot { .. } => "CREATE_REPLICATION_SLOT",
            Self::DropSlot { .. } => "DROP_REPLICATION_SLOT",
            Self::StartReplication { .. } => "START_REPLICATION",
            Self::Stream { .. } => "streaming",
        }
    }

    /// The situation behind a refusal of this command.
    pub(super) fn refused(&self, source: ServerError) -> SourceError {
        let command = self.name();
        match &*source.code {
            "42501" => return SourceError::NotPermitted { command, source },
            "57P01" | "57P02" | "57P03" => return SourceError::ServerStopping { command, source },
            _ => {}
        }
        match self.slot() {
            Some(slot) => self.refused_slot(slot, source),
            None => SourceError::Server { command, source },
        }
    }

    /// What a notice amounts to. From 18 on PostgreSQL streams on without a publication that is
    /// missing, and only warns: the changes would be lost without an error.
    pub(super) fn noticed(&self, source: ServerError) -> Result<(), SourceError> {
        match self {
            Self::Stream { slot, publication }
                if source.routine.as_deref() == Some("LoadPublications") =>
            {
                let (slot, publication) = (slot.clone(), publication.clone());
                Err(SourceError::PublicationMissing { publication, slot, source })
            }
            Self::IdentifySystem
            | Self::CreateSlot { .. }
            | Self::DropSlot { .. }
            | Self::StartReplication { .. }
            | Self::Stream { .. } => Ok(()),
        }
    }

    fn refused_slot(&self, slot: String, source: ServerError) -> SourceError {
        let by_wal_level = source.routine.as_deref() == Some("CheckLogicalDecodingRequirements");
        match (&*source.code, self) {
            ("55006", _) => {
                SourceError::SlotInUse { slot, pid: last_number(&source.message), source }
            }
            ("42704", Self::Stream { publication, .. }) => {
                SourceError::PublicationMissing { publication: publication.clone(), slot, source }
            }
            ("42704", _) => SourceError::SlotMissing { slot, source },
            ("42710", _) => SourceError::SlotExists { slot, source },
            ("53400", _) => SourceError::NoFreeSlot { slot, source },
            ("55000", _) if by_wal_level => SourceError::WalLevel { source },
            // 58P01: the WAL segment the slot needs has been removed.
            ("55000" | "58P01", Self::StartReplication { .. } | Self::Stream { .. }) => {
                SourceError::SlotInvalidated { slot, source }
            }
            _ => SourceError::Server { command: self.name(), source },
        }
    }

    fn slot(&self) -> Option<String> {
        match self {
            Self::IdentifySystem => None,
            Self::CreateSlot { slot }
            | Self::DropSlot { slot }
            | Self::StartReplication { slot }
            | Self::Stream { slot, .. } => Some(slot.clone()),
        }
    }
}

/// The pid in `replication slot "…" is active for PID 123`: the last number, whatever the language.
fn last_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).rfind(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, message: &str) -> ServerError {
        ServerError { code: code.into(), message: message.into(), ..ServerError::default() }
    }

    #[test]
    fn a_slot_in_use_names_the_process() {
        let command = Command::StartReplication { slot: "s1".into() };
        let error =
            command.refused(refusal("55006", "replication slot \"s1\" is active for PID 123"));
        assert!(matches!(&error, SourceError::SlotInUse { pid: Some(123), .. }), "{error:?}");
        assert_eq!(error.to_string(), "replication slot `s1` is in use by process 123");
    }

    #[test]
    fn an_undefined_object_is_the_slot_before_the_stream_and_the_publication_in_it() {
        let start = Command::StartReplication { slot: "s".into() };
        let stream = Command::Stream { slot: "s".into(), publication: "p".into() };
        assert!(matches!(start.refused(refusal("42704", "")), SourceError::SlotMissing { .. }));
        assert!(matches!(
            stream.refused(refusal("42704", "")),
            SourceError::PublicationMissing { .. }
        ));
    }

    #[test]
    fn a_warning_about_the_publication_is_an_error() {
        let stream = Command::Stream { slot: "s".into(), publication: "p".into() };
        let warning = |routine: &str| ServerError {
            routine: Some(routine.into()),
            ..refusal("55000", "skipped loading publication \"p\"")
        };
        let error = stream.noticed(warning("LoadPublications")).unwrap_err();
        assert!(matches!(error, SourceError::PublicationMissing { .. }));
        assert!(stream.noticed(warning("another")).is_ok());
    }

    #[test]
    fn a_slot_that_lost_its_wal_is_no_transient_error() {
        let start = Command::StartReplication { slot: "s".into() };
        let error = start.refused(refusal("55000", ""));
        assert!(matches!(error, SourceError::SlotInvalidated { .. }));
        assert!(!error.is_transient());
    }
}
