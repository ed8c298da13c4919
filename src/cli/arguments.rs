//! The grammar of the command line: PGSync's flags and our own.

use std::path::PathBuf;

use clap::Parser;

use crate::config::settings::{
    LOG_LEVEL, NUM_WORKERS, PG_HOST, PG_PORT, PG_SSLMODE, PG_SSLROOTCERT, PG_USER,
    PGSYNCD_DYNAMIC_MAPPING, PGSYNCD_HTTP_ADDR, PGSYNCD_NAME, S3_SCHEMA_URL, SCHEMA, SCHEMA_URL,
};
use crate::config::{FlagValue, Notice, Setting};

/// Keeps nested Elasticsearch and OpenSearch documents in step with PostgreSQL, live.
///
/// Without a command it runs until it is told to stop. Every setting can be given in the
/// environment, in `.env` or in the settings file too: see docs/configuration.md.
#[derive(Clone, Debug, Parser)]
#[command(name = "pgsyncd", version, disable_help_subcommand = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Subcommand>,

    /// The schema file
    #[arg(short, long, value_name = "PATH", group = "schema_source", global = true)]
    config: Option<String>,
    /// Where to fetch the schema file
    #[arg(long, alias = "schema_url", value_name = "URL", group = "schema_source", global = true)]
    schema_url: Option<String>,
    /// The schema file in S3
    #[arg(
        long,
        alias = "s3_schema_url",
        value_name = "S3_URL",
        group = "schema_source",
        global = true
    )]
    s3_schema_url: Option<String>,
    /// The settings file [default: config/pgsyncd.toml or /etc/pgsyncd/pgsyncd.toml if present]
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) settings: Option<PathBuf>,
    /// Prefix of slot, publication, lock and checkpoint keys
    #[arg(long, global = true)]
    name: Option<String>,

    /// Host of PostgreSQL
    #[arg(long, global = true)]
    host: Option<String>,
    /// Port of PostgreSQL
    #[arg(short, long, global = true)]
    port: Option<String>,
    /// Role to log in as
    #[arg(short, long, global = true)]
    user: Option<String>,
    /// Ask for the password of PostgreSQL
    #[arg(long, global = true)]
    pub(super) password: bool,
    /// disable, allow, prefer, require, verify-ca, verify-full
    #[arg(long, value_name = "MODE", global = true)]
    sslmode: Option<String>,
    /// Authorities that may sign the certificate of PostgreSQL (PEM)
    #[arg(long, value_name = "PATH", global = true)]
    sslrootcert: Option<String>,

    /// Load, catch up with the changes so far, and stop
    #[arg(long)]
    pub(super) once: bool,
    /// Rebuild these indexes first, or all of the schema
    #[arg(long, value_name = "INDEX", num_args = 0.., value_delimiter = ',')]
    pub(super) reindex: Option<Vec<String>>,
    /// Parallel readers of the first load
    #[arg(short, long, alias = "num_workers", value_name = "NUMBER", global = true)]
    num_workers: Option<String>,
    /// Leave fields that the schema does not map to the server's guess
    #[arg(long, global = true)]
    dynamic_mapping: bool,
    /// Where /live, /ready, /status and /metrics are served, or off
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    http_addr: Option<String>,
    /// Log at level debug
    #[arg(short, long, global = true)]
    verbose: bool,

    /// Check schema and databases, and say which indexes are missing in PostgreSQL
    #[arg(short, long, conflicts_with = "teardown")]
    pub(super) analyze: bool,
    /// Remove slot, publication and checkpoint
    #[arg(short, long)]
    pub(super) teardown: bool,

    /// Accepted: it always runs on
    #[arg(short, long, hide_short_help = true)]
    daemon: bool,
    /// Accepted: what is missing is always set up
    #[arg(short, long, hide_short_help = true)]
    bootstrap: bool,
    /// Accepted: changes always come from the write-ahead log
    #[arg(long, hide_short_help = true)]
    wal: bool,
    #[arg(long, hide = true)]
    pub(super) polling: bool,
    #[arg(long, hide = true)]
    pub(super) producer: bool,
    #[arg(long, hide = true)]
    pub(super) consumer: bool,
}

/// What works beside a running service.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Say whether the service is alive: exit code 0 or 1
    Healthcheck,
    /// Show what the service is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Work with the schema file
    Schema {
        #[command(subcommand)]
        action: SchemaAction,
    },
    /// Remove slot, publication and checkpoint
    Teardown,
}

/// What can be done with the schema file.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum SchemaAction {
    /// Show it with its variables replaced
    Print,
    /// Show the JSON Schema of the format, for editors
    JsonSchema,
}

impl Arguments {
    /// The settings among the flags.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let values: [(&'static Setting, &Option<String>); 11] = [
            (&SCHEMA, &self.config),
            (&SCHEMA_URL, &self.schema_url),
            (&S3_SCHEMA_URL, &self.s3_schema_url),
            (&PGSYNCD_NAME, &self.name),
            (&PG_HOST, &self.host),
            (&PG_PORT, &self.port),
            (&PG_USER, &self.user),
            (&PG_SSLMODE, &self.sslmode),
            (&PG_SSLROOTCERT, &self.sslrootcert),
            (&NUM_WORKERS, &self.num_workers),
            (&PGSYNCD_HTTP_ADDR, &self.http_addr),
        ];
        let values =
            values.into_iter().filter_map(|(setting, text)| Some((setting, text.clone()?)));
        let switches = [
            (&LOG_LEVEL, "debug", self.verbose),
            (&PGSYNCD_DYNAMIC_MAPPING, "true", self.dynamic_mapping),
        ];
        let switches = switches.into_iter().filter(|(_, _, given)| *given);
        let switches = switches.map(|(setting, text, _)| (setting, text.to_owned()));
        values
            .chain(switches)
            .map(|(setting, text)| FlagValue {
                setting,
                flag: setting.flag.unwrap_or(setting.toml),
                text,
            })
            .collect()
    }

    /// The accepted flags that change nothing. `--daemon` is what we are, and not worth a line.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let flags = [
            (self.bootstrap, "--bootstrap", "what is missing is set up at each start"),
            (self.wal, "--wal", "changes always come from the write-ahead log"),
        ];
        let given = flags.into_iter().filter(|(given, _, _)| *given);
        given
            .map(|(_, flag, reason)| Notice::WithoutMeaning { name: flag.to_owned(), reason })
            .collect()
    }
}
