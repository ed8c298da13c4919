//! Elasticsearch or OpenSearch: where, who we are to it, TLS, and how bulk requests are cut.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::resolver::Resolver;
use super::setting::Setting;
use super::settings::{
    ELASTICSEARCH_API_KEY, ELASTICSEARCH_API_KEY_ID, ELASTICSEARCH_BASIC_AUTH,
    ELASTICSEARCH_BEARER_AUTH, ELASTICSEARCH_CA_CERTS, ELASTICSEARCH_CHUNK_SIZE,
    ELASTICSEARCH_CLIENT_CERT, ELASTICSEARCH_CLIENT_KEY, ELASTICSEARCH_CLOUD_ID,
    ELASTICSEARCH_HOST, ELASTICSEARCH_HTTP_COMPRESS, ELASTICSEARCH_INITIAL_BACKOFF,
    ELASTICSEARCH_MAX_BACKOFF, ELASTICSEARCH_MAX_CHUNK_BYTES, ELASTICSEARCH_MAX_RETRIES,
    ELASTICSEARCH_OPAQUE_ID, ELASTICSEARCH_PASSWORD, ELASTICSEARCH_PORT, ELASTICSEARCH_SCHEME,
    ELASTICSEARCH_SSL_ASSERT_FINGERPRINT, ELASTICSEARCH_THREAD_COUNT, ELASTICSEARCH_TIMEOUT,
    ELASTICSEARCH_URL, ELASTICSEARCH_USER, ELASTICSEARCH_VERIFY_CERTS,
};
use super::value::{self, Expected};
use crate::postgres::Secret;

/// How to reach Elasticsearch or OpenSearch, and how to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// The nodes, at least one, without credentials.
    pub urls: Vec<Url>,
    /// Who we are.
    pub auth: ElasticsearchAuth,
    /// Sent as `X-Opaque-Id`.
    pub opaque_id: Option<String>,
    /// What the connection must prove.
    pub tls: ElasticsearchTls,
    /// Most documents in one bulk request.
    pub chunk_size: usize,
    /// Largest body of one bulk request, in bytes.
    pub max_chunk_bytes: usize,
    /// Most bulk requests under way at once.
    pub bulk_in_flight: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// Without effect: what may heal is tried again until it does.
    pub max_retries: Option<u32>,
    /// Wait before the first retry.
    pub initial_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
    /// Whether bulk bodies are sent with gzip.
    pub http_compress: bool,
}

/// Who we are to Elasticsearch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ElasticsearchAuth {
    /// Nobody.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic {
        /// Name of the user.
        user: String,
        /// Password, perhaps empty.
        password: Secret,
    },
    /// `Authorization: ApiKey`, the base64 of `id:secret`.
    ApiKey(Secret),
    /// `Authorization: Bearer`.
    Bearer(Secret),
}

/// What the connection to Elasticsearch must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticsearchTls {
    /// Whether the certificate is checked at all.
    pub verify_certificates: bool,
    /// Authorities that may sign it; `None` for those of the system.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<ClientCertificate>,
    /// SHA-256 of the one certificate the server must show.
    pub fingerprint: Option<[u8; 32]>,
}

/// Our own certificate, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

const ONE_AUTHENTICATION: &str = "keep one way of authentication";

impl Resolver<'_> {
    pub(super) fn elasticsearch(&mut self) -> ElasticsearchConfig {
        let (urls, credentials_in_url) = self.elasticsearch_urls();
        // A chunk above 100 MB is refused by the server's default `http.max_content_length`.
        let chunk_bytes = value::bytes(64 * 1024..=100 * 1024 * 1024);
        let bytes = self.value(&ELASTICSEARCH_MAX_CHUNK_BYTES, chunk_bytes);
        ElasticsearchConfig {
            urls,
            auth: self.elasticsearch_auth(credentials_in_url),
            opaque_id: self.text(&ELASTICSEARCH_OPAQUE_ID),
            tls: self.elasticsearch_tls(),
            chunk_size: self.value(&ELASTICSEARCH_CHUNK_SIZE, value::number(1..=100_000)),
            max_chunk_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            bulk_in_flight: self.value(&ELASTICSEARCH_THREAD_COUNT, value::number(1..=64)),
            timeout: self.value(&ELASTICSEARCH_TIMEOUT, value::positive_duration),
            max_retries: self.optional(&ELASTICSEARCH_MAX_RETRIES, value::number(0..=1_000_000)),
            initial_backoff: self.value(&ELASTICSEARCH_INITIAL_BACKOFF, value::positive_duration),
            max_backoff: self.value(&ELASTICSEARCH_MAX_BACKOFF, value::positive_duration),
            http_compress: self.value(&ELASTICSEARCH_HTTP_COMPRESS, value::boolean),
        }
    }

    /// The nodes, and the credentials that a URL carried.
    fn elasticsearch_urls(&mut self) -> (Vec<Url>, Option<ElasticsearchAuth>) {
        let url = self.origin(&ELASTICSEARCH_URL);
        let cloud = self.origin(&ELASTICSEARCH_CLOUD_ID);
        if url.is_some() && cloud == url {
            let hint = "the cloud id already holds the address";
            self.conflict(&ELASTICSEARCH_URL, &ELASTICSEARCH_CLOUD_ID, hint);
        }
        if cloud > url {
            let url = self.optional(&ELASTICSEARCH_CLOUD_ID, cloud_url);
            return (url.into_iter().collect(), None);
        }
        if url.is_some() {
            let nodes = self.optional(&ELASTICSEARCH_URL, parse_urls);
            return nodes.unwrap_or_default();
        }
        let scheme = value::one_of(&[("http", "http"), ("https", "https")]);
        let scheme = self.value(&ELASTICSEARCH_SCHEME, scheme);
        let port = self.value(&ELASTICSEARCH_PORT, value::number(1..=u16::MAX));
        let host = self.text_or_default(&ELASTICSEARCH_HOST);
        let url = Url::parse(&format!("{scheme}://{}:{port}/", bracketed(&host))).ok();
        let is_host = |url: &Url| url.path() == "/" && url.username().is_empty();
        let url = url.filter(is_host);
        if url.is_none() {
            self.refuse(&ELASTICSEARCH_HOST, "a host name; a whole URL is ELASTICSEARCH_URL");
        }
        (url.into_iter().collect(), None)
    }

    fn elasticsearch_auth(&mut self, in_url: Option<ElasticsearchAuth>) -> ElasticsearchAuth {
        let ways: [&'static Setting; 4] = [
            &ELASTICSEARCH_API_KEY,
            &ELASTICSEARCH_BEARER_AUTH,
            &ELASTICSEARCH_BASIC_AUTH,
            &ELASTICSEARCH_USER,
        ];
        let mut given = ways.into_iter().filter(|way| self.given(way).is_some());
        let (way, other) = (given.next(), given.next());
        if let (Some(way), Some(other)) = (way, other) {
            self.conflict(way, other, ONE_AUTHENTICATION);
        }
        if let (Some(way), Some(_)) = (way, &in_url) {
            self.conflict(&ELASTICSEARCH_URL, way, ONE_AUTHENTICATION);
        }
        self.refuse_halves_of_credentials();
        if self.given(&ELASTICSEARCH_API_KEY).is_some() {
            let id = self.text(&ELASTICSEARCH_API_KEY_ID);
            let key = self.optional(&ELASTICSEARCH_API_KEY, |key| api_key(id.as_deref(), key));
            return key.map_or(ElasticsearchAuth::None, ElasticsearchAuth::ApiKey);
        }
        if let Some(token) = self.text(&ELASTICSEARCH_BEARER_AUTH) {
            return ElasticsearchAuth::Bearer(Secret::from(token));
        }
        if self.given(&ELASTICSEARCH_BASIC_AUTH).is_some() {
            return self.optional(&ELASTICSEARCH_BASIC_AUTH, basic_auth).unwrap_or_default();
        }
        if let Some(user) = self.text(&ELASTICSEARCH_USER) {
            let password = self.text(&ELASTICSEARCH_PASSWORD).unwrap_or_default();
            return ElasticsearchAuth::Basic { user, password: Secret::from(password) };
        }
        in_url.unwrap_or_default()
    }

    fn refuse_halves_of_credentials(&mut self) {
        if self.given(&ELASTICSEARCH_PASSWORD).is_some()
            && self.given(&ELASTICSEARCH_USER).is_none()
        {
            self.refuse(&ELASTICSEARCH_PASSWORD, "ELASTICSEARCH_USER beside it");
        }
        if self.given(&ELASTICSEARCH_API_KEY_ID).is_some()
            && self.given(&ELASTICSEARCH_API_KEY).is_none()
        {
            self.refuse(&ELASTICSEARCH_API_KEY_ID, "ELASTICSEARCH_API_KEY beside it");
        }
    }

    fn elasticsearch_tls(&mut self) -> ElasticsearchTls {
        let certificate = self.text(&ELASTICSEARCH_CLIENT_CERT).map(PathBuf::from);
        let key = self.text(&ELASTICSEARCH_CLIENT_KEY).map(PathBuf::from);
        if certificate.is_some() && key.is_none() {
            self.refuse(&ELASTICSEARCH_CLIENT_CERT, "ELASTICSEARCH_CLIENT_KEY beside it");
        } else if key.is_some() && certificate.is_none() {
            self.refuse(&ELASTICSEARCH_CLIENT_KEY, "ELASTICSEARCH_CLIENT_CERT beside it");
        }
        let client = certificate.zip(key);
        ElasticsearchTls {
            verify_certificates: self.value(&ELASTICSEARCH_VERIFY_CERTS, value::boolean),
            authorities: self.text(&ELASTICSEARCH_CA_CERTS).map(PathBuf::from),
            client: client.map(|(certificate, key)| ClientCertificate { certificate, key }),
            fingerprint: self.optional(&ELASTICSEARCH_SSL_ASSERT_FINGERPRINT, fingerprint),
        }
    }
}

/// An IPv6 address in brackets, anything else as it is.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

type Nodes = (Vec<Url>, Option<ElasticsearchAuth>);

/// The nodes without their credentials, and these.
fn parse_urls(text: &str) -> Result<Nodes, Expected> {
    let mut nodes: Nodes = (Vec::new(), None);
    for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let form = "one or more URLs such as `https://search.example:9200`, comma-separated";
        let mut url = Url::parse(text).ok().ok_or(form)?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
            return Err(form.to_owned());
        }
        let credentials = credentials_of(&url)?;
        if nodes.1.is_some() && credentials.is_some() && nodes.1 != credentials {
            return Err("the same user and password in every URL".to_owned());
        }
        nodes.1 = nodes.1.or(credentials);
        // Both fail only for URLs that cannot have credentials, and http has them.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(form.to_owned());
        }
        nodes.0.push(url);
    }
    if nodes.0.is_empty() { Err("at least one URL".to_owned()) } else { Ok(nodes) }
}

/// User and password of a URL, decoded.
fn credentials_of(url: &Url) -> Result<Option<ElasticsearchAuth>, Expected> {
    let decoded = |text| {
        let text = percent_decode_str(text).decode_utf8().ok();
        text.map(String::from).ok_or("UTF-8 behind every `%`")
    };
    if url.username().is_empty() {
        return Ok(None);
    }
    let user = decoded(url.username())?;
    let password = Secret::from(decoded(url.password().unwrap_or_default())?);
    Ok(Some(ElasticsearchAuth::Basic { user, password }))
}

/// The address in a cloud id: `name:base64(host[:port]$elasticsearch[$kibana])`.
fn cloud_url(text: &str) -> Result<Url, Expected> {
    let expected = "a cloud id as the deployment's page shows it, `name:base64`";
    let (_, encoded) = text.rsplit_once(':').ok_or(expected)?;
    let decoded = STANDARD.decode(encoded).ok().ok_or(expected)?;
    let decoded = String::from_utf8(decoded).ok().ok_or(expected)?;
    let mut parts = decoded.split('$');
    let (host, id) = parts.next().zip(parts.next()).ok_or(expected)?;
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    if host.is_empty() || id.is_empty() {
        return Err(expected.to_owned());
    }
    Url::parse(&format!("https://{id}.{host}:{port}/")).ok().ok_or_else(|| expected.to_owned())
}

/// The base64 of `id:secret`, which is what the header carries.
fn api_key(id: Option<&str>, key: &str) -> Result<Secret, Expected> {
    if let Some(id) = id {
        return Ok(Secret::from(STANDARD.encode(format!("{id}:{key}"))));
    }
    let decoded = STANDARD.decode(key).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_some_and(|decoded| decoded.contains(':')) {
        Ok(Secret::from(key.to_owned()))
    } else {
        Err("the base64 of `id:secret`; for the secret alone set ELASTICSEARCH_API_KEY_ID too"
            .to_owned())
    }
}

/// User and password in one value.
fn basic_auth(text: &str) -> Result<ElasticsearchAuth, Expected> {
    let decoded = || {
        let bytes = STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    };
    let plain = if text.contains(':') { Some(text.to_owned()) } else { decoded() };
    let pair = plain.as_deref().and_then(|plain| plain.split_once(':'));
    let (user, password) = pair.ok_or("`user:password`, or the base64 of it")?;
    let password = Secret::from(password.to_owned());
    Ok(ElasticsearchAuth::Basic { user: user.to_owned(), password })
}

/// The bytes of a fingerprint.
fn fingerprint(text: &str) -> Result<[u8; 32], Expected> {
    let expected = || "the SHA-256 of a certificate: 64 hexadecimal digits".to_owned();
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|character| *character != ':')
        .map(|character| character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.ok_or_else(expected)?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    let bytes = if rest.is_empty() { bytes } else { Vec::new() };
    bytes.try_into().ok().ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> ElasticsearchAuth {
        let password = Secret::from(password.to_owned());
        ElasticsearchAuth::Basic { user: user.to_owned(), password }
    }

    #[test]
    fn urls_lose_their_credentials_to_the_authentication() {
        let (urls, auth) = parse_urls("https://u:p%40@a:9243, https://b/prefix").unwrap();
        let shown: Vec<_> = urls.iter().map(Url::as_str).collect();
        assert_eq!(shown, ["https://a:9243/", "https://b/prefix"]);
        assert_eq!(auth, Some(basic("u", "p@")));
        for text in ["", ",", "localhost:9200", "ftp://a", "https://u:p@a,https://u:q@b"] {
            assert!(parse_urls(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cloud_id_holds_the_address() {
        let encode = |text: &str| format!("my-name:{}", STANDARD.encode(text));
        let url = |text: &str| cloud_url(&encode(text)).unwrap().to_string();
        assert_eq!(url("eu.aws.example$abc$kib"), "https://abc.eu.aws.example/");
        assert_eq!(url("eu.aws.example:9243$abc"), "https://abc.eu.aws.example:9243/");
        assert!(cloud_url("no-colon").is_err());
        assert!(cloud_url("name:%%%").is_err());
        assert!(cloud_url(&encode("no-dollar")).is_err());
    }

    #[test]
    fn an_api_key_comes_in_two_parts_or_as_the_base64_of_both() {
        let both = STANDARD.encode("id:secret");
        assert_eq!(api_key(Some("id"), "secret").unwrap().expose(), both);
        assert_eq!(api_key(None, &both).unwrap().expose(), both);
        assert!(api_key(None, "secret").is_err());
    }

    #[test]
    fn basic_auth_is_plain_or_base64() {
        assert_eq!(basic_auth("u:p:q"), Ok(basic("u", "p:q")));
        assert_eq!(basic_auth(&STANDARD.encode("u:p")), Ok(basic("u", "p")));
        assert!(basic_auth("justauser").is_err());
    }

    #[test]
    fn a_fingerprint_has_32_bytes() {
        let digits = "AB:".repeat(31) + "0f";
        let bytes = fingerprint(&digits).unwrap();
        assert_eq!((bytes[0], bytes[31]), (0xab, 0x0f));
        for text in ["", "ab", "xy", &"a".repeat(63), &"a".repeat(66)] {
            assert!(fingerprint(text).is_err(), "{text}");
        }
    }
}
