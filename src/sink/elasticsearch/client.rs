//! One HTTP request to one of the nodes, and its answer. No retries: who asks knows whether another
//! try is right.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use serde_json::Value as Json;
use url::Url;

use super::error::ClientError;
use super::nodes::Nodes;
use super::options::{Auth, Compression, ElasticsearchOptions, without_credentials};
use super::tls;

/// How long a connection may take to come up.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Memory has a ceiling: a page of 10 000 ids of 512 bytes is 6 MB, a mapping of 10 000 fields 1 MB.
const ANSWER_LIMIT: usize = 64 << 20;
/// What an index name may hold besides letters and digits.
const KEPT_IN_A_PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Which product the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFamily {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

/// What the server said it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Product.
    pub family: ServerFamily,
    /// Version, such as `9.4.3`.
    pub version: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.family, self.version)
    }
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(Bytes),
    /// Lines of JSON, each with its newline.
    Lines(Bytes),
}

/// Connections to the nodes; cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    urls: Vec<Url>,
    nodes: Mutex<Nodes>,
    compression: Compression,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.0.urls.iter().map(without_credentials).collect();
        f.debug_tuple("Client").field(&urls).finish()
    }
}

impl Client {
    /// A client of these nodes. Nothing is sent.
    ///
    /// # Errors
    /// [`ClientError::Options`] if the options cannot be used.
    pub fn new(options: &ElasticsearchOptions) -> Result<Self, ClientError> {
        let unusable = |setting, expected| ClientError::Options { setting, expected, source: None };
        if options.urls.is_empty() {
            return Err(unusable("urls", "at least one"));
        }
        let builder = reqwest::Client::builder()
            .default_headers(headers(options)?)
            .timeout(options.timeout)
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .tcp_nodelay(true);
        let http =
            tls::configure(builder, options)?.build().map_err(|source| ClientError::Options {
                setting: "TLS",
                expected: "usable certificates",
                source: Some(source),
            })?;
        let mut urls = options.urls.clone();
        for url in &mut urls {
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            if cleared.is_err() || url.cannot_be_a_base() {
                return Err(unusable("urls", "http://host:port or https://host:port"));
            }
        }
        let nodes = Mutex::new(Nodes::new(urls.len()));
        Ok(Self(Arc::new(Inner { http, urls, nodes, compression: options.compression })))
    }

    /// Asks the server what it is.
    ///
    /// # Errors
    /// [`ClientError`] if no node answers, or what answers is neither of the two products.
    pub async fn connect(&self) -> Result<Server, ClientError> {
        let answer = self.call(Method::GET, "/", None).await?;
        let version = answer.get("version");
        let text =
            |name: &str| version.and_then(|version| version.get(name)).and_then(Json::as_str);
        let family = match text("distribution") {
            Some("opensearch") => ServerFamily::OpenSearch,
            Some(_) | None => ServerFamily::Elasticsearch,
        };
        let number = text("number").ok_or_else(|| ClientError::Malformed {
            node: self.0.urls.first().map(without_credentials).unwrap_or_default(),
            expected: "description of Elasticsearch or OpenSearch",
            source: None,
        })?;
        Ok(Server { family, version: number.to_owned() })
    }

    /// Sends a JSON request and reads a JSON answer. A node that cannot be reached is passed over for
    /// the next one, each asked once.
    ///
    /// # Errors
    /// [`ClientError`], from the last node asked.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, ClientError> {
        let body = body.map_or(Body::Empty, |json| Body::Json(json.to_string().into()));
        let mut left = self.0.urls.len();
        loop {
            left = left.saturating_sub(1);
            match self.send(method.clone(), path, body.clone()).await {
                Err(ClientError::Unreachable { source, .. }) if left > 0 && source.is_connect() => {
                }
                Err(error) => return Err(error),
                Ok(answer) if answer.is_empty() => return Ok(Json::Null),
                Ok(answer) => {
                    return serde_json::from_slice(&answer).map_err(|source| {
                        ClientError::Malformed {
                            node: String::from("the server"),
                            expected: "JSON",
                            source: Some(source),
                        }
                    });
                }
            }
        }
    }

    /// Sends one request to one node and reads the whole answer. `path` begins with `/` and may hold
    /// a query.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for every status that is no success.
    pub async fn send(&self, method: Method, path: &str, body: Body) -> Result<Bytes, ClientError> {
        let position = self.nodes(|nodes| nodes.choose(Instant::now()));
        let Some(node) = self.0.urls.get(position) else {
            return Err(ClientError::Options {
                setting: "urls",
                expected: "at least one",
                source: None,
            });
        };
        let url = format!("{}{path}", without_credentials(node));
        let request = self.with_body(self.0.http.request(method, url), body).await;
        let answer = read(request, node).await;
        self.nodes(|nodes| match &answer {
            Err(ClientError::Unreachable { .. }) => nodes.failed(position, Instant::now()),
            Ok(_) | Err(_) => nodes.answered(position),
        });
        answer
    }

    async fn with_body(
        &self,
        request: reqwest::RequestBuilder,
        body: Body,
    ) -> reqwest::RequestBuilder {
        let (kind, bytes) = match body {
            Body::Empty => return request,
            Body::Json(bytes) => ("application/json", bytes),
            Body::Lines(bytes) => ("application/x-ndjson", bytes),
        };
        let request = request.header(CONTENT_TYPE, kind);
        if self.0.compression == Compression::Off {
            return request.body(bytes);
        }
        // Compressing megabytes takes tens of milliseconds: not on a thread that serves others.
        let plain = bytes.clone();
        match tokio::task::spawn_blocking(move || gzip(&plain)).await {
            Ok(Ok(packed)) => request.header(CONTENT_ENCODING, "gzip").body(packed),
            Ok(Err(_)) | Err(_) => request.body(bytes),
        }
    }

    fn nodes<T>(&self, ask: impl FnOnce(&mut Nodes) -> T) -> T {
        ask(&mut self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An index or alias name as a part of a path.
pub(super) fn in_path(name: &str) -> String {
    utf8_percent_encode(name, &KEPT_IN_A_PATH).to_string()
}

async fn read(request: reqwest::RequestBuilder, node: &Url) -> Result<Bytes, ClientError> {
    let unreachable = |source: reqwest::Error| ClientError::Unreachable {
        node: without_credentials(node),
        source: source.without_url(),
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(ClientError::TooLarge {
                node: without_credentials(node),
                limit: ANSWER_LIMIT,
            });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        Ok(body.freeze())
    } else {
        Err(ClientError::refused(status.as_u16(), &body))
    }
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let packed = Vec::with_capacity(plain.len() / 4);
    let mut encoder = GzEncoder::new(packed, flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, plain)?;
    encoder.finish()
}

fn headers(options: &ElasticsearchOptions) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization(options) {
        headers.insert(AUTHORIZATION, header("auth", &authorization, Secrecy::Secret)?);
    }
    if let Some(id) = &options.opaque_id {
        let name = HeaderName::from_static("x-opaque-id");
        headers.insert(name, header("opaque_id", id, Secrecy::Public)?);
    }
    Ok(headers)
}

#[derive(Clone, Copy)]
enum Secrecy {
    Secret,
    Public,
}

fn header(setting: &'static str, text: &str, secrecy: Secrecy) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(text).map_err(|_control_character| {
        ClientError::Options { setting, expected: "text without control characters", source: None }
    })?;
    value.set_sensitive(matches!(secrecy, Secrecy::Secret));
    Ok(value)
}

fn authorization(options: &ElasticsearchOptions) -> Option<String> {
    use base64::Engine as _;
    let basic = |user: &str, password: &str| {
        let pair = format!("{user}:{password}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    match &options.auth {
        Auth::Basic { user, password } => Some(basic(user, password)),
        Auth::ApiKey(key) => Some(format!("ApiKey {key}")),
        Auth::Bearer(token) => Some(format!("Bearer {token}")),
        Auth::None => {
            let url = options.urls.iter().find(|url| !url.username().is_empty())?;
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            Some(basic(&decode(url.username()), &decode(url.password().unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_url_serve_where_none_are_given() {
        let url = Url::parse("http://elastic:p%40ss@localhost:9200").unwrap();
        let mut options = ElasticsearchOptions::new(vec![url]);
        assert_eq!(authorization(&options).as_deref(), Some("Basic ZWxhc3RpYzpwQHNz"));
        options.auth = Auth::ApiKey("a2V5".into());
        assert_eq!(authorization(&options).as_deref(), Some("ApiKey a2V5"));
    }

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(in_path("books-2026.1_x"), "books-2026.1_x");
        assert_eq!(in_path("a/b?c%"), "a%2Fb%3Fc%25");
    }

    #[test]
    fn no_node_is_an_error() {
        let options = ElasticsearchOptions::new(Vec::new());
        assert!(matches!(Client::new(&options), Err(ClientError::Options { setting: "urls", .. })));
    }
}
