//! Stage 5: what is durable.
//!
//! Counts what the sink has written ([`Acks`]), tells the plan at once ([`Finished`](crate::plan::Finished)), saves the
//! checkpoint, and only then tells the source, which reports it to PostgreSQL. The stage never waits for
//! the store with its ears closed: while a save is on its way, or the store is unreachable, it goes on
//! counting, so that the sink is not held up. Nothing is told as durable meanwhile.

pub mod acks;
mod embedded;
mod loads;
pub mod position;
mod redis;
mod stage;
pub mod store;

use std::io;
use std::path::PathBuf;

pub use self::acks::Acks;
pub use self::position::{Checkpoint, DeadLetter, EntryState, LoadProgress, LoadState, Position};
pub use self::redis::RedisSettings;
pub use self::stage::{Listeners, Progress, run};
pub use self::store::{CheckpointStore, StoreSettings};

/// Why a checkpoint could not be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another instance saved a later position: we are the one that lost its place.
    #[error("the stored checkpoint {stored} is ahead of ours, {ours}")]
    Superseded {
        /// What is stored.
        stored: Position,
        /// What we wanted to save.
        ours: Position,
    },
    /// No connection, or it broke, or no answer came in time.
    #[error("Redis at `{address}` is unreachable")]
    RedisUnreachable {
        /// Host, port and database.
        address: String,
        /// What the client says.
        source: ::redis::RedisError,
    },
    /// Wrong or missing password, or a user without the right.
    #[error("Redis at `{address}` denies access")]
    RedisDenied {
        /// Host, port and database.
        address: String,
        /// What the server says.
        source: ::redis::RedisError,
    },
    /// An answer that is an error: read-only, loading, out of memory.
    #[error("Redis at `{address}` refused a command")]
    RedisRefused {
        /// Host, port and database.
        address: String,
        /// What the server says.
        source: ::redis::RedisError,
    },
    /// The URL is none of Redis. It is not shown: it may hold a password.
    #[error("the Redis URL is malformed, expected `redis[s]://[user][:password@]host[:port][/db]`")]
    RedisUrl {
        /// What the client says.
        source: ::redis::RedisError,
    },
    /// The directory of the embedded store is not there, or is none.
    #[error("the checkpoint directory `{}` cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the embedded store open.
    #[error("the checkpoint file `{}` is held by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The embedded store's file could not be made, read or written.
    #[error("the checkpoint file `{}` cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The embedded store's file is broken or none of ours.
    #[error("the checkpoint file `{}` is damaged, or not a checkpoint file", path.display())]
    Embedded {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<::redb::Error>,
    },
    /// A stored value is not what we write.
    #[error("the stored {what} cannot be read")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A stored value was written by a later version of this program.
    #[error("the stored {what} has format {found}, this version knows formats up to {known}")]
    LaterFormat {
        /// What it is.
        what: &'static str,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The runtime ended during a call.
    #[error("a call of the checkpoint store was cut off")]
    Interrupted {
        /// Why.
        source: tokio::task::JoinError,
    },
}

impl CheckpointError {
    /// Whether waiting may help. The stage then goes on and tries again.
    pub fn is_transient(&self) -> bool {
        match self {
            // A rotated password, a full disk, a failover: the operator acts and the flow goes on.
            Self::RedisUnreachable { .. }
            | Self::RedisDenied { .. }
            | Self::RedisRefused { .. }
            | Self::File { .. } => true,
            Self::Superseded { .. }
            | Self::RedisUrl { .. }
            | Self::Directory { .. }
            | Self::Locked { .. }
            | Self::Embedded { .. }
            | Self::Unreadable { .. }
            | Self::LaterFormat { .. }
            | Self::Interrupted { .. } => false,
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Superseded { .. } => Some(
                "another instance with this name follows the same database: stop one of them, or give it its own `--name`",
            ),
            Self::RedisUnreachable { .. } => Some(
                "check that Redis runs, and REDIS_URL or REDIS_HOST and REDIS_PORT; `rediss://` trusts the system's certificates, or those in SSL_CERT_FILE",
            ),
            Self::RedisDenied { .. } => Some(
                "check REDIS_USER and REDIS_AUTH; the user needs HGET, HSET, HDEL, HLEN, HSCAN, DEL, MULTI, EXEC, EVALSHA, SCRIPT LOAD and SELECT, on keys `pgsyncd:*`",
            ),
            Self::RedisRefused { .. } => {
                Some("Redis has to be a writable master with memory left (`config/redis.conf`)")
            }
            Self::RedisUrl { .. } => {
                Some("percent-encode special characters of the password, `@` as `%40`")
            }
            Self::Directory { .. } => {
                Some("make the directory, or let CHECKPOINT_PATH name one, or configure Redis")
            }
            Self::Locked { .. } => Some(
                "another pgsyncd with this name follows the same database: stop one of them, or give it its own `--name`",
            ),
            Self::File { .. } => Some(
                "the user that runs pgsyncd must be able to write in CHECKPOINT_PATH, and the disk needs space",
            ),
            Self::Embedded { .. } | Self::Unreadable { .. } => Some(
                "without its checkpoint pgsyncd finds its slot again and compares the indexes: `pgsyncd teardown`, or remove the file",
            ),
            Self::LaterFormat { .. } => Some("run the version that wrote it, or a later one"),
            Self::Interrupted { .. } => None,
        }
    }
}
