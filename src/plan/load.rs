//! The second entrance of the road: a whole root table, in key ranges, for the first load and for a
//! re-index.
//!
//! Every range is read in a fresh snapshot of its own: changes made since the slot are streamed, so
//! ranges need no snapshot in common, vacuum is not held up, and a load that goes on after a crash is
//! the same as one that begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::plan::{
    EntryId, Job, KeyRange, MustSee, PlanError, Receipt, RootKey, Selection, Touched,
};
use crate::postgres::Snapshot;
use crate::postgres::patience::told_if_slow;
use crate::schema::key_sql::range_end;
use crate::schema::tree::SchemaTree;

/// A range that was handed to the readers.
#[derive(Clone, Debug)]
pub struct RangeBegun {
    /// Whose documents.
    pub entry: EntryId,
    /// Its number, from 0 in key order.
    pub number: u64,
    /// Where it ends; `None` for the last range.
    pub upto: Option<RootKey>,
    /// Root rows in it when it was cut; 0 for the last range, which is open.
    pub rows: u64,
}

/// Walks the key ranges of one entry's root.
#[derive(Debug)]
pub struct Load {
    /// Finds where ranges end.
    pub client: Client,
    /// The entry.
    pub entry: EntryId,
    /// Its tree.
    pub tree: Arc<SchemaTree>,
    /// What the slot's first snapshot saw: no range may see less.
    pub floor: Option<Arc<Snapshot>>,
    /// Where an earlier load had got to.
    pub after: Option<RootKey>,
    /// Rows in a range.
    pub rows_a_range: u32,
    /// Ranges handed out, for the plan's barrier: by [`EntryId`].
    pub begun: Arc<[AtomicU64]>,
}

impl Load {
    /// Hands out ranges until the table ends; their number, or `None` if nobody takes them.
    ///
    /// # Errors
    /// [`PlanError::LookUp`] if PostgreSQL cannot be asked where a range ends.
    pub async fn run<B: From<RangeBegun>>(
        mut self,
        output: async_channel::Sender<Touched>,
        begun: mpsc::Sender<B>,
    ) -> Result<Option<u64>, PlanError> {
        let mut number = 0;
        loop {
            let upto = self.range_end().await?;
            let is_last = upto.is_none();
            if let Some(count) = self.begun.get(self.entry.0) {
                count.store(number + 1, Ordering::SeqCst);
            }
            let rows = if is_last { 0 } else { u64::from(self.rows_a_range) };
            let range = RangeBegun { entry: self.entry, number, upto: upto.clone(), rows };
            if begun.send(range.into()).await.is_err() {
                return Ok(None);
            }
            let after = std::mem::replace(&mut self.after, upto.clone());
            let touched = Touched {
                entry: self.entry,
                selection: Selection::Range(KeyRange { after, upto }),
                must_see: MustSee::Floor(self.floor.clone()),
                receipt: Receipt { job: Job::Range(self.entry, number), part: 0 },
            };
            if output.send(touched).await.is_err() {
                return Ok(None);
            }
            number += 1;
            if is_last {
                return Ok(Some(number));
            }
        }
    }

    async fn range_end(&self) -> Result<Option<RootKey>, PlanError> {
        let sql = range_end(&self.tree, self.after.as_ref().map(|key| &*key.0), self.rows_a_range);
        let asking = self.client.simple_query(&sql);
        let answer = told_if_slow(&self.tree.index.0, || self.tree.table_names(), asking).await;
        let messages = answer.map_err(PlanError::LookUp)?;
        Ok(messages.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            let columns = 0..self.tree.key.len();
            let values: Option<Vec<Box<str>>> =
                columns.map(|at| row.try_get(at).ok().flatten().map(Box::from)).collect();
            values.map(|values| RootKey(values.into()))
        }))
    }
}
