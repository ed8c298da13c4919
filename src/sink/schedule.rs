//! Which documents may go, which are on their way, and which batches are settled. Pure; `flight.rs`
//! feeds it.
//!
//! **One request in flight per document.** Elasticsearch forgets the version of a deleted document
//! when its shard restarts or moves, so versions alone do not keep an old write from undoing a delete:
//! a later item of the same id waits until the earlier one is answered. While it waits, a still later
//! one takes its place; a retry takes the body that waits. Either way the newer write stands for both,
//! and the batches of both are settled by it: a document of a newer snapshot shows all that the older
//! one shows.
//!
//! Routing is part of a document's place: items of one id with different routings go one after the
//! other, in their order, and never take each other's place.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::document::{Document, DocumentBatch};
use crate::sink::Written;
use crate::sink::elasticsearch::bulk::size_of;

/// More batches than this are not held at once, however few documents they have.
const MAX_BATCHES: usize = 10_000;

/// A document's identity: the target's position and the `_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Position of the target in the sink's list.
    pub target: usize,
    /// `_id`.
    pub id: Arc<str>,
}

/// How much goes into one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Documents.
    pub documents: usize,
    /// Bytes; a larger document goes alone.
    pub bytes: usize,
}

/// Everything that is accepted and not settled.
#[derive(Debug, Default)]
pub struct Schedule {
    slots: HashMap<Key, Slot>,
    /// Keys whose first item may go, in the order they came.
    ready: VecDeque<Key>,
    batches: HashMap<BatchNumber, Pending>,
    following: u64,
    settled: VecDeque<Written>,
    held_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BatchNumber(u64);

/// A batch with items that are not settled.
#[derive(Debug)]
struct Pending {
    written: Written,
    left: u64,
}

/// The items of one document, oldest first.
#[derive(Debug)]
struct Slot {
    first: Item,
    waiting: VecDeque<Item>,
    in_flight: bool,
}

#[derive(Debug)]
struct Item {
    document: Document,
    batch: BatchNumber,
    /// Batches whose items this one took the place of.
    more: Vec<BatchNumber>,
    /// How often the server failed on it.
    faults: u32,
}

impl Schedule {
    /// Takes a batch for these targets. An empty one is settled at once.
    pub fn accept(&mut self, batch: DocumentBatch, targets: &[usize]) {
        let DocumentBatch { receipt, batches, documents, entry: _, ambiguous: _ } = batch;
        let count = documents.len() as u64;
        let written = Written { receipt, batches, documents: count };
        let left = count * targets.len() as u64;
        if left == 0 {
            self.settled.push_back(written);
            return;
        }
        let number = BatchNumber(self.following);
        self.following += 1;
        self.batches.insert(number, Pending { written, left });
        for document in documents {
            for target in targets {
                self.push(*target, document.clone(), number);
            }
        }
    }

    /// Takes the next items that may go, up to the limits, as in flight.
    pub fn take(&mut self, limits: RequestLimits) -> Vec<Key> {
        let (mut keys, mut bytes) = (Vec::new(), 0);
        while let Some(key) = self.ready.front() {
            let size = self.document(key).map_or(0, size_of);
            let full = keys.len() >= limits.documents || bytes + size > limits.bytes;
            if full && !keys.is_empty() {
                break;
            }
            bytes += size;
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.in_flight = true;
                keys.push(key);
            }
        }
        keys
    }

    /// The document to send for a key.
    pub fn document(&self, key: &Key) -> Option<&Document> {
        self.slots.get(key).map(|slot| &slot.first.document)
    }

    /// The item in flight is settled; the one that waits for it, if any, may go.
    pub fn settle(&mut self, key: &Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let done = if let Some(following) = slot.waiting.pop_front() {
            slot.in_flight = false;
            self.ready.push_back(key.clone());
            std::mem::replace(&mut slot.first, following)
        } else {
            let Some(slot) = self.slots.remove(key) else { return };
            slot.first
        };
        self.held_bytes = self.held_bytes.saturating_sub(size_of(&done.document));
        for number in std::iter::once(done.batch).chain(done.more) {
            self.settle_one_of(number);
        }
    }

    /// The item in flight goes again: with the newer body that waits for it, if any.
    pub fn retry(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            self.held_bytes = self.held_bytes.saturating_sub(slot.take_newer());
        }
    }

    /// Counts a fault of the server on the item in flight, and returns how many it had.
    pub fn count_fault(&mut self, key: &Key) -> u32 {
        self.slots.get_mut(key).map_or(0, |slot| {
            slot.first.faults += 1;
            slot.first.faults
        })
    }

    /// The item in flight was rejected. If a newer body waits, that one stands for it and may go:
    /// returns whether it is so.
    pub fn give_way(&mut self, key: &Key) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let replaced = slot.take_newer();
        if replaced == 0 {
            return false;
        }
        slot.in_flight = false;
        self.held_bytes = self.held_bytes.saturating_sub(replaced);
        self.ready.push_back(key.clone());
        true
    }

    /// Whether a batch is settled and not yet told.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Takes the receipt of a settled batch, in the order they settled.
    pub fn next_settled(&mut self) -> Option<Written> {
        self.settled.pop_front()
    }

    /// Whether some item may go.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing is held: all is settled, and told.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.settled.is_empty()
    }

    /// Whether another batch may be accepted while no more than `bytes` are to be held.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.held_bytes < bytes && self.batches.len() + self.settled.len() < MAX_BATCHES
    }

    fn push(&mut self, target: usize, document: Document, batch: BatchNumber) {
        self.held_bytes += size_of(&document);
        let key = Key { target, id: Arc::from(&*document.id.0) };
        let item = Item { document, batch, more: Vec::new(), faults: 0 };
        match self.slots.entry(key) {
            Entry::Vacant(vacant) => {
                self.ready.push_back(vacant.key().clone());
                vacant.insert(Slot { first: item, waiting: VecDeque::new(), in_flight: false });
            }
            Entry::Occupied(mut occupied) => {
                let replaced = occupied.get_mut().push(item);
                self.held_bytes = self.held_bytes.saturating_sub(replaced);
            }
        }
    }

    fn settle_one_of(&mut self, number: BatchNumber) {
        let Entry::Occupied(mut pending) = self.batches.entry(number) else { return };
        pending.get_mut().left -= 1;
        if pending.get().left == 0 {
            self.settled.push_back(pending.remove().written);
        }
    }
}

impl Slot {
    /// Appends an item, or puts it in the place of the last one that has not gone. Returns the bytes
    /// of the document that is dropped for it.
    fn push(&mut self, item: Item) -> usize {
        let last = if self.in_flight || !self.waiting.is_empty() {
            self.waiting.back_mut()
        } else {
            Some(&mut self.first)
        };
        match last {
            Some(last) if last.document.routing == item.document.routing => last.merge(item),
            Some(_) | None => {
                self.waiting.push_back(item);
                0
            }
        }
    }

    /// Puts the item that waits next in the place of the first one, if it has the same routing.
    /// Returns the bytes of the document that is dropped, 0 if none is.
    fn take_newer(&mut self) -> usize {
        let routing = &self.first.document.routing;
        match self.waiting.pop_front_if(|next| next.document.routing == *routing) {
            Some(next) => self.first.merge(next),
            None => 0,
        }
    }
}

impl Item {
    /// Makes one item of two, with the document of the larger version, the later one of equals.
    /// Returns the bytes of the document that is dropped.
    fn merge(&mut self, later: Self) -> usize {
        self.more.push(later.batch);
        self.more.extend(later.more);
        if later.document.version < self.document.version {
            return size_of(&later.document);
        }
        self.faults = 0;
        size_of(&std::mem::replace(&mut self.document, later.document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{batch, delete, index};

    const ALL: RequestLimits = RequestLimits { documents: 1000, bytes: 1 << 20 };

    fn ids(keys: &[Key]) -> Vec<&str> {
        keys.iter().map(|key| &*key.id).collect()
    }

    fn settled(schedule: &mut Schedule) -> Vec<u32> {
        std::iter::from_fn(|| schedule.next_settled()).map(|written| written.receipt.part).collect()
    }

    fn body_of(schedule: &Schedule, key: &Key) -> Option<String> {
        let document = schedule.document(key).unwrap();
        document.body.as_ref().map(|body| String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_batch_is_settled_with_its_last_item() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "{}"), index("b", 1, "{}")]), &[0]);
        let keys = schedule.take(ALL);
        assert_eq!(ids(&keys), ["a", "b"]);
        schedule.settle(&keys[0]);
        assert!(settled(&mut schedule).is_empty());
        schedule.settle(&keys[1]);
        assert_eq!(settled(&mut schedule), [1]);
        assert!(schedule.is_empty());
        assert_eq!(schedule.held_bytes, 0);
    }

    #[test]
    fn an_empty_batch_is_settled_at_once() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, Vec::new()), &[0]);
        assert_eq!(settled(&mut schedule), [1]);
    }

    #[test]
    fn a_batch_for_two_targets_is_settled_when_both_have_it() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "{}")]), &[0, 1]);
        let keys = schedule.take(ALL);
        schedule.settle(&keys[0]);
        assert!(!schedule.has_settled());
        schedule.settle(&keys[1]);
        let written = schedule.next_settled().unwrap();
        assert_eq!(written.documents, 1);
    }

    #[test]
    fn a_later_item_waits_for_the_answer_to_the_earlier_one() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "{}")]), &[0]);
        let first = schedule.take(ALL);
        schedule.accept(batch(2, vec![delete("a", 2)]), &[0]);
        assert!(schedule.take(ALL).is_empty());
        assert_eq!(body_of(&schedule, &first[0]).as_deref(), Some("{}"));
        schedule.settle(&first[0]);
        assert_eq!(settled(&mut schedule), [1]);
        let second = schedule.take(ALL);
        assert_eq!(body_of(&schedule, &second[0]), None);
        schedule.settle(&second[0]);
        assert_eq!(settled(&mut schedule), [2]);
    }

    #[test]
    fn what_has_not_gone_is_replaced_by_the_newer_and_settles_both_batches() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "1")]), &[0]);
        schedule.accept(batch(2, vec![index("a", 2, "2")]), &[0]);
        let keys = schedule.take(ALL);
        assert_eq!(keys.len(), 1);
        assert_eq!(body_of(&schedule, &keys[0]).as_deref(), Some("2"));
        schedule.settle(&keys[0]);
        assert_eq!(settled(&mut schedule), [1, 2]);
        assert_eq!(schedule.held_bytes, 0);
    }

    #[test]
    fn a_later_item_of_an_older_snapshot_does_not_replace_the_newer_body() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 2, "new")]), &[0]);
        schedule.accept(batch(2, vec![index("a", 1, "old")]), &[0]);
        let keys = schedule.take(ALL);
        assert_eq!(body_of(&schedule, &keys[0]).as_deref(), Some("new"));
        schedule.settle(&keys[0]);
        assert_eq!(settled(&mut schedule), [1, 2]);
    }

    #[test]
    fn a_retry_takes_the_newer_body() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "1")]), &[0]);
        let keys = schedule.take(ALL);
        schedule.accept(batch(2, vec![index("a", 2, "2")]), &[0]);
        schedule.retry(&keys[0]);
        assert_eq!(body_of(&schedule, &keys[0]).as_deref(), Some("2"));
        assert!(schedule.take(ALL).is_empty(), "it is still in flight");
        schedule.settle(&keys[0]);
        assert_eq!(settled(&mut schedule), [1, 2]);
        assert!(schedule.is_empty());
    }

    #[test]
    fn a_rejected_item_gives_way_to_the_newer_one() {
        let mut schedule = Schedule::default();
        schedule.accept(batch(1, vec![index("a", 1, "bad")]), &[0]);
        let keys = schedule.take(ALL);
        assert!(!schedule.give_way(&keys[0]), "nothing waits");
        schedule.accept(batch(2, vec![index("a", 2, "good")]), &[0]);
        assert!(schedule.give_way(&keys[0]));
        let again = schedule.take(ALL);
        assert_eq!(body_of(&schedule, &again[0]).as_deref(), Some("good"));
    }

    #[test]
    fn items_of_other_routing_keep_their_order_and_their_bodies() {
        let mut schedule = Schedule::default();
        let routed = |routing: &str, mut document: Document| {
            document.routing = Some(routing.into());
            document
        };
        let moved = vec![routed("old", delete("a", 2)), routed("new", index("a", 2, "{}"))];
        schedule.accept(batch(1, moved), &[0]);
        let first = schedule.take(ALL);
        assert_eq!(body_of(&schedule, &first[0]), None);
        schedule.retry(&first[0]);
        assert_eq!(body_of(&schedule, &first[0]), None);
        schedule.settle(&first[0]);
        let second = schedule.take(ALL);
        assert_eq!(body_of(&schedule, &second[0]).as_deref(), Some("{}"));
        schedule.settle(&second[0]);
        assert_eq!(settled(&mut schedule), [1]);
    }

    #[test]
    fn requests_are_limited_by_count_and_bytes_and_a_large_document_goes_alone() {
        let mut schedule = Schedule::default();
        let large = "x".repeat(500);
        let documents =
            vec![index("a", 1, "1"), index("b", 1, "1"), index("c", 1, &large), index("d", 1, "1")];
        schedule.accept(batch(1, documents), &[0]);
        let limits = RequestLimits { documents: 3, bytes: 300 };
        let requests: Vec<Vec<Key>> = (0..3).map(|_| schedule.take(limits)).collect();
        let requests: Vec<Vec<&str>> = requests.iter().map(|keys| ids(keys)).collect();
        assert_eq!(requests, [vec!["a", "b"], vec!["c"], vec!["d"]]);
    }

    #[test]
    fn there_is_no_room_above_the_bytes_to_hold() {
        let mut schedule = Schedule::default();
        assert!(schedule.has_room(10));
        schedule.accept(batch(1, vec![index("a", 1, "{}")]), &[0]);
        assert!(!schedule.has_room(10));
    }
}
