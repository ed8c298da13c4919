//! Elasticsearch and OpenSearch over HTTP: the client, bulk bodies and their answers, indexes,
//! searches. No scheduling: that is `sink/schedule.rs`.
//!
//! `reqwest` rather than the `elasticsearch` crate: that one is published as an alpha for servers of
//! this day, refuses OpenSearch, and would be a second HTTP client beside the one that reads the
//! schema's URL.

pub mod bulk;
pub mod client;
pub mod creation;
pub mod error;
pub mod index;
pub mod mapping;
pub mod names;
pub mod nodes;
pub mod options;
pub mod outcome;
pub mod search;
pub mod tls;

pub use bulk::{BulkItem, BulkRequest};
pub use client::{Client, Server, ServerFamily};
pub use creation::Creation;
pub use error::{ClientError, ErrorClass};
pub use index::Indexes;
pub use mapping::FieldMapping;
pub use names::IndexNames;
pub use options::{Auth, ClientIdentity, Compression, ElasticsearchOptions};
pub use outcome::ItemOutcome;
pub use search::{Pages, Search};
