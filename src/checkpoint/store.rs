//! The checkpoint store: typed values over one of two backends. What is kept and under which rules is
//! said here; how bytes are kept, in `redis.rs` and `embedded.rs`.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::CheckpointError;
use super::embedded::EmbeddedStore;
use super::position::{self, Checkpoint, DeadLetter, EntryState, LoadProgress};
use super::redis::{RedisSettings, RedisStore};
use crate::schema::tree::IndexName;

/// Where checkpoints are kept.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// In Redis.
    Redis(RedisSettings),
    /// In a file of ours in this directory.
    Embedded(PathBuf),
}

/// What one service, by its name, keeps about one database.
#[derive(Debug)]
pub struct CheckpointStore(Backend);

#[derive(Debug)]
enum Backend {
    Redis(Box<RedisStore>),
    Embedded(EmbeddedStore),
}

/// A group of named values in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    Entries,
    Progress,
    DeadLetters,
    Schemas,
}

impl Shelf {
    /// All of them.
    pub(super) const ALL: [Self; 4] =
        [Self::Entries, Self::Progress, Self::DeadLetters, Self::Schemas];

    /// Its name in keys and tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Progress => "progress",
            Self::DeadLetters => "dead-letters",
            Self::Schemas => "schemas",
        }
    }
}

/// Calls a method of whichever backend it is.
macro_rules! on_backend {
    ($self:ident, $store:ident => $call:expr) => {
        match &$self.0 {
            Backend::Redis($store) => $call.await,
            Backend::Embedded($store) => $call.await,
        }
    };
}

impl CheckpointStore {
    /// The store of the service `name` for `database`.
    ///
    /// Redis is not asked yet: its errors come with the first use.
    ///
    /// # Errors
    /// If the Redis URL is malformed, or the embedded store's directory or file cannot be used.
    pub async fn open(
        settings: &StoreSettings,
        name: &str,
        database: &str,
    ) -> Result<Self, CheckpointError> {
        let backend = match settings {
            StoreSettings::Redis(settings) => {
                Backend::Redis(Box::new(RedisStore::new(settings, name, database)?))
            }
            StoreSettings::Embedded(directory) => {
                Backend::Embedded(EmbeddedStore::open(directory, name, database).await?)
            }
        };
        Ok(Self(backend))
    }

    /// The last saved checkpoint; `None` if there never was one.
    ///
    /// # Errors
    /// If the store does not answer, or holds something that is no checkpoint of ours.
    pub async fn load_checkpoint(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let json = on_backend!(self, store => store.checkpoint())?;
        json.map(|json| position::from_json("checkpoint", &json)).transpose()
    }

    /// Saves a checkpoint unless a later one is stored. The embedded store has it on disk before this
    /// returns; Redis, as soon as its own persistence has.
    ///
    /// # Errors
    /// [`CheckpointError::Superseded`] if it is: somebody else goes on from there, and we are late.
    /// Otherwise if the store does not answer.
    pub async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let json = position::to_json("checkpoint", checkpoint)?;
        let order = checkpoint.position().sortable();
        let Some(later) = on_backend!(self, store => store.save_checkpoint(order, json))? else {
            return Ok(());
        };
        let stored: Checkpoint = position::from_json("checkpoint", &later)?;
        Err(CheckpointError::Superseded { stored: stored.position(), ours: checkpoint.position() })
    }

    /// The states of all entries, running loads as far as they came.
    ///
    /// # Errors
    /// If the store does not answer, or holds something that is no entry of ours.
    pub async fn load_entries(&self) -> Result<Vec<EntryState>, CheckpointError> {
        let mut entries: Vec<EntryState> = self.list(Shelf::Entries, "entry", usize::MAX).await?;
        let progress: Vec<LoadProgress> =
            self.list(Shelf::Progress, "load progress", usize::MAX).await?;
        for progress in progress {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.index == progress.index) {
                entry.advance(progress);
            }
        }
        entries.sort_by(|a, b| a.index.cmp(&b.index));
        Ok(entries)
    }

    /// Saves the state of an entry, whose progress so far it replaces.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn save_entry(&self, entry: &EntryState) -> Result<(), CheckpointError> {
        let json = position::to_json("entry", entry)?;
        let index = entry.index.0.clone();
        on_backend!(self, store => store.replace_entry(index, Some(json)))
    }

    /// Forgets an entry.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn remove_entry(&self, index: &IndexName) -> Result<(), CheckpointError> {
        on_backend!(self, store => store.replace_entry(index.0.clone(), None))
    }

    /// Saves how far a load came.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn save_progress(&self, progress: &LoadProgress) -> Result<(), CheckpointError> {
        let json = position::to_json("load progress", progress)?;
        let index = progress.index.0.clone();
        on_backend!(self, store => store.put(Shelf::Progress, index, json))
    }

    /// Keeps a document that was refused; a later one of the same index and id replaces it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn put_dead_letter(&self, letter: &DeadLetter) -> Result<(), CheckpointError> {
        let json = position::to_json("dead letter", letter)?;
        let key = dead_letter_key(&letter.index, &letter.id);
        on_backend!(self, store => store.put(Shelf::DeadLetters, key, json))
    }

    /// Forgets a dead letter, if it is there.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn remove_dead_letter(
        &self,
        index: &IndexName,
        id: &str,
    ) -> Result<(), CheckpointError> {
        let key = dead_letter_key(index, id);
        on_backend!(self, store => store.remove(Shelf::DeadLetters, key))
    }

    /// Some dead letters, at most `limit`, the oldest of them first.
    ///
    /// # Errors
    /// If the store does not answer, or holds something that is no dead letter of ours.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, CheckpointError> {
        let mut letters: Vec<DeadLetter> =
            self.list(Shelf::DeadLetters, "dead letter", limit).await?;
        letters.sort_by_key(|letter| letter.at);
        Ok(letters)
    }

    /// How many dead letters are kept.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn dead_letter_count(&self) -> Result<u64, CheckpointError> {
        on_backend!(self, store => store.count(Shelf::DeadLetters))
    }

    /// The last good copy of the schema file from `origin` (a URL without its secrets).
    ///
    /// # Errors
    /// If the store does not answer, or holds something that is no text of ours.
    pub async fn cached_schema(&self, origin: &str) -> Result<Option<String>, CheckpointError> {
        let json = on_backend!(self, store => store.get(Shelf::Schemas, origin.to_owned()))?;
        json.map(|json| position::from_json("schema copy", &json)).transpose()
    }

    /// Keeps a good copy of the schema file from `origin` (a URL without its secrets).
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn cache_schema(&self, origin: &str, text: &str) -> Result<(), CheckpointError> {
        let json = position::to_json("schema copy", &text)?;
        on_backend!(self, store => store.put(Shelf::Schemas, origin.to_owned(), json))
    }

    /// Removes everything of this service and database, and nothing else.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn clear(&self) -> Result<(), CheckpointError> {
        on_backend!(self, store => store.clear())
    }

    /// The store as [`CheckpointStore::open`] gives it; `None` if there is no file yet.
    ///
    /// # Errors
    /// Like [`CheckpointStore::open`].
    pub async fn open_existing(
        settings: &StoreSettings,
        name: &str,
        database: &str,
    ) -> Result<Option<Self>, CheckpointError> {
        if let StoreSettings::Embedded(directory) = settings
            && !EmbeddedStore::exists(directory, name, database)
        {
            return Ok(None);
        }
        Self::open(settings, name, database).await.map(Some)
    }

    /// Removes everything of the service `name` for `database`, also what cannot be read; where it was,
    /// `None` if there was nothing.
    ///
    /// # Errors
    /// If Redis does not answer, or the file cannot be removed.
    pub async fn destroy(
        settings: &StoreSettings,
        name: &str,
        database: &str,
    ) -> Result<Option<String>, CheckpointError> {
        match settings {
            StoreSettings::Redis(settings) => {
                RedisStore::new(settings, name, database)?.destroy().await
            }
            StoreSettings::Embedded(directory) => {
                EmbeddedStore::destroy(directory, name, database).await
            }
        }
    }

    async fn list<T: DeserializeOwned>(
        &self,
        shelf: Shelf,
        what: &'static str,
        limit: usize,
    ) -> Result<Vec<T>, CheckpointError> {
        let values = on_backend!(self, store => store.list(shelf, limit))?;
        values.iter().map(|json| position::from_json(what, json)).collect()
    }
}

/// Unambiguous for any index and id: both as JSON strings.
fn dead_letter_key(index: &IndexName, id: &str) -> String {
    serde_json::Value::from(vec![index.0.as_str(), id]).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;
    use crate::checkpoint::LoadState;
    use crate::plan::RootKey;
    use crate::postgres::Lsn;

    async fn open(directory: &Path, name: &str) -> Result<CheckpointStore, CheckpointError> {
        let settings = StoreSettings::Embedded(directory.to_owned());
        CheckpointStore::open(&settings, name, "my-shop").await
    }

    fn checkpoint(generation: u64, lsn: u64) -> Checkpoint {
        Checkpoint {
            system_identifier: "7".to_owned(),
            timeline: 1,
            slot: "pgsyncd_x".to_owned(),
            generation,
            lsn: Lsn(lsn),
            postmaster_started: String::new(),
            saved_at: SystemTime::UNIX_EPOCH,
        }
    }

    fn letter(id: &str, seconds: u64) -> DeadLetter {
        DeadLetter {
            index: IndexName("books".to_owned()),
            id: id.to_owned(),
            key: RootKey(Box::new([id.into()])),
            reason: "mapper_parsing_exception".to_owned(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            lsn: Some(Lsn(5)),
        }
    }

    #[tokio::test]
    async fn a_checkpoint_never_moves_back() {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path(), "p").await.unwrap();
        assert_eq!(store.load_checkpoint().await.unwrap(), None);
        for (generation, lsn) in [(1, 10), (1, 10), (1, u64::MAX), (2, 5), (2, 6)] {
            store.save_checkpoint(&checkpoint(generation, lsn)).await.unwrap();
        }
        for (generation, lsn) in [(2, 5), (1, u64::MAX)] {
            let error = store.save_checkpoint(&checkpoint(generation, lsn)).await.unwrap_err();
            assert!(matches!(error, CheckpointError::Superseded { .. }), "{error:?}");
        }
        assert_eq!(store.load_checkpoint().await.unwrap(), Some(checkpoint(2, 6)));
    }

    #[tokio::test]
    async fn everything_is_there_after_a_restart() {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path(), "p").await.unwrap();
        store.save_checkpoint(&checkpoint(1, 10)).await.unwrap();
        store.put_dead_letter(&letter("b", 2)).await.unwrap();
        store.put_dead_letter(&letter("a", 3)).await.unwrap();
        store.put_dead_letter(&letter("b", 1)).await.unwrap();
        store.cache_schema("https://x/y", "[]").await.unwrap();
        drop(store);
        let store = open(directory.path(), "p").await.unwrap();
        assert_eq!(store.load_checkpoint().await.unwrap(), Some(checkpoint(1, 10)));
        assert_eq!(store.dead_letter_count().await.unwrap(), 2);
        assert_eq!(store.dead_letters(9).await.unwrap(), [letter("b", 1), letter("a", 3)]);
        assert_eq!(store.dead_letters(1).await.unwrap().len(), 1);
        assert_eq!(store.cached_schema("https://x/y").await.unwrap().as_deref(), Some("[]"));
        assert_eq!(store.cached_schema("https://x").await.unwrap(), None);
        store.remove_dead_letter(&letter("a", 0).index, "a").await.unwrap();
        assert_eq!(store.dead_letters(9).await.unwrap(), [letter("b", 1)]);
    }

    #[tokio::test]
    async fn saving_an_entry_forgets_the_progress_of_its_earlier_load() {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path(), "p").await.unwrap();
        let load = LoadState::Running { floor: None, done_upto: None, rows: 0, ranges: 0 };
        let entry = EntryState {
            index: IndexName("books".to_owned()),
            concrete: "books-1".to_owned(),
            schema_digest: "a".to_owned(),
            shape_digest: "b".to_owned(),
            load,
        };
        let progress = LoadProgress {
            index: entry.index.clone(),
            concrete: entry.concrete.clone(),
            done_upto: Some(RootKey(Box::new(["7".into()]))),
            rows: 7,
            ranges: 1,
        };
        store.save_entry(&entry).await.unwrap();
        store.save_progress(&progress).await.unwrap();
        let mut advanced = entry.clone();
        advanced.advance(progress);
        assert_eq!(store.load_entries().await.unwrap(), [advanced]);
        store.save_entry(&entry).await.unwrap();
        assert_eq!(store.load_entries().await.unwrap(), std::slice::from_ref(&entry));
        store.remove_entry(&entry.index).await.unwrap();
        assert_eq!(store.load_entries().await.unwrap(), []);
    }

    #[tokio::test]
    async fn clearing_leaves_other_services_alone() {
        let directory = TempDir::new().unwrap();
        let ours = open(directory.path(), "a-b").await.unwrap();
        let theirs = open(directory.path(), "a").await.unwrap();
        ours.save_checkpoint(&checkpoint(1, 10)).await.unwrap();
        theirs.save_checkpoint(&checkpoint(1, 20)).await.unwrap();
        ours.clear().await.unwrap();
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1);
        assert_eq!(ours.load_checkpoint().await.unwrap(), None);
        assert_eq!(theirs.load_checkpoint().await.unwrap(), Some(checkpoint(1, 20)));
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_used_says_why() {
        let directory = TempDir::new().unwrap();
        let missing = directory.path().join("missing");
        let error = open(&missing, "p").await.unwrap_err();
        assert!(matches!(error, CheckpointError::Directory { .. }), "{error:?}");
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = open(&file, "p").await.unwrap_err();
        assert!(matches!(error, CheckpointError::Directory { .. }), "{error:?}");
        let held = open(directory.path(), "p").await.unwrap();
        held.save_checkpoint(&checkpoint(1, 20)).await.unwrap();
        let error = open(directory.path(), "p").await.unwrap_err();
        assert!(matches!(error, CheckpointError::Locked { .. }), "{error:?}");
        std::fs::write(directory.path().join("pgsyncd-q-my%2Dshop.redb"), "no database").unwrap();
        let error = open(directory.path(), "q").await.unwrap_err();
        assert!(matches!(error, CheckpointError::Embedded { .. }), "{error:?}");
    }
}
