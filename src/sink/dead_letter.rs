//! Documents the server will never take: handed to whoever keeps them before they count as settled.

use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::document::{DocumentId, SnapshotVersion};
use crate::plan::{EntryId, RootKey};
use crate::schema::tree::IndexName;
use crate::sink::SinkError;

/// A document that was not written, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose document.
    pub entry: EntryId,
    /// The index of the schema.
    pub index: IndexName,
    /// `_id`.
    pub id: DocumentId,
    /// The root row, to read it again.
    pub key: RootKey,
    /// Version of the document that was refused: a newer write makes the letter pointless.
    pub version: SnapshotVersion,
    /// The server's error type, such as `mapper_parsing_exception`; `unsendable` for ours.
    pub kind: String,
    /// Why, without values of the document.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}

/// A letter on its way to be kept.
#[derive(Debug)]
pub struct KeepRequest {
    /// The letter.
    pub letter: DeadLetter,
    /// To be sent when the letter is durable. Dropped unsent, it ends the sink.
    pub kept: oneshot::Sender<()>,
}

/// Takes dead letters for the stage that stores them. A bounded channel rather than a trait: the
/// store stands behind the sink on the road, and the sink must not know it.
#[derive(Clone, Debug)]
pub struct DeadLetterKeeper(mpsc::Sender<KeepRequest>);

impl DeadLetterKeeper {
    /// A keeper, and what its letters come out of; `capacity` letters at most wait.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<KeepRequest>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Self(sender), receiver)
    }

    /// Hands a letter over and waits until it is durable.
    ///
    /// # Errors
    /// [`SinkError::DeadLettersClosed`] if nobody keeps letters any more.
    pub async fn keep(&self, letter: DeadLetter) -> Result<(), SinkError> {
        let (kept, answer) = oneshot::channel();
        let closed = |_| SinkError::DeadLettersClosed;
        self.0
            .send(KeepRequest { letter, kept })
            .await
            .map_err(|_closed| SinkError::DeadLettersClosed)?;
        answer.await.map_err(closed)
    }
}
