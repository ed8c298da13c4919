//! From nothing to a pipeline that can run. Checks that change nothing come first, then the lock of
//! the one instance at work; `make.rs` makes what is missing.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client as SqlClient;

use crate::checkpoint::{Checkpoint, CheckpointStore, EntryState, LoadState};
use crate::pipeline::make::Making;
use crate::pipeline::settings::{connect_options, elasticsearch_options, store_settings};
use crate::pipeline::{Assignment, PipelineError};
use crate::plan::EntryId;
use crate::postgres::lock::{AdvisoryLock, Attempt, LockKey, try_lock};
use crate::postgres::server::{ServerFacts, read_server};
use crate::postgres::slot::SlotPrefix;
use crate::postgres::{ConnectOptions, Purpose, Table, connect, load_catalog};
use crate::preflight::{Findings, Names, Severity, preflight, published_tables};
use crate::schema::{RawEntry, SchemaTree, resolve};
use crate::sink::{Client, ClientError, ErrorClass, IndexNames, Indexes};
use crate::source::ReplicationConnection;
use crate::status::Phase;

/// How often an instance that stands by tries to take over.
const STANDBY_TRY: Duration = Duration::from_millis(500);

/// A pipeline that can run.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) options: ConnectOptions,
    pub(crate) lock: AdvisoryLock,
    pub(crate) control: SqlClient,
    pub(crate) store: Arc<CheckpointStore>,
    pub(crate) elasticsearch: Client,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) publication: String,
    pub(crate) wal_sender_timeout: Option<Duration>,
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) entries: Vec<StartedEntry>,
}

/// One document entry of it.
#[derive(Debug)]
pub(crate) struct StartedEntry {
    pub(crate) tree: Arc<SchemaTree>,
    pub(crate) names: IndexNames,
    pub(crate) state: EntryState,
}

/// What is known before anything is made.
pub(super) struct Checked {
    pub(super) control: SqlClient,
    pub(super) facts: ServerFacts,
    pub(super) trees: Vec<SchemaTree>,
    pub(super) tables: Vec<Arc<Table>>,
}

/// What a look at the database says.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) control: SqlClient,
    pub(crate) facts: ServerFacts,
    pub(crate) trees: Vec<SchemaTree>,
    pub(crate) findings: Findings,
}

/// Names in the database.
#[derive(Debug)]
pub(crate) struct DatabaseNames {
    pub(crate) publication: String,
    pub(crate) slot: SlotPrefix,
}

/// Starts the pipeline of a database; waits while another instance is at work.
pub(crate) async fn start(assignment: &Assignment) -> Result<Started, PipelineError> {
    let options = connect_options(&assignment.config, &assignment.database);
    let names = DatabaseNames::of(&assignment.config.name, &assignment.database);
    let first = check(assignment, &options, &names).await?;
    let (lock, waited) = take_lock(assignment, &options).await?;
    // While we stood by, everything may have changed.
    let checked = if waited { check(assignment, &options, &names).await? } else { first };
    let elasticsearch = connect_elasticsearch(assignment).await?;
    let store = store_settings(&assignment.config.checkpoint);
    let store =
        CheckpointStore::open(&store, &assignment.config.name, &assignment.database).await?;
    let making = Making {
        assignment,
        options: &options,
        names: &names,
        checked: &checked,
        store: &store,
        indexes: Indexes::new(elasticsearch.clone()),
    };
    let (checkpoint, entries) = making.make().await?;
    Ok(Started {
        options,
        lock,
        store: Arc::new(store),
        elasticsearch,
        checkpoint,
        publication: names.publication,
        wal_sender_timeout: checked.facts.wal_sender_timeout,
        control: checked.control,
        tables: checked.tables,
        entries,
    })
}

impl DatabaseNames {
    /// Those of a service (`--name`) in a database.
    pub(crate) fn of(service: &str, database: &str) -> Self {
        let slot = SlotPrefix::new(service, database);
        // The prefix without its separator: unique for service and database, and short enough.
        let publication = slot.as_str().trim_end_matches('_').to_owned();
        Self { publication, slot }
    }
}

/// Reads and judges everything that must be right, changing nothing.
async fn check(
    assignment: &Assignment,
    options: &ConnectOptions,
    names: &DatabaseNames,
) -> Result<Checked, PipelineError> {
    let Inspected { control, facts, trees, findings } =
        inspect(options, names, &assignment.entries).await?;
    if findings.has_errors() {
        return Err(PipelineError::Preflight { database: assignment.database.clone(), findings });
    }
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        let sql = finding.sql.as_deref().unwrap_or_default();
        tracing::warn!(situation = %finding.situation, reason = %finding.reason, sql, "preflight");
    }
    let tables = published_tables(&trees);
    Ok(Checked { control, facts, trees, tables })
}

/// Reads everything that must be right, changing nothing.
pub(crate) async fn inspect(
    options: &ConnectOptions,
    names: &DatabaseNames,
    entries: &[RawEntry],
) -> Result<Inspected, PipelineError> {
    let control = connect(options, Purpose::Control).await?;
    let facts = identified(read_server(&control).await?, options).await?;
    let catalog = load_catalog(&control, None).await?;
    let trees = resolve(entries, &catalog, &options.database)?;
    let names = Names { publication: &names.publication, slot: &names.slot };
    let findings = preflight(&control, &trees, &facts, names).await?;
    Ok(Inspected { control, facts, trees, findings })
}

/// Fills in what the role may not read by SQL.
async fn identified(
    facts: ServerFacts,
    options: &ConnectOptions,
) -> Result<ServerFacts, PipelineError> {
    if facts.system_identifier.is_some() && facts.timeline.is_some() {
        return Ok(facts);
    }
    let mut connection = ReplicationConnection::connect(options).await?;
    let identity = connection.identify_system().await?;
    Ok(facts.identified_by(identity.system_id.parse().unwrap_or_default(), identity.timeline))
}

/// The lock of the one instance at work, and whether it had to be waited for.
async fn take_lock(
    assignment: &Assignment,
    options: &ConnectOptions,
) -> Result<(AdvisoryLock, bool), PipelineError> {
    let key = LockKey::new(&assignment.config.name, &assignment.database);
    let mut client = connect(options, Purpose::Lock).await?;
    let mut waited = false;
    loop {
        match try_lock(client, key).await? {
            Attempt::Held(lock) => return Ok((lock, waited)),
            Attempt::Taken { client: ours, holder } => {
                if !waited {
                    let holder = holder.map(|holder| holder.to_string()).unwrap_or_default();
                    tracing::info!(holder, "another instance is at work, standing by");
                    assignment.status.enter(Phase::Standby);
                }
                client = ours;
                waited = true;
            }
        }
        tokio::time::sleep(STANDBY_TRY).await;
    }
}

async fn connect_elasticsearch(assignment: &Assignment) -> Result<Client, PipelineError> {
    let config = &assignment.config.elasticsearch;
    let options = elasticsearch_options(config)?;
    let address = config.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed =
        |source: ClientError| PipelineError::Elasticsearch { address: address.clone(), source };
    let client = Client::new(&options).map_err(&failed)?;
    match client.connect().await {
        Ok(server) => {
            tracing::info!(%server, "search engine answers");
            assignment.status.sink.up();
            Ok(client)
        }
        Err(error) => {
            if error.class() == ErrorClass::Transient {
                assignment.status.sink.down(crate::error::report(&error));
            }
            Err(failed(error))
        }
    }
}

impl Started {
    /// How many loads are to be run.
    pub(crate) fn loads(&self) -> u64 {
        let running = |load: &LoadState| matches!(load, LoadState::Running { .. });
        self.entries.iter().filter(|entry| running(&entry.state.load)).count() as u64
    }

    /// Entries with their ids.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (EntryId, &StartedEntry)> {
        self.entries.iter().enumerate().map(|(number, entry)| (EntryId(number), entry))
    }
}
