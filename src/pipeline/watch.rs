//! What goes on beside the stages: the lock, the tables, the figures for status, and the end of a run
//! for once only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use crate::document::DocumentProgress;
use crate::pipeline::PipelineError;
use crate::plan::{Finished, PlanProgress};
use crate::postgres::lock::AdvisoryLock;
use crate::postgres::publication_query::read_publication;
use crate::postgres::shape::{changed_tables, unpublished_tables};
use crate::postgres::{CatalogError, Lsn, RelationId, Table, load_catalog};
use crate::sink::{Counter, SinkProgress, SinkState};
use crate::source::SourceProgress;
use crate::status::{Blocked, Phase, PipelineStatus, StageFigures};

/// How often the catalog is compared: ATTACH, DETACH and ADD COLUMN send no row message.
const TABLES_EVERY: Duration = Duration::from_secs(3);
/// How often the figures are copied for status.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// How often a run for once only looks whether it is done.
const ONCE_EVERY: Duration = Duration::from_millis(50);

/// What the stages count.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) source: Arc<SourceProgress>,
    pub(crate) plan: Arc<PlanProgress>,
    pub(crate) document: Arc<DocumentProgress>,
    pub(crate) sink: Arc<SinkProgress>,
    /// Loads that have not ended.
    pub(crate) loading: Arc<AtomicU64>,
}

impl Figures {
    /// Nothing is counted yet; so many loads are to be run.
    pub(crate) fn new(status: &PipelineStatus, loads: u64) -> Self {
        let sink = SinkProgress::timed_by(Arc::clone(&status.stages.bulk_duration));
        Self {
            source: Arc::default(),
            plan: Arc::default(),
            document: Arc::default(),
            sink: Arc::new(sink),
            loading: Arc::new(AtomicU64::new(loads)),
        }
    }

    /// Whether loads are under way.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::SeqCst) > 0
    }

    /// What the stages counted in this run.
    pub(crate) fn counted(&self) -> StageFigures {
        let Self { source, plan, document, sink, loading: _ } = self;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StageFigures {
            received_bytes: source.bytes(),
            transactions: source.transactions(),
            changes: source.changes(),
            rounds: read(&plan.rounds),
            touched_keys: read(&plan.keys),
            held_rows: read(&plan.held_rows),
            rereads: read(&plan.rereads) + read(&document.rereads),
            reads: read(&document.reads),
            documents: read(&document.documents),
            ambiguous_one_to_one: read(&document.ambiguous),
            bulk_requests: sink.get(Counter::Requests),
            bulk_bytes: sink.get(Counter::Bytes),
            bulk_retries: sink.get(Counter::Retries),
            bulk_in_flight: sink.get(Counter::InFlight),
            blocked: Blocked {
                source: source.blocked(),
                plan: plan.blocked.get(),
                document: document.blocked.get(),
                sink: sink.blocked(),
            },
        }
    }
}

/// Ends with an error when the lock is lost.
pub(crate) async fn watch_lock(lock: AdvisoryLock, database: String) -> Result<(), PipelineError> {
    let source = lock.lost().await;
    Err(PipelineError::LockLost { database, source })
}

/// Ends with an error when a table is not what it was, or not published any more.
pub(crate) async fn watch_tables(
    client: Client,
    tables: Vec<Arc<Table>>,
    publication: String,
) -> Result<(), PipelineError> {
    let ids: Vec<RelationId> = tables.iter().map(|table| table.id).collect();
    loop {
        tokio::time::sleep(TABLES_EVERY).await;
        let catalog = load_catalog(&client, Some(&ids)).await?;
        let mut changed: Vec<String> =
            changed_tables(&tables, &catalog).into_iter().map(|change| change.name).collect();
        let published = read_publication(&client, &publication).await?;
        let unpublished = unpublished_tables(&tables, published.as_ref());
        changed.extend(
            unpublished.into_iter().map(|table| format!("{} is not published", table.qualified())),
        );
        if !changed.is_empty() {
            return Err(PipelineError::TablesChanged { tables: changed });
        }
    }
}

/// Copies the figures of the stages to where they are shown.
pub(crate) async fn keep_status(
    status: Arc<PipelineStatus>,
    figures: Arc<Figures>,
    durable: watch::Receiver<Lsn>,
    (ending, finished): (CancellationToken, watch::Receiver<Finished>),
) -> Result<(), PipelineError> {
    status.source.up();
    loop {
        status.enter(if ending.is_cancelled() {
            Phase::Draining
        } else if figures.is_loading() {
            Phase::Snapshot
        } else {
            Phase::Streaming
        });
        let durable = *durable.borrow();
        status.received.set(figures.source.received());
        status.server.set(figures.source.server_wal_end());
        status.reported.set(figures.source.reported());
        status.durable.set(durable);
        let (written, last_commit) = {
            let finished = finished.borrow();
            (finished.written, finished.last_commit)
        };
        status.written.set(written.max(durable));
        if let Some(commit) = last_commit {
            status.wrote_commit_of(commit);
        }
        status.stages.counted(figures.counted());
        show_sink(&status, &figures.sink);
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

fn show_sink(status: &PipelineStatus, sink: &SinkProgress) {
    let standing = sink.standing();
    match standing.state {
        SinkState::Writing => status.sink.up(),
        SinkState::Refusing | SinkState::Unreachable => {
            status.sink.down(standing.last_error.unwrap_or_default());
        }
    }
}

/// Ends a pipeline when everything up to its last load is written.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) client: Client,
    pub(crate) figures: Arc<Figures>,
    pub(crate) durable: watch::Receiver<Lsn>,
}

impl Once {
    /// Asks for the end through `ending`.
    pub(crate) async fn run(self, ending: CancellationToken) -> Result<(), PipelineError> {
        while self.figures.is_loading() {
            tokio::time::sleep(ONCE_EVERY).await;
        }
        let target = self.mark().await?;
        let mut durable = self.durable.clone();
        if durable.wait_for(|lsn| *lsn >= target).await.is_ok() {
            tracing::info!(lsn = %target, "everything up to now is written");
        }
        ending.cancel();
        Ok(())
    }

    /// A message of ours in the WAL: what lies before it is what was there when we were asked. It
    /// comes back through the slot at once, where an idle server's keepalive may take seconds.
    async fn mark(&self) -> Result<Lsn, PipelineError> {
        const MARK: &str = "select pg_catalog.pg_logical_emit_message(true, 'pgsyncd', 'once')";
        const END: &str = "select pg_catalog.pg_current_wal_flush_lsn()";
        let subject = "the end of the WAL";
        if let Err(error) = self.client.simple_query(MARK).await {
            // Without the right to it, the next keepalive has to do.
            tracing::debug!(%error, "no message in the WAL");
        }
        let messages = self.client.simple_query(END).await.map_err(CatalogError::query(subject))?;
        let text = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(text.unwrap_or_default().parse().map_err(CatalogError::lsn(subject))?)
    }
}
