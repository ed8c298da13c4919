//! The checkpoint store in Redis: bytes under keys of one prefix. What they mean is `store.rs`'s.
//!
//! One connection is kept and shared; the first error that may leave it unusable drops it, and the next
//! call opens another. Nothing is tried twice here: the caller knows whether to wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, Script};
use redis::{RedisResult, ServerErrorKind};

use super::CheckpointError;
use super::store::Shelf;

/// How long opening a connection may take, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer may take; a save at shutdown has to fit into its ten seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many fields one HSCAN is asked for.
const SCAN_COUNT: usize = 500;

/// What would break the key's parts apart: a name with a colon must not reach into another's keys.
const NOT_IN_A_KEY_PART: &AsciiSet = &CONTROLS.add(b':').add(b'%').add(b' ').add(b'{').add(b'}');

/// Saves unless something later is stored, which it then returns.
const SAVE_UNLESS_LATER: &str = "
local stored = redis.call('HGET', KEYS[1], 'order')
if stored and stored > ARGV[1] then
  return redis.call('HGET', KEYS[1], 'json')
end
redis.call('HSET', KEYS[1], 'order', ARGV[1], 'json', ARGV[2])
return false
";

/// How to reach Redis: `redis[s]://[user][:password@]host[:port][/db]`.
#[derive(Clone)]
pub struct RedisSettings {
    /// The URL, with its secrets.
    pub url: String,
}

/// Keys of one service and database in Redis.
pub(super) struct RedisStore {
    client: Client,
    /// Host, port and database, without secrets.
    address: String,
    prefix: String,
    save: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, prefix, .. } = self;
        f.debug_struct("RedisStore")
            .field("address", address)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store that connects when it is first used.
    pub(super) fn new(
        settings: &RedisSettings,
        name: &str,
        database: &str,
    ) -> Result<Self, CheckpointError> {
        let malformed = |source| CheckpointError::RedisUrl { source };
        let info = settings.url.as_str().into_connection_info().map_err(malformed)?;
        let address = format!("{}/{}", info.addr(), info.redis_settings().db());
        let prefix = format!("pgsyncd:{}:{}", key_part(name), key_part(database));
        Ok(Self {
            client: Client::open(info).map_err(malformed)?,
            address,
            prefix,
            save: Script::new(SAVE_UNLESS_LATER),
            connection: Mutex::new(None),
        })
    }

    /// The stored checkpoint.
    pub(super) async fn checkpoint(&self) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.ask(redis::cmd("HGET").arg(self.checkpoint_key()).arg("json")).await
    }

    /// Stores a checkpoint and returns `None`, or returns the later one that is stored.
    pub(super) async fn save_checkpoint(
        &self,
        order: String,
        json: String,
    ) -> Result<Option<Vec<u8>>, CheckpointError> {
        let mut connection = self.connect().await?;
        let mut invocation = self.save.key(self.checkpoint_key());
        let answer = invocation.arg(order).arg(json).invoke_async(&mut connection).await;
        self.settle(answer)
    }

    /// Sets or removes an entry, and removes its progress with it.
    pub(super) async fn replace_entry(
        &self,
        index: String,
        json: Option<String>,
    ) -> Result<(), CheckpointError> {
        let mut pipe = redis::pipe();
        pipe.atomic().hdel(self.key(Shelf::Progress), &index).ignore();
        match json {
            Some(json) => pipe.hset(self.key(Shelf::Entries), index, json).ignore(),
            None => pipe.hdel(self.key(Shelf::Entries), index).ignore(),
        };
        let mut connection = self.connect().await?;
        self.settle(pipe.query_async(&mut connection).await)
    }

    /// One value of a shelf.
    pub(super) async fn get(
        &self,
        shelf: Shelf,
        name: String,
    ) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.ask(redis::cmd("HGET").arg(self.key(shelf)).arg(name)).await
    }

    /// Sets one value of a shelf.
    pub(super) async fn put(
        &self,
        shelf: Shelf,
        name: String,
        json: String,
    ) -> Result<(), CheckpointError> {
        self.ask(redis::cmd("HSET").arg(self.key(shelf)).arg(name).arg(json)).await
    }

    /// Removes one value of a shelf, if it is there.
    pub(super) async fn remove(&self, shelf: Shelf, name: String) -> Result<(), CheckpointError> {
        self.ask(redis::cmd("HDEL").arg(self.key(shelf)).arg(name)).await
    }

    /// At most `limit` values of a shelf, in no order.
    ///
    /// HSCAN may return a field twice while the hash grows, so fields are kept until the end.
    pub(super) async fn list(
        &self,
        shelf: Shelf,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, CheckpointError> {
        let mut found = BTreeMap::new();
        let mut cursor: u64 = 0;
        while found.len() < limit {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.key(shelf)).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let (next, fields): (u64, BTreeMap<Vec<u8>, Vec<u8>>) = self.ask(&scan).await?;
            found.extend(fields);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    /// How many values a shelf has.
    pub(super) async fn count(&self, shelf: Shelf) -> Result<u64, CheckpointError> {
        self.ask(redis::cmd("HLEN").arg(self.key(shelf))).await
    }

    /// Removes all keys of this service and database.
    pub(super) async fn clear(&self) -> Result<(), CheckpointError> {
        let keys = Shelf::ALL.map(|shelf| self.key(shelf));
        self.ask(redis::cmd("DEL").arg(self.checkpoint_key()).arg(&keys)).await
    }

    /// Removes all keys of this service and database; where they were, if there were any.
    pub(super) async fn destroy(&self) -> Result<Option<String>, CheckpointError> {
        let keys = Shelf::ALL.map(|shelf| self.key(shelf));
        let mut delete = redis::cmd("DEL");
        let removed: u64 = self.ask(delete.arg(self.checkpoint_key()).arg(&keys)).await?;
        Ok((removed > 0).then(|| format!("Redis at {}, keys {}:*", self.address, self.prefix)))
    }

    fn checkpoint_key(&self) -> String {
        format!("{}:checkpoint", self.prefix)
    }

    fn key(&self, shelf: Shelf) -> String {
        format!("{}:{}", self.prefix, shelf.name())
    }

    async fn ask<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Result<T, CheckpointError> {
        let mut connection = self.connect().await?;
        self.settle(command.query_async(&mut connection).await)
    }

    /// The open connection, or another one.
    async fn connect(&self) -> Result<MultiplexedConnection, CheckpointError> {
        if let Some(open) = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(open);
        }
        install_crypto();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| self.classify(error))?;
        self.keep(Some(opened.clone()));
        Ok(opened)
    }

    /// Drops the connection after an error that it may not survive.
    ///
    /// A timeout counts: the peer may be gone without a word, and the answer of an abandoned command
    /// costs nothing on a connection that is closed.
    fn settle<T>(&self, answer: RedisResult<T>) -> Result<T, CheckpointError> {
        answer.map_err(|error| {
            if error.is_io_error() || error.is_unrecoverable_error() || is_read_only(&error) {
                self.keep(None);
            }
            self.classify(error)
        })
    }

    fn keep(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn classify(&self, source: RedisError) -> CheckpointError {
        let address = self.address.clone();
        if is_denied(&source) {
            CheckpointError::RedisDenied { address, source }
        } else if source.is_io_error() || source.is_unrecoverable_error() {
            CheckpointError::RedisUnreachable { address, source }
        } else {
            CheckpointError::RedisRefused { address, source }
        }
    }
}

/// After a failover the old master answers READONLY: another connection finds the new one.
fn is_read_only(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn is_denied(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// `redis` builds its TLS configuration from the process's default provider, and panics without one.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails only if another thread was first, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

fn key_part(name: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(name, NOT_IN_A_KEY_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(url: &str) -> Result<RedisStore, CheckpointError> {
        RedisStore::new(&RedisSettings { url: url.to_owned() }, "a:b", "shop")
    }

    #[test]
    fn no_secret_of_the_url_is_shown() {
        let store = store("rediss://ann:s3cret@example.org:6380/4").unwrap();
        assert_eq!(store.address, "example.org:6380/4");
        let settings = RedisSettings { url: "redis://ann:s3cret@h".to_owned() };
        assert!(!format!("{store:?} {settings:?}").contains("s3cret"));
        for malformed in ["redis://ann:s3cret@h:port", "http://ann:s3cret@h", "s3cret"] {
            let error = self::store(malformed).unwrap_err();
            let CheckpointError::RedisUrl { source } = &error else { panic!("{error:?}") };
            assert!(!format!("{error} {source} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn keys_of_different_names_never_meet() {
        let store = store("redis://h").unwrap();
        assert_eq!(store.key(Shelf::Entries), "pgsyncd:a%3Ab:shop:entries");
        assert_eq!(store.checkpoint_key(), "pgsyncd:a%3Ab:shop:checkpoint");
    }
}
