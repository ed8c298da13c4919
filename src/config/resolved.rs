//! The configuration with types: what the rest of the program works with.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::checkpoint::CheckpointConfig;
use super::elasticsearch::ElasticsearchConfig;
use super::log::LogConfig;
use super::notice::Notice;
use super::postgres::PostgresConfig;
use super::problem::{ConfigError, Problem};
use super::resolver::Resolver;
use super::setting::Setting;
use super::settings::{
    BLOCK_SIZE, NUM_WORKERS, PGSYNC_FLUSH_INTERVAL, PGSYNCD_DOCUMENT_WORKERS,
    PGSYNCD_DYNAMIC_MAPPING, PGSYNCD_HTTP_ADDR, PGSYNCD_HTTP_TOKEN, PGSYNCD_NAME,
    PGSYNCD_ON_REJECT, PGSYNCD_READY_LAG, PGSYNCD_SHUTDOWN_TIMEOUT, QUERY_CHUNK_SIZE,
    S3_SCHEMA_URL, SCHEMA, SCHEMA_URL,
};
use super::sources::Gathered;
use super::value::{self, Expected};
use crate::postgres::Secret;
use crate::schema::Origin;

/// Everything the service is told from outside. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Prefix of slot, publication, lock and checkpoint keys.
    pub name: String,
    /// Where the schema file is.
    pub schema: SchemaSource,
    /// The source database.
    pub postgres: PostgresConfig,
    /// Elasticsearch or OpenSearch.
    pub elasticsearch: ElasticsearchConfig,
    /// Where checkpoints are kept.
    pub checkpoint: CheckpointConfig,
    /// `/live`, `/ready`, `/status`, `/metrics`.
    pub http: HttpConfig,
    /// How much is logged, and in which form.
    pub log: LogConfig,
    /// Parallel readers of the first load.
    pub workers: usize,
    /// Parallel builders of documents for live changes.
    pub document_workers: usize,
    /// Most keys in one query.
    pub query_chunk_size: usize,
    /// Root rows in one range of the first load.
    pub block_size: usize,
    /// Without effect: writes are never held back.
    pub flush_interval: Duration,
    /// How long a clean stop may take.
    pub shutdown_timeout: Duration,
    /// Whether unmapped fields are left to the server's guess.
    pub dynamic_mapping: bool,
    /// What happens with a document that Elasticsearch refuses.
    pub on_reject: OnReject,
    /// What this one run is asked to do.
    pub run: RunOptions,
}

/// What one run is asked to do, by flags alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Load, catch up, and stop.
    pub once: bool,
    /// Indexes to rebuild first; empty for all of the schema, `None` for none.
    pub reindex: Option<Vec<String>>,
}

/// Where the schema file is.
#[derive(Clone, PartialEq, Eq)]
pub enum SchemaSource {
    /// A file.
    File(PathBuf),
    /// An http or https URL; user, password and query may be secret.
    Url(Url),
    /// An object in S3.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Key of the object.
        key: String,
    },
}

impl fmt::Display for SchemaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{}://{host}{port}{}", url.scheme(), url.path())
            }
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

impl From<&SchemaSource> for Origin {
    fn from(source: &SchemaSource) -> Self {
        match source {
            SchemaSource::File(path) => Self::File(path.clone()),
            SchemaSource::Url(url) => Self::Url(url.clone()),
            SchemaSource::S3 { bucket, key } => {
                Self::S3 { bucket: bucket.clone(), key: key.clone() }
            }
        }
    }
}

impl fmt::Debug for SchemaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where and for whom HTTP is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// `None` if nothing is served.
    pub address: Option<SocketAddr>,
    /// Needed for operations; `None` refuses them.
    pub token: Option<Secret>,
    /// How many bytes of WAL behind is still ready.
    pub ready_lag: u64,
}

/// What happens with a document that Elasticsearch refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// It is kept with its reason, and the rest goes on.
    #[default]
    DeadLetter,
    /// The service stops.
    Stop,
}

/// A configuration that can be used, and what its user should know.
#[derive(Debug)]
pub struct Resolved<T> {
    /// The configuration.
    pub config: T,
    /// To be logged once logging has started.
    pub notices: Vec<Notice>,
}

/// Everything that a run of the service needs.
///
/// # Errors
/// [`ConfigError`] with every problem, those of gathering included.
pub fn resolve(gathered: Gathered, run: RunOptions) -> Result<Resolved<Config>, ConfigError> {
    finish(gathered, |resolver| {
        let schema = resolver.schema();
        let postgres = resolver.postgres();
        let elasticsearch = resolver.elasticsearch();
        let checkpoint = resolver.checkpoint();
        Some(Config {
            name: resolver.value(&PGSYNCD_NAME, service_name),
            postgres,
            elasticsearch,
            checkpoint,
            http: resolver.http(),
            log: resolver.log(),
            workers: resolver.value(&NUM_WORKERS, value::number(1..=64)),
            document_workers: resolver.value(&PGSYNCD_DOCUMENT_WORKERS, value::number(1..=64)),
            query_chunk_size: resolver.value(&QUERY_CHUNK_SIZE, value::number(1..=100_000)),
            block_size: resolver.value(&BLOCK_SIZE, value::number(1..=10_000_000)),
            flush_interval: resolver.value(&PGSYNC_FLUSH_INTERVAL, value::duration),
            shutdown_timeout: resolver.value(&PGSYNCD_SHUTDOWN_TIMEOUT, value::positive_duration),
            dynamic_mapping: resolver.value(&PGSYNCD_DYNAMIC_MAPPING, value::boolean),
            on_reject: resolver.value(&PGSYNCD_ON_REJECT, value::one_of(ON_REJECT)),
            run,
            // Last: without a schema there is no configuration, and its problem is noted already.
            schema: schema?,
        })
    })
}

/// What asking a running service needs: its address.
///
/// # Errors
/// [`ConfigError`] with every problem of the settings under `http`.
pub fn resolve_http(gathered: Gathered) -> Result<Resolved<HttpConfig>, ConfigError> {
    finish(gathered, |resolver| Some(resolver.http()))
}

/// What showing the schema needs: where it is.
///
/// # Errors
/// [`ConfigError`] if no schema is named, or two.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method alone is not general enough in its lifetimes"
)]
pub fn resolve_schema(gathered: Gathered) -> Result<Resolved<SchemaSource>, ConfigError> {
    finish(gathered, |resolver| resolver.schema())
}

/// Resolves one part, and adds the problems of gathering to its own.
fn finish<T>(
    gathered: Gathered,
    resolve: impl FnOnce(&mut Resolver<'_>) -> Option<T>,
) -> Result<Resolved<T>, ConfigError> {
    let Gathered { raw, mut problems, mut notices } = gathered;
    let mut resolver = Resolver::new(&raw);
    let config = resolve(&mut resolver);
    problems.append(&mut resolver.problems);
    notices.append(&mut resolver.notices);
    match config {
        Some(config) if problems.is_empty() => Ok(Resolved { config, notices }),
        Some(_) | None => Err(ConfigError { problems }),
    }
}

const ON_REJECT: &[(&str, OnReject)] =
    &[("dead-letter", OnReject::DeadLetter), ("stop", OnReject::Stop)];

impl Resolver<'_> {
    /// The source of the highest rank; two of one rank are a problem.
    fn schema(&mut self) -> Option<SchemaSource> {
        let all: [&'static Setting; 3] = [&SCHEMA, &SCHEMA_URL, &S3_SCHEMA_URL];
        let best = all.iter().map(|setting| self.origin(setting)).max().flatten();
        if best.is_none() {
            self.problems.push(Problem::Missing {
                name: "SCHEMA",
                hint: "name the schema file with `--config PATH` or SCHEMA, or its address with \
                       `--schema-url URL` or SCHEMA_URL",
            });
            return None;
        }
        let mut chosen = all.into_iter().filter(|setting| self.origin(setting) == best);
        let (first, second) = (chosen.next()?, chosen.next());
        if let Some(second) = second {
            self.conflict(first, second, "name one schema");
        }
        if self.origin(&SCHEMA) == best {
            return self.text(&SCHEMA).map(|path| SchemaSource::File(PathBuf::from(path)));
        }
        if self.origin(&SCHEMA_URL) == best {
            return self.optional(&SCHEMA_URL, schema_url).map(SchemaSource::Url);
        }
        self.optional(&S3_SCHEMA_URL, s3_url)
    }

    fn http(&mut self) -> HttpConfig {
        HttpConfig {
            address: self.value(&PGSYNCD_HTTP_ADDR, http_address),
            token: self.text(&PGSYNCD_HTTP_TOKEN).map(Secret::from),
            ready_lag: self.value(&PGSYNCD_READY_LAG, value::bytes(1..=u64::MAX / 2)),
        }
    }
}

/// An address that can be fetched.
fn schema_url(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "an http or https URL; a path is given with SCHEMA or `--config`".to_owned())
}

/// Bucket and key.
fn s3_url(text: &str) -> Result<SchemaSource, Expected> {
    let parts = text.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    match parts {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok(SchemaSource::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        Some(_) | None => Err("`s3://bucket/key`".to_owned()),
    }
}

/// `None` for `off`.
fn http_address(text: &str) -> Result<Option<SocketAddr>, Expected> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    // `localhost` and the empty host are common habits, and need no look-up to be understood.
    let address = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(_) | None => text.to_owned(),
    };
    let expected = || "an address and a port such as `127.0.0.1:9188`, or `off`".to_owned();
    address.parse().ok().map(Some).ok_or_else(expected)
}

/// Slot names may hold nothing else, and have room for our suffix within 63 bytes.
fn service_name(text: &str) -> Result<String, Expected> {
    const LONGEST: usize = 30;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("1 to 30 of the characters a-z, 0-9 and _, as in the name of a slot".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::elasticsearch::ElasticsearchAuth;
    use super::super::postgres::SslMode;
    use super::super::settings::{ALL, PG_HOST, PG_PORT};
    use super::super::sources::{FlagValue, Sources, gather};
    use super::*;

    const LEAST: [(&str, &str); 2] =
        [("SCHEMA", "schema.json"), ("PG_URL", "postgres://me@db/shop")];

    fn sources(pairs: &[(&str, &str)]) -> Sources {
        let pairs = LEAST.iter().chain(pairs);
        let environment: BTreeMap<_, _> =
            pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { environment, ..Sources::default() }
    }

    fn config(pairs: &[(&str, &str)]) -> Config {
        resolve(gather(&sources(pairs)), RunOptions::default()).unwrap().config
    }

    fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
        let error = resolve(gather(&sources(pairs)), RunOptions::default()).unwrap_err();
        error.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_of_the_table_are_the_values_in_use() {
        let config = config(&[]);
        assert_eq!(config.name, "pgsyncd");
        assert_eq!((config.postgres.host.as_str(), config.postgres.port), ("db", 5432));
        assert_eq!(config.postgres.database.as_deref(), Some("shop"));
        assert_eq!(config.postgres.sslmode, SslMode::Prefer);
        assert_eq!(config.elasticsearch.urls[0].as_str(), "http://localhost:9200/");
        assert_eq!(config.elasticsearch.chunk_size, 1000);
        assert_eq!(config.elasticsearch.max_chunk_bytes, 1 << 20);
        assert_eq!(config.elasticsearch.max_retries, None);
        assert!(config.elasticsearch.tls.verify_certificates);
        assert_eq!(config.checkpoint, CheckpointConfig::Embedded { directory: "./".into() });
        assert_eq!(config.http.address, "127.0.0.1:9188".parse().ok());
        assert_eq!(config.log.directives, "warn,pgsyncd=info");
        assert_eq!(config.shutdown_timeout, Duration::from_secs(10));
        assert_eq!(config.on_reject, OnReject::DeadLetter);
        assert!(!config.dynamic_mapping);
    }

    #[test]
    fn giving_every_default_changes_nothing() {
        // The settings of Redis choose Redis by being there.
        let given: Vec<_> = ALL
            .iter()
            .filter(|setting| {
                !setting.toml.starts_with("redis.") && !setting.toml.starts_with("postgres.")
            })
            .filter_map(|setting| Some((setting.name(), setting.default?)))
            .collect();
        assert_eq!(config(&given), config(&[]));
    }

    #[test]
    fn every_problem_is_reported_at_once_by_the_name_the_user_wrote() {
        let found = problems(&[
            ("PG_URL", "postgres://me:hunter2@db/shop?sslmode=strict"),
            ("PGSYNC_BATCH_SIZE", "0"),
            ("ELASTICSEARCH_TIMEOUT", "soon"),
            ("ELASTICSEARCH_API_KEY", "hunter2"),
            ("NUM_WORKERS", "many"),
            ("PGSYNCD_HTTP_ADDR", "nowhere"),
            ("PGSYNCD_LOG_FROMAT", "json"),
            ("PGSYNC_LOG_LEVEL", "loud"),
            ("SCHEMA_URL", "http://x"),
            ("PGSYNCD_NAME", "My Service"),
        ]);
        let names = [
            "PGSYNCD_LOG_FROMAT (environment) is no setting, did you mean PGSYNCD_LOG_FORMAT?",
            "SCHEMA and SCHEMA_URL exclude each other: name one schema",
            "PG_URL (environment): expected as its sslmode one of `disable`, `allow`,",
            "ELASTICSEARCH_API_KEY (environment): expected the base64 of `id:secret`;",
            "PGSYNC_BATCH_SIZE (environment): found `0`, expected a whole number from 1 to 100000",
            "ELASTICSEARCH_TIMEOUT (environment): found `soon`, expected a duration",
            "PGSYNCD_NAME (environment): found `My Service`, expected 1 to 30 of",
            "PGSYNCD_HTTP_ADDR (environment): found `nowhere`, expected an address and a port",
            "PGSYNC_LOG_LEVEL (environment): found `loud`, expected `error`,",
            "NUM_WORKERS (environment): found `many`, expected a whole number from 1 to 64",
        ];
        for name in names {
            assert!(found.iter().any(|problem| problem.starts_with(name)), "{name}\n{found:#?}");
        }
        assert_eq!(found.len(), names.len(), "{found:#?}");
        assert!(!found.concat().contains("hunter2"));
    }

    #[test]
    fn debug_of_a_configuration_never_contains_a_secret() {
        let pairs = [
            ("PG_URL", "postgres://me:hunter2@db/shop"),
            ("ELASTICSEARCH_URL", "https://me:hunter2@search"),
            ("REDIS_URL", "redis://:hunter2@cache"),
            ("PGSYNCD_HTTP_TOKEN", "hunter2"),
            ("SCHEMA", ""),
            ("SCHEMA_URL", "https://me:hunter2@host/schema.json?token=hunter2"),
        ];
        let config = config(&pairs);
        assert!(matches!(config.schema, SchemaSource::Url(_)));
        assert!(matches!(config.checkpoint, CheckpointConfig::Redis { .. }));
        let shown = [format!("{config:?}"), format!("{:?}", sources(&pairs))];
        let shown = shown.concat() + &format!("{:?}", gather(&sources(&pairs)));
        assert!(!shown.contains("hunter2"), "{shown}");
        for (name, value) in [
            ("ELASTICSEARCH_BEARER_AUTH", "hunter2"),
            ("ELASTICSEARCH_BASIC_AUTH", "me:hunter2"),
            ("ELASTICSEARCH_API_KEY", "bWU6aHVudGVyMg=="),
        ] {
            let shown = format!("{:?}", self::config(&[(name, value)]));
            assert!(!shown.contains("hunter2") && !shown.contains("bWU6"), "{shown}");
        }
    }

    #[test]
    fn a_flag_beats_the_url_and_the_url_beats_its_parts_beside_it() {
        let mut sources = sources(&[("PG_HOST", "other"), ("PG_PASSWORD", "from beside")]);
        let flag = |setting, flag, text: &str| FlagValue { setting, flag, text: text.to_owned() };
        let resolved = resolve(gather(&sources), RunOptions::default()).unwrap();
        assert_eq!(resolved.config.postgres.host, "db");
        assert!(resolved.config.postgres.password.is_some());
        let overruled = Notice::Overruled { name: "PG_HOST".to_owned(), by: "PG_URL".to_owned() };
        assert_eq!(resolved.notices, [overruled]);
        sources.flags = vec![flag(&PG_HOST, "--host", "flagged"), flag(&PG_PORT, "--port", "6000")];
        let postgres = resolve(gather(&sources), RunOptions::default()).unwrap().config.postgres;
        assert_eq!((postgres.host.as_str(), postgres.port), ("flagged", 6000));
        assert_eq!(postgres.user, "me");
    }

    #[test]
    fn the_database_can_be_given_in_parts() {
        let parts =
            [("PG_URL", ""), ("PG_HOST", "db2"), ("PG_USER", "me"), ("PG_DATABASE", "shop")];
        let postgres = config(&parts).postgres;
        assert_eq!((postgres.host.as_str(), postgres.port), ("db2", 5432));
        assert_eq!(problems(&[("PG_URL", "db:5432")]).len(), 1);
        assert!(problems(&[("PG_URL", "")])[0].starts_with("PG_URL is missing: set PG_URL="));
        let nameless = problems(&[("PG_URL", "postgres://db/shop")]);
        assert_eq!(
            nameless,
            ["PG_URL (environment): expected a user in the URL, or PG_USER beside it"]
        );
    }

    #[test]
    fn any_setting_of_redis_chooses_redis() {
        let address = |pairs: &[(&str, &str)]| match config(pairs).checkpoint {
            CheckpointConfig::Redis { address, url } => (address, url.expose().to_owned()),
            CheckpointConfig::Embedded { .. } => panic!("redis expected"),
        };
        assert_eq!(address(&[("REDIS_HOST", "cache")]).0, "redis://cache:6379/0");
        let whole = [("REDIS_AUTH", "p@ss"), ("REDIS_SCHEME", "rediss"), ("REDIS_DB", "3")];
        let (address, url) = address(&whole);
        assert_eq!(address, "rediss://localhost:6379/3");
        assert_eq!(url, "rediss://:p%40ss@localhost:6379/3");
        assert!(problems(&[("REDIS_HOST", "redis://cache")])[0].contains("whole URL is REDIS_URL"));
    }

    #[test]
    fn two_ways_of_authentication_exclude_each_other() {
        let found = problems(&[
            ("ELASTICSEARCH_USER", "me"),
            ("ELASTICSEARCH_PASSWORD", "secret"),
            ("ELASTICSEARCH_BEARER_AUTH", "token"),
        ]);
        assert!(found[0].contains("ELASTICSEARCH_BEARER_AUTH and ELASTICSEARCH_USER"), "{found:?}");
        let half = problems(&[("ELASTICSEARCH_PASSWORD", "secret")]);
        assert!(half[0].contains("expected ELASTICSEARCH_USER beside it"), "{half:?}");
        let user = [("ELASTICSEARCH_USER", "me"), ("ELASTICSEARCH_PASSWORD", "secret")];
        assert!(matches!(config(&user).elasticsearch.auth, ElasticsearchAuth::Basic { .. }));
    }

    #[test]
    fn an_address_for_http_may_be_short() {
        let address = |text| config(&[("PGSYNCD_HTTP_ADDR", text)]).http.address;
        assert_eq!(address("off"), None);
        assert_eq!(address(":80"), "0.0.0.0:80".parse().ok());
        assert_eq!(address("localhost:80"), "127.0.0.1:80".parse().ok());
        assert_eq!(address("[::1]:80"), "[::1]:80".parse().ok());
    }

    #[test]
    fn a_schema_of_higher_rank_replaces_one_of_another_kind() {
        let mut sources = sources(&[]);
        sources.flags = vec![FlagValue {
            setting: &S3_SCHEMA_URL,
            flag: "--s3-schema-url",
            text: "s3://bucket/a/b.json".to_owned(),
        }];
        let schema = resolve(gather(&sources), RunOptions::default()).unwrap().config.schema;
        assert_eq!(schema.to_string(), "s3://bucket/a/b.json");
        assert!(problems(&[("SCHEMA", "")])[0].starts_with("SCHEMA is missing: name the schema"));
    }
}
