//! Stage 3: touched keys → nested documents.
//!
//! Each worker takes a [`Touched`], reads the rows of its documents in one snapshot, merges them and
//! hands on finished bodies. Memory is bounded by the bytes one read may take: a read past the limit
//! is given up and done again with fewer documents.

pub mod batch;
pub(crate) mod fetch;
pub(crate) mod finish;
pub(crate) mod layout;
pub(crate) mod merge;
pub(crate) mod query;
pub(crate) mod transform;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_postgres::Client;

pub use batch::{Document, DocumentBatch, DocumentId, SnapshotVersion};
pub use finish::Entry;

use crate::document::fetch::{Fetched, Outcome, fetch, keys_of};
use crate::plan::{EntryId, Job, KeyRange, Receipt, RootKey, Selection, Touched};
use crate::postgres::snapshot::InvalidSnapshot;
use crate::status::{IndexStatus, TimeSum};

/// Bytes of rows that one read may take, unless it reads a single document.
const READ_LIMIT: usize = 32 * 1024 * 1024;

/// A document that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// PostgreSQL refused a statement, or the connection is gone.
    #[error("rows of documents could not be read")]
    Read(#[source] tokio_postgres::Error),
    /// `pg_current_snapshot()` gave something else.
    #[error("PostgreSQL gave no snapshot")]
    Snapshot(#[source] InvalidSnapshot),
}

/// What the stage has done, for status and metrics.
#[derive(Debug, Default)]
pub struct DocumentProgress {
    /// Documents made, deletes included.
    pub documents: AtomicU64,
    /// Snapshots read.
    pub reads: AtomicU64,
    /// Reads begun again: a change was not visible yet, or a table was locked.
    pub rereads: AtomicU64,
    /// `one_to_one` relations that had several rows.
    pub ambiguous: AtomicU64,
    /// Time spent waiting for the sink, of all workers together.
    pub blocked: TimeSum,
}

/// One worker of the stage.
#[derive(Debug)]
pub struct Worker {
    /// Its own connection.
    pub client: Client,
    /// All entries of the database, by [`crate::plan::EntryId`].
    pub entries: Arc<[Entry]>,
    /// Where the rows of loads are counted, by [`crate::plan::EntryId`].
    pub indexes: Arc<[Arc<IndexStatus>]>,
    /// Documents read at once at most.
    pub keys_at_once: usize,
    /// Shared by all workers.
    pub progress: Arc<DocumentProgress>,
}

impl Worker {
    /// Works until the input closes, or nobody takes the output any more.
    ///
    /// # Errors
    /// [`DocumentError`] when PostgreSQL cannot be read; what was taken is not finished then.
    pub async fn run(
        self,
        input: async_channel::Receiver<Touched>,
        output: mpsc::Sender<DocumentBatch>,
    ) -> Result<(), DocumentError> {
        while let Ok(touched) = input.recv().await {
            if !self.answer(touched, &output).await? {
                break;
            }
        }
        Ok(())
    }

    /// Reads what was touched, in as many batches as it takes; `false` if nobody takes them.
    async fn answer(
        &self,
        touched: Touched,
        output: &mpsc::Sender<DocumentBatch>,
    ) -> Result<bool, DocumentError> {
        let Some(entry) = self.entries.get(touched.entry.0) else { return Ok(true) };
        let mut pieces = VecDeque::from(split(touched.selection, self.keys_at_once));
        let work = (touched.entry, touched.receipt);
        let blocked = &self.progress.blocked;
        let mut sending = Sending { work, sent: 0, output, blocked };
        while let Some(piece) = pieces.pop_front() {
            let limit = if is_single(&piece) { usize::MAX } else { READ_LIMIT };
            let tree = (&*entry.tree, &*entry.layout);
            let seen = (&touched.must_see, &self.progress.rereads);
            let outcome = fetch(&self.client, tree, &piece, seen, limit).await?;
            self.progress.reads.fetch_add(1, Ordering::Relaxed);
            let is_taken = match outcome {
                Outcome::Rows(Fetched { snapshot, nodes }) => {
                    let batches = entry.finish((&snapshot, &nodes), &piece);
                    let counted = batches.inspect(|batch| self.count(batch, work));
                    Some(sending.send(counted, pieces.len()).await)
                }
                Outcome::Unreadable { snapshot, code } => {
                    match entry.unreadable(&piece, &snapshot, &code) {
                        Some(batch) => {
                            self.count(&batch, work);
                            Some(sending.send([batch].into_iter(), pieces.len()).await)
                        }
                        None => None,
                    }
                }
                Outcome::TooLarge => None,
            };
            match is_taken {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => {
                    for smaller in self.smaller(entry, piece).await?.into_iter().rev() {
                        pieces.push_front(smaller);
                    }
                }
            }
        }
        Ok(true)
    }

    fn count(&self, batch: &DocumentBatch, (entry, receipt): (EntryId, Receipt)) {
        self.progress.documents.fetch_add(batch.documents.len() as u64, Ordering::Relaxed);
        self.progress.ambiguous.fetch_add(batch.ambiguous, Ordering::Relaxed);
        if let (Job::Range(..), Some(index)) = (receipt.job, self.indexes.get(entry.0)) {
            index.load_rows.add(batch.documents.len() as u64);
        }
    }

    /// The same documents in smaller pieces: halves of a list of keys, the keys of a range.
    async fn smaller(
        &self,
        entry: &Entry,
        piece: Selection,
    ) -> Result<Vec<Selection>, DocumentError> {
        let keys = match piece {
            Selection::Keys(keys) => keys,
            Selection::Range(range) => self.keys(entry, &range).await?,
        };
        let half = keys.len().div_ceil(2).max(1);
        Ok(split(Selection::Keys(keys), half))
    }

    async fn keys(&self, entry: &Entry, range: &KeyRange) -> Result<Vec<RootKey>, DocumentError> {
        keys_of(&self.client, &entry.tree, range).await
    }
}

/// The batches that answer one [`Touched`], on their way out.
struct Sending<'a> {
    work: (EntryId, Receipt),
    sent: u32,
    output: &'a mpsc::Sender<DocumentBatch>,
    blocked: &'a TimeSum,
}

impl Sending<'_> {
    /// Addresses the batches of a piece, behind which `pieces` are left to read, and sends them;
    /// `false` if nobody takes them.
    async fn send(&mut self, batches: impl Iterator<Item = DocumentBatch>, pieces: usize) -> bool {
        for mut batch in batches {
            self.sent += 1;
            (batch.entry, batch.receipt) = self.work;
            batch.batches = batch.batches.filter(|_| pieces == 0).map(|_| self.sent);
            if self.blocked.over(self.output.send(batch)).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn is_single(piece: &Selection) -> bool {
    matches!(piece, Selection::Keys(keys) if keys.len() <= 1)
}

/// Keys in pieces of at most `at_once`; a range as it is. Never empty.
fn split(selection: Selection, at_once: usize) -> Vec<Selection> {
    match selection {
        Selection::Keys(keys) if keys.len() > at_once => {
            keys.chunks(at_once.max(1)).map(|piece| Selection::Keys(piece.to_vec())).collect()
        }
        whole => vec![whole],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value as Json};

    use super::*;
    use crate::plan::MustSee;

    #[test]
    fn a_selection_is_split_into_pieces_but_never_into_none() {
        let keys = |count: usize| {
            Selection::Keys((0..count).map(|n| RootKey([n.to_string().into()].into())).collect())
        };
        for (count, at_once, pieces) in [(0, 2, 1), (2, 2, 1), (5, 2, 3), (3, 0, 3)] {
            assert_eq!(split(keys(count), at_once).len(), pieces, "{count} by {at_once}");
        }
        let range = Selection::Range(KeyRange { after: None, upto: None });
        assert_eq!(split(range.clone(), 1), [range]);
    }

    fn without_meta(mut documents: Map<String, Json>) -> Map<String, Json> {
        for document in documents.values_mut() {
            document.as_object_mut().unwrap().remove("_meta");
        }
        documents
    }

    async fn read_documents(
        client: &Client,
        entry: &Entry,
        selection: &Selection,
    ) -> Map<String, Json> {
        let (tree, see) = ((&*entry.tree, &*entry.layout), MustSee::Floor(None));
        let outcome =
            fetch(client, tree, selection, (&see, &AtomicU64::new(0)), usize::MAX).await.unwrap();
        let Outcome::Rows(Fetched { snapshot, nodes }) = outcome else { panic!("rows") };
        let batches = entry.finish((&snapshot, &nodes), selection);
        let bodies = batches.flat_map(|batch| batch.documents).filter_map(|document| {
            Some((document.id.0.into(), serde_json::from_slice(&document.body?).unwrap()))
        });
        without_meta(bodies.collect())
    }

    #[tokio::test]
    #[ignore = "needs PostgreSQL: tests/run.sh"]
    async fn the_bookstore_is_read_as_its_example_expects() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bookstore");
        let read = |name: &str| std::fs::read_to_string(format!("{example}/{name}")).unwrap();
        let url = std::env::var("PGSYNCD_TEST_POSTGRES_URL").unwrap();
        let (client, link) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let mut links = tokio::task::JoinSet::new();
        links.spawn(link);
        let own = format!("bookstore_{}", std::process::id());
        let create = format!("create schema {own}; set search_path = {own};");
        client.batch_execute(&format!("{create}{}", read("tables.sql"))).await.unwrap();
        client.batch_execute("set search_path = ''; set timezone = 'UTC'").await.unwrap();
        let text = read("schema.json")
            .replace("\"table\":", &format!("\"schema\": \"{own}\", \"table\":"))
            .replace("\"through_tables\": [\"", &format!("\"through_tables\": [\"{own}."));
        let catalog = crate::postgres::load_catalog(&client, None).await.unwrap();
        let entries = crate::schema::parse(&text, &|_| None).unwrap();
        let trees = crate::schema::resolve(&entries, &catalog, "db").unwrap();
        let mut expected: Map<String, Json> = serde_json::from_str(&read("expected.json")).unwrap();
        for tree in trees {
            let Some(Json::Object(expected)) = expected.remove(&tree.index.0) else { panic!() };
            let expected = without_meta(expected);
            let entry = Entry::new(Arc::new(tree), 1);
            let range = KeyRange { after: None, upto: None };
            let keys = keys_of(&client, &entry.tree, &range).await.unwrap();
            for selection in [Selection::Range(range), Selection::Keys(keys)] {
                assert_eq!(read_documents(&client, &entry, &selection).await, expected);
            }
        }
        client.batch_execute(&format!("drop schema {own} cascade")).await.unwrap();
    }
}
