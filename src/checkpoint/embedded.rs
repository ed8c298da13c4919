//! The checkpoint store in a file: bytes in a redb database, every change on disk before it counts.
//! What they mean is `store.rs`'s.
//!
//! redb takes a lock on the file, so two processes cannot write one store. After an I/O error redb
//! wants to be closed and opened afresh: the file is dropped, and the next call opens it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError, WriteTransaction,
};

use super::CheckpointError;
use super::store::Shelf;

type Definition<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

const CHECKPOINT: Definition<'static> = TableDefinition::new("checkpoint");
const ORDER: &str = "order";
const JSON: &str = "json";

/// The file of one service and database.
#[derive(Debug)]
pub(super) struct EmbeddedStore {
    file: Arc<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// `None` until the next use.
    database: Mutex<Option<Database>>,
}

impl EmbeddedStore {
    /// Opens the file in a directory that must be there. A file that is not there is made at the first
    /// write, so that a start in vain leaves none; whether it can be made is tried out.
    pub(super) async fn open(
        directory: &Path,
        name: &str,
        database: &str,
    ) -> Result<Self, CheckpointError> {
        let store = Self::closed(directory, name, database);
        let directory = directory.to_owned();
        store
            .run(move |file| {
                check_directory(&directory)?;
                file.try_out()
            })
            .await?;
        Ok(store)
    }

    fn closed(directory: &Path, name: &str, database: &str) -> Self {
        let file = format!("pgsyncd-{}-{}.redb", file_part(name, "_.-"), file_part(database, "_"));
        let file = File { path: directory.join(file), database: Mutex::new(None) };
        Self { file: Arc::new(file) }
    }

    /// Whether there is a file.
    pub(super) fn exists(directory: &Path, name: &str, database: &str) -> bool {
        Self::closed(directory, name, database).file.path.exists()
    }

    /// Removes the file without a look into it: it may be damaged. Its path, if it was there.
    pub(super) async fn destroy(
        directory: &Path,
        name: &str,
        database: &str,
    ) -> Result<Option<String>, CheckpointError> {
        let store = Self::closed(directory, name, database);
        store
            .run(|file| {
                let path = file.path.exists().then(|| file.path.display().to_string());
                file.remove()?;
                Ok(path)
            })
            .await
    }

    /// The stored checkpoint.
    pub(super) async fn checkpoint(&self) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.run(|file| file.with_present(|database| read(database, CHECKPOINT, JSON))).await
    }

    /// Stores a checkpoint and returns `None`, or returns the later one that is stored.
    pub(super) async fn save_checkpoint(
        &self,
        order: String,
        json: String,
    ) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.run(move |file| file.with(|database| save_unless_later(database, &order, &json))).await
    }

    /// Sets or removes an entry, and removes its progress with it.
    pub(super) async fn replace_entry(
        &self,
        index: String,
        json: Option<String>,
    ) -> Result<(), CheckpointError> {
        self.change(move |transaction| {
            transaction.open_table(table(Shelf::Progress))?.remove(index.as_str())?;
            let mut entries = transaction.open_table(table(Shelf::Entries))?;
            match json {
                Some(json) => entries.insert(index.as_str(), json.as_bytes())?,
                None => entries.remove(index.as_str())?,
            };
            Ok(())
        })
        .await
    }

    /// One value of a shelf.
    pub(super) async fn get(
        &self,
        shelf: Shelf,
        name: String,
    ) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.run(move |file| file.with_present(|database| read(database, table(shelf), &name)))
            .await
    }

    /// Sets one value of a shelf.
    pub(super) async fn put(
        &self,
        shelf: Shelf,
        name: String,
        json: String,
    ) -> Result<(), CheckpointError> {
        self.change(move |transaction| {
            transaction.open_table(table(shelf))?.insert(name.as_str(), json.as_bytes())?;
            Ok(())
        })
        .await
    }

    /// Removes one value of a shelf, if it is there.
    pub(super) async fn remove(&self, shelf: Shelf, name: String) -> Result<(), CheckpointError> {
        self.change(move |transaction| {
            transaction.open_table(table(shelf))?.remove(name.as_str())?;
            Ok(())
        })
        .await
    }

    /// At most `limit` values of a shelf, by name.
    pub(super) async fn list(
        &self,
        shelf: Shelf,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, CheckpointError> {
        self.run(move |file| file.with_present(|database| list(database, shelf, limit))).await
    }

    /// How many values a shelf has.
    pub(super) async fn count(&self, shelf: Shelf) -> Result<u64, CheckpointError> {
        self.run(move |file| file.with_present(|database| count(database, shelf))).await
    }

    /// Removes the file. The next use makes an empty one.
    pub(super) async fn clear(&self) -> Result<(), CheckpointError> {
        self.run(File::remove).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error> + Send + 'static,
    ) -> Result<(), CheckpointError> {
        self.run(|file| file.with(|database| write(database, change))).await
    }

    /// Runs blocking work where it may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || work(&file))
            .await
            .map_err(|source| CheckpointError::Interrupted { source })?
    }
}

impl File {
    /// Uses the database, opened if it is not; closes it after an error.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, CheckpointError> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(open) => open,
            None => Database::create(&self.path).map_err(|error| self.unopened(error))?,
        };
        let result = work(&database);
        if result.is_ok() {
            *slot = Some(database);
        }
        result.map_err(|source| self.failed(source))
    }

    /// Uses the database if its file is there; what is not there holds nothing.
    fn with_present<T: Default>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, CheckpointError> {
        let is_open =
            self.database.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some();
        if is_open || self.path.exists() { self.with(work) } else { Ok(T::default()) }
    }

    /// Opens the file; one that is not there is made, and removed while its lock is held: nobody can
    /// have begun to use it.
    fn try_out(&self) -> Result<(), CheckpointError> {
        let is_absent = !self.path.exists();
        self.with(|_| Ok(()))?;
        if is_absent {
            let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
            std::fs::remove_file(&self.path).map_err(|error| self.failed(error.into()))?;
            drop(slot.take());
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), CheckpointError> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        drop(slot.take());
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failed(redb::Error::Io(error)))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn unopened(&self, error: DatabaseError) -> CheckpointError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => {
                CheckpointError::Locked { path: self.path.clone() }
            }
            other => self.failed(other.into()),
        }
    }

    fn failed(&self, source: redb::Error) -> CheckpointError {
        let path = self.path.clone();
        match source {
            // redb says `InvalidData` of a file that is none of its own.
            redb::Error::Io(source)
                if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                CheckpointError::File { path, source }
            }
            other => CheckpointError::Embedded { path, source: Box::new(other) },
        }
    }
}

fn table(shelf: Shelf) -> Definition<'static> {
    TableDefinition::new(shelf.name())
}

fn write(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    change(&transaction)?;
    transaction.commit()?;
    Ok(())
}

fn read(
    database: &Database,
    table: Definition<'_>,
    name: &str,
) -> Result<Option<Vec<u8>>, redb::Error> {
    match database.begin_read()?.open_table(table) {
        Ok(table) => Ok(table.get(name)?.map(|value| value.value().to_owned())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn list(database: &Database, shelf: Shelf, limit: usize) -> Result<Vec<Vec<u8>>, redb::Error> {
    let table = match database.begin_read()?.open_table(table(shelf)) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let rows = table.iter()?.take(limit);
    rows.map(|row| Ok(row?.1.value().to_owned())).collect()
}

fn count(database: &Database, shelf: Shelf) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(table(shelf)) {
        Ok(table) => Ok(table.len()?),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Reads and writes in one transaction, of which redb runs one at a time.
fn save_unless_later(
    database: &Database,
    order: &str,
    json: &str,
) -> Result<Option<Vec<u8>>, redb::Error> {
    let mut later = None;
    write(database, |transaction| {
        let mut table = transaction.open_table(CHECKPOINT)?;
        let is_later = table.get(ORDER)?.is_some_and(|stored| stored.value() > order.as_bytes());
        if is_later {
            later = table.get(JSON)?.map(|stored| stored.value().to_owned());
        } else {
            table.insert(ORDER, order.as_bytes())?;
            table.insert(JSON, json.as_bytes())?;
        }
        Ok(())
    })?;
    Ok(later)
}

/// Says what is wrong with the directory before redb says something about a file.
fn check_directory(directory: &Path) -> Result<(), CheckpointError> {
    let unusable = |source| CheckpointError::Directory { path: directory.to_owned(), source };
    if !std::fs::metadata(directory).map_err(unusable)?.is_dir() {
        return Err(unusable(ErrorKind::NotADirectory.into()));
    }
    Ok(())
}

/// `name` with everything but letters, digits and `also` as `%XX` per byte.
///
/// The database's part has no `-` left, so that the last one in the file's name ends the service's.
fn file_part(name: &str, also: &str) -> String {
    let mut bytes = [0; 4];
    let mut part = String::new();
    for character in name.chars() {
        if character.is_alphanumeric() || also.contains(character) {
            part.push(character);
        } else {
            let bytes = character.encode_utf8(&mut bytes).bytes();
            part.extend(bytes.map(|byte| format!("%{byte:02X}")));
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_hold_no_separator_and_never_meet() {
        assert_eq!(file_part("my-app_1.x", "_.-"), "my-app_1.x");
        assert_eq!(file_part("a/../b-c é", "_"), "a%2F%2E%2E%2Fb%2Dc%20é");
        assert_eq!(file_part("€%", "_"), "%E2%82%AC%25");
    }

    #[tokio::test]
    async fn a_damaged_file_is_destroyed_once() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("pgsyncd-p-shop.redb");
        std::fs::write(&path, "damaged").unwrap();
        EmbeddedStore::open(directory.path(), "p", "shop").await.unwrap_err();
        let destroy = || EmbeddedStore::destroy(directory.path(), "p", "shop");
        assert_eq!(destroy().await.unwrap(), Some(path.display().to_string()));
        assert_eq!(destroy().await.unwrap(), None);
        assert!(!EmbeddedStore::exists(directory.path(), "p", "shop"));
    }

    #[tokio::test]
    async fn a_store_that_is_only_read_leaves_no_file() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), "p", "shop").await.unwrap();
        assert_eq!(store.checkpoint().await.unwrap(), None);
        assert_eq!(store.count(Shelf::Entries).await.unwrap(), 0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        store.put(Shelf::Schemas, "a".to_owned(), "1".to_owned()).await.unwrap();
        assert_eq!(store.count(Shelf::Schemas).await.unwrap(), 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_io_error_closes_the_file_and_the_next_use_opens_it_again() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), "p", "shop").await.unwrap();
        store.put(Shelf::Schemas, "a".to_owned(), "1".to_owned()).await.unwrap();
        let full = || redb::Error::Io(ErrorKind::StorageFull.into());
        let error = store.change(move |_| Err(full())).await.unwrap_err();
        assert!(matches!(error, CheckpointError::File { .. }) && error.is_transient());
        assert!(store.file.database.lock().unwrap().is_none());
        let kept = store.get(Shelf::Schemas, "a".to_owned()).await.unwrap();
        assert_eq!(kept.as_deref(), Some(b"1".as_slice()));
    }
}
