//! The plan's questions to the index, answered by the sink's searches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use crate::backoff::{Backoff, Jitter};
use crate::error::report;
use crate::pipeline::held_back::HeldBack;
use crate::plan::{EntryId, Holders, HoldersError, Search as Question};
use crate::sink::{ErrorClass, Search, SinkError, SinkProgress, SinkState};

/// First and longest wait for a server that does not answer.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Searches of all entries, by [`EntryId`].
#[derive(Debug)]
pub(crate) struct IndexHolders {
    /// One plan asks, one question at a time: the lock is never waited for.
    entries: Vec<(String, Mutex<Search>)>,
    /// Told while the server does not answer: a plan that waits for it sends the sink nothing.
    sink: Arc<SinkProgress>,
    held_back: Arc<HeldBack>,
}

impl IndexHolders {
    /// The index name and the search of each entry.
    pub(crate) fn new(
        entries: impl IntoIterator<Item = (String, Search)>,
        sink: Arc<SinkProgress>,
        held_back: Arc<HeldBack>,
    ) -> Self {
        let entries = entries.into_iter().map(|(name, search)| (name, Mutex::new(search)));
        Self { entries: entries.collect(), sink, held_back }
    }
}

impl Holders for IndexHolders {
    async fn find(
        &self,
        entry: EntryId,
        question: Question,
        found: mpsc::Sender<Vec<String>>,
    ) -> Result<(), HoldersError> {
        let Some((index, search)) = self.entries.get(entry.0) else { return Ok(()) };
        let held_back = self.held_back.of(index);
        if !held_back.is_empty() && found.send(held_back).await.is_err() {
            return Ok(());
        }
        let mut search = search.lock().await;
        let mut backoff = Backoff::new(RETRY_WAITS.0, RETRY_WAITS.1, Jitter::Equal);
        let mut is_away = false;
        // A search that broke off is begun again: ids may come twice, never too few.
        loop {
            match ask(&mut search, &question, &found).await {
                Ok(()) => {
                    if is_away {
                        self.sink.note(SinkState::Writing, None);
                    }
                    return Ok(());
                }
                Err(error) if is_transient(&error) && !found.is_closed() => {
                    let text = report(&error);
                    tracing::warn!(index, error = text, "the index cannot be searched, trying on");
                    self.sink.note(SinkState::Unreachable, Some(text));
                    is_away = true;
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Err(error) => {
                    return Err(HoldersError { index: index.clone(), cause: Box::new(error) });
                }
            }
        }
    }
}

async fn ask(
    search: &mut Search,
    question: &Question,
    found: &mpsc::Sender<Vec<String>>,
) -> Result<(), SinkError> {
    search.refresh().await?;
    let mut pages = match question {
        Question::All => search.all_ids(),
        Question::Table { table, columns } => search.ids_with_table(table, columns),
        Question::Rows { table, columns, values } => {
            let columns = columns.iter().cloned().zip(values.iter().cloned()).collect();
            search.holders(table, columns)
        }
    };
    while let Some(ids) = pages.next_page().await? {
        if found.send(ids).await.is_err() {
            break;
        }
    }
    pages.close().await
}

fn is_transient(error: &SinkError) -> bool {
    matches!(error, SinkError::Server { source, .. } if source.class() == ErrorClass::Transient)
}
