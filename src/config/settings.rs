//! The table of all settings: the single source of environment names, flags, keys of the settings
//! file, defaults, units, `.env.example`, `config/pgsyncd.toml` and `docs/configuration.md`.

use super::setting::Setting;

/// Makes one `static` per row, and `ALL`, so that no row can be declared and then forgotten.
macro_rules! settings {
    ($(
        $name:ident { $(also: [$($also:literal),+],)? $(flag: $flag:literal,)? toml: $toml:literal,
            $(default: $default:literal,)? unit: $unit:literal, $(secret: $secret:literal,)?
            doc: $doc:literal }
    )+) => {
        $(
            #[doc = $doc]
            pub static $name: Setting = Setting {
                names: &[stringify!($name), $($($also),+)?],
                flag: settings!(@optional $($flag)?),
                toml: $toml,
                default: settings!(@optional $($default)?),
                unit: $unit,
                doc: $doc,
                secret: settings!(@secret $($secret)?),
            };
        )+
        /// Every setting, in the order of the documentation.
        pub static ALL: &[&Setting] = &[$(&$name),+];
    };
    (@optional) => { None };
    (@optional $value:literal) => { Some($value) };
    (@secret) => { false };
    (@secret $value:literal) => { $value };
}

settings! {
    SCHEMA { flag: "--config", toml: "schema.file", unit: "path",
        doc: "The schema file. One of `SCHEMA`, `SCHEMA_URL` and `S3_SCHEMA_URL` is required." }
    SCHEMA_URL { flag: "--schema-url", toml: "schema.url", unit: "http or https URL", secret: true,
        doc: "Where to fetch the schema file. The last good copy is kept for restarts." }
    S3_SCHEMA_URL { flag: "--s3-schema-url", toml: "schema.s3_url", unit: "s3://bucket/key",
        doc: "The schema file in S3." }

    PG_URL { toml: "postgres.url", unit: "postgres:// URL", secret: true,
        doc: "The source database. Parameters: `sslmode`, `sslrootcert`, `application_name`, `connect_timeout`. What it does not name comes from the settings below." }
    PG_HOST { flag: "--host", toml: "postgres.host", default: "localhost", unit: "host name or socket directory",
        doc: "Host of the source database." }
    PG_PORT { flag: "--port", toml: "postgres.port", default: "5432", unit: "port",
        doc: "Port of the source database." }
    PG_USER { flag: "--user", toml: "postgres.user", unit: "role name",
        doc: "Role to log in as; it needs REPLICATION and SELECT. Required here or in `PG_URL`." }
    PG_PASSWORD { flag: "--password", toml: "postgres.password", unit: "text", secret: true,
        doc: "Its password. The flag takes no value: it asks for it." }
    PG_DATABASE { toml: "postgres.database", unit: "database name",
        doc: "Database of schema entries that name none." }
    PG_SSLMODE { flag: "--sslmode", toml: "postgres.sslmode", default: "prefer", unit: "disable, allow, prefer, require, verify-ca, verify-full",
        doc: "How far the connection to PostgreSQL must be encrypted and the server proved." }
    PG_SSLROOTCERT { flag: "--sslrootcert", toml: "postgres.sslrootcert", unit: "path",
        doc: "PEM file of the authorities that may sign the server's certificate; without it those of the system." }
    PG_WORK_MEM { toml: "postgres.work_mem", unit: "PostgreSQL size, such as 64MB",
        doc: "`work_mem` of reading connections; without it the server's own." }
    PGSYNCD_PG_CONNECT_TIMEOUT { toml: "postgres.connect_timeout", default: "10s", unit: "seconds",
        doc: "How long a connection to PostgreSQL may take to open." }

    ELASTICSEARCH_URL { toml: "elasticsearch.url", unit: "http or https URLs, comma-separated", secret: true,
        doc: "The nodes of Elasticsearch or OpenSearch. It wins over scheme, host and port." }
    ELASTICSEARCH_SCHEME { toml: "elasticsearch.scheme", default: "http", unit: "http, https",
        doc: "Scheme of the one node, when there is no URL." }
    ELASTICSEARCH_HOST { toml: "elasticsearch.host", default: "localhost", unit: "host name",
        doc: "Host of the one node, when there is no URL." }
    ELASTICSEARCH_PORT { toml: "elasticsearch.port", default: "9200", unit: "port",
        doc: "Port of the one node, when there is no URL." }
    ELASTICSEARCH_CLOUD_ID { toml: "elasticsearch.cloud_id", unit: "cloud id",
        doc: "A deployment of Elastic Cloud, in place of a URL." }
    ELASTICSEARCH_USER { toml: "elasticsearch.user", unit: "text",
        doc: "User of basic authentication." }
    ELASTICSEARCH_PASSWORD { toml: "elasticsearch.password", unit: "text", secret: true,
        doc: "Password of basic authentication." }
    ELASTICSEARCH_BASIC_AUTH { toml: "elasticsearch.basic_auth", unit: "user:password, or base64 of it", secret: true,
        doc: "Basic authentication in one value." }
    ELASTICSEARCH_API_KEY_ID { toml: "elasticsearch.api_key_id", unit: "text",
        doc: "Id of the API key, when `ELASTICSEARCH_API_KEY` is its secret part." }
    ELASTICSEARCH_API_KEY { toml: "elasticsearch.api_key", unit: "text", secret: true,
        doc: "Secret part of the API key; without an id, the base64 of `id:secret` as Elasticsearch shows it." }
    ELASTICSEARCH_BEARER_AUTH { toml: "elasticsearch.bearer_auth", unit: "token", secret: true,
        doc: "Token of bearer authentication." }
    ELASTICSEARCH_OPAQUE_ID { toml: "elasticsearch.opaque_id", unit: "text",
        doc: "Sent as `X-Opaque-Id`, to find our requests in the server's logs." }
    ELASTICSEARCH_VERIFY_CERTS { toml: "elasticsearch.verify_certs", default: "true", unit: "true, false",
        doc: "Whether the server's certificate is checked." }
    ELASTICSEARCH_CA_CERTS { toml: "elasticsearch.ca_certs", unit: "path",
        doc: "PEM file of the authorities that may sign the server's certificate; without it those of the system." }
    ELASTICSEARCH_CLIENT_CERT { toml: "elasticsearch.client_cert", unit: "path",
        doc: "PEM file of our own certificate." }
    ELASTICSEARCH_CLIENT_KEY { toml: "elasticsearch.client_key", unit: "path",
        doc: "PEM file of the key of our own certificate." }
    ELASTICSEARCH_SSL_ASSERT_FINGERPRINT { toml: "elasticsearch.ssl_assert_fingerprint", unit: "SHA-256, 64 hexadecimal digits",
        doc: "The one certificate the server must show; colons are allowed." }
    ELASTICSEARCH_CHUNK_SIZE { also: ["PGSYNC_BATCH_SIZE"], toml: "elasticsearch.chunk_size", default: "1000", unit: "documents",
        doc: "Most documents in one bulk request." }
    ELASTICSEARCH_MAX_CHUNK_BYTES { toml: "elasticsearch.max_chunk_bytes", default: "1MB", unit: "bytes",
        doc: "Largest body of one bulk request; one document that is larger goes alone." }
    ELASTICSEARCH_THREAD_COUNT { also: ["PGSYNCD_BULK_IN_FLIGHT"], toml: "elasticsearch.bulk_in_flight", default: "4", unit: "requests",
        doc: "Most bulk requests under way at once; fewer while the server is slow or answers 429." }
    ELASTICSEARCH_TIMEOUT { toml: "elasticsearch.timeout", default: "60s", unit: "seconds",
        doc: "How long one request may take before it is sent again." }
    ELASTICSEARCH_MAX_RETRIES { toml: "elasticsearch.max_retries", unit: "tries",
        doc: "Accepted for PGSync's users, without effect: after 429, 503 or a lost connection a document is sent again until it is taken, with growing waits; a document that is itself refused is a dead letter at once." }
    ELASTICSEARCH_INITIAL_BACKOFF { toml: "elasticsearch.initial_backoff", default: "500ms", unit: "seconds",
        doc: "Wait before the first retry; it doubles with each." }
    ELASTICSEARCH_MAX_BACKOFF { toml: "elasticsearch.max_backoff", default: "60s", unit: "seconds",
        doc: "Longest wait between two tries." }
    ELASTICSEARCH_HTTP_COMPRESS { toml: "elasticsearch.http_compress", default: "false", unit: "true, false",
        doc: "Whether bulk bodies are sent with gzip: less network for more CPU." }

    REDIS_URL { toml: "redis.url", unit: "redis:// or rediss:// URL", secret: true,
        doc: "Keeps checkpoints in Redis. It wins over the settings below, any of which chooses Redis too." }
    REDIS_SCHEME { toml: "redis.scheme", default: "redis", unit: "redis, rediss",
        doc: "`rediss` for TLS, when there is no URL." }
    REDIS_HOST { toml: "redis.host", default: "localhost", unit: "host name",
        doc: "Host of Redis, when there is no URL." }
    REDIS_PORT { toml: "redis.port", default: "6379", unit: "port",
        doc: "Port of Redis, when there is no URL." }
    REDIS_DB { toml: "redis.db", default: "0", unit: "number",
        doc: "Number of the database in Redis, when there is no URL." }
    REDIS_USER { toml: "redis.user", unit: "text",
        doc: "User of Redis, when there is no URL." }
    REDIS_AUTH { toml: "redis.auth", unit: "text", secret: true,
        doc: "Password of Redis, when there is no URL." }
    CHECKPOINT_PATH { toml: "checkpoint.path", default: "./", unit: "directory",
        doc: "Where the embedded store lives when Redis is not configured." }

    PGSYNCD_NAME { flag: "--name", toml: "service.name", default: "pgsyncd", unit: "a-z, 0-9, _; at most 30",
        doc: "Prefix of slot, publication, lock and checkpoint keys, so that several services can follow one database." }
    NUM_WORKERS { flag: "--num-workers", toml: "service.num_workers", default: "2", unit: "readers",
        doc: "Parallel readers of the first load, each with its own connection." }
    PGSYNCD_DOCUMENT_WORKERS { toml: "service.document_workers", default: "2", unit: "workers",
        doc: "Parallel builders of documents for live changes, each with its own connection." }
    QUERY_CHUNK_SIZE { toml: "service.query_chunk_size", default: "1000", unit: "keys",
        doc: "Most keys in one query." }
    BLOCK_SIZE { toml: "service.block_size", default: "2000", unit: "rows",
        doc: "Root rows in one range of the first load." }
    PGSYNC_FLUSH_INTERVAL { toml: "service.flush_interval", default: "0s", unit: "seconds",
        doc: "Accepted for PGSync's users, without effect: writes are never held back, and requests fill by themselves under load." }
    PGSYNCD_DYNAMIC_MAPPING { flag: "--dynamic-mapping", toml: "service.dynamic_mapping", default: "false", unit: "true, false",
        doc: "Leaves fields that the schema does not map to the server's guess, as PGSync does." }
    PGSYNCD_ON_REJECT { toml: "service.on_reject", default: "dead-letter", unit: "dead-letter, stop",
        doc: "What happens with a document that Elasticsearch refuses: keep it with its reason and go on, or stop." }
    PGSYNCD_SHUTDOWN_TIMEOUT { toml: "service.shutdown_timeout", default: "10s", unit: "seconds",
        doc: "How long a clean stop may take before the rest is abandoned; nothing is lost either way." }

    PGSYNCD_HTTP_ADDR { flag: "--http-addr", toml: "http.addr", default: "127.0.0.1:9188", unit: "address:port, or off",
        doc: "Where `/live`, `/ready`, `/status` and `/metrics` are served. 9188 is the neighbour of 9187, PostgreSQL's usual exporter, and no ephemeral port." }
    PGSYNCD_HTTP_TOKEN { toml: "http.token", unit: "text", secret: true,
        doc: "Bearer token of operations by HTTP; without it they are refused." }
    PGSYNCD_READY_LAG { toml: "http.ready_lag", default: "1GB", unit: "bytes",
        doc: "How far behind the server's WAL the service may be and still answer `/ready` with 200." }

    LOG_LEVEL { also: ["PGSYNC_LOG_LEVEL", "GENERAL_LOGGING_LEVEL", "CONSOLE_LOGGING_HANDLER_MIN_LEVEL", "RUST_LOG"], flag: "--verbose", toml: "log.level", default: "info", unit: "error, warn, info, debug, trace, or filter directives",
        doc: "How much is logged. Python's names are understood; other crates stay at `warn` unless a directive names them. The flag means `debug`." }
    PGSYNCD_LOG_FORMAT { toml: "log.format", default: "text", unit: "text, json",
        doc: "Form of the log lines." }
}
