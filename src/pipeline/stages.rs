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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, CheckpointStore, DeadLetter, LoadState, Progress};
use crate::document::{DocumentBatch, DocumentProgress, Entry, Worker};
use crate::pipeline::holders::IndexHolders;
use crate::pipeline::loads::LoadTask;
use crate::pipeline::settings::sink_options;
use crate::pipeline::start::Started;
use crate::pipeline::watch::{Figures, Once, keep_status, watch_lock, watch_tables};
use crate::pipeline::{Assignment, PipelineError};
use crate::plan::{Finished, Plan, PlanProgress, Touched};
use crate::postgres::{Lsn, Purpose, connect};
use crate::schema::SchemaTree;
use crate::sink::{
    DeadLetterKeeper, Indexes, KeepRequest, Search, Sink, SinkProgress, Target, Written,
};
use crate::source::{
    PartLimits, ReplicationConnection, Source, SourceEvent, SourceProgress, SourceSettings,
};

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
    spawn(assignment, started, (&mut stages, &mut watchers), &ending).await?;
    let outcome = supervise(&mut stages, &mut watchers, &ending, assignment).await;
    stages.shutdown().await;
    watchers.shutdown().await;
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

/// The queues of a pipeline.
struct Queues {
    events: (mpsc::Sender<SourceEvent>, mpsc::Receiver<SourceEvent>),
    live: (async_channel::Sender<Touched>, async_channel::Receiver<Touched>),
    load: (async_channel::Sender<Touched>, async_channel::Receiver<Touched>),
    batches: (mpsc::Sender<DocumentBatch>, mpsc::Receiver<DocumentBatch>),
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    durable: (watch::Sender<Lsn>, watch::Receiver<Lsn>),
    finished: (watch::Sender<Finished>, watch::Receiver<Finished>),
}

impl Queues {
    fn new(assignment: &Assignment, from: Lsn) -> Self {
        Self {
            events: mpsc::channel(SOURCE_QUEUE),
            live: async_channel::bounded(2 * assignment.config.document_workers.max(1)),
            load: async_channel::bounded(assignment.config.workers.max(1)),
            batches: mpsc::channel(DOCUMENT_QUEUE),
            progress: mpsc::channel(PROGRESS_QUEUE),
            durable: watch::channel(from),
            finished: watch::channel(Finished::default()),
        }
    }
}

async fn spawn(
    assignment: &Assignment,
    started: Started,
    (stages, watchers): (&mut JoinSet<Stage>, &mut JoinSet<Stage>),
    ending: &CancellationToken,
) -> Stage {
    let config = &assignment.config;
    let queues = Queues::new(assignment, started.checkpoint.lsn);
    let trees: Arc<[Arc<SchemaTree>]> =
        started.entries.iter().map(|entry| Arc::clone(&entry.tree)).collect();
    let begun: Arc<[AtomicU64]> = started.entries.iter().map(|_| AtomicU64::new(0)).collect();
    let figures = Arc::new(Figures {
        source: Arc::new(SourceProgress::default()),
        plan: Arc::new(PlanProgress::default()),
        document: Arc::new(DocumentProgress::default()),
        sink: Arc::new(SinkProgress::default()),
        loading: Arc::new(AtomicU64::new(loads(&started))),
    });

    let targets: Vec<Target> = started
        .numbered()
        .map(|(id, entry)| Target {
            status: assignment.status.index(&entry.tree.index.0),
            ..Target::new(id, &entry.tree, &entry.names)
        })
        .collect();
    let searches = targets.iter().map(|target| {
        let unrefreshed = Arc::clone(&target.unrefreshed);
        let client = started.elasticsearch.clone();
        (target.index.0.clone(), Search::new(client, target.alias.clone(), unrefreshed))
    });
    let holders = Arc::new(IndexHolders::new(searches));

    let source = start_source(&started).await?;
    let (events, durable) = (queues.events.0, queues.durable.1.clone());
    let (token, observer) = (ending.clone(), Arc::clone(&figures.source));
    stages.spawn(async move { Ok(source.run(events, durable, token, observer).await?) });

    let plan = Plan {
        client: connect(&started.options, Purpose::Lookup).await?,
        trees,
        holders,
        loading: Arc::clone(&begun),
        finished: queues.finished.1.clone(),
        keys_at_once: config.query_chunk_size,
        progress: Arc::clone(&figures.plan),
    };
    let (input, output, sealed) = (queues.events.1, queues.live.0, queues.progress.0.clone());
    stages.spawn(async move { Ok(plan.run(input, output, sealed).await?) });

    spawn_workers(
        &started,
        config,
        &figures,
        (&queues.live.1, config.document_workers),
        (stages, &queues.batches.0),
    )
    .await?;
    if loads(&started) > 0 {
        let readers = (&queues.load.1, config.workers);
        spawn_workers(&started, config, &figures, readers, (stages, &queues.batches.0)).await?;
    }
    drop((queues.live.1, queues.load.1, queues.batches.0));

    let (keeper, letters) = DeadLetterKeeper::new(DEAD_LETTER_QUEUE);
    stages.spawn(keep_letters(letters, Arc::clone(&started.store)));
    let sink = Sink::new(
        started.elasticsearch.clone(),
        targets,
        sink_options(config),
        keeper,
        Arc::clone(&figures.sink),
    );
    let (input, receipts) = (queues.batches.1, mpsc::channel::<Written>(PROGRESS_QUEUE));
    stages.spawn(async move { Ok(sink.run(input, receipts.0).await?) });
    stages.spawn(pass_on(receipts.1, queues.progress.0.clone()));

    spawn_loads(
        assignment,
        &started,
        LoadQueues {
            output: queues.load.0,
            progress: queues.progress.0,
            begun,
            finished: queues.finished.1.clone(),
            running: Arc::clone(&figures.loading),
        },
        (stages, ending),
    )
    .await?;

    let (input, store) = (queues.progress.1, Arc::clone(&started.store));
    let (base, durable) = (started.checkpoint.clone(), queues.durable.0);
    let finished = queues.finished.0;
    stages.spawn(async move { Ok(checkpoint::run(input, store, base, durable, finished).await?) });

    if config.run.once {
        let once = Once {
            client: connect(&started.options, Purpose::Control).await?,
            figures: Arc::clone(&figures),
            durable: queues.durable.1.clone(),
        };
        let token = ending.clone();
        watchers.spawn(once.run(token));
    }
    let database = assignment.database.clone();
    watchers.spawn(watch_lock(started.lock, database));
    watchers.spawn(watch_tables(started.control, started.tables, started.publication));
    watchers.spawn(keep_status(
        Arc::clone(&assignment.status),
        figures,
        queues.durable.1,
        (ending.clone(), queues.finished.1),
    ));
    Ok(())
}

/// Loads that are to be run.
fn loads(started: &Started) -> u64 {
    let running = |load: &LoadState| matches!(load, LoadState::Running { .. });
    started.entries.iter().filter(|entry| running(&entry.state.load)).count() as u64
}

async fn start_source(started: &Started) -> Result<Source, PipelineError> {
    let settings = SourceSettings {
        slot: started.checkpoint.slot.clone(),
        publication: started.publication.clone(),
        start: started.checkpoint.lsn,
        wal_sender_timeout: started.wal_sender_timeout,
        limits: PartLimits { bytes: PART_BYTES, ..PartLimits::default() },
    };
    let connection = ReplicationConnection::connect(&started.options).await?;
    Ok(Source::start(connection, settings).await?)
}

async fn spawn_workers(
    started: &Started,
    config: &crate::config::Config,
    figures: &Figures,
    (input, count): (&async_channel::Receiver<Touched>, usize),
    (stages, output): (&mut JoinSet<Stage>, &mpsc::Sender<DocumentBatch>),
) -> Stage {
    let generation = started.checkpoint.generation;
    let entries: Arc<[Entry]> = started
        .entries
        .iter()
        .map(|entry| Entry::new(Arc::clone(&entry.tree), generation))
        .collect();
    for _ in 0..count.max(1) {
        let worker = Worker {
            client: connect(&started.options, Purpose::Read).await?,
            entries: Arc::clone(&entries),
            keys_at_once: config.query_chunk_size,
            progress: Arc::clone(&figures.document),
        };
        let (input, output) = (input.clone(), output.clone());
        stages.spawn(async move { Ok(worker.run(input, output).await?) });
    }
    Ok(())
}

/// What all loads share.
struct LoadQueues {
    output: async_channel::Sender<Touched>,
    progress: mpsc::Sender<Progress>,
    begun: Arc<[AtomicU64]>,
    finished: watch::Receiver<Finished>,
    running: Arc<AtomicU64>,
}

async fn spawn_loads(
    assignment: &Assignment,
    started: &Started,
    queues: LoadQueues,
    (stages, ending): (&mut JoinSet<Stage>, &CancellationToken),
) -> Stage {
    for (id, entry) in started.numbered() {
        let status = assignment.status.index(&entry.tree.index.0);
        if matches!(entry.state.load, LoadState::Done) {
            status.set_concrete(Some(entry.state.concrete.clone()));
            continue;
        }
        let task = LoadTask {
            client: connect(&started.options, Purpose::Lookup).await?,
            entry: id,
            tree: Arc::clone(&entry.tree),
            state: entry.state.clone(),
            names: entry.names.clone(),
            indexes: Indexes::new(started.elasticsearch.clone()),
            store: Arc::clone(&started.store),
            status,
            rows_a_range: u32::try_from(assignment.config.block_size).unwrap_or(u32::MAX),
            begun: Arc::clone(&queues.begun),
            finished: queues.finished.clone(),
            running: Arc::clone(&queues.running),
        };
        let (output, progress) = (queues.output.clone(), queues.progress.clone());
        stages.spawn(task.run(output, progress, ending.clone()));
    }
    Ok(())
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
        // A sink that does not listen any more has ended, and says itself why.
        let _listening = kept.send(()).is_ok();
    }
    Ok(())
}

impl Figures {
    /// Whether loads are under way.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::SeqCst) > 0
    }
}
