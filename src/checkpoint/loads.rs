//! How far each running load came: which key ends the run of ranges that are written. Pure; `mod.rs`
//! feeds it and saves what it gives.

use std::collections::BTreeMap;

use super::position::{EntryState, LoadProgress, LoadState};
use crate::plan::{EntryId, RootKey};

/// The running loads.
#[derive(Debug, Default)]
pub(super) struct Loads {
    running: BTreeMap<EntryId, Load>,
}

#[derive(Debug)]
struct Load {
    progress: LoadProgress,
    /// Number of the first range that `progress` does not hold.
    next: u64,
    /// What is known of the ranges from `next` on.
    read: BTreeMap<u64, Range>,
    unsaved: bool,
}

#[derive(Debug)]
struct Range {
    upto: Option<RootKey>,
    rows: u64,
}

impl Loads {
    /// Goes on from the state of a running load; its ranges are numbered from 0 again.
    pub(super) fn start(&mut self, entry: EntryId, state: EntryState) {
        let EntryState { index, concrete, load, .. } = state;
        let LoadState::Running { done_upto, rows, ranges, .. } = load else {
            self.running.remove(&entry);
            return;
        };
        let progress = LoadProgress { index, concrete, done_upto, rows, ranges };
        let load = Load { progress, next: 0, read: BTreeMap::new(), unsaved: false };
        self.running.insert(entry, load);
    }

    /// Notes where a range ends and how many rows it has.
    pub(super) fn read(&mut self, entry: EntryId, number: u64, upto: Option<RootKey>, rows: u64) {
        if let Some(load) = self.running.get_mut(&entry) {
            load.read.insert(number, Range { upto, rows });
        }
    }

    /// Moves over the ranges before `finished`, which are all written.
    ///
    /// The last range is open and has no key to go on from: it is not counted here, and a load that
    /// is interrupted right behind it reads it again.
    pub(super) fn advance(&mut self, entry: EntryId, finished: u64) {
        let Some(load) = self.running.get_mut(&entry) else { return };
        while let Some(range) = load.read.first_entry() {
            if *range.key() != load.next || load.next >= finished || range.get().upto.is_none() {
                break;
            }
            let Range { upto, rows } = range.remove();
            load.progress.done_upto = upto;
            load.progress.rows += rows;
            load.progress.ranges += 1;
            load.next += 1;
            load.unsaved = true;
        }
    }

    /// Whether something moved since the last [`Self::take_unsaved`].
    pub(super) fn is_unsaved(&self) -> bool {
        self.running.values().any(|load| load.unsaved)
    }

    /// What moved, as it is.
    pub(super) fn take_unsaved(&mut self) -> Vec<LoadProgress> {
        let moved = self.running.values_mut().filter(|load| load.unsaved);
        moved
            .map(|load| {
                load.unsaved = false;
                load.progress.clone()
            })
            .collect()
    }

    /// Takes back what could not be saved.
    pub(super) fn not_saved(&mut self, progress: &[LoadProgress]) {
        for load in self.running.values_mut() {
            load.unsaved |= progress.iter().any(|failed| failed.concrete == load.progress.concrete);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tree::IndexName;

    const ENTRY: EntryId = EntryId(0);

    fn key(text: &str) -> RootKey {
        RootKey(Box::new([text.into()]))
    }

    fn started() -> Loads {
        let mut loads = Loads::default();
        let load =
            LoadState::Running { floor: None, done_upto: Some(key("9")), rows: 90, ranges: 2 };
        let state = EntryState {
            index: IndexName("books".to_owned()),
            concrete: "books-1".to_owned(),
            schema_digest: String::new(),
            shape_digest: String::new(),
            load,
        };
        loads.start(ENTRY, state);
        loads
    }

    #[test]
    fn a_resumed_load_counts_on_from_where_it_was() {
        let mut loads = started();
        loads.read(ENTRY, 1, Some(key("19")), 4);
        loads.read(ENTRY, 0, Some(key("14")), 5);
        loads.advance(ENTRY, 2);
        let [progress] = loads.take_unsaved().try_into().unwrap();
        assert_eq!((progress.done_upto, progress.rows, progress.ranges), (Some(key("19")), 99, 4));
        assert!(!loads.is_unsaved());
    }

    #[test]
    fn a_range_counts_once_it_is_written_and_its_end_is_known_in_either_order() {
        let mut loads = started();
        loads.read(ENTRY, 0, Some(key("14")), 5);
        loads.advance(ENTRY, 0);
        assert!(!loads.is_unsaved(), "not written");
        loads.advance(ENTRY, 1);
        loads.advance(ENTRY, 2);
        loads.take_unsaved();
        loads.read(ENTRY, 1, Some(key("19")), 4);
        loads.advance(ENTRY, 2);
        assert_eq!(loads.take_unsaved().first().unwrap().done_upto, Some(key("19")));
    }

    #[test]
    fn the_open_last_range_leaves_the_key_to_go_on_from() {
        let mut loads = started();
        loads.read(ENTRY, 0, None, 5);
        loads.advance(ENTRY, 1);
        assert!(!loads.is_unsaved());
    }

    #[test]
    fn what_could_not_be_saved_is_given_out_again() {
        let mut loads = started();
        loads.read(ENTRY, 0, Some(key("14")), 5);
        loads.advance(ENTRY, 1);
        let taken = loads.take_unsaved();
        loads.not_saved(&taken);
        assert_eq!(loads.take_unsaved(), taken);
    }
}
