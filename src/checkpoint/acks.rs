//! Which position is safe to confirm: the end of the longest run of rounds that are written.
//!
//! The plan says how many parts a round has (*seals* it); the sink says which batches of a part are
//! written. Both come in any order, since batches overtake each other on the way. A part is done when
//! as many batches arrived as its last one says it has; a round, when it is sealed and all its parts
//! are done. Only then may its LSN be confirmed, and only if no earlier round is open. The key ranges of
//! a load are counted by the same rule. Pure; `mod.rs` feeds it.
//!
//! The rule it guards: `durable ≤ written ≤ received`.

use std::collections::BTreeMap;

use crate::plan::{Commits, EntryId, Job, Receipt, Sealed};
use crate::postgres::Lsn;
use crate::sink::Written;

/// The count of what is written.
#[derive(Debug)]
pub struct Acks {
    rounds: Line,
    loads: BTreeMap<EntryId, Line>,
    received: Lsn,
    written: Lsn,
    durable: Lsn,
    /// Those of finished rounds that were not taken yet.
    commits: Vec<Commits>,
}

/// Numbered pieces of work that may finish in any order.
#[derive(Debug)]
struct Line {
    /// All before it are finished.
    next: u64,
    /// Those from `next` on that were heard of.
    open: BTreeMap<u64, Work>,
}

#[derive(Debug, Default)]
struct Work {
    sealed: Option<Seal>,
    parts: BTreeMap<u32, Part>,
}

#[derive(Clone, Copy, Debug)]
struct Seal {
    parts: u32,
    upto: Option<Lsn>,
    commits: Option<Commits>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    arrived: u32,
    /// Known from its last batch.
    batches: Option<u32>,
}

/// The number of the first round; ranges count from 0.
const FIRST_ROUND: u64 = 1;

impl Acks {
    /// Nothing is open, and everything up to `from` is durable.
    pub fn new(from: Lsn) -> Self {
        Self {
            rounds: Line::from(FIRST_ROUND),
            loads: BTreeMap::new(),
            received: from,
            written: from,
            durable: from,
            commits: Vec::new(),
        }
    }

    /// Forgets the ranges of an entry's earlier load: the next range is number 0.
    pub fn start_load(&mut self, entry: EntryId) {
        self.loads.insert(entry, Line::from(0));
    }

    /// Notes how many parts a piece of work has.
    pub fn seal(&mut self, sealed: Sealed) {
        self.received = self.received.max(sealed.upto.unwrap_or_default());
        let seal = Seal { parts: sealed.parts, upto: sealed.upto, commits: sealed.commits };
        let (line, number) = self.line(sealed.job);
        line.work(number, |work| work.sealed = Some(seal));
        self.finish(sealed.job);
    }

    /// Notes that a batch is written.
    pub fn note(&mut self, written: &Written) {
        let Receipt { job, part } = written.receipt;
        let (line, number) = self.line(job);
        line.work(number, |work| work.parts.entry(part).or_default().note(written.batches));
        self.finish(job);
    }

    /// The end of the longest run of finished rounds; never goes back.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// When the transactions of rounds that were finished since the last call were committed, round by
    /// round.
    pub fn take_commits(&mut self) -> Vec<Commits> {
        std::mem::take(&mut self.commits)
    }

    /// All rounds up to this number are finished; 0 before the first.
    pub fn finished_rounds(&self) -> u64 {
        self.rounds.next - FIRST_ROUND
    }

    /// How many ranges of the entry's load are finished, counted from the first without a gap.
    pub fn finished_ranges(&self, entry: EntryId) -> u64 {
        self.loads.get(&entry).map_or(0, |line| line.next)
    }

    /// Notes that everything up to `lsn` is saved.
    pub fn saved(&mut self, lsn: Lsn) {
        self.durable = self.durable.max(lsn);
        self.assert_order();
    }

    /// What is saved.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    fn line(&mut self, job: Job) -> (&mut Line, u64) {
        match job {
            Job::Round(number) => (&mut self.rounds, number),
            Job::Range(entry, number) => {
                (self.loads.entry(entry).or_insert_with(|| Line::from(0)), number)
            }
        }
    }

    /// Moves over everything at the front of the job's line that is finished.
    fn finish(&mut self, job: Job) {
        let (line, _) = self.line(job);
        for seal in line.finish() {
            self.written = self.written.max(seal.upto.unwrap_or_default());
            self.commits.extend(seal.commits);
        }
        self.assert_order();
    }

    fn assert_order(&self) {
        debug_assert!(self.durable <= self.written, "durable ≤ written");
        debug_assert!(self.written <= self.received, "written ≤ received");
    }
}

impl Line {
    fn from(next: u64) -> Self {
        Self { next, open: BTreeMap::new() }
    }

    /// Changes the work of that number, unless it is finished.
    fn work(&mut self, number: u64, change: impl FnOnce(&mut Work)) {
        debug_assert!(number >= self.next, "{number} was finished before");
        if number >= self.next {
            change(self.open.entry(number).or_default());
        }
    }

    /// Takes the finished work off the front.
    fn finish(&mut self) -> Vec<Seal> {
        let mut seals = Vec::new();
        while let Some(entry) = self.open.first_entry() {
            if *entry.key() != self.next || !entry.get().is_done() {
                break;
            }
            seals.extend(entry.remove().sealed);
            self.next += 1;
        }
        seals
    }
}

impl Work {
    fn is_done(&self) -> bool {
        let Some(seal) = self.sealed else { return false };
        self.parts.len() as u64 == u64::from(seal.parts) && self.parts.values().all(Part::is_done)
    }
}

impl Part {
    fn note(&mut self, batches: Option<u32>) {
        self.arrived += 1;
        self.batches = self.batches.or(batches);
        debug_assert!(self.batches.is_none_or(|all| self.arrived <= all), "a batch too many");
    }

    fn is_done(&self) -> bool {
        self.batches == Some(self.arrived)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn round(number: u64, parts: u32, upto: u64) -> Sealed {
        Sealed { job: Job::Round(number), parts, upto: Some(Lsn(upto)), commits: None }
    }

    fn batch(job: Job, part: u32, batches: Option<u32>) -> Written {
        Written { receipt: Receipt { job, part }, batches, documents: 1 }
    }

    #[test]
    fn a_round_is_written_when_every_batch_of_every_part_is() {
        let mut acks = Acks::new(Lsn(5));
        acks.seal(round(1, 2, 10));
        acks.note(&batch(Job::Round(1), 0, Some(1)));
        acks.note(&batch(Job::Round(1), 1, Some(2)));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(5), 0));
        acks.note(&batch(Job::Round(1), 1, None));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(10), 1));
    }

    #[test]
    fn batches_may_arrive_before_the_plan_closes_the_round() {
        let mut acks = Acks::new(Lsn(0));
        acks.note(&batch(Job::Round(1), 0, Some(1)));
        assert_eq!(acks.finished_rounds(), 0);
        acks.seal(round(1, 1, 10));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(10), 1));
    }

    #[test]
    fn a_finished_round_waits_for_the_ones_before_it() {
        let mut acks = Acks::new(Lsn(0));
        acks.seal(round(2, 0, 20));
        acks.seal(round(1, 1, 10));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(0), 0));
        acks.note(&batch(Job::Round(1), 0, Some(1)));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(20), 2));
    }

    #[test]
    fn a_round_that_ends_inside_a_transaction_acknowledges_nothing() {
        let mut acks = Acks::new(Lsn(3));
        acks.seal(Sealed { upto: None, ..round(1, 0, 0) });
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(3), 1));
    }

    #[test]
    fn what_the_server_sends_again_from_before_the_checkpoint_moves_nothing_back() {
        let mut acks = Acks::new(Lsn(100));
        acks.seal(round(1, 0, 50));
        assert_eq!((acks.written(), acks.finished_rounds()), (Lsn(100), 1));
    }

    #[test]
    fn ranges_are_counted_for_each_load_without_gaps() {
        let (one, two) = (EntryId(1), EntryId(2));
        let mut acks = Acks::new(Lsn(0));
        for (entry, number) in [(one, 1), (one, 0), (two, 1)] {
            acks.seal(Sealed {
                job: Job::Range(entry, number),
                parts: 1,
                upto: None,
                commits: None,
            });
            acks.note(&batch(Job::Range(entry, number), 0, Some(1)));
        }
        assert_eq!((acks.finished_ranges(one), acks.finished_ranges(two)), (2, 0));
        acks.start_load(one);
        assert_eq!(acks.finished_ranges(one), 0);
        assert_eq!((acks.finished_rounds(), acks.written()), (0, Lsn(0)));
    }

    #[test]
    fn the_commits_of_a_round_are_told_once_when_it_and_all_before_it_are_finished() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let commits = |number| Commits { oldest: at(number), newest: at(number + 1) };
        let sealed = |number, parts| Sealed {
            commits: Some(commits(number)),
            ..round(number, parts, number * 10)
        };
        let mut acks = Acks::new(Lsn(0));
        acks.seal(sealed(2, 0));
        acks.seal(sealed(1, 1));
        assert_eq!(acks.take_commits(), []);
        acks.note(&batch(Job::Round(1), 0, Some(1)));
        assert_eq!(acks.take_commits(), [commits(1), commits(2)]);
        assert_eq!(acks.take_commits(), []);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Seal(Sealed),
        Note(Written),
    }

    /// Every event of some rounds, with the number of the round each belongs to.
    fn events(shape: &[Vec<u32>]) -> Vec<(u64, Event)> {
        let mut events = Vec::new();
        for (number, parts) in (1..).zip(shape) {
            let seal = round(number, u32::try_from(parts.len()).unwrap(), number * 10);
            events.push((number, Event::Seal(seal)));
            for (part, batches) in (0..).zip(parts) {
                for n in 1..=*batches {
                    let last = (n == *batches).then_some(*batches);
                    events.push((number, Event::Note(batch(Job::Round(number), part, last))));
                }
            }
        }
        events
    }

    fn interleaved() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<(u64, Event)>)> {
        let shape = prop::collection::vec(prop::collection::vec(1_u32..4, 0..4), 0..8);
        shape.prop_flat_map(|shape| {
            let events = events(&shape);
            (Just(shape), Just(events).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn in_any_order_nothing_is_ahead_of_an_open_round_and_all_ends_written(
            (shape, order) in interleaved()
        ) {
            let rounds = shape.len() as u64;
            let mut acks = Acks::new(Lsn(0));
            for (done, (_, event)) in (1..).zip(&order) {
                let before = (acks.written(), acks.finished_rounds());
                match event {
                    Event::Seal(sealed) => acks.seal(*sealed),
                    Event::Note(written) => acks.note(written),
                }
                let first_open =
                    order[done..].iter().map(|(number, _)| *number).min().unwrap_or(rounds + 1);
                prop_assert!(before <= (acks.written(), acks.finished_rounds()));
                prop_assert_eq!(acks.finished_rounds(), first_open - 1);
                prop_assert_eq!(acks.written(), Lsn((first_open - 1) * 10));
                acks.saved(acks.written());
            }
        }
    }
}
