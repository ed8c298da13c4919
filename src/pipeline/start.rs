//! From nothing to a pipeline that can run: what is there is read, what is missing is made, in an
//! order in which a failure leaves nothing half made.
//!
//! Checks that change nothing come first. Then indexes (the server may refuse them, and they are easy to
//! take back), the publication, the slot (a publication made after the slot does not exist for older
//! WAL), and the checkpoint, saved before the first write under its generation.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_postgres::{Client as SqlClient, SimpleQueryMessage};

use crate::checkpoint::{Checkpoint, CheckpointStore, EntryState, LoadState};
use crate::pipeline::settings::{connect_options, elasticsearch_options, store_settings};
use crate::pipeline::settle::{
    Circumstances, EntryPlan, Position, ServerLife, Settlement, plan_entry, settle,
};
use crate::pipeline::{Assignment, PipelineError};
use crate::plan::EntryId;
use crate::postgres::lock::{AdvisoryLock, Attempt, LockKey, try_lock};
use crate::postgres::publication_query::{Outcome, ensure};
use crate::postgres::server::{ServerFacts, read_server};
use crate::postgres::slot::{SlotName, SlotPrefix, drop_slot, find_slots};
use crate::postgres::{ConnectOptions, Lsn, Purpose, Snapshot, Table, connect, load_catalog};
use crate::preflight::{Names, Severity, preflight, published_tables};
use crate::schema::{SchemaTree, resolve};
use crate::sink::{Client, ClientError, Creation, ErrorClass, FieldMapping, IndexNames, Indexes};
use crate::source::{Failover, ReplicationConnection};
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
struct Checked {
    control: SqlClient,
    facts: ServerFacts,
    trees: Vec<SchemaTree>,
    tables: Vec<Arc<Table>>,
}

/// Names in the database.
struct DatabaseNames {
    publication: String,
    slot: SlotPrefix,
}

/// Starts the pipeline of a database; waits while another instance is at work.
pub(crate) async fn start(assignment: &Assignment) -> Result<Started, PipelineError> {
    let options = connect_options(&assignment.config, &assignment.database);
    let names = DatabaseNames::of(assignment);
    let first = check(assignment, &options, &names).await?;
    let (lock, waited) = take_lock(assignment, &options).await?;
    // While we stood by, everything may have changed.
    let checked = if waited { check(assignment, &options, &names).await? } else { first };
    let store = store_settings(&assignment.config.checkpoint);
    let store =
        CheckpointStore::open(&store, &assignment.config.name, &assignment.database).await?;
    let elasticsearch = connect_elasticsearch(assignment).await?;
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
    fn of(assignment: &Assignment) -> Self {
        let slot = SlotPrefix::new(&assignment.config.name, &assignment.database);
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
    let control = connect(options, Purpose::Control).await?;
    let facts = identified(read_server(&control).await?, options).await?;
    let catalog = load_catalog(&control, None).await?;
    let trees = resolve(&assignment.entries, &catalog, &assignment.database)?;
    let preflight_names = Names { publication: &names.publication, slot: &names.slot };
    let findings = preflight(&control, &trees, &facts, preflight_names).await?;
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

/// The part of the start that makes things.
struct Making<'a> {
    assignment: &'a Assignment,
    options: &'a ConnectOptions,
    names: &'a DatabaseNames,
    checked: &'a Checked,
    store: &'a CheckpointStore,
    indexes: Indexes,
}

/// An entry on its way.
struct Planned {
    names: IndexNames,
    plan: EntryPlan,
    /// Set once a new index is made.
    made: Option<String>,
}

impl Making<'_> {
    async fn make(&self) -> Result<(Checkpoint, Vec<StartedEntry>), PipelineError> {
        let kept = self.store.load_checkpoint().await?;
        let states = self.store.load_entries().await?;
        let slots = find_slots(&self.checked.control, &self.names.slot).await?;
        let life = life_of(&self.checked.facts);
        let indexed = self.indexed_generation(&states).await?;
        let settlement = settle(kept.as_ref(), &slots, &life, indexed);
        self.tell(&settlement, kept.is_some());
        let unpublished = self.unpublished().await?;
        let mut planned = self.plan_entries(&settlement, &states, &unpublished).await?;
        let outcome = self.make_all(&settlement, life, &mut planned).await;
        if outcome.is_err() {
            // Nothing half made: an index without a checkpoint would never be looked at again.
            for concrete in planned.iter().filter_map(|entry| entry.made.as_ref()) {
                if let Err(error) = self.indexes.delete_index(concrete).await {
                    tracing::warn!(concrete, %error, "an index made in vain is left behind");
                }
            }
        }
        let (checkpoint, floor) = outcome?;
        let entries = self.save_entries(planned, floor, &states).await?;
        Ok((checkpoint, entries))
    }

    fn tell(&self, settlement: &Settlement, had_checkpoint: bool) {
        if let (Some(distrust), true) = (settlement.distrust, had_checkpoint) {
            let reason = distrust.describe();
            tracing::warn!(reason, "every index is built anew");
        }
        if settlement.slot_ahead {
            tracing::warn!("the slot is ahead of the checkpoint: the store lost its latest saves");
        }
        tracing::debug!(?settlement, database = %self.assignment.database, "start settled");
    }

    /// The highest generation that an index of ours is marked with.
    async fn indexed_generation(&self, states: &[EntryState]) -> Result<u64, PipelineError> {
        let mut concretes: BTreeSet<String> =
            states.iter().map(|state| state.concrete.clone()).collect();
        for tree in &self.checked.trees {
            let names = IndexNames::of(&tree.index, &self.assignment.config.name);
            concretes.extend(self.indexes.concrete_of(&names.write).await?);
        }
        let mut highest = 0;
        for concrete in &concretes {
            if self.indexes.exists(concrete).await? {
                let generation = self.indexes.read_generation(concrete).await?;
                highest = highest.max(generation.unwrap_or_default());
            }
        }
        Ok(highest)
    }

    /// Tables that the publication, if there is one, lacks.
    async fn unpublished(&self) -> Result<HashSet<u32>, PipelineError> {
        let control = &self.checked.control;
        let state =
            crate::postgres::publication_query::read_publication(control, &self.names.publication)
                .await?;
        let lacks = |table: &&Arc<Table>| state.as_ref().is_none_or(|s| !s.contains(table));
        Ok(self.checked.tables.iter().filter(lacks).map(|table| table.id.0).collect())
    }

    async fn plan_entries(
        &self,
        settlement: &Settlement,
        states: &[EntryState],
        unpublished: &HashSet<u32>,
    ) -> Result<Vec<Planned>, PipelineError> {
        let mut existing = HashSet::new();
        for state in states {
            if self.indexes.exists(&state.concrete).await? {
                existing.insert(state.concrete.clone());
            }
        }
        let entries = self.checked.trees.iter().map(|tree| {
            let circumstances = Circumstances {
                distrust: settlement.distrust,
                existing: &existing,
                asked: self.assignment.is_asked_for(&tree.index),
                was_unpublished: tree.tables().iter().any(|t| unpublished.contains(&t.id.0)),
            };
            let state = states.iter().find(|state| state.index == tree.index);
            let names = IndexNames::of(&tree.index, &self.assignment.config.name);
            let plan = plan_entry(tree, state, &circumstances);
            if let EntryPlan::Build { reason, .. } = &plan {
                let reason = reason.describe();
                tracing::info!(index = %tree.index, reason, "index is built");
            }
            Planned { names, plan, made: None }
        });
        Ok(entries.collect())
    }

    /// Indexes, publication, slot, checkpoint. Returns the floor of the loads too.
    async fn make_all(
        &self,
        settlement: &Settlement,
        life: ServerLife,
        planned: &mut [Planned],
    ) -> Result<(Checkpoint, Option<Snapshot>), PipelineError> {
        let fields = if self.assignment.config.dynamic_mapping {
            FieldMapping::Dynamic
        } else {
            FieldMapping::FromColumns
        };
        for (entry, tree) in planned.iter_mut().zip(&self.checked.trees) {
            match &entry.plan {
                EntryPlan::Build { .. } => {
                    let generation = settlement.generation;
                    let creation = Creation { generation, fields, at: SystemTime::now() };
                    let made = self.indexes.create(tree, &entry.names, &creation).await?;
                    entry.made = Some(made);
                }
                EntryPlan::Keep(state) | EntryPlan::GoOn(state) => {
                    let marked = self.indexes.read_generation(&state.concrete).await?;
                    if marked != Some(settlement.generation) {
                        let generation = settlement.generation;
                        self.indexes.write_generation(&state.concrete, generation).await?;
                    }
                }
            }
        }
        let control = &self.checked.control;
        match ensure(control, &self.names.publication, &self.checked.tables).await? {
            Outcome::Created => tracing::info!(name = %self.names.publication, "publication made"),
            Outcome::Extended(tables) => {
                tracing::info!(name = %self.names.publication, ?tables, "publication extended");
            }
            Outcome::Fits => {}
        }
        let (slot, lsn, floor) = self.position(&settlement.position).await?;
        let checkpoint = Checkpoint {
            system_identifier: life.system_identifier,
            timeline: life.timeline,
            slot: slot.as_str().to_owned(),
            generation: settlement.generation,
            lsn,
            postmaster_started: life.postmaster_started,
            saved_at: SystemTime::now(),
        };
        self.store.save_checkpoint(&checkpoint).await?;
        Ok((checkpoint, floor))
    }

    async fn position(
        &self,
        position: &Position,
    ) -> Result<(SlotName, Lsn, Option<Snapshot>), PipelineError> {
        match position {
            Position::Resume { slot, lsn } => Ok((slot.clone(), *lsn, None)),
            Position::Fresh { drop } => {
                for slot in drop {
                    drop_slot(&self.checked.control, slot).await?;
                    tracing::info!(%slot, "replication slot of no use dropped");
                }
                self.make_slot().await
            }
        }
    }

    /// Makes the slot, and notes what its first snapshot sees: no load may see less.
    async fn make_slot(&self) -> Result<(SlotName, Lsn, Option<Snapshot>), PipelineError> {
        let slot = self.names.slot.new_slot_name();
        let mut connection = ReplicationConnection::connect(self.options).await?;
        let made = connection.create_slot(slot.as_str(), Failover::WhereSupported).await?;
        let floor = match &made.snapshot {
            Some(snapshot) => Some(self.exported_snapshot(&slot, snapshot).await?),
            None => None,
        };
        tracing::info!(%slot, lsn = %made.consistent_point, "replication slot made");
        Ok((slot, made.consistent_point, floor))
    }

    async fn exported_snapshot(
        &self,
        slot: &SlotName,
        name: &str,
    ) -> Result<Snapshot, PipelineError> {
        let failed =
            |source| PipelineError::FirstSnapshot { slot: slot.as_str().to_owned(), source };
        let sql = format!(
            "begin isolation level repeatable read read only; set transaction snapshot {}; \
             select pg_catalog.pg_current_snapshot(); rollback",
            crate::postgres::quote_literal(name),
        );
        let answer = self.checked.control.simple_query(&sql).await;
        let messages = answer.map_err(|error| failed(Some(error)))?;
        let text = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        text.and_then(|text| text.parse().ok()).ok_or_else(|| failed(None))
    }

    /// Keeps what each entry is, and lets the write aliases stand for the right indexes.
    async fn save_entries(
        &self,
        planned: Vec<Planned>,
        floor: Option<Snapshot>,
        states: &[EntryState],
    ) -> Result<Vec<StartedEntry>, PipelineError> {
        let mut entries = Vec::new();
        for (entry, tree) in planned.into_iter().zip(&self.checked.trees) {
            let Planned { names, plan, made } = entry;
            let state = match (plan, made) {
                (EntryPlan::Keep(state) | EntryPlan::GoOn(state), _) => state,
                (EntryPlan::Build { abandoned, .. }, made) => {
                    let state = new_state(tree, made.unwrap_or_default(), floor.clone());
                    self.store.save_entry(&state).await?;
                    if let Some(abandoned) = abandoned {
                        self.indexes.delete_index(&abandoned).await?;
                    }
                    state
                }
            };
            self.indexes.point_write_alias(&names, &state.concrete).await?;
            entries.push(StartedEntry { tree: Arc::new(tree.clone()), names, state });
        }
        let is_gone = |state: &&EntryState| !entries.iter().any(|e| e.state.index == state.index);
        for gone in states.iter().filter(is_gone) {
            tracing::warn!(index = %gone.index, "index is no longer in the schema, and is left as it is");
            self.store.remove_entry(&gone.index).await?;
        }
        Ok(entries)
    }
}

fn new_state(tree: &SchemaTree, concrete: String, floor: Option<Snapshot>) -> EntryState {
    EntryState {
        index: tree.index.clone(),
        concrete,
        schema_digest: tree.digest.clone(),
        shape_digest: tree.shape.clone(),
        load: LoadState::Running { floor, done_upto: None, rows: 0, ranges: 0 },
    }
}

fn life_of(facts: &ServerFacts) -> ServerLife {
    ServerLife {
        system_identifier: facts.system_identifier.unwrap_or_default().to_string(),
        timeline: facts.timeline.unwrap_or_default(),
        postmaster_started: facts.postmaster_started.clone(),
        wal_end: facts.wal_flush,
    }
}

impl Started {
    /// Entries with their ids.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (EntryId, &StartedEntry)> {
        self.entries.iter().enumerate().map(|(number, entry)| (EntryId(number), entry))
    }
}
