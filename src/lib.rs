//! `pgsyncd`: keeps nested documents in Elasticsearch or OpenSearch in step with PostgreSQL, live.
//!
//! The folders follow the road of the data; a stage knows the stage before it by its output only.
//!
//! ```text
//! PostgreSQL ─WAL─► source ─TransactionPart─► plan ─Touched─► document ─DocumentBatch─► sink ─Written─► checkpoint
//!                     ▲                                                                                     │
//!                     └──────────────────────────── watch<Lsn>: durable ────────────────────────────────────┘
//! ```
//!
//! What always holds: `reported ≤ durable ≤ written ≤ received` (positions in the WAL), every document
//! is one snapshot of the database, and a newer write is never undone by an older one.

pub mod admin;
pub mod backoff;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod document;
pub mod error;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod pipeline;
pub mod plan;
pub mod postgres;
pub mod preflight;
pub mod schema;
pub mod sink;
pub mod source;
pub mod status;
