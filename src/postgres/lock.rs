//! One at work: a session-level advisory lock on (database, service), held on a connection of its own.
//!
//! Advisory locks live in one database and end with their session, so a crashed instance frees it.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::postgres::catalog_query::CatalogError;

const SUBJECT: &str = "the advisory lock";
/// How often the lock is asked for while it is held.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How often the connection is looked at in between, without a round trip.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A server that does not answer for so long may have given the lock to another.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The 64-bit key of a service in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockKey(i64);

/// The lock, held as long as this value and its connection live.
#[derive(Debug)]
pub struct AdvisoryLock {
    client: Client,
    key: LockKey,
}

/// Answer to an attempt to take the lock.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Held(AdvisoryLock),
    /// Another session has it. The connection is given back for the next attempt.
    Taken {
        /// The connection.
        client: Client,
        /// Who has it; `None` if it was freed meanwhile.
        holder: Option<LockHolder>,
    },
}

/// The session that has the lock. What the role may not see of another role's session is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Server process.
    pub pid: i32,
    /// Its role.
    pub role: Option<String>,
    /// Its `application_name`.
    pub application: Option<String>,
    /// Address it comes from; `None` also for a Unix socket.
    pub address: Option<String>,
    /// Since when it is connected, in UTC.
    pub since: Option<String>,
}

/// Why the lock is no longer ours.
#[derive(Debug, thiserror::Error)]
pub enum LockLost {
    /// The connection ended.
    #[error("the connection that holds the advisory lock is closed")]
    Closed,
    /// The session does not hold it: somebody freed it, or a pooler changed the session.
    #[error("the session no longer holds the advisory lock")]
    Released,
    /// The server did not answer in time.
    #[error("no answer from the connection that holds the advisory lock for {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    /// The check failed.
    #[error(transparent)]
    Check(#[from] CatalogError),
}

impl LockKey {
    /// The key of a service (`--name`) in a database.
    pub fn new(service: &str, database: &str) -> Self {
        let digest = Sha256::digest(format!("pgsyncd\0{database}\0{service}"));
        let key = digest.iter().take(8).fold(0_u64, |key, byte| key << 8 | u64::from(*byte));
        Self(key.cast_signed())
    }
}

impl AdvisoryLock {
    /// Asks the server whether this session still holds the lock.
    ///
    /// # Errors
    /// [`CatalogError::Query`] if the connection is gone or the query fails.
    pub async fn still_held(&self) -> Result<bool, CatalogError> {
        let query =
            format!("select exists (select {MATCH} and l.pid = pg_catalog.pg_backend_pid())");
        let row = self.client.query_one(&query, &[&self.key.0]).await;
        row.and_then(|row| row.try_get(0)).map_err(CatalogError::query(SUBJECT))
    }

    /// Waits until the lock is no longer ours. Cancel-safe: nothing is kept between the checks.
    pub async fn lost(&self) -> LockLost {
        loop {
            let mut waited = Duration::ZERO;
            while waited < CHECK_EVERY {
                if self.client.is_closed() {
                    return LockLost::Closed;
                }
                sleep(LOOK_EVERY).await;
                waited += LOOK_EVERY;
            }
            match timeout(ANSWER_WITHIN, self.still_held()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return LockLost::Released,
                Ok(Err(_)) if self.client.is_closed() => return LockLost::Closed,
                Ok(Err(error)) => return LockLost::Check(error),
                Err(_elapsed) => return LockLost::Silent,
            }
        }
    }

    /// The connection, for small queries beside the lock; not for anything that ends the session.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        let parts = [
            ("role", &self.role),
            ("application", &self.application),
            ("from", &self.address),
            ("since", &self.since),
        ];
        for (word, value) in parts {
            if let Some(value) = value {
                write!(f, ", {word} {value}")?;
            }
        }
        Ok(())
    }
}

/// Tries once to take the lock; the connection goes into it.
///
/// # Errors
/// [`CatalogError::Query`] if a query fails.
pub async fn try_lock(client: Client, key: LockKey) -> Result<Attempt, CatalogError> {
    const QUERY: &str = "select pg_catalog.pg_try_advisory_lock($1::pg_catalog.int8)";
    let row = client.query_one(QUERY, &[&key.0]).await;
    let held: bool = row.and_then(|row| row.try_get(0)).map_err(CatalogError::query(SUBJECT))?;
    if held {
        return Ok(Attempt::Held(AdvisoryLock { client, key }));
    }
    let holder = holder(&client, key).await?;
    Ok(Attempt::Taken { client, holder })
}

/// Who has the lock; `None` if nobody has.
///
/// # Errors
/// [`CatalogError::Query`] if the query fails.
pub async fn holder(client: &Client, key: LockKey) -> Result<Option<LockHolder>, CatalogError> {
    let query = format!(
        "select l.pid, a.usename::pg_catalog.text, nullif(a.application_name, ''), \
         pg_catalog.host(a.client_addr), pg_catalog.to_char(\
             a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' {MATCH}"
    );
    let row = client.query_opt(&query, &[&key.0]).await.map_err(CatalogError::query(SUBJECT))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<LockHolder, tokio_postgres::Error> {
        Ok(LockHolder {
            pid: row.try_get(0)?,
            role: row.try_get(1)?,
            application: row.try_get(2)?,
            address: row.try_get(3)?,
            since: row.try_get(4)?,
        })
    };
    read().map(Some).map_err(CatalogError::query(SUBJECT))
}

/// A 64-bit key is shown as two halves, and `objsubid = 1` tells it from a pair of 32-bit keys.
const MATCH: &str = "from pg_catalog.pg_locks l \
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid \
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1 \
    and l.database = (select oid from pg_catalog.pg_database \
        where datname = pg_catalog.current_database()) \
    and l.classid::pg_catalog.int8 = (($1::pg_catalog.int8 >> 32) & 4294967295) \
    and l.objid::pg_catalog.int8 = ($1::pg_catalog.int8 & 4294967295)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_service_and_database() {
        let keys = [("a", "d"), ("b", "d"), ("a", "e")]
            .map(|(service, database)| LockKey::new(service, database));
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert_eq!(keys[0], LockKey::new("a", "d"), "the key is the same in every process");
    }

    #[test]
    fn a_holder_is_described_by_what_may_be_seen() {
        let holder = LockHolder {
            pid: 7,
            role: Some("sync".into()),
            application: None,
            address: Some("10.0.0.2".into()),
            since: None,
        };
        assert_eq!(holder.to_string(), "process 7, role sync, from 10.0.0.2");
    }
}
