//! What the client is told: where the servers are, who we are, what to trust. Read once; secrets
//! never show in `Debug`.

use std::fmt;
use std::time::Duration;

use url::Url;

/// Who we are to the server.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Nobody.
    None,
    /// User and password.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: String,
    },
    /// `Authorization: ApiKey …`: base64 of `id:key`.
    ApiKey(String),
    /// `Authorization: Bearer …`.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Basic { user, .. } => write!(f, "Basic({user:?}, <redacted>)"),
            Self::ApiKey(_) => f.write_str("ApiKey(<redacted>)"),
            Self::Bearer(_) => f.write_str("Bearer(<redacted>)"),
        }
    }
}

/// How to reach Elasticsearch or OpenSearch.
#[derive(Clone)]
pub struct ElasticsearchOptions {
    /// The nodes, at least one. A user and password in a URL serve where [`Self::auth`] is none; a
    /// path is put before that of every request.
    pub urls: Vec<Url>,
    /// Who we are.
    pub auth: Auth,
    /// Whether the server's certificate and name are checked.
    pub verify_certs: bool,
    /// PEM of the authorities to trust; `None` takes the machine's.
    pub ca_certs: Option<Vec<u8>>,
    /// PEM of our certificate and its key, for servers that ask for one.
    pub client_identity: Option<ClientIdentity>,
    /// SHA-256 of the server's certificate in hexadecimal (colons are allowed): trusts that
    /// certificate and no other.
    pub fingerprint: Option<String>,
    /// Sent as `X-Opaque-Id`, which shows in the server's slow logs and tasks.
    pub opaque_id: Option<String>,
    /// How long one request may take, answer included.
    pub timeout: Duration,
    /// Whether request bodies are sent gzipped.
    pub compression: Compression,
}

/// Whether request bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are: right for a server nearby.
    Off,
    /// Gzip: right for a server far away or behind a slow or metered line.
    Gzip,
}

/// Our certificate.
#[derive(Clone)]
pub struct ClientIdentity {
    /// PEM of the certificate, with its chain if it needs one.
    pub certificate: Vec<u8>,
    /// PEM of the private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(<redacted>)")
    }
}

impl ElasticsearchOptions {
    /// Default of [`Self::timeout`]: a bulk request on a busy server takes seconds.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

    /// These nodes, everything else by default: no credentials, certificates checked against the
    /// machine's authorities, a timeout of 60 s, no compression.
    pub fn new(urls: Vec<Url>) -> Self {
        Self {
            urls,
            auth: Auth::None,
            verify_certs: true,
            ca_certs: None,
            client_identity: None,
            fingerprint: None,
            opaque_id: None,
            timeout: Self::DEFAULT_TIMEOUT,
            compression: Compression::Off,
        }
    }
}

impl fmt::Debug for ElasticsearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(without_credentials).collect();
        f.debug_struct("ElasticsearchOptions")
            .field("urls", &urls)
            .field("auth", &self.auth)
            .field("verify_certs", &self.verify_certs)
            .field("ca_certs", &self.ca_certs.is_some())
            .field("client_identity", &self.client_identity)
            .field("fingerprint", &self.fingerprint)
            .field("opaque_id", &self.opaque_id)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .finish()
    }
}

/// Scheme, host, port and path of a URL: what may be shown of it.
pub(super) fn without_credentials(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    format!("{}://{host}{port}{path}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let url = Url::parse("https://elastic:s3cret@search.example:9243/path").unwrap();
        let mut options = ElasticsearchOptions::new(vec![url]);
        options.auth = Auth::Basic { user: "elastic".into(), password: "s3cret".into() };
        options.client_identity =
            Some(ClientIdentity { certificate: b"s3cret".into(), key: b"s3cret".into() });
        let shown = format!("{options:?} {:?}", Auth::ApiKey("s3cret".into()));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("https://search.example:9243/path"), "{shown}");
    }
}
