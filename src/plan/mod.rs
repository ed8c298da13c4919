//! Stage 2: transactions → which documents are touched.
//!
//! The stage takes everything that is queued (a *round*), so its batches grow with the lag: a row
//! updated ten thousand times costs one read. Within a round it climbs from the changed rows to root
//! keys, in the order from cheap to dear: from the change itself, by SQL, by asking the documents.

pub(crate) mod climb;
pub mod holders;
pub mod load;
pub(crate) mod lookup;
pub(crate) mod root_ids;
pub(crate) mod round;
pub(crate) mod sides;
pub mod touched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;

pub use holders::{Holders, HoldersError, Search};
pub use load::RangeBegun;
pub use touched::{
    Commits, EntryId, Finished, Job, KeyRange, MustSee, Receipt, RootKey, Sealed, Selection,
    Touched,
};

use crate::plan::climb::{Climb, Climbed};
use crate::postgres::Lsn;
use crate::postgres::snapshot::InvalidSnapshot;
use crate::schema::tree::SchemaTree;
use crate::source::SourceEvent;
use crate::status::TimeSum;

/// Source events taken at once at most; each is limited in bytes by the source.
const EVENTS_A_ROUND: usize = 256;

/// The documents of a change could not be found.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// PostgreSQL refused a statement, or the connection is gone.
    #[error("the documents above a changed row could not be looked up")]
    LookUp(#[source] tokio_postgres::Error),
    /// `pg_current_snapshot()` gave something else.
    #[error("PostgreSQL gave no snapshot")]
    Snapshot(#[source] InvalidSnapshot),
    /// The index could not be asked.
    #[error("the documents that hold a changed row could not be found")]
    Holders(#[source] HoldersError),
}

/// What the stage has done, for status and metrics.
#[derive(Debug, Default)]
pub struct PlanProgress {
    /// Rounds begun.
    pub rounds: AtomicU64,
    /// Root keys touched, after merging.
    pub keys: AtomicU64,
    /// Rows whose former documents had to be asked of the index.
    pub held_rows: AtomicU64,
    /// Looks at PostgreSQL in vain: the changes of the round were not visible yet.
    pub rereads: AtomicU64,
    /// Time spent waiting for the stages behind.
    pub blocked: TimeSum,
}

/// The stage.
#[derive(Debug)]
pub struct Plan<H> {
    /// For lookups.
    pub client: Client,
    /// All entries of the database, by [`EntryId`].
    pub trees: Arc<[Arc<SchemaTree>]>,
    /// The index.
    pub holders: Arc<H>,
    /// Key ranges handed out by the loads of each entry.
    pub loading: Arc<[AtomicU64]>,
    /// What is acknowledged.
    pub finished: watch::Receiver<Finished>,
    /// Root keys in a [`Touched`] at most.
    pub keys_at_once: usize,
    /// For status.
    pub progress: Arc<PlanProgress>,
}

/// What was taken from the queue at once.
#[derive(Debug, Default)]
struct Round {
    climbed: Climbed,
    upto: Option<Lsn>,
    commits: Option<Commits>,
}

impl Round {
    fn take(&mut self, climb: &Climb, event: SourceEvent) {
        match event {
            SourceEvent::Part(part) => {
                climb.climb(&part, &mut self.climbed);
                if part.last {
                    self.upto = Some(part.end);
                    self.commits = Some(Commits::with(self.commits, part.committed_at));
                }
            }
            SourceEvent::Idle(lsn) => self.upto = Some(lsn),
        }
    }
}

impl<H: Holders> Plan<H> {
    /// Works until the input closes, or nobody takes the output any more.
    ///
    /// # Errors
    /// [`PlanError`]; what was taken from the input is not finished then.
    pub async fn run<S: From<Sealed>>(
        self,
        mut input: mpsc::Receiver<SourceEvent>,
        output: async_channel::Sender<Touched>,
        sealed: mpsc::Sender<S>,
    ) -> Result<(), PlanError> {
        let climb = Climb::new(Arc::clone(&self.trees));
        let mut events = Vec::with_capacity(EVENTS_A_ROUND);
        let mut number = 0;
        while input.recv_many(&mut events, EVENTS_A_ROUND).await > 0 {
            number += 1;
            self.progress.rounds.store(number, Ordering::Relaxed);
            let mut round = Round::default();
            for event in events.drain(..) {
                round.take(&climb, event);
            }
            let Round { climbed, upto, commits } = round;
            let Some(parts) = self.touch(number, climbed, &output).await? else { break };
            let seal = Sealed { job: Job::Round(number), parts, upto, commits };
            if self.progress.blocked.over(sealed.send(seal.into())).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
