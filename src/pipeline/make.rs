//! The part of a start that makes things: indexes, publication, slot, and the checkpoint that names
//! them, in an order in which a failure leaves nothing half made.
//!
//! Indexes first: the server may refuse them, and they are easy to take back. Then the publication,
//! then the slot (a publication made after the slot does not exist for older WAL), then the checkpoint,
//! saved before the first write under its generation.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio_postgres::SimpleQueryMessage;

use crate::checkpoint::{Checkpoint, CheckpointStore, EntryState, LoadState};
use crate::pipeline::settle::{
    Circumstances, EntryPlan, Position, ServerLife, Settlement, plan_entry, settle,
};
use crate::pipeline::start::{Checked, DatabaseNames, StartedEntry};
use crate::pipeline::{Assignment, PipelineError};
use crate::postgres::publication::PublicationState;
use crate::postgres::publication_query::{Outcome, ensure, read_publication};
use crate::postgres::server::ServerFacts;
use crate::postgres::slot::{SlotName, drop_slot, find_slots};
use crate::postgres::{ConnectOptions, Lsn, Snapshot, Table};
use crate::schema::SchemaTree;
use crate::sink::{Creation, FieldMapping, IndexNames, Indexes};
use crate::source::{Failover, ReplicationConnection};

/// The part of the start that makes things.
pub(super) struct Making<'a> {
    pub(super) assignment: &'a Assignment,
    pub(super) options: &'a ConnectOptions,
    pub(super) names: &'a DatabaseNames,
    pub(super) checked: &'a Checked,
    pub(super) store: &'a CheckpointStore,
    pub(super) indexes: Indexes,
}

/// An entry on its way.
struct Planned {
    names: IndexNames,
    plan: EntryPlan,
    /// Set once a new index is made.
    made: Option<String>,
}

impl Making<'_> {
    pub(super) async fn make(&self) -> Result<(Checkpoint, Vec<StartedEntry>), PipelineError> {
        let kept = self.store.load_checkpoint().await?;
        let states = self.store.load_entries().await?;
        let slots = find_slots(&self.checked.control, &self.names.slot).await?;
        let publication = read_publication(&self.checked.control, &self.names.publication).await?;
        let was_missed = self.assignment.publication_was_missed.load(Ordering::Relaxed);
        let life = life_of(&self.checked.facts, publication.is_some() && !was_missed);
        let indexed = self.indexed_generation(&states).await?;
        let settlement = settle(kept.as_ref(), &slots, &life, indexed);
        self.tell(&settlement, kept.is_some());
        let unpublished = self.unpublished(publication.as_ref());
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
        self.delete_leftovers(&entries).await?;
        self.assignment.publication_was_missed.store(false, Ordering::Relaxed);
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
    fn unpublished(&self, state: Option<&PublicationState>) -> HashSet<u32> {
        let lacks = |table: &&Arc<Table>| state.is_none_or(|s| !s.contains(table));
        self.checked.tables.iter().filter(lacks).map(|table| table.id.0).collect()
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
        for tree in &self.checked.trees {
            self.indexes.check_pipeline(tree).await?;
        }
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
        let outcome = ensure(control, &self.names.publication, &self.checked.tables).await?;
        match &outcome {
            Outcome::Created => tracing::info!(name = %self.names.publication, "publication made"),
            Outcome::Extended(tables) => {
                tracing::info!(name = %self.names.publication, ?tables, "publication extended");
            }
            Outcome::Fits => {}
        }
        let (slot, lsn, floor) = self.position(&settlement.position, &outcome).await?;
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
        publication: &Outcome,
    ) -> Result<(SlotName, Lsn, Option<Snapshot>), PipelineError> {
        match position {
            Position::Resume { slot, lsn } => {
                // A table that came into the publication late: transactions that were under way then
                // may not be streamed, so no load may begin before they have ended.
                let floor = match publication {
                    Outcome::Fits => None,
                    Outcome::Created | Outcome::Extended(_) => {
                        Some(self.present_snapshot(slot).await?.settled())
                    }
                };
                Ok((slot.clone(), *lsn, floor))
            }
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
        let sql = format!(
            "begin isolation level repeatable read read only; set transaction snapshot {}; \
             select pg_catalog.pg_current_snapshot(); rollback",
            crate::postgres::quote_literal(name),
        );
        self.snapshot(slot, &sql).await
    }

    async fn present_snapshot(&self, slot: &SlotName) -> Result<Snapshot, PipelineError> {
        self.snapshot(slot, "select pg_catalog.pg_current_snapshot()").await
    }

    async fn snapshot(&self, slot: &SlotName, sql: &str) -> Result<Snapshot, PipelineError> {
        let failed =
            |source| PipelineError::FirstSnapshot { slot: slot.as_str().to_owned(), source };
        let answer = self.checked.control.simple_query(sql).await;
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
            self.restore_public_alias(&names, &state).await?;
            entries.push(StartedEntry { tree: Arc::new(tree.clone()), names, state });
        }
        let is_gone = |state: &&EntryState| !entries.iter().any(|e| e.state.index == state.index);
        for gone in states.iter().filter(is_gone) {
            tracing::warn!(index = %gone.index, "index is no longer in the schema, and is left as it is");
            self.store.remove_entry(&gone.index).await?;
        }
        Ok(entries)
    }

    /// An index that is complete serves under its public name: an alias that somebody removed is put
    /// back. A name that stands for something else was given away on purpose.
    async fn restore_public_alias(
        &self,
        names: &IndexNames,
        state: &EntryState,
    ) -> Result<(), PipelineError> {
        let is_done = matches!(state.load, LoadState::Done);
        if !is_done || self.indexes.exists(&names.public).await? {
            return Ok(());
        }
        tracing::warn!(index = %state.index, concrete = %state.concrete, "the alias was gone, and is put back");
        self.indexes.switch(names, &state.concrete).await?;
        Ok(())
    }
}

impl Making<'_> {
    /// An index that was replaced is deleted after the switch: not if we ended between the two.
    async fn delete_leftovers(&self, entries: &[StartedEntry]) -> Result<(), PipelineError> {
        for entry in entries {
            for concrete in self.indexes.leftovers(&entry.names).await? {
                self.indexes.delete_index(&concrete).await?;
                tracing::info!(index = %entry.state.index, concrete, "index that was left behind is deleted");
            }
        }
        Ok(())
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

fn life_of(facts: &ServerFacts, is_published: bool) -> ServerLife {
    ServerLife {
        system_identifier: facts.system_identifier.unwrap_or_default().to_string(),
        timeline: facts.timeline.unwrap_or_default(),
        postmaster_started: facts.postmaster_started.clone(),
        wal_end: facts.wal_flush,
        is_published,
    }
}
