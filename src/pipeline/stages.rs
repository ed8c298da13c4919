//! The stages as tasks, with the queues between them.
//!
//! Memory: a queue holds its capacity of messages, each limited by its maker. 256 source events of at
//! most 256 KiB, 4 document batches of at most 32 MiB of rows a worker, and what the sink holds
//! ([`crate::sink::SinkOptions::held_bytes`]).
//!
//! The stop token is heard where data comes in: by the source and by the loads. The other stages end
//! as their inputs close; the checkpoint drops the watch of what is durable, and the source sends its
//! last report.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, CheckpointStore, DeadLetter, Listeners, LoadState, Progress};
use crate::document::{DocumentBatch, Entry, Worker};
use crate::pipeline::held_back::HeldBack;
use crate::pipeline::holders::IndexHolders;
use crate::pipeline::loads::LoadTask;
use crate::pipeline::settings::sink_options;
use crate::pipeline::start::Started;
use crate::pipeline::watch::{Figures, Once, keep_status, watch_lock, watch_tables};
use crate::pipeline::{Assignment, PipelineError};
use crate::plan::{Finished, Plan, Touched};
use crate::postgres::{Lsn, Purpose, connect};
use crate::sink::{DeadLetterKeeper, Indexes, KeepRequest, Search, Sink, Target, Written};
use crate::source::{PartLimits, ReplicationConnection, Source, SourceEvent, SourceSettings};

/// Source events between source and plan; the plan merges what it finds there.
const SOURCE_QUEUE: usize = 256;
/// Bytes of one source event: what the queue may hold is the product.
const PART_BYTES: usize = 256 * 1024;
/// Document batches between the workers and the sink.
const DOCUMENT_QUEUE: usize = 4;
/// Receipts: small.
const PROGRESS_QUEUE: usize = 1024;
/// Dead letters on their way to the store.
const DEAD_LETTER_QUEUE: usize = 64;
/// After the first error, others are waited for this long: the first may only be a consequence.
const ERRORS_GATHERED: Duration = Duration::from_millis(500);

type Stage = Result<(), PipelineError>;

/// Runs a started pipeline to its end.
pub(crate) async fn run(
    assignment: &Assignment,
    started: Started,
    stop: &CancellationToken,
) -> Stage {
    // Set when this pipeline ends, whoever asked: the process, or `--once`.
    let ending = stop.child_token();
    let mut stages = JoinSet::new();
    let mut watchers = JoinSet::new();
    let figures = Arc::new(Figures::new(&assignment.status, started.loads()));
    let observed = Arc::clone(&figures);
    let spawned = spawn(assignment, started, figures, (&mut stages, &mut watchers), &ending).await;
    let outcome = match spawned {
        Ok(()) => supervise(&mut stages, &mut watchers, &ending, assignment).await,
        Err(error) => Err(error),
    };
    stages.shutdown().await;
    watchers.shutdown().await;
    assignment.status.stages.run_ended(observed.counted());
    outcome
}

async fn supervise(
    stages: &mut JoinSet<Stage>,
    watchers: &mut JoinSet<Stage>,
    ending: &CancellationToken,
    assignment: &Assignment,
) -> Stage {
    let limit = assignment.config.shutdown_timeout;
    let overdue = async {
        ending.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::pin!(overdue);
    loop {
        let ended = tokio::select! { biased;
            stage = stages.join_next() => match stage {
                Some(ended) => ended,
                None => return Ok(()),
            },
            Some(ended) = watchers.join_next(), if !watchers.is_empty() => ended,
            () = &mut overdue => return Err(PipelineError::StopTimeout { after: limit }),
        };
        if let Err(error) = flattened(ended) {
            return Err(cause(error, stages).await);
        }
    }
}

/// The error itself, or that of the neighbour whose end it only tells.
async fn cause(error: PipelineError, stages: &mut JoinSet<Stage>) -> PipelineError {
    if !error.is_consequence() {
        return error;
    }
    let others = async {
        while let Some(ended) = stages.join_next().await {
            match flattened(ended) {
                Err(other) if !other.is_consequence() => return Some(other),
                Ok(()) | Err(_) => {}
            }
        }
        None
    };
    tokio::time::timeout(ERRORS_GATHERED, others).await.ok().flatten().unwrap_or(error)
}

fn flattened(ended: Result<Stage, tokio::task::JoinError>) -> Stage {
    ended.unwrap_or_else(|panicked| Err(PipelineError::Stage(panicked)))
}

/// Builds the stages of a pipeline.
struct Builder<'a> {
    assignment: &'a Assignment,
    started: &'a Started,
    ending: &'a CancellationToken,
    figures: Arc<Figures>,
    held_back: Arc<HeldBack>,
    stages: &'a mut JoinSet<Stage>,
}

async fn spawn(
    assignment: &Assignment,
    started: Started,
    figures: Arc<Figures>,
    (stages, watchers): (&mut JoinSet<Stage>, &mut JoinSet<Stage>),
    ending: &CancellationToken,
) -> Stage {
    let config = &assignment.config;
    let (events, live_events) = mpsc::channel(SOURCE_QUEUE);
    let (live, live_touched) = async_channel::bounded(2 * config.document_workers.max(1));
    let (load, load_touched) = async_channel::bounded(config.workers.max(1));
    let (batches, documents) = mpsc::channel(DOCUMENT_QUEUE);
    let (progress, receipts) = mpsc::channel(PROGRESS_QUEUE);
    let (durable_sender, durable) = watch::channel(started.checkpoint.lsn);
    let (finished_sender, finished) = watch::channel(Finished::default());
    let loading = Loading {
        begun: started.entries.iter().map(|_| AtomicU64::new(0)).collect(),
        finished: finished.clone(),
    };

    let mut builder = Builder {
        assignment,
        started: &started,
        ending,
        figures: Arc::clone(&figures),
        held_back: Arc::new(HeldBack::load(&started.store).await?),
        stages,
    };
    builder.source(events, durable.clone()).await?;
    let targets = builder.targets();
    builder.plan((live_events, live, progress.clone()), &targets, &loading).await?;
    builder.workers(&live_touched, config.document_workers, &batches).await?;
    if started.loads() > 0 {
        builder.workers(&load_touched, config.workers, &batches).await?;
    }
    drop(batches);
    builder.sink(documents, progress.clone(), targets);
    builder.loads((load, progress), &loading).await?;
    let (store, base) = (Arc::clone(&started.store), started.checkpoint.clone());
    let listeners = Listeners {
        durable: durable_sender,
        finished: finished_sender,
        commit_to_written: Arc::clone(&assignment.status.stages.commit_to_written),
    };
    stages.spawn(async move { Ok(checkpoint::run(receipts, store, base, listeners).await?) });

    if config.run.once {
        let client = connect(&started.options, Purpose::Control).await?;
        let once = Once { client, figures: Arc::clone(&figures), durable: durable.clone() };
        watchers.spawn(once.run(ending.clone()));
    }
    let Started { lock, control, tables, publication, .. } = started;
    watchers.spawn(watch_lock(lock, assignment.database.clone()));
    watchers.spawn(watch_tables(control, tables, publication));
    let status = Arc::clone(&assignment.status);
    watchers.spawn(keep_status(status, figures, durable, (ending.clone(), finished)));
    Ok(())
}

/// What the plan and the loads know of each other.
struct Loading {
    /// By [`crate::plan::EntryId`]: ranges handed out.
    begun: Arc<[AtomicU64]>,
    finished: watch::Receiver<Finished>,
}

impl Builder<'_> {
    async fn source(
        &mut self,
        events: mpsc::Sender<SourceEvent>,
        durable: watch::Receiver<Lsn>,
    ) -> Stage {
        let started = self.started;
        let settings = SourceSettings {
            slot: started.checkpoint.slot.clone(),
            publication: started.publication.clone(),
            start: started.checkpoint.lsn,
            wal_sender_timeout: started.wal_sender_timeout,
            limits: PartLimits { bytes: PART_BYTES, ..PartLimits::default() },
        };
        let connection = ReplicationConnection::connect(&started.options).await?;
        let source = Source::start(connection, settings).await?;
        let (stop, observer) = (self.ending.clone(), Arc::clone(&self.figures.source));
        self.stages.spawn(async move { Ok(source.run(events, durable, stop, observer).await?) });
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let entries = self.started.numbered();
        entries
            .map(|(id, entry)| Target {
                status: self.assignment.status.index(&entry.tree.index.0),
                ..Target::new(id, &entry.tree, &entry.names)
            })
            .collect()
    }

    async fn plan(
        &mut self,
        (input, output, sealed): (
            mpsc::Receiver<SourceEvent>,
            async_channel::Sender<Touched>,
            mpsc::Sender<Progress>,
        ),
        targets: &[Target],
        loading: &Loading,
    ) -> Stage {
        let client = &self.started.elasticsearch;
        let searches = targets.iter().map(|target| {
            let unrefreshed = Arc::clone(&target.unrefreshed);
            (target.index.0.clone(), Search::new(client.clone(), target.alias.clone(), unrefreshed))
        });
        let plan = Plan {
            client: connect(&self.started.options, Purpose::Lookup).await?,
            trees: self.started.entries.iter().map(|entry| Arc::clone(&entry.tree)).collect(),
            holders: Arc::new(IndexHolders::new(
                searches,
                Arc::clone(&self.figures.sink),
                Arc::clone(&self.held_back),
            )),
            loading: Arc::clone(&loading.begun),
            finished: loading.finished.clone(),
            keys_at_once: self.assignment.config.query_chunk_size,
            progress: Arc::clone(&self.figures.plan),
        };
        self.stages.spawn(async move { Ok(plan.run(input, output, sealed).await?) });
        Ok(())
    }

    async fn workers(
        &mut self,
        input: &async_channel::Receiver<Touched>,
        count: usize,
        output: &mpsc::Sender<DocumentBatch>,
    ) -> Stage {
        let generation = self.started.checkpoint.generation;
        let entries = self.started.entries.iter();
        let entries: Arc<[Entry]> =
            entries.map(|entry| Entry::new(Arc::clone(&entry.tree), generation)).collect();
        let status = &self.assignment.status;
        let indexes: Arc<[_]> =
            self.started.entries.iter().map(|e| status.index(&e.tree.index.0)).collect();
        for _ in 0..count.max(1) {
            let worker = Worker {
                client: connect(&self.started.options, Purpose::Read).await?,
                entries: Arc::clone(&entries),
                indexes: Arc::clone(&indexes),
                keys_at_once: self.assignment.config.query_chunk_size,
                progress: Arc::clone(&self.figures.document),
            };
            let (input, output) = (input.clone(), output.clone());
            self.stages.spawn(async move { Ok(worker.run(input, output).await?) });
        }
        Ok(())
    }

    fn sink(
        &mut self,
        input: mpsc::Receiver<DocumentBatch>,
        progress: mpsc::Sender<Progress>,
        targets: Vec<Target>,
    ) {
        let (keeper, letters) = DeadLetterKeeper::new(DEAD_LETTER_QUEUE);
        self.stages.spawn(keep_letters(
            letters,
            Arc::clone(&self.started.store),
            Arc::clone(&self.held_back),
        ));
        let options = sink_options(&self.assignment.config);
        let client = self.started.elasticsearch.clone();
        let sink = Sink::new(client, targets, options, keeper, Arc::clone(&self.figures.sink));
        let (output, receipts) = mpsc::channel::<Written>(PROGRESS_QUEUE);
        self.stages.spawn(async move { Ok(sink.run(input, output).await?) });
        self.stages.spawn(pass_on(receipts, progress));
    }

    async fn loads(
        &mut self,
        (output, progress): (async_channel::Sender<Touched>, mpsc::Sender<Progress>),
        loading: &Loading,
    ) -> Stage {
        let block_size = self.assignment.config.block_size;
        for (id, entry) in self.started.numbered() {
            let status = self.assignment.status.index(&entry.tree.index.0);
            if matches!(entry.state.load, LoadState::Done) {
                status.set_concrete(Some(entry.state.concrete.clone()));
                continue;
            }
            let task = LoadTask {
                client: connect(&self.started.options, Purpose::Lookup).await?,
                entry: id,
                tree: Arc::clone(&entry.tree),
                state: entry.state.clone(),
                names: entry.names.clone(),
                indexes: Indexes::new(self.started.elasticsearch.clone()),
                store: Arc::clone(&self.started.store),
                status,
                rows_a_range: u32::try_from(block_size).unwrap_or(u32::MAX),
                begun: Arc::clone(&loading.begun),
                finished: loading.finished.clone(),
                running: Arc::clone(&self.figures.loading),
            };
            self.stages.spawn(task.run(output.clone(), progress.clone(), self.ending.clone()));
        }
        Ok(())
    }
}

/// Receipts of the sink, to the checkpoint.
async fn pass_on(mut receipts: mpsc::Receiver<Written>, progress: mpsc::Sender<Progress>) -> Stage {
    while let Some(written) = receipts.recv().await {
        if progress.send(Progress::Written(written)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Stores what the search engine does not take; the sink goes on when it is stored.
async fn keep_letters(
    mut letters: mpsc::Receiver<KeepRequest>,
    store: Arc<CheckpointStore>,
    held_back: Arc<HeldBack>,
) -> Stage {
    while let Some(KeepRequest { letter, kept }) = letters.recv().await {
        let letter = DeadLetter {
            index: letter.index,
            id: letter.id.0.into(),
            key: letter.key,
            reason: format!("{}: {}", letter.kind, letter.reason),
            at: SystemTime::now(),
            lsn: None,
        };
        store.put_dead_letter(&letter).await?;
        // Before the document counts as settled: a search waits for that.
        held_back.add(letter.index.0, letter.id);
        // A sink that does not listen any more has ended, and says itself why.
        let _listening = kept.send(()).is_ok();
    }
    Ok(())
}
