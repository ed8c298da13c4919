//! Rim: the process. Reads the schema, runs a pipeline for each database, builds it again after errors
//! that time may heal, serves HTTP, and hears signals.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, Jitter};
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::config::Config;
use crate::error::{Error, report};
use crate::http::{HttpState, bind, serve};
use crate::metrics::Metrics;
use crate::pipeline::{Assignment, PipelineError, Recovery, store_settings};
use crate::schema::{DatabaseEntries, Origin, RawEntry, SchemaError, by_database, fetch, parse};
use crate::status::{Phase, Status};

/// First and longest wait before a pipeline is built again.
const RESTART_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A pipeline that ran for so long before it failed starts over with the first wait.
const PROGRESS_RESETS: Duration = Duration::from_mins(5);
/// How often the supervisor says that it is at work.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The database under which the store keeps the schema: its text is wanted before any database of its
/// entries is known.
pub(crate) const SCHEMA_SHELF: &str = "(schema)";

/// Runs until asked to stop, or until everything is written if the run is for once only. `variables` are
/// those of the schema file.
///
/// # Errors
/// [`Error`], when no restart helps.
pub async fn run(config: Config, variables: BTreeMap<String, String>) -> Result<(), Error> {
    let config = Arc::new(config);
    let status = Arc::new(Status::new(config.http.ready_lag));
    let stop = CancellationToken::new();
    let mut beside = JoinSet::new();
    if let Some(address) = config.http.address {
        let listener = bind(address).await?;
        let state =
            HttpState { status: Arc::clone(&status), metrics: Metrics::new(Arc::clone(&status)) };
        let ended = stop.clone().cancelled_owned();
        tracing::info!(%address, "http listens");
        beside.spawn(async move { serve(listener, state, ended).await.map_err(Error::from) });
    }
    let signals = listen(stop.clone()).map_err(Error::Runtime)?;
    beside.spawn(async move {
        signals.await;
        Ok(())
    });
    beside.spawn(beat(Arc::clone(&status)));
    let databases = read_schema(&config, &variables).await?;
    let outcome = run_pipelines(&config, &status, databases, &stop).await;
    beside.shutdown().await;
    outcome
}

/// The entries of the schema by database.
///
/// # Errors
/// [`SchemaError`] if it cannot be read, or is wrong in itself.
pub async fn read_schema(
    config: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<DatabaseEntries>, SchemaError> {
    let entries = read_entries(config, variables).await?;
    by_database(entries, connection_database(config))
}

/// The database of entries that name none: the connection's, which is the role's by libpq's rule.
fn connection_database(config: &Config) -> &str {
    config.postgres.database.as_deref().unwrap_or(&config.postgres.user)
}

async fn read_entries(
    config: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<RawEntry>, SchemaError> {
    let origin = Origin::from(&config.schema);
    let environment = |name: &str| variables.get(name).cloned();
    let is_remote = !matches!(origin, Origin::File(_));
    match fetch(&origin).await {
        Ok(text) => {
            let entries = parse(&text, &environment)?;
            if is_remote {
                keep_copy(config, &origin.redacted(), &text).await;
            }
            Ok(entries)
        }
        Err(error) if is_remote => {
            let Some(text) = copy(config, &origin.redacted()).await else {
                return Err(error);
            };
            tracing::warn!(error = %report(&error), "schema cannot be fetched, the last good copy is used");
            parse(&text, &environment)
        }
        Err(error) => Err(error),
    }
}

/// Keeps the schema for a start while its address is down. Not being able to is no reason to stop.
async fn keep_copy(config: &Config, origin: &str, text: &str) {
    let kept = async { schema_shelf(config).await?.cache_schema(origin, text).await }.await;
    if let Err(error) = kept {
        tracing::warn!(error = %report(&error), "the schema cannot be kept for later");
    }
}

async fn copy(config: &Config, origin: &str) -> Option<String> {
    let copy = async { schema_shelf(config).await?.cached_schema(origin).await }.await;
    copy.unwrap_or_else(|error| {
        tracing::warn!(error = %report(&error), "the kept schema cannot be read");
        None
    })
}

async fn schema_shelf(config: &Config) -> Result<CheckpointStore, CheckpointError> {
    CheckpointStore::open(&store_settings(&config.checkpoint), &config.name, SCHEMA_SHELF).await
}

async fn run_pipelines(
    config: &Arc<Config>,
    status: &Arc<Status>,
    databases: Vec<DatabaseEntries>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    refuse_unknown_indexes(config, &databases)?;
    let mut pipelines = JoinSet::new();
    for DatabaseEntries { database, entries } in databases {
        let assignment = Assignment {
            config: Arc::clone(config),
            status: status.pipeline(&database),
            database,
            entries,
            has_started: AtomicBool::new(false),
            publication_was_missed: AtomicBool::new(false),
        };
        pipelines.spawn(supervise(assignment, stop.clone()));
    }
    let mut outcome = Ok(());
    while let Some(ended) = pipelines.join_next().await {
        let ended = ended.unwrap_or_else(|panicked| Err(PipelineError::Stage(panicked)));
        if let Err(error) = ended {
            stop.cancel();
            if outcome.is_ok() {
                outcome = Err(error.into());
            }
        }
    }
    outcome
}

/// `--reindex` of an index that is in no entry would do nothing, silently.
fn refuse_unknown_indexes(config: &Config, databases: &[DatabaseEntries]) -> Result<(), Error> {
    let Some(asked) = &config.run.reindex else { return Ok(()) };
    let known: Vec<&str> = databases
        .iter()
        .flat_map(|group| {
            let default = group.database.as_str();
            group.entries.iter().map(move |entry| entry.index.as_deref().unwrap_or(default))
        })
        .collect();
    let indexes: Vec<String> =
        asked.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect();
    if indexes.is_empty() { Ok(()) } else { Err(PipelineError::UnknownIndex { indexes }.into()) }
}

/// Runs the pipeline of a database, again and again.
async fn supervise(assignment: Assignment, stop: CancellationToken) -> Result<(), PipelineError> {
    let mut backoff = Backoff::new(RESTART_WAITS.0, RESTART_WAITS.1, Jitter::Equal);
    loop {
        let began = Instant::now();
        let Err(error) = assignment.run(&stop).await else { break };
        let database = assignment.database.as_str();
        let text = report(&error);
        if stop.is_cancelled() {
            tracing::warn!(database, error = %text, "pipeline did not end cleanly");
            break;
        }
        assignment.status.failed(text.clone());
        assignment.status.enter(Phase::Starting);
        if !is_tried_again(&error, &assignment) {
            return Err(error);
        }
        if began.elapsed() > PROGRESS_RESETS {
            backoff.reset();
        }
        assignment.status.restarts.add(1);
        if let PipelineError::TablesChanged { .. } = error {
            tracing::info!(database, reason = %text, "pipeline is built again");
            continue;
        }
        let delay = backoff.next_delay();
        let hint = error.hint().unwrap_or_default();
        tracing::error!(database, error = %text, hint, ?delay, "pipeline failed, built again after a while");
        tokio::select! { biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(delay) => {}
        }
    }
    assignment.status.enter(Phase::Stopped);
    Ok(())
}

/// A run for once only reports what failed. A service waits for servers that are away, and once it
/// has run also for those that refuse it: passwords are rotated, certificates renewed.
fn is_tried_again(error: &PipelineError, assignment: &Assignment) -> bool {
    if let PipelineError::TablesChanged { .. } = error {
        return true;
    }
    let has_started = assignment.has_started.load(Ordering::Relaxed);
    let may_be_healed = matches!(
        error,
        PipelineError::Connect(_)
            | PipelineError::Elasticsearch { .. }
            | PipelineError::Checkpoint(CheckpointError::RedisDenied { .. })
    );
    let is_restart = error.recovery() == Recovery::Restart;
    !assignment.config.run.once && (is_restart || (has_started && may_be_healed))
}

/// Says regularly that the supervisor is at work: a runtime that hangs does not.
async fn beat(status: Arc<Status>) -> Result<(), Error> {
    loop {
        status.beat();
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT; a second one ends the process at once.
fn listen(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        stop.cancel();
        std::future::pending::<()>().await;
    })
}
