//! Stage 1: WAL bytes → committed transactions.
//!
//! `replication` carries frames, `pgoutput` decodes them, `assemble` makes transactions of them,
//! `feedback` decides what the server hears; `run` is the loop that joins them. A slow reader of the
//! events stops the reading, never the reports: `wal_sender_timeout` is not a matter of load.

pub mod assemble;
pub mod error;
pub mod feedback;
pub mod pgoutput;
pub mod progress;
pub mod replication;
mod run;
pub mod transaction;
mod wire_time;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use assemble::PartLimits;
pub use error::SourceError;
pub use progress::SourceProgress;
pub use replication::{CreatedSlot, Failover, ReplicationConnection, SystemIdentity};
pub use transaction::{Change, OldTuple, SourceEvent, TransactionPart};

use crate::postgres::Lsn;
use replication::WalStream;

/// What to stream, from where.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Logical replication slot of pgoutput.
    pub slot: String,
    /// Publication, older than the slot.
    pub publication: String,
    /// Where to start: the checkpoint, or the slot's consistent point.
    pub start: Lsn,
    /// The server's `wal_sender_timeout`; `None` if it waits for ever.
    pub wal_sender_timeout: Option<Duration>,
    /// How large a part of a transaction may grow.
    pub limits: PartLimits,
}

/// A stream of committed changes that has begun.
#[derive(Debug)]
pub struct Source {
    stream: WalStream,
    settings: SourceSettings,
}

impl Source {
    /// Starts the stream. PostgreSQL moves a start before the slot's confirmed position forward
    /// without a word: read `confirmed_flush_lsn` again before [`Source::run`].
    ///
    /// # Errors
    /// [`SourceError::SlotMissing`], [`SourceError::SlotInUse`], [`SourceError::SlotInvalidated`] …
    pub async fn start(
        connection: ReplicationConnection,
        settings: SourceSettings,
    ) -> Result<Self, SourceError> {
        let SourceSettings { slot, publication, start, .. } = &settings;
        let stream = connection.start(slot, publication, *start).await?;
        Ok(Self { stream, settings })
    }

    /// Streams until `stop` or until nobody takes events any more; then drops `out`, goes on
    /// reporting what becomes `durable`, and ends the session when that watch closes.
    ///
    /// At most the event held back for want of room is dropped at the end: PostgreSQL sends it again.
    ///
    /// # Errors
    /// [`SourceError`] with the situation; nothing is ever skipped.
    pub async fn run(
        self,
        out: mpsc::Sender<SourceEvent>,
        durable: watch::Receiver<Lsn>,
        stop: CancellationToken,
        observer: Arc<SourceProgress>,
    ) -> Result<(), SourceError> {
        run::Run::new(self.stream, &self.settings, durable, observer).run(out, &stop).await
    }
}
