//! Stage 4: documents → Elasticsearch or OpenSearch.

pub mod written;

pub use written::Written;
