//! Documents that the search engine did not take: their `_meta` is not in the index, so that a search
//! for the documents that hold a row does not find them, or finds what they held before.
//!
//! They are touched by every such search instead. Otherwise one whose offending row is deleted or moved
//! away would stay as it was, though nothing is wrong with it any more. Reading too many is harmless,
//! and dead letters are few: they wait for the operator.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::{CheckpointError, CheckpointStore};

/// Ids of such documents by index, those of earlier runs included.
#[derive(Debug, Default)]
pub(crate) struct HeldBack(Mutex<HashMap<String, BTreeSet<String>>>);

impl HeldBack {
    /// Those that the store knows.
    pub(crate) async fn load(store: &CheckpointStore) -> Result<Self, CheckpointError> {
        let held = Self::default();
        for letter in store.dead_letters(usize::MAX).await? {
            held.add(letter.index.0, letter.id);
        }
        Ok(held)
    }

    /// Adds one.
    pub(crate) fn add(&self, index: String, id: String) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry(index).or_default().insert(id);
    }

    /// Those of an index.
    pub(crate) fn of(&self, index: &str) -> Vec<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(index).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_is_held_back_once_and_in_its_own_index() {
        let held = HeldBack::default();
        for (index, id) in [("books", "2"), ("books", "1"), ("books", "2"), ("authors", "3")] {
            held.add(index.into(), id.into());
        }
        assert_eq!(held.of("books"), ["1", "2"]);
        assert_eq!(held.of("authors"), ["3"]);
        assert!(held.of("shops").is_empty());
    }
}
