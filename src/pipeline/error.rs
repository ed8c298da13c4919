//! Why the pipeline of a database ended, what comes next, and what helps.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::document::DocumentError;
use crate::error::{ExitCode, schema_exit_code};
use crate::plan::PlanError;
use crate::postgres::lock::LockLost;
use crate::postgres::publication_query::PublicationError;
use crate::postgres::slot::DropSlotError;
use crate::postgres::{CatalogError, ConnectError};
use crate::preflight::Findings;
use crate::schema::SchemaError;
use crate::sink::{ClientError, ErrorClass, SinkError};
use crate::source::SourceError;

/// Why the pipeline of a database ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// PostgreSQL cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The schema is wrong, or does not fit the database.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Something must be put right in PostgreSQL first.
    #[error("database `{database}` is not ready to be followed:\n{findings}")]
    Preflight {
        /// The database.
        database: String,
        /// All that is wrong.
        findings: Findings,
    },
    /// The publication cannot be made or used.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// A slot that is of no use any more cannot be dropped.
    #[error(transparent)]
    DropSlot(#[from] DropSlotError),
    /// Stage 1.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Stage 2.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Stage 3.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Stage 4.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Stage 5.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Elasticsearch cannot be reached, or does not let us in.
    #[error("Elasticsearch at {address} cannot be used")]
    Elasticsearch {
        /// The nodes, without credentials.
        address: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A file of certificates or keys cannot be read.
    #[error("`{}` cannot be read", path.display())]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The snapshot that the slot starts with cannot be read.
    #[error("the first snapshot of replication slot `{slot}` cannot be read")]
    FirstSnapshot {
        /// The slot.
        slot: String,
        /// Why.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// Another instance may be at work now.
    #[error("database `{database}`: this instance lost its place")]
    LockLost {
        /// The database.
        database: String,
        /// How.
        #[source]
        source: LockLost,
    },
    /// Tables of the schema are not what they were.
    #[error("tables changed: {}", tables.join(", "))]
    TablesChanged {
        /// Which, qualified.
        tables: Vec<String>,
    },
    /// `--reindex` names an index that no entry has.
    #[error("no entry of the schema has the index {}", indexes.join(", "))]
    UnknownIndex {
        /// The names.
        indexes: Vec<String>,
    },
    /// A stage panicked.
    #[error("a stage of the pipeline failed unexpectedly")]
    Stage(#[source] tokio::task::JoinError),
    /// The stages did not end in time after they were asked to.
    #[error("the pipeline did not stop within {after:?}, what is not finished is done again")]
    StopTimeout {
        /// How long was waited.
        after: std::time::Duration,
    },
}

/// What comes after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The pipeline is built again from the checkpoint, after a while.
    Restart,
    /// It cannot help: the process ends.
    GiveUp(ExitCode),
}

impl PipelineError {
    /// What comes next. What time may heal is tried again; contradictions are not.
    pub fn recovery(&self) -> Recovery {
        let transient = match self {
            Self::Connect(error) => error.is_transient(),
            Self::Source(
                SourceError::SlotMissing { .. }
                | SourceError::SlotInvalidated { .. }
                | SourceError::PublicationMissing { .. },
            )
            | Self::Checkpoint(
                CheckpointError::Superseded { .. } | CheckpointError::Locked { .. },
            )
            | Self::Catalog(_)
            | Self::DropSlot(_)
            | Self::Plan(_)
            | Self::Document(_)
            | Self::LockLost { .. }
            | Self::TablesChanged { .. }
            | Self::FirstSnapshot { .. }
            | Self::Stage(_)
            | Self::StopTimeout { .. } => true,
            Self::Source(error) => error.is_transient(),
            // While it runs, the stage waits for the right password by itself.
            Self::Checkpoint(error) => {
                error.is_transient() && !matches!(error, CheckpointError::RedisDenied { .. })
            }
            Self::Elasticsearch { source, .. } => source.class() == ErrorClass::Transient,
            Self::Sink(error) => is_transient_sink(error),
            Self::Publication(error) => error.remedy().is_none(),
            Self::Schema(_)
            | Self::Preflight { .. }
            | Self::CertificateFile { .. }
            | Self::UnknownIndex { .. } => false,
        };
        if transient { Recovery::Restart } else { Recovery::GiveUp(self.exit_code()) }
    }

    /// The exit code when it ends the process.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Schema(error) => schema_exit_code(error),
            Self::Connect(error) if error.is_transient() => ExitCode::GaveUp,
            Self::UnknownIndex { .. } => ExitCode::Usage,
            Self::Connect(_)
            | Self::Preflight { .. }
            | Self::Publication(_)
            | Self::CertificateFile { .. }
            | Self::Checkpoint(
                CheckpointError::RedisDenied { .. }
                | CheckpointError::RedisUrl { .. }
                | CheckpointError::Directory { .. },
            )
            | Self::Sink(SinkError::IndexRefused { .. } | SinkError::PipelineMissing { .. }) => {
                ExitCode::Configuration
            }
            Self::Elasticsearch { source, .. } if source.class() == ErrorClass::Permanent => {
                ExitCode::Configuration
            }
            Self::Elasticsearch { .. }
            | Self::Catalog(_)
            | Self::DropSlot(_)
            | Self::Source(_)
            | Self::Plan(_)
            | Self::Document(_)
            | Self::Sink(_)
            | Self::Checkpoint(_)
            | Self::FirstSnapshot { .. }
            | Self::LockLost { .. }
            | Self::TablesChanged { .. }
            | Self::Stage(_)
            | Self::StopTimeout { .. } => ExitCode::GaveUp,
        }
    }

    /// Whether it only says that a neighbour ended: not what to report.
    pub(crate) fn is_consequence(&self) -> bool {
        matches!(self, Self::Sink(SinkError::OutputClosed | SinkError::DeadLettersClosed))
    }

    /// What the reader can do; `None` if the text says it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Connect(error) => Some(error.hint()),
            Self::Schema(error) => error.hint(),
            Self::Publication(error) => error.remedy(),
            Self::Source(error) => Some(error.hint()),
            Self::Checkpoint(error) => error.hint(),
            Self::Elasticsearch { .. } => {
                Some("check ELASTICSEARCH_URL and the credentials, and that the server is up")
            }
            Self::Sink(SinkError::IndexRefused { .. }) => {
                Some("correct `setting`, `mapping` or `transform.mapping` of the entry")
            }
            Self::Sink(_)
            | Self::Catalog(_)
            | Self::Preflight { .. }
            | Self::DropSlot(_)
            | Self::Plan(_)
            | Self::Document(_)
            | Self::CertificateFile { .. }
            | Self::FirstSnapshot { .. }
            | Self::LockLost { .. }
            | Self::TablesChanged { .. }
            | Self::UnknownIndex { .. }
            | Self::Stage(_)
            | Self::StopTimeout { .. } => None,
        }
    }
}

fn is_transient_sink(error: &SinkError) -> bool {
    match error {
        SinkError::Server { source, .. } | SinkError::Refused(source) => {
            source.class() == ErrorClass::Transient
        }
        SinkError::AliasGone { .. }
        | SinkError::DeadLettersClosed
        | SinkError::OutputClosed
        | SinkError::Superseded { .. } => true,
        SinkError::IndexRefused { .. }
        | SinkError::AmbiguousAlias { .. }
        | SinkError::PipelineMissing { .. }
        | SinkError::Rejected { .. }
        | SinkError::UnknownEntry { .. } => false,
    }
}
