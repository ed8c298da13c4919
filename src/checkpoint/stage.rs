//! The loop of the checkpoint stage: counts, tells, saves, tells again.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture, pending};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::acks::Acks;
use super::loads::Loads;
use super::position::{Checkpoint, EntryState, LoadProgress};
use super::{CheckpointError, CheckpointStore};
use crate::backoff::{Backoff, Jitter};
use crate::plan::{Commits, EntryId, Finished, Job, RangeBegun, RootKey, Sealed};
use crate::postgres::Lsn;
use crate::sink::Written;
use crate::status::Durations;

/// Under load, saves are at least this far apart: each is a round trip or an fsync.
const SAVE_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of loads is saved at most this often: losing it costs a few ranges read again.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The first and the longest wait for a store that does not answer.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What the stage is told.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The plan closed a round.
    Sealed(Sealed),
    /// The sink wrote a batch.
    Written(Written),
    /// A load starts or goes on; comes before everything else of that load. Its ranges are numbered
    /// from 0.
    LoadStarted {
        /// Whose.
        entry: EntryId,
        /// As stored; the progress is counted on from there.
        state: EntryState,
    },
    /// A range was read, which closes it: it has one [`crate::plan::Touched`], part 0.
    RangeRead {
        /// Whose.
        entry: EntryId,
        /// Its number.
        number: u64,
        /// Its last key; `None` if it is the open end of the table.
        upto: Option<RootKey>,
        /// Root rows in it.
        rows: u64,
    },
}

impl From<Sealed> for Progress {
    fn from(sealed: Sealed) -> Self {
        Self::Sealed(sealed)
    }
}

impl From<RangeBegun> for Progress {
    fn from(RangeBegun { entry, number, upto, rows }: RangeBegun) -> Self {
        Self::RangeRead { entry, number, upto, rows }
    }
}

impl From<Written> for Progress {
    fn from(written: Written) -> Self {
        Self::Written(written)
    }
}

/// Who is told what became of everything. All are dropped at the end.
#[derive(Debug)]
pub struct Listeners {
    /// Each saved position.
    pub durable: watch::Sender<Lsn>,
    /// What is written.
    pub finished: watch::Sender<Finished>,
    /// For each round: from its first commit until everything of it was written. By two clocks, the
    /// server's and ours.
    pub commit_to_written: Arc<Durations>,
}

/// Runs the stage until `input` closes, then saves once more.
///
/// `base` is the stored checkpoint to go on from: it is taken as durable.
///
/// # Errors
/// [`CheckpointError::Superseded`] if another instance went further, and every other error that waiting
/// does not mend. After `input` closed, any error of the last save.
pub async fn run(
    mut input: mpsc::Receiver<Progress>,
    store: Arc<CheckpointStore>,
    base: Checkpoint,
    listeners: Listeners,
) -> Result<(), CheckpointError> {
    let mut stage = Stage::new(base, listeners);
    let mut saving = pin!(Fuse::terminated());
    loop {
        let due = if saving.is_terminated() { stage.due() } else { None };
        // Cancel-safe: `saving` outlives the loop, `recv` loses nothing, and a sleep has no state.
        tokio::select! {
            biased;
            (save, result) = saving.as_mut() => stage.settle(&save, result)?,
            () = reached(due) => {
                saving.set(attempt(Arc::clone(&store), stage.next_save()).fuse());
            }
            progress = input.recv() => match progress {
                Some(progress) => stage.note(progress),
                None => break,
            },
        }
    }
    if !saving.is_terminated() {
        let (save, result) = saving.await;
        stage.settle(&save, result)?;
    }
    stage.save_last(&store).await
}

/// The stage without its input and its store.
#[derive(Debug)]
struct Stage {
    base: Checkpoint,
    acks: Acks,
    loads: Loads,
    /// What was saved last, or is being saved.
    saved: Lsn,
    next_checkpoint: Instant,
    next_progress: Instant,
    outage: Option<Outage>,
    listeners: Listeners,
}

/// The store does not answer.
#[derive(Debug)]
struct Outage {
    since: Instant,
    backoff: Backoff,
    retry: Instant,
}

/// What one call saves.
#[derive(Debug)]
struct Save {
    checkpoint: Option<Checkpoint>,
    progress: Vec<LoadProgress>,
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

async fn attempt(store: Arc<CheckpointStore>, save: Save) -> (Save, Result<(), CheckpointError>) {
    let result = save.run(&store).await;
    (save, result)
}

impl Save {
    async fn run(&self, store: &CheckpointStore) -> Result<(), CheckpointError> {
        if let Some(checkpoint) = &self.checkpoint {
            store.save_checkpoint(checkpoint).await?;
        }
        for progress in &self.progress {
            store.save_progress(progress).await?;
        }
        Ok(())
    }
}

impl Stage {
    fn new(base: Checkpoint, listeners: Listeners) -> Self {
        let now = Instant::now();
        listeners.finished.send_modify(|finished| finished.written = base.lsn);
        Self {
            acks: Acks::new(base.lsn),
            loads: Loads::default(),
            saved: base.lsn,
            base,
            next_checkpoint: now,
            next_progress: now,
            outage: None,
            listeners,
        }
    }

    fn note(&mut self, progress: Progress) {
        match progress {
            Progress::Sealed(sealed) => {
                self.acks.seal(sealed);
                self.publish(sealed.job);
            }
            Progress::Written(written) => {
                self.acks.note(&written);
                self.publish(written.receipt.job);
            }
            Progress::LoadStarted { entry, state } => {
                self.acks.start_load(entry);
                self.loads.start(entry, state);
                self.publish_ranges(entry);
            }
            Progress::RangeRead { entry, number, upto, rows } => {
                let job = Job::Range(entry, number);
                self.loads.read(entry, number, upto, rows);
                self.acks.seal(Sealed { job, parts: 1, upto: None, commits: None });
                self.publish(job);
            }
        }
    }

    /// When to save next; `None` if there is nothing to save.
    fn due(&self) -> Option<Instant> {
        let checkpoint = (self.acks.written() > self.saved).then_some(self.next_checkpoint);
        let progress = self.loads.is_unsaved().then_some(self.next_progress);
        let due = [checkpoint, progress].into_iter().flatten().min()?;
        Some(self.outage.as_ref().map_or(due, |outage| outage.retry))
    }

    /// What there is to save, marked as on its way.
    fn next_save(&mut self) -> Save {
        let now = Instant::now();
        let written = self.acks.written();
        let checkpoint = (written > self.saved).then(|| Checkpoint {
            lsn: written,
            saved_at: SystemTime::now(),
            ..self.base.clone()
        });
        self.saved = written;
        self.next_checkpoint = now + SAVE_INTERVAL;
        let mut progress = Vec::new();
        if now >= self.next_progress {
            progress = self.loads.take_unsaved();
            self.next_progress = now + PROGRESS_INTERVAL;
        }
        Save { checkpoint, progress }
    }

    /// Draws the conclusion from a save.
    fn settle(
        &mut self,
        save: &Save,
        result: Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        match result {
            Ok(()) => self.succeeded(save),
            Err(error) if error.is_transient() => self.failed(save, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn succeeded(&mut self, save: &Save) {
        if let Some(outage) = self.outage.take() {
            let after = outage.since.elapsed().as_secs_f64();
            tracing::info!(after, "checkpoint store answers again");
        }
        if let Some(Checkpoint { lsn, .. }) = save.checkpoint {
            self.acks.saved(lsn);
            self.listeners.durable.send_if_modified(|durable| raise(durable, lsn));
        }
    }

    fn failed(&mut self, save: &Save, error: &CheckpointError) {
        if let Some(Checkpoint { .. }) = save.checkpoint {
            self.saved = self.acks.durable();
        }
        self.loads.not_saved(&save.progress);
        let now = Instant::now();
        let outage = self.outage.get_or_insert_with(|| {
            let error: &dyn Error = error;
            let hint = "documents go on; nothing is confirmed to PostgreSQL meanwhile";
            tracing::warn!(error, hint, "checkpoint store does not answer, trying again");
            Outage {
                since: now,
                backoff: Backoff::new(RETRY_WAITS.0, RETRY_WAITS.1, Jitter::Equal),
                retry: now,
            }
        });
        outage.retry = now + outage.backoff.next_delay();
        self.next_progress = self.next_progress.min(outage.retry);
    }

    /// Saves what is left, without waiting for a better time.
    async fn save_last(mut self, store: &CheckpointStore) -> Result<(), CheckpointError> {
        self.next_progress = Instant::now();
        let save = self.next_save();
        save.run(store).await?;
        self.succeeded(&save);
        Ok(())
    }

    /// Tells those who wait what is finished after news of `job`.
    fn publish(&mut self, job: Job) {
        match job {
            Job::Round(_) => {
                let (rounds, written) = (self.acks.finished_rounds(), self.acks.written());
                let commits = self.acks.take_commits();
                self.time(&commits);
                let newest = commits.iter().map(|commits| commits.newest).max();
                self.listeners.finished.send_if_modified(|finished| {
                    finished.written = written;
                    finished.last_commit = finished.last_commit.max(newest);
                    raise(&mut finished.rounds, rounds)
                });
            }
            Job::Range(entry, _) => {
                self.loads.advance(entry, self.acks.finished_ranges(entry));
                self.publish_ranges(entry);
            }
        }
    }

    fn time(&self, commits: &[Commits]) {
        let now = SystemTime::now();
        for Commits { oldest, .. } in commits {
            // A server's clock that is ahead of ours makes it no time, not an age.
            let took = now.duration_since(*oldest).unwrap_or_default();
            self.listeners.commit_to_written.observe(took);
        }
    }

    fn publish_ranges(&self, entry: EntryId) {
        let ranges = self.acks.finished_ranges(entry);
        self.listeners
            .finished
            .send_if_modified(|finished| finished.ranges.insert(entry, ranges) != Some(ranges));
    }
}

/// Sets `value` to `to` if that is more; whether it was.
fn raise<T: Ord>(value: &mut T, to: T) -> bool {
    let more = to > *value;
    if more {
        *value = to;
    }
    more
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::checkpoint::{LoadState, Position, RedisSettings, StoreSettings};
    use crate::plan::Receipt;
    use crate::schema::tree::IndexName;

    const ENTRY: EntryId = EntryId(3);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn base() -> Checkpoint {
        Checkpoint {
            system_identifier: "7".to_owned(),
            timeline: 1,
            slot: "pgsyncd_x".to_owned(),
            generation: 2,
            lsn: Lsn(100),
            postmaster_started: "2026-01-01 00:00:00+00".to_owned(),
            saved_at: SystemTime::UNIX_EPOCH,
        }
    }

    async fn embedded(directory: &TempDir) -> Arc<CheckpointStore> {
        let settings = StoreSettings::Embedded(directory.path().to_owned());
        Arc::new(CheckpointStore::open(&settings, "p", "shop").await.unwrap())
    }

    /// The ends of the channels of a stage.
    struct Ends {
        input: mpsc::Sender<Progress>,
        durable: watch::Receiver<Lsn>,
        finished: watch::Receiver<Finished>,
    }

    fn start(
        store: Arc<CheckpointStore>,
    ) -> (Ends, BoxFuture<'static, Result<(), CheckpointError>>) {
        let (input, receiver) = mpsc::channel(4);
        let (durable_sender, durable) = watch::channel(base().lsn);
        let (finished_sender, finished) = watch::channel(Finished::default());
        let commit_to_written = Arc::default();
        let listeners =
            Listeners { durable: durable_sender, finished: finished_sender, commit_to_written };
        let stage = run(receiver, store, base(), listeners);
        (Ends { input, durable, finished }, stage.boxed())
    }

    fn sealed(round: u64, parts: u32, upto: u64) -> Progress {
        Progress::Sealed(Sealed {
            job: Job::Round(round),
            parts,
            upto: Some(Lsn(upto)),
            commits: None,
        })
    }

    fn written(job: Job) -> Progress {
        let receipt = Receipt { job, part: 0 };
        Progress::Written(Written { receipt, batches: Some(1), documents: 1 })
    }

    #[tokio::test]
    async fn a_position_is_durable_after_its_batches_are_written_and_it_is_saved() {
        let directory = TempDir::new().unwrap();
        let store = embedded(&directory).await;
        let (mut ends, stage) = start(Arc::clone(&store));
        let steps = async {
            ends.input.send(sealed(1, 1, 110)).await.unwrap();
            ends.input.send(sealed(2, 0, 120)).await.unwrap();
            assert!(timeout(SAVE_INTERVAL, ends.durable.changed()).await.is_err());
            ends.input.send(written(Job::Round(1))).await.unwrap();
            ends.finished
                .wait_for(|finished| finished.rounds == 2 && finished.written == Lsn(120))
                .await
                .unwrap();
            ends.durable.wait_for(|lsn| *lsn == Lsn(120)).await.unwrap();
            let stored = store.load_checkpoint().await.unwrap().unwrap();
            assert_eq!((stored.lsn, stored.generation), (Lsn(120), 2));
            drop(ends.input);
            assert!(ends.durable.changed().await.is_err(), "the watch ends with the stage");
        };
        let (result, ()) = timeout(PATIENCE, async { tokio::join!(stage, steps) }).await.unwrap();
        result.unwrap();
    }

    #[tokio::test]
    async fn many_rounds_cost_few_saves_and_the_last_is_saved_when_the_input_closes() {
        let directory = TempDir::new().unwrap();
        let store = embedded(&directory).await;
        let (mut ends, stage) = start(Arc::clone(&store));
        let watcher = async {
            let mut saves = 0;
            while ends.durable.changed().await.is_ok() {
                saves += 1;
            }
            saves
        };
        let steps = async {
            let begin = Instant::now();
            for round in 1..=2000 {
                ends.input.send(sealed(round, 0, 100 + round)).await.unwrap();
            }
            drop(ends.input);
            begin.elapsed()
        };
        let (result, took, saves) =
            timeout(PATIENCE, async { tokio::join!(stage, steps, watcher) }).await.unwrap();
        result.unwrap();
        let most = took.as_millis() / SAVE_INTERVAL.as_millis() + 3;
        assert!(saves <= most, "{saves} saves in {took:?}");
        assert_eq!(store.load_checkpoint().await.unwrap().unwrap().lsn, Lsn(2100));
    }

    #[tokio::test]
    async fn a_later_checkpoint_of_another_instance_ends_the_stage() {
        let directory = TempDir::new().unwrap();
        let store = embedded(&directory).await;
        let later = Checkpoint { generation: 3, lsn: Lsn(1), ..base() };
        store.save_checkpoint(&later).await.unwrap();
        let (ends, stage) = start(Arc::clone(&store));
        ends.input.send(sealed(1, 0, 110)).await.unwrap();
        let error = timeout(PATIENCE, stage).await.unwrap().unwrap_err();
        let stored = Position { generation: 3, lsn: Lsn(1) };
        assert!(matches!(error, CheckpointError::Superseded { stored: s, .. } if s == stored));
        assert_eq!(*ends.durable.borrow(), Lsn(100));
    }

    #[tokio::test]
    async fn an_unreachable_store_holds_up_the_confirmation_but_not_the_count() {
        let url = "redis://:s3cret@127.0.0.1:1/0".to_owned();
        let settings = StoreSettings::Redis(RedisSettings { url });
        let store = Arc::new(CheckpointStore::open(&settings, "p", "shop").await.unwrap());
        let (mut ends, stage) = start(store);
        let steps = async {
            for round in 1..=100 {
                ends.input.send(sealed(round, 0, 100 + round)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ends.finished.wait_for(|finished| finished.rounds == 100).await.unwrap();
            assert_eq!(*ends.durable.borrow(), Lsn(100));
            drop(ends.input);
        };
        let (result, ()) = timeout(PATIENCE, async { tokio::join!(stage, steps) }).await.unwrap();
        assert!(matches!(result, Err(CheckpointError::RedisUnreachable { .. })));
    }

    #[tokio::test]
    async fn a_load_is_saved_as_far_as_its_ranges_are_written_in_order() {
        let directory = TempDir::new().unwrap();
        let store = embedded(&directory).await;
        let load = LoadState::Running { floor: None, done_upto: None, rows: 0, ranges: 0 };
        let state = EntryState {
            index: IndexName("books".to_owned()),
            concrete: "books-1".to_owned(),
            schema_digest: String::new(),
            shape_digest: String::new(),
            load,
        };
        store.save_entry(&state).await.unwrap();
        let key = |text: &str| Some(RootKey(Box::new([text.into()])));
        let read = |number, upto| Progress::RangeRead { entry: ENTRY, number, upto, rows: 10 };
        let (mut ends, stage) = start(Arc::clone(&store));
        let steps = async {
            ends.input.send(Progress::LoadStarted { entry: ENTRY, state }).await.unwrap();
            for progress in [
                read(1, key("20")),
                written(Job::Range(ENTRY, 1)),
                written(Job::Range(ENTRY, 0)),
                read(0, key("10")),
                read(2, key("30")),
            ] {
                ends.input.send(progress).await.unwrap();
            }
            ends.finished.wait_for(|f| f.ranges.get(&ENTRY) == Some(&2)).await.unwrap();
            drop(ends.input);
        };
        let (result, ()) = timeout(PATIENCE, async { tokio::join!(stage, steps) }).await.unwrap();
        result.unwrap();
        let stored = store.load_entries().await.unwrap();
        let expected =
            LoadState::Running { floor: None, done_upto: key("20"), rows: 20, ranges: 2 };
        assert_eq!(stored.first().unwrap().load, expected);
    }
}
