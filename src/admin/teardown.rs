//! Removes what the service made: its slots, its publication, its checkpoint and its private write
//! aliases. What people use stays: the indexes and the aliases they are searched by.
//!
//! A part that cannot be removed does not keep the others from it; the next call finds what is left.

use std::fmt::Display;

use tokio_postgres::Client as SqlClient;

use crate::admin::Outcome;
use crate::checkpoint::{CheckpointStore, LoadState};
use crate::config::Config;
use crate::daemon::SCHEMA_SHELF;
use crate::error::report;
use crate::pipeline::{
    DatabaseNames, PipelineError, connect_options, elasticsearch_options, store_settings,
};
use crate::postgres::lock::{Attempt, LockKey, try_lock};
use crate::postgres::publication_query::{drop_publication, read_publication};
use crate::postgres::slot::{DropSlotError, Dropped, drop_slot, find_slots};
use crate::postgres::{Purpose, connect};
use crate::schema::DatabaseEntries;
use crate::schema::tree::IndexName;
use crate::sink::{Client, IndexNames, Indexes};

/// Tears down every database of the schema.
pub async fn teardown(config: &Config, databases: &[DatabaseEntries]) -> Outcome {
    let mut outcome = Outcome::default();
    for group in databases {
        let mut removal = Removal { config, database: &group.database, outcome: &mut outcome };
        if let Err(error) = removal.run(group).await {
            removal.failed("nothing more is removed", &error);
        }
    }
    if !outcome.failed {
        // The kept copy of the schema is the service's, not a database's.
        let mut removal = Removal { config, database: "schema", outcome: &mut outcome };
        removal.checkpoint(SCHEMA_SHELF, "kept copies").await;
    }
    if outcome.lines.is_empty() {
        outcome.lines.push("there was nothing to remove".to_owned());
    }
    outcome
}

/// The removal for one database.
struct Removal<'a> {
    config: &'a Config,
    database: &'a str,
    outcome: &'a mut Outcome,
}

impl Removal<'_> {
    /// # Errors
    /// If PostgreSQL cannot be asked, or a slot is in use: then somebody may be at work.
    async fn run(&mut self, group: &DatabaseEntries) -> Result<(), PipelineError> {
        let options = connect_options(self.config, self.database);
        let names = DatabaseNames::of(&self.config.name, self.database);
        let key = LockKey::new(&self.config.name, self.database);
        let lock = match try_lock(connect(&options, Purpose::Lock).await?, key).await? {
            Attempt::Held(lock) => lock,
            Attempt::Taken { holder, .. } => {
                let holder = holder.map_or_else(String::new, |holder| format!(": {holder}"));
                self.outcome.failed = true;
                self.say(format_args!("refused, an instance is at work{holder}; stop it first"));
                return Ok(());
            }
        };
        self.slots(lock.client(), &names).await?;
        self.publication(lock.client(), &names.publication, &options.user).await?;
        self.aliases(group).await;
        self.checkpoint(self.database, "checkpoint").await;
        Ok(())
    }

    async fn slots(
        &mut self,
        client: &SqlClient,
        names: &DatabaseNames,
    ) -> Result<(), PipelineError> {
        for slot in find_slots(client, &names.slot).await? {
            match drop_slot(client, &slot.name).await {
                Ok(Dropped::Gone) => {
                    self.say(format_args!("replication slot {} removed", slot.name));
                }
                Ok(Dropped::Absent) => {}
                Err(error @ DropSlotError::Active { .. }) => return Err(error.into()),
                Err(error) => self.failed("replication slot stays", &error),
            }
        }
        Ok(())
    }

    /// Removes the publication if our role made it.
    async fn publication(
        &mut self,
        client: &SqlClient,
        name: &str,
        role: &str,
    ) -> Result<(), PipelineError> {
        let Some(state) = read_publication(client, name).await? else { return Ok(()) };
        if state.owner == role {
            match drop_publication(client, name).await {
                Ok(()) => self.say(format_args!("publication {name} removed")),
                Err(error) => self.failed("publication stays", &error),
            }
        } else {
            let owner = state.owner;
            self.say(format_args!("publication {name} stays: it belongs to role {owner}"));
        }
        Ok(())
    }

    async fn aliases(&mut self, group: &DatabaseEntries) {
        let indexes = match self.connect_elasticsearch().await {
            Ok(indexes) => indexes,
            Err(error) => return self.failed("write aliases stay", &error),
        };
        let mut names: Vec<String> = group
            .entries
            .iter()
            .map(|entry| entry.index.clone().unwrap_or_else(|| group.database.clone()))
            .collect();
        let states = self.stored_loads().await;
        names.extend(states.iter().map(|(index, _)| index.clone()));
        names.sort_unstable();
        names.dedup();
        for index in names {
            let names = IndexNames::of(&IndexName(index), &self.config.name);
            match indexes.remove_write_alias(&names).await {
                Ok(behind) if behind.is_empty() => {}
                Ok(behind) => {
                    let (alias, behind) = (&names.write, behind.join(", "));
                    self.say(format_args!("alias {alias} removed, index {behind} stays"));
                }
                Err(error) => self.failed("write alias stays", &error),
            }
        }
        for (_, unfinished) in states {
            if let Some(concrete) = unfinished {
                self.say(format_args!("index {concrete} is filled in part only: delete it"));
            }
        }
    }

    /// The indexes that the store knows, each with what a load that did not end was filling. A store
    /// that cannot be read is removed all the same.
    async fn stored_loads(&self) -> Vec<(String, Option<String>)> {
        let settings = store_settings(&self.config.checkpoint);
        let (name, database) = (&self.config.name, self.database);
        let states = match CheckpointStore::open_existing(&settings, name, database).await {
            Ok(Some(store)) => store.load_entries().await,
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let states = states.unwrap_or_else(|error| {
            tracing::warn!(error = %report(&error), "the checkpoint cannot be read");
            Vec::new()
        });
        let unfinished = |load: &LoadState| matches!(load, LoadState::Running { .. });
        states
            .into_iter()
            .map(|it| (it.index.0, unfinished(&it.load).then_some(it.concrete)))
            .collect()
    }

    async fn connect_elasticsearch(&self) -> Result<Indexes, PipelineError> {
        let options = elasticsearch_options(&self.config.elasticsearch)?;
        let urls = &self.config.elasticsearch.urls;
        let address = urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let failed = |source| PipelineError::Elasticsearch { address: address.clone(), source };
        let client = Client::new(&options).map_err(&failed)?;
        client.connect().await.map_err(&failed)?;
        Ok(Indexes::new(client))
    }

    async fn checkpoint(&mut self, shelf: &str, what: &str) {
        let settings = store_settings(&self.config.checkpoint);
        match CheckpointStore::destroy(&settings, &self.config.name, shelf).await {
            Ok(Some(place)) => self.say(format_args!("{what} removed from {place}")),
            Ok(None) => {}
            Err(error) => self.failed("checkpoint stays", &error),
        }
    }

    fn say(&mut self, line: impl Display) {
        self.outcome.lines.push(format!("{}: {line}", self.database));
    }

    fn failed(&mut self, what: &str, error: &dyn std::error::Error) {
        self.outcome.failed = true;
        self.say(format_args!("{what}: {}", report(error)));
    }
}
