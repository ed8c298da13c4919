//! One round of the plan: what was climbed becomes [`Touched`], by SQL and by asking the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{TryStreamExt, pin_mut};
use tokio::sync::mpsc;
use tokio_postgres::SimpleQueryMessage;

use crate::plan::climb::{Climbed, HeldRow};
use crate::plan::lookup::{Lookup, look_up};
use crate::plan::root_ids::readings;
use crate::plan::sides::Values;
use crate::plan::{
    EntryId, Holders, Job, MustSee, Plan, PlanError, PlanProgress, Receipt, RootKey, Search,
    Selection, Touched,
};
use crate::postgres::patience::{Awaited, Patience, told_if_slow};
use crate::postgres::{Column, Snapshot};

/// Keys gathered before they are sent on: what merges keys of one round, and what bounds its memory.
const KEYS_GATHERED: usize = 20_000;
/// Values in one lookup statement.
const VALUES_A_STATEMENT: usize = 2_000;
/// Rows in one search: Elasticsearch takes 65 536 terms a query, and every key column has its own.
const ROWS_A_SEARCH: usize = 10_000;
/// Pages of ids between the search and the plan.
const PAGES_QUEUED: usize = 2;

/// Sends the touched keys of a round, in pieces, and counts them.
struct Emitter<'a> {
    output: &'a async_channel::Sender<Touched>,
    job: Job,
    must_see: MustSee,
    keys_at_once: usize,
    gathered: HashMap<EntryId, HashSet<RootKey>>,
    parts: u32,
    keys: u64,
    progress: &'a PlanProgress,
}

/// Nobody takes the output any more: the pipeline is ending.
struct Closed;

impl<H: Holders> Plan<H> {
    /// Sends everything a round touches; how many [`Touched`] it was, `None` if nobody takes them.
    pub(crate) async fn touch(
        &self,
        number: u64,
        climbed: Climbed,
        output: &async_channel::Sender<Touched>,
    ) -> Result<Option<u32>, PlanError> {
        let transactions: Arc<[_]> = climbed.transactions.as_slice().into();
        let must_see = MustSee::Transactions(transactions);
        let asks_index = !climbed.held.is_empty() || !climbed.searches.is_empty();
        if !climbed.lookups.is_empty() || asks_index {
            self.wait_until_visible(&must_see).await?;
        }
        let mut emitter = Emitter {
            output,
            job: Job::Round(number),
            must_see,
            keys_at_once: self.keys_at_once,
            gathered: climbed.keys,
            parts: 0,
            keys: 0,
            progress: &self.progress,
        };
        for (lookup, values) in climbed.lookups {
            let values: Vec<Values> = values.into_iter().collect();
            for values in values.chunks(VALUES_A_STATEMENT) {
                if self.climb_by_sql(&lookup, values, &mut emitter).await?.is_err() {
                    return Ok(None);
                }
            }
        }
        if asks_index {
            let searches = self.searches(climbed.held, climbed.searches);
            if !self.progress.blocked.over(self.wait_until_written(number)).await {
                return Ok(None);
            }
            for (entry, search) in searches {
                if self.climb_by_index(entry, search, &mut emitter).await?.is_err() {
                    return Ok(None);
                }
            }
        }
        let flushed = emitter.flush().await;
        self.progress.keys.fetch_add(emitter.keys, Ordering::Relaxed);
        Ok(flushed.ok().map(|()| emitter.parts))
    }

    /// A lookup must see the round's transactions: else it climbs from a row by a parent that the row
    /// in between has already left, and nobody refreshes the parent it went to.
    async fn wait_until_visible(&self, must_see: &MustSee) -> Result<(), PlanError> {
        let mut patience = Patience::new("plan", &self.progress.rereads);
        loop {
            let messages = self
                .client
                .simple_query("select pg_catalog.pg_current_snapshot()")
                .await
                .map_err(PlanError::LookUp)?;
            let text = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let snapshot: Snapshot =
                text.unwrap_or_default().parse().map_err(PlanError::Snapshot)?;
            let Some(xid) = must_see.first_unseen(&snapshot) else {
                patience.rewarded();
                return Ok(());
            };
            patience.pause(Awaited::Visible { xid }).await;
        }
    }

    /// Waits until the index holds every earlier round, and every load range that was begun: one begun
    /// later sees this round's transactions. `false` if the pipeline is ending.
    async fn wait_until_written(&self, number: u64) -> bool {
        let begun: Vec<u64> =
            self.loading.iter().map(|ranges| ranges.load(Ordering::SeqCst)).collect();
        let mut finished = self.finished.clone();
        let reached = finished.wait_for(|finished| {
            finished.rounds + 1 >= number
                && begun.iter().enumerate().all(|(entry, begun)| {
                    finished.ranges.get(&EntryId(entry)).copied().unwrap_or_default() >= *begun
                })
        });
        reached.await.is_ok()
    }

    async fn climb_by_sql(
        &self,
        lookup: &Lookup,
        values: &[Values],
        emitter: &mut Emitter<'_>,
    ) -> Result<Result<(), Closed>, PlanError> {
        let Some(tree) = self.trees.get(lookup.entry.0) else { return Ok(Ok(())) };
        let keys = look_up(&self.client, tree, lookup, values).await?;
        pin_mut!(keys);
        let index = &tree.index.0;
        while let Some(key) = told_if_slow(index, || tree.table_names(), keys.try_next()).await? {
            if let Err(closed) = emitter.gather(lookup.entry, key).await {
                return Ok(Err(closed));
            }
        }
        Ok(Ok(()))
    }

    async fn climb_by_index(
        &self,
        entry: EntryId,
        search: Search,
        emitter: &mut Emitter<'_>,
    ) -> Result<Result<(), Closed>, PlanError> {
        let Some(tree) = self.trees.get(entry.0) else { return Ok(Ok(())) };
        let columns: Vec<&Column> =
            tree.key.iter().filter_map(|name| tree.root().table.column(name)).collect();
        let (found, pages) = mpsc::channel::<Vec<String>>(PAGES_QUEUED);
        let searching = self.holders.find(entry, search, found);
        let gathering = emitter.gather_pages(entry, &columns, pages);
        let (searched, gathered) = tokio::join!(searching, gathering);
        searched.map_err(PlanError::Holders)?;
        Ok(gathered)
    }

    fn searches(
        &self,
        held: HashMap<(EntryId, HeldRow), HashSet<Values>>,
        whole: HashSet<(EntryId, Search)>,
    ) -> Vec<(EntryId, Search)> {
        let mut searches: Vec<(EntryId, Search)> = whole.into_iter().collect();
        for ((entry, row), values) in held {
            self.progress.held_rows.fetch_add(values.len() as u64, Ordering::Relaxed);
            let values: Vec<Values> = values.into_iter().collect();
            for values in values.chunks(ROWS_A_SEARCH) {
                let column = |at: usize| {
                    values.iter().filter_map(|row| row.get(at).map(ToString::to_string)).collect()
                };
                let search = Search::Rows {
                    table: row.table.clone(),
                    columns: row.columns.clone(),
                    values: (0..row.columns.len()).map(column).collect(),
                };
                searches.push((entry, search));
            }
        }
        searches
    }
}

impl Emitter<'_> {
    /// Takes the pages for its own: once it has given up, the search must not wait for room in them.
    async fn gather_pages(
        &mut self,
        entry: EntryId,
        columns: &[&Column],
        mut pages: mpsc::Receiver<Vec<String>>,
    ) -> Result<(), Closed> {
        while let Some(ids) = pages.recv().await {
            for key in ids.iter().flat_map(|id| readings(id, columns)) {
                self.gather(entry, key).await?;
            }
        }
        Ok(())
    }

    async fn gather(&mut self, entry: EntryId, key: RootKey) -> Result<(), Closed> {
        let keys = self.gathered.entry(entry).or_default();
        keys.insert(key);
        if keys.len() >= KEYS_GATHERED { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        for (entry, keys) in std::mem::take(&mut self.gathered) {
            let mut keys: Vec<RootKey> = keys.into_iter().collect();
            self.keys += keys.len() as u64;
            // Neighbours in the table are read together.
            keys.sort_unstable();
            for keys in keys.chunks(self.keys_at_once.max(1)) {
                let touched = Touched {
                    entry,
                    selection: Selection::Keys(keys.to_vec()),
                    must_see: self.must_see.clone(),
                    receipt: Receipt { job: self.job, part: self.parts },
                };
                self.parts += 1;
                let sending = self.output.send(touched);
                self.progress.blocked.over(sending).await.map_err(|_closed| Closed)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_go_out_sorted_in_pieces_with_a_number_each() {
        let (output, input) = async_channel::bounded(16);
        let progress = PlanProgress::default();
        let mut emitter = Emitter {
            output: &output,
            progress: &progress,
            job: Job::Round(3),
            must_see: MustSee::Floor(None),
            keys_at_once: 2,
            gathered: HashMap::new(),
            parts: 0,
            keys: 0,
        };
        for key in ["5", "1", "4", "1", "2", "3"] {
            let key = RootKey([key.into()].into());
            assert!(emitter.gather(EntryId(0), key).await.is_ok());
        }
        assert!(emitter.flush().await.is_ok());
        assert_eq!((emitter.parts, emitter.keys), (3, 5), "a key is sent once");
        let mut sent = Vec::new();
        while let Ok(touched) = input.try_recv() {
            assert_eq!(
                touched.receipt,
                Receipt { job: Job::Round(3), part: u32::try_from(sent.len()).unwrap() }
            );
            let Selection::Keys(keys) = touched.selection else { panic!("keys") };
            sent.push(keys.iter().map(|key| key.0.join("|")).collect::<Vec<_>>());
        }
        assert_eq!(sent, [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
        drop(input);
        assert!(emitter.gather(EntryId(0), RootKey(["9".into()].into())).await.is_ok());
        assert!(emitter.flush().await.is_err(), "nobody listens");
    }
}
