//! Stage 4: documents → Elasticsearch or OpenSearch.
//!
//! Batches come from the document stage, are merged into bulk requests, and are told to the
//! checkpoint as [`Written`] when every document of theirs is in the index, was superseded there by a
//! newer one, or is kept as a dead letter. A server that is away or busy is asked for ever; what is
//! held meanwhile is bounded ([`SinkOptions::held_bytes`]), and then the input is not read.
//!
//! `schedule.rs` decides what goes, `limit.rs` how much at a time, `elasticsearch/outcome.rs` what
//! an answer means; `flight.rs` owns the requests (`request.rs`).

pub mod dead_letter;
pub mod elasticsearch;
#[cfg(test)]
mod fixtures;
mod flight;
pub mod limit;
pub mod progress;
mod request;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod written;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

pub use dead_letter::{DeadLetter, DeadLetterKeeper, KeepRequest};
pub use elasticsearch::{
    Client, ClientError, Creation, ElasticsearchOptions, ErrorClass, FieldMapping, IndexNames,
    Indexes, Search,
};
pub use progress::{Counter, SinkProgress, SinkState};
pub use written::Written;

use crate::document::DocumentBatch;
use crate::plan::EntryId;
use crate::schema::tree::{IndexName, SchemaTree};
use crate::status::IndexStatus;
use flight::Flight;
use schedule::RequestLimits;

/// Why the sink, or a task on its indexes, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A task on an index, or on the server, failed.
    #[error("cannot {task}")]
    Server {
        /// What was being done, such as `refresh index orders`.
        task: String,
        /// The cause.
        #[source]
        source: ClientError,
    },
    /// The server does not take the index as the schema describes it.
    #[error("index `{index}`: the server refuses to create it: {reason}")]
    IndexRefused {
        /// The index of the schema.
        index: IndexName,
        /// The server's words.
        reason: String,
    },
    /// The write alias is gone: somebody deleted the index or the alias.
    #[error("index `{index}`: its write alias `{alias}` is gone: was the index deleted?")]
    AliasGone {
        /// The index of the schema.
        index: IndexName,
        /// Our alias.
        alias: String,
    },
    /// An alias points to several indexes where one is expected.
    #[error("alias `{alias}` points to several indexes: {indexes:?}")]
    AmbiguousAlias {
        /// The alias.
        alias: String,
        /// Where it points.
        indexes: Vec<String>,
    },
    /// The entry's ingest pipeline is not on the server.
    #[error("index `{index}`: the server has no ingest pipeline `{pipeline}`")]
    PipelineMissing {
        /// The index of the schema.
        index: IndexName,
        /// `pipeline` of the schema.
        pipeline: String,
    },
    /// The index holds documents of a later generation: another instance took over.
    #[error("index `{index}` is written by generation {stored}, this instance is of {ours}")]
    Superseded {
        /// The index of the schema.
        index: IndexName,
        /// Generation of the document we sent.
        ours: u64,
        /// Generation of the document that is there.
        stored: u64,
    },
    /// The server refused a whole bulk request for a reason that another try does not change.
    #[error("the server refuses bulk requests")]
    Refused(#[source] ClientError),
    /// A document was rejected, and rejections are fatal by setting.
    #[error("index `{index}`: the server rejects document `{id}`: {kind}: {reason}")]
    Rejected {
        /// The index of the schema.
        index: IndexName,
        /// `_id`.
        id: String,
        /// The server's error type.
        kind: String,
        /// The server's reason, without values of the document.
        reason: String,
    },
    /// Nobody keeps dead letters any more.
    #[error("the keeper of dead letters has ended")]
    DeadLettersClosed,
    /// Nobody takes receipts any more.
    #[error("the stage behind the sink has ended")]
    OutputClosed,
    /// A batch names an entry that has no target.
    #[error("no index is known for document entry {}", .entry.0)]
    UnknownEntry {
        /// The entry.
        entry: EntryId,
    },
}

/// What becomes of documents that the server will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejections {
    /// Each is kept as a dead letter, and the rest goes on.
    Keep,
    /// The first one ends the sink.
    Stop,
}

/// How the sink writes.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Documents in one request. Default 1000.
    pub request_documents: usize,
    /// Bytes of one request, before compression. Default 2 MiB; a larger document goes alone.
    pub request_bytes: usize,
    /// Requests in flight at most; fewer while the server is slow. Default 6.
    pub max_in_flight: u16,
    /// An answer that takes longer counts as overload. Default 10 s.
    pub slow_after: Duration,
    /// Delay before the first of several tries. Default 500 ms.
    pub initial_backoff: Duration,
    /// Longest delay between tries. Default 60 s.
    pub max_backoff: Duration,
    /// What becomes of rejected documents. Default: kept.
    pub rejections: Rejections,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            request_documents: 1000,
            request_bytes: 2 << 20,
            max_in_flight: 6,
            slow_after: Duration::from_secs(10),
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_mins(1),
            rejections: Rejections::Keep,
        }
    }
}

impl SinkOptions {
    /// How many bytes of documents are held before the input is no longer read: what is in flight
    /// and once more what waits for its turn. One batch of the input can come on top of it, and the
    /// bodies of the requests, up to the same size.
    pub fn held_bytes(&self) -> usize {
        let requests = usize::from(self.max_in_flight.max(1)) + 1;
        self.request_bytes.saturating_mul(2 * requests)
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits { documents: self.request_documents.max(1), bytes: self.request_bytes }
    }
}

/// Where the documents of an entry go. An entry may have several targets: a re-index writes to the
/// old and the new index.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose documents.
    pub entry: EntryId,
    /// The index of the schema, for messages.
    pub index: IndexName,
    /// The private write alias: [`IndexNames::write`].
    pub alias: String,
    /// Ingest pipeline of index actions.
    pub pipeline: Option<String>,
    /// Set when something was written that searches may not see yet; [`Search`] clears it.
    pub unrefreshed: Arc<AtomicBool>,
    /// The figures of the entry.
    pub status: Arc<IndexStatus>,
}

impl Target {
    /// The target of an entry behind these names. Searches refresh it first: an earlier run may have
    /// written to it.
    pub fn new(entry: EntryId, tree: &SchemaTree, names: &IndexNames) -> Self {
        Self {
            entry,
            index: tree.index.clone(),
            alias: names.write.clone(),
            pipeline: tree.pipeline.clone(),
            unrefreshed: Arc::new(AtomicBool::new(true)),
            status: Arc::default(),
        }
    }
}

/// Writes documents.
#[derive(Debug)]
pub struct Sink {
    client: Client,
    targets: Vec<Target>,
    options: SinkOptions,
    keeper: DeadLetterKeeper,
    progress: Arc<SinkProgress>,
}

impl Sink {
    /// A sink to these targets.
    pub fn new(
        client: Client,
        targets: Vec<Target>,
        options: SinkOptions,
        keeper: DeadLetterKeeper,
        progress: Arc<SinkProgress>,
    ) -> Self {
        Self { client, targets, options, keeper, progress }
    }

    /// Writes what comes until the input is closed and everything is settled.
    ///
    /// # Errors
    /// [`SinkError`], when another try cannot help. A server that is away or busy is no error.
    pub async fn run(
        self,
        mut input: mpsc::Receiver<DocumentBatch>,
        output: mpsc::Sender<Written>,
    ) -> Result<(), SinkError> {
        let progress = Arc::clone(&self.progress);
        let held_bytes = self.options.held_bytes();
        let mut flight = Flight::new(self);
        let (mut open, mut blocked_since) = (true, None);
        loop {
            tell_settled(&mut flight, &output, &mut blocked_since, &progress)?;
            flight.depart();
            let has_room = flight.schedule.has_room(held_bytes);
            if !open && flight.is_empty() {
                return Ok(());
            }
            // Every branch is cancel-safe: a slot that is not used, a stream, a receive.
            tokio::select! { biased;
                slot = output.reserve(), if flight.schedule.has_settled() => {
                    drop(slot.map_err(|_closed| SinkError::OutputClosed)?);
                }
                Some(step) = flight.steps.next(), if !flight.steps.is_empty() => {
                    flight.advance(step)?;
                }
                batch = input.recv(), if open && has_room => match batch {
                    Some(batch) => {
                        flight.accept(batch)?;
                        take_queued(&mut flight, &mut input, held_bytes)?;
                    }
                    None => open = false,
                },
            }
        }
    }
}

/// Takes what is queued already, so that small batches go as one request.
fn take_queued(
    flight: &mut Flight,
    input: &mut mpsc::Receiver<DocumentBatch>,
    held_bytes: usize,
) -> Result<(), SinkError> {
    while flight.schedule.has_room(held_bytes)
        && let Ok(batch) = input.try_recv()
    {
        flight.accept(batch)?;
    }
    Ok(())
}

/// Hands on the receipts of settled batches, as many as the next stage takes.
fn tell_settled(
    flight: &mut Flight,
    output: &mpsc::Sender<Written>,
    blocked_since: &mut Option<Instant>,
    progress: &SinkProgress,
) -> Result<(), SinkError> {
    while flight.schedule.has_settled() {
        match output.try_reserve() {
            Ok(slot) => {
                if let Some(since) = blocked_since.take() {
                    progress.add_blocked(since.elapsed());
                }
                if let Some(written) = flight.schedule.next_settled() {
                    slot.send(written);
                }
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                blocked_since.get_or_insert_with(Instant::now);
                return Ok(());
            }
            Err(mpsc::error::TrySendError::Closed(())) => return Err(SinkError::OutputClosed),
        }
    }
    Ok(())
}
