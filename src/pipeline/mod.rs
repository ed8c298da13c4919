//! Rim: the pipeline of one database. `start.rs` makes it ready (`settle.rs` decides from where),
//! `stages.rs` runs it; it ends as a whole, and is built again as a whole.

mod error;
mod held_back;
mod holders;
mod loads;
mod make;
mod progress;
mod settings;
mod settle;
mod stages;
mod start;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

pub use error::{PipelineError, Recovery};
pub(crate) use settings::{connect_options, elasticsearch_options, store_settings};
pub(crate) use start::{DatabaseNames, Inspected, inspect};

use crate::config::Config;
use crate::schema::RawEntry;
use crate::schema::tree::IndexName;
use crate::source::SourceError;
use crate::status::PipelineStatus;

/// What one pipeline is to do.
#[derive(Debug)]
pub struct Assignment {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// The database.
    pub database: String,
    /// Its document entries.
    pub entries: Vec<RawEntry>,
    /// Where it tells how it is.
    pub status: Arc<PipelineStatus>,
    /// Whether it has started once: a restart does not begin again the rebuild that was asked for.
    pub has_started: AtomicBool,
    /// Whether the slot read WAL where the publication was not: it never gets past it.
    pub publication_was_missed: AtomicBool,
}

impl Assignment {
    /// Whether `--reindex` names the index, or all.
    pub(crate) fn is_asked_for(&self, index: &IndexName) -> bool {
        let asked = self.config.run.reindex.as_ref();
        !self.has_started.load(Ordering::Relaxed)
            && asked.is_some_and(|names| names.is_empty() || names.contains(&index.0))
    }

    /// Runs until `stop`, or until everything up to now is written if the run is for once only.
    ///
    /// # Errors
    /// [`PipelineError`]; [`PipelineError::recovery`] says whether another try makes sense.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), PipelineError> {
        let started = tokio::select! { biased;
            () = stop.cancelled() => return Ok(()),
            started = start::start(self) => started?,
        };
        self.has_started.store(true, Ordering::Relaxed);
        let outcome = stages::run(self, started, stop).await;
        if let Err(PipelineError::Source(SourceError::PublicationMissing { .. })) = &outcome {
            self.publication_was_missed.store(true, Ordering::Relaxed);
        }
        outcome
    }
}
