//! Names that are not our settings: what PGSync reads and we have no use for, its read replicas,
//! what we cannot do yet, and what Kubernetes puts into the environment by itself.

/// A variable of PGSync, and what to tell its user.
#[derive(Debug)]
pub(super) struct Foreign {
    /// The name, or its beginning if it ends in `*`.
    pub(super) name: &'static str,
    /// Why it has no effect.
    pub(super) reason: &'static str,
}

const NO_POLLING: &str = "changes come from the write-ahead log, nothing is polled";
const OWN_POOL: &str = "connections are counted by NUM_WORKERS and PGSYNCD_DOCUMENT_WORKERS";
const NO_TRIGGERS: &str = "there are no triggers and no queue in Redis";
const NO_LOSS: &str = "no error of Elasticsearch is ever skipped, see PGSYNCD_ON_REJECT";
const OWN_LOGS: &str = "use LOG_LEVEL or RUST_LOG";
const AUTOMATIC: &str = "it is decided automatically";

/// PGSync's variables without a meaning for us.
static WITHOUT_MEANING: &[Foreign] = &[
    Foreign { name: "SQLALCHEMY_*", reason: OWN_POOL },
    Foreign { name: "POLL_TIMEOUT", reason: NO_POLLING },
    Foreign { name: "POLL_INTERVAL", reason: NO_POLLING },
    Foreign { name: "REDIS_POLL_INTERVAL", reason: NO_POLLING },
    Foreign { name: "NTHREADS_POLLDB", reason: NO_POLLING },
    Foreign { name: "REPLICATION_SLOT_CLEANUP_INTERVAL", reason: "the slot is advanced steadily" },
    Foreign { name: "LOGICAL_SLOT_CHUNK_SIZE", reason: "the slot is streamed, not read by SQL" },
    Foreign { name: "PG_LOGICAL_SLOT_*", reason: "the slot is streamed, not read by SQL" },
    Foreign { name: "FILTER_CHUNK_SIZE", reason: "use QUERY_CHUNK_SIZE" },
    Foreign { name: "JOIN_QUERIES", reason: AUTOMATIC },
    Foreign { name: "QUERY_LITERAL_BINDS", reason: AUTOMATIC },
    Foreign { name: "STREAM_RESULTS", reason: AUTOMATIC },
    Foreign { name: "USE_ASYNC", reason: AUTOMATIC },
    Foreign { name: "USE_UTF8MB4", reason: "it concerns MySQL" },
    Foreign { name: "IS_MYSQL_COMPAT", reason: "it concerns MySQL" },
    Foreign { name: "PG_DRIVER", reason: AUTOMATIC },
    Foreign { name: "FORMAT_WITH_COMMAS", reason: OWN_LOGS },
    Foreign { name: "LOG_INTERVAL", reason: OWN_LOGS },
    Foreign { name: "LOG_HANDLERS", reason: OWN_LOGS },
    Foreign { name: "CUSTOM_LOGGING", reason: OWN_LOGS },
    Foreign { name: "REDIS_READ_CHUNK_SIZE", reason: NO_TRIGGERS },
    Foreign { name: "REDIS_WRITE_CHUNK_SIZE", reason: NO_TRIGGERS },
    Foreign { name: "REDIS_SOCKET_TIMEOUT", reason: AUTOMATIC },
    Foreign { name: "REDIS_RETRY_ON_TIMEOUT", reason: AUTOMATIC },
    Foreign { name: "ELASTICSEARCH", reason: "the server is asked what it is" },
    Foreign { name: "OPENSEARCH", reason: "the server is asked what it is" },
    // The region alone asks for nothing: PGSync reads it only where the server is hosted by Amazon.
    Foreign { name: "ELASTICSEARCH_AWS_REGION", reason: "requests are not signed for Amazon" },
    Foreign { name: "ELASTICSEARCH_QUEUE_SIZE", reason: AUTOMATIC },
    Foreign { name: "ELASTICSEARCH_STREAMING_BULK", reason: AUTOMATIC },
    Foreign { name: "ELASTICSEARCH_RAISE_ON_EXCEPTION", reason: NO_LOSS },
    Foreign { name: "ELASTICSEARCH_RAISE_ON_ERROR", reason: NO_LOSS },
    Foreign { name: "ELASTICSEARCH_IGNORE_STATUS", reason: NO_LOSS },
    Foreign { name: "ELASTICSEARCH_USE_SSL", reason: "use https in ELASTICSEARCH_URL or _SCHEME" },
    Foreign { name: "ELASTICSEARCH_SSL_SHOW_WARN", reason: AUTOMATIC },
    Foreign { name: "ELASTICSEARCH_SSL_ASSERT_HOSTNAME", reason: "see ELASTICSEARCH_VERIFY_CERTS" },
    Foreign { name: "ELASTICSEARCH_SSL_CONTEXT", reason: AUTOMATIC },
    Foreign { name: "ELASTICSEARCH_SSL_VERSION", reason: AUTOMATIC },
];

/// Signed requests to Amazon's service, which we do not make.
static AWS: &[&str] =
    &["ELASTICSEARCH_AWS_HOSTED", "OPENSEARCH_AWS_HOSTED", "OPENSEARCH_AWS_SERVERLESS"];

/// Why a variable of PGSync has no effect; `None` if it is none of these.
pub(super) fn without_meaning(name: &str) -> Option<&'static str> {
    let matches = |foreign: &&Foreign| match foreign.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == foreign.name,
    };
    WITHOUT_MEANING.iter().find(matches).map(|foreign| foreign.reason)
}

/// Whether it asks for requests signed for Amazon; `false` does not.
pub(super) fn asks_for_aws(name: &str, value: &str) -> bool {
    AWS.contains(&name)
        && !matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off")
}

/// Whether it names a read replica (`PG_URL_RO`, `PG_HOST_RO`, …).
pub(super) fn is_read_replica(name: &str) -> bool {
    name.starts_with("PG_") && name.ends_with("_RO")
}

/// Whether Kubernetes or Docker links made this variable for a service that happens to be named
/// like us or like a server of ours: `PGSYNCD_SERVICE_HOST`, `REDIS_PORT=tcp://10.0.0.1:6379`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let of_our_name = name.starts_with("PGSYNCD_SERVICE_") || name.starts_with("PGSYNCD_PORT");
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    of_our_name || (address && name.ends_with("_PORT"))
}

/// Whether only the test programs read it.
pub(super) fn is_for_tests(name: &str) -> bool {
    name.starts_with("PGSYNCD_TEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_ending() {
        assert!(without_meaning("SQLALCHEMY_POOL_SIZE").is_some());
        assert!(without_meaning("POLL_TIMEOUT").is_some());
        assert!(without_meaning("POLL_TIMEOUT_X").is_none());
        assert!(without_meaning("ELASTICSEARCH_URL").is_none());
    }

    #[test]
    fn what_kubernetes_injects_is_not_ours() {
        assert!(is_service_link("REDIS_PORT", "tcp://10.0.0.1:6379"));
        assert!(!is_service_link("REDIS_PORT", "6379"));
        assert!(is_service_link("PGSYNCD_SERVICE_PORT_HTTP", "9188"));
        assert!(is_service_link("PGSYNCD_PORT_9188_TCP_ADDR", "10.0.0.1"));
    }

    #[test]
    fn amazon_is_asked_for_by_anything_but_no() {
        assert!(asks_for_aws("OPENSEARCH_AWS_HOSTED", "true"));
        assert!(!asks_for_aws("ELASTICSEARCH_AWS_REGION", "eu-west-1"));
        assert!(!asks_for_aws("ELASTICSEARCH_AWS_HOSTED", "False"));
        assert!(!asks_for_aws("ELASTICSEARCH_URL", "true"));
    }
}
