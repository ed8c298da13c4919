//! Ground: the configuration. `settings.rs` is the table of all settings; `sources.rs` merges flags,
//! environment, `.env` and the settings file into [`Raw`]; the resolver turns that into [`Config`],
//! or into every problem at once.

mod checkpoint;
mod elasticsearch;
mod files;
mod foreign;
mod log;
mod notice;
mod postgres;
mod problem;
mod raw;
pub mod reference;
mod resolved;
mod resolver;
mod setting;
pub mod settings;
mod sources;
mod value;

pub use checkpoint::CheckpointConfig;
pub use elasticsearch::{
    ClientCertificate, ElasticsearchAuth, ElasticsearchConfig, ElasticsearchTls,
};
pub use files::read_files;
pub use log::{LogConfig, LogFormat};
pub use notice::Notice;
pub use postgres::{PostgresConfig, SslMode};
pub use problem::{ConfigError, Problem};
pub use raw::{Given, Origin, Raw};
pub use resolved::{
    Config, HttpConfig, OnReject, Resolved, RunOptions, SchemaSource, resolve, resolve_http,
    resolve_schema,
};
pub use setting::Setting;
pub use sources::{
    FlagValue, Gathered, SETTINGS_FILE_VARIABLE, Sources, TextFile, gather, parse_dotenv,
};
