//! The load of one index: ranges handed out, waited for, and the switch when all are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{CheckpointStore, EntryState, LoadState, Progress};
use crate::pipeline::PipelineError;
use crate::pipeline::progress::{LoadMeter, root_rows};
use crate::plan::load::Load;
use crate::plan::{EntryId, Finished, RootKey, Touched};
use crate::postgres::Snapshot;
use crate::schema::SchemaTree;
use crate::sink::{IndexNames, Indexes};
use crate::status::IndexStatus;

/// Where ranges go, who is told of them, and what ends a load early.
type Outputs = (async_channel::Sender<Touched>, mpsc::Sender<Progress>, CancellationToken);

/// What a load needs of the pipeline.
#[derive(Debug)]
pub(crate) struct LoadTask {
    pub(crate) client: Client,
    pub(crate) entry: EntryId,
    pub(crate) tree: Arc<SchemaTree>,
    pub(crate) state: EntryState,
    pub(crate) names: IndexNames,
    pub(crate) indexes: Indexes,
    pub(crate) store: Arc<CheckpointStore>,
    pub(crate) status: Arc<IndexStatus>,
    pub(crate) rows_a_range: u32,
    pub(crate) begun: Arc<[AtomicU64]>,
    pub(crate) finished: watch::Receiver<Finished>,
    /// Loads that have not ended.
    pub(crate) running: Arc<AtomicU64>,
}

impl LoadTask {
    /// Loads, then lets the index serve. Ends early, without error, on `stop`.
    pub(crate) async fn run(
        self,
        output: async_channel::Sender<Touched>,
        progress: mpsc::Sender<Progress>,
        stop: CancellationToken,
    ) -> Result<(), PipelineError> {
        let LoadState::Running { floor, done_upto, rows, .. } = self.state.load.clone() else {
            return Ok(());
        };
        let (tree, status) = (Arc::clone(&self.tree), Arc::clone(&self.status));
        status.set_load_total(root_rows(&self.client, &tree).await);
        let meter = LoadMeter::new(&tree.index.0, &status, rows);
        let from = (floor.map(Arc::new), done_upto);
        // The meter goes on while the last ranges are written and the index is switched to.
        tokio::select! { biased;
            ended = self.load(from, (output, progress, stop), &meter) => ended,
            () = meter.run() => Ok(()),
        }
    }

    async fn load(
        self,
        (floor, after): (Option<Arc<Snapshot>>, Option<RootKey>),
        (output, progress, stop): Outputs,
        meter: &LoadMeter<'_>,
    ) -> Result<(), PipelineError> {
        let started = Progress::LoadStarted { entry: self.entry, state: self.state.clone() };
        if progress.send(started).await.is_err() {
            return Ok(());
        }
        let load = Load {
            client: self.client,
            entry: self.entry,
            tree: Arc::clone(&self.tree),
            floor,
            after,
            rows_a_range: self.rows_a_range,
            begun: self.begun,
        };
        let ranges = tokio::select! { biased;
            () = stop.cancelled() => return Ok(()),
            ranges = load.run(output, progress) => ranges?,
        };
        let Some(ranges) = ranges else { return Ok(()) };
        let mut finished = self.finished;
        let written =
            finished.wait_for(|f| f.ranges.get(&self.entry).copied().unwrap_or_default() >= ranges);
        tokio::select! { biased;
            () = stop.cancelled() => return Ok(()),
            reached = written => if reached.is_err() { return Ok(()) },
        }
        let index = &self.tree.index;
        self.indexes.finish_load(&self.state.concrete, &self.tree).await?;
        let replaced = self.indexes.switch(&self.names, &self.state.concrete).await?;
        let done = EntryState { load: LoadState::Done, ..self.state.clone() };
        self.store.save_entry(&done).await?;
        self.status.set_concrete(Some(done.concrete.clone()));
        let documents = self.indexes.count(&done.concrete).await?;
        tracing::info!(%index, concrete = %done.concrete, documents, "index is complete and serves");
        for old in replaced {
            self.indexes.delete_index(&old).await?;
            tracing::info!(%index, concrete = %old, "index that was replaced is deleted");
        }
        meter.ended(documents);
        // Last of all: a run for once only ends with it.
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}
