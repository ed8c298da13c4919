//! The text of the schema from a file, an http(s) address or a public S3 object. Keeps no copy: the
//! caller has the last good one.

use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::io::AsyncReadExt;
use tracing::warn;
use url::Url;

use super::SchemaError;

/// A schema of hundreds of indexes has a few hundred kilobytes: more is the wrong address.
const SIZE_LIMIT: usize = 10 * 1024 * 1024;

/// Redirects that are followed, as web servers and file hosts use one or two.
const REDIRECT_LIMIT: usize = 5;

/// How long and how often an address is tried.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Until the connection stands.
    connect: Duration,
    /// Until the whole answer is read, in one attempt.
    total: Duration,
    /// Attempts altogether.
    attempts: u32,
    /// Wait after the first failure; doubled after each.
    backoff: Duration,
}

/// Half a minute and a little in the worst usual case (a refused connection), four times the total
/// timeout at worst. The caller then falls back on its copy.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(20),
    attempts: 4,
    backoff: Duration::from_millis(500),
};

/// Where the schema is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An `http` or `https` address; credentials in it are sent as basic authentication.
    Url(Url),
    /// An object that everyone may read: it is fetched without credentials from its https address.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key, without leading slash.
        key: String,
    },
}

impl Origin {
    /// Reads the text of `--schema-url`: an http(s) address, or one of `s3`.
    ///
    /// # Errors
    /// [`SchemaError::Address`] if it is neither.
    pub fn from_url(text: &str) -> Result<Self, SchemaError> {
        let refuse = |shown: String| SchemaError::Address {
            text: shown,
            expected: "http://…, https://… or s3://bucket/key",
        };
        // The text of an unreadable address is not repeated: it may hold a password.
        let Ok(url) = Url::parse(text) else { return Err(refuse("…".to_owned())) };
        let bare = |url: &Url| redacted(url);
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self::Url(url)),
            "s3" => {
                let bucket = url.host_str().unwrap_or_default().to_owned();
                let key = url.path().trim_start_matches('/').to_owned();
                if bucket.is_empty() || key.is_empty() {
                    return Err(refuse(bare(&url)));
                }
                Ok(Self::S3 { bucket, key })
            }
            _ => Err(refuse(bare(&url))),
        }
    }

    /// The address as errors and logs show it: without user, password, query and fragment.
    pub fn redacted(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => redacted(url),
            Self::S3 { bucket, key } => format!("s3://{bucket}/{key}"),
        }
    }
}

/// The https address of a public S3 object.
///
/// # Errors
/// [`SchemaError::Address`] if bucket and key make none.
fn s3_address(bucket: &str, key: &str) -> Result<Url, SchemaError> {
    // The certificate of the virtual host covers no bucket name with dots.
    let text = if bucket.contains('.') {
        format!("https://s3.amazonaws.com/{bucket}/{key}")
    } else {
        format!("https://{bucket}.s3.amazonaws.com/{key}")
    };
    Url::parse(&text).map_err(|_invalid| SchemaError::Address {
        text: format!("s3://{bucket}/{key}"),
        expected: "s3://bucket/key",
    })
}

/// Fetches the text of the schema.
///
/// An address is tried several times with growing waits while it cannot be reached, or answers 429
/// or 5xx.
///
/// # Errors
/// Every variant of [`SchemaError`] about reading; the text itself is not looked at.
pub async fn fetch(origin: &Origin) -> Result<String, SchemaError> {
    let shown = origin.redacted();
    match origin {
        Origin::File(path) => read_file(path).await,
        Origin::Url(url) => download(url, &shown, PATIENCE).await,
        Origin::S3 { bucket, key } => download(&s3_address(bucket, key)?, &shown, PATIENCE).await,
    }
}

/// Reads a file up to the limit.
///
/// # Errors
/// What [`text_of`] refuses, and [`SchemaError::Unreadable`].
async fn read_file(path: &PathBuf) -> Result<String, SchemaError> {
    let unreadable = |source| SchemaError::Unreadable { path: path.clone(), source };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte above the limit tells a larger file from one that fits exactly.
    let mut limited = file.take(SIZE_LIMIT as u64 + 1);
    limited.read_to_end(&mut bytes).await.map_err(unreadable)?;
    text_of(bytes, &path.display().to_string())
}

/// The bytes as text.
///
/// # Errors
/// [`SchemaError::TooLarge`], [`SchemaError::NotText`].
fn text_of(bytes: Vec<u8>, origin: &str) -> Result<String, SchemaError> {
    if bytes.len() > SIZE_LIMIT {
        return Err(SchemaError::TooLarge { origin: origin.to_owned(), limit: SIZE_LIMIT });
    }
    String::from_utf8(bytes).map_err(|_not_utf8| SchemaError::NotText { origin: origin.to_owned() })
}

/// Asks until there is an answer, or patience ends.
///
/// # Errors
/// The last failure.
async fn download(url: &Url, origin: &str, patience: Patience) -> Result<String, SchemaError> {
    let unreachable = |attempts, source: reqwest::Error| SchemaError::Unreachable {
        origin: origin.to_owned(),
        attempts,
        // The URL in the cause would show its secrets.
        source: source.without_url(),
    };
    let client = client(patience).map_err(|source| unreachable(0, source))?;
    let mut attempt = 1;
    loop {
        let failure = match attempt_once(&client, url, origin).await {
            Ok(text) => return Ok(text),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Connection(source)) => unreachable(attempt, source),
            Err(Failure::Busy(status)) => {
                SchemaError::Http { origin: origin.to_owned(), status: status.as_u16() }
            }
        };
        if attempt >= patience.attempts {
            return Err(failure);
        }
        warn!(
            attempt,
            error = &failure as &dyn std::error::Error,
            "schema not fetched, trying again"
        );
        tokio::time::sleep(wait_after(attempt, patience)).await;
        attempt += 1;
    }
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt would not help.
    Final(SchemaError),
    /// No connection, or a broken one.
    Connection(reqwest::Error),
    /// The server wants to be asked later.
    Busy(StatusCode),
}

/// A client with these timeouts that follows few redirects, and none to plain text.
///
/// # Errors
/// If TLS cannot be set up.
fn client(patience: Patience) -> Result<Client, reqwest::Error> {
    let policy = redirect::Policy::custom(|attempt| {
        let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECT_LIMIT {
            attempt.error("too many redirects")
        } else if secure && attempt.url().scheme() != "https" {
            attempt.error("a redirect from https to http is not followed")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .connect_timeout(patience.connect)
        .timeout(patience.total)
        .redirect(policy)
        .user_agent(concat!("pgsyncd/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Asks once.
///
/// # Errors
/// [`Failure`], which knows whether another attempt may help.
async fn attempt_once(client: &Client, url: &Url, origin: &str) -> Result<String, Failure> {
    let response = client.get(url.clone()).send().await.map_err(failure_of)?;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(Failure::Busy(status));
    }
    if !status.is_success() {
        let status = status.as_u16();
        return Err(Failure::Final(SchemaError::Http { origin: origin.to_owned(), status }));
    }
    let is_page = is_html(&response);
    let text = text_of(body_of(response, origin).await?, origin).map_err(Failure::Final)?;
    if is_page || text.trim_start().starts_with('<') {
        return Err(Failure::Final(SchemaError::WebPage { origin: origin.to_owned() }));
    }
    Ok(text)
}

/// Redirects that are not followed stay so; everything else may be another time.
fn failure_of(error: reqwest::Error) -> Failure {
    if error.is_redirect() || error.is_builder() {
        Failure::Final(SchemaError::Unreachable {
            origin: error.url().map(redacted).unwrap_or_default(),
            attempts: 1,
            source: error.without_url(),
        })
    } else {
        Failure::Connection(error)
    }
}

fn is_html(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().starts_with("text/html"))
}

/// Reads the body as it comes, up to the limit: a length that the server claims proves nothing.
///
/// # Errors
/// [`Failure`] if the connection breaks or the limit is passed.
async fn body_of(mut response: Response, origin: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::Connection)? {
        if bytes.len() + chunk.len() > SIZE_LIMIT {
            return Err(Failure::Final(SchemaError::TooLarge {
                origin: origin.to_owned(),
                limit: SIZE_LIMIT,
            }));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The wait after a failed attempt: doubled each time, and spread, so that many instances that
/// start together do not ask together.
fn wait_after(attempt: u32, patience: Patience) -> Duration {
    let doubled = patience.backoff.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// An address without user, password, query and fragment: signed addresses carry keys in the query.
fn redacted(url: &Url) -> String {
    let mut bare = url.clone();
    if url.query().is_some() {
        bare.set_query(Some("…"));
    }
    bare.set_fragment(None);
    let had_user = !url.username().is_empty() || url.password().is_some();
    // Neither call fails for an address that has a host, and only such a one has a user.
    let _has_host = bare.set_password(None);
    let _has_host = bare.set_username(if had_user { "***" } else { "" });
    bare.to_string().replace("%E2%80%A6", "…")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const IMPATIENCE: Patience = Patience {
        connect: Duration::from_millis(500),
        total: Duration::from_millis(500),
        attempts: 3,
        backoff: Duration::from_millis(1),
    };

    /// A server that gives one answer to each connection, in order, and then is gone.
    fn server(answers: Vec<Vec<u8>>) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let length = connection.read(&mut request).unwrap_or(0);
                let asked = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let seen = if asked.contains("authorization: basic") { "yes" } else { "no" };
                let text = answer.clone();
                // A client that has heard enough hangs up.
                let _hung_up = connection.write_all(&text);
                let _hung_up = connection.write_all(seen.as_bytes());
            }
        });
        Url::parse(&format!("http://127.0.0.1:{port}/schema.json")).unwrap()
    }

    /// The head of an answer whose body ends with the connection.
    fn answer(status: &str, more: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n{body}").into_bytes()
    }

    async fn ask(url: &Url) -> Result<String, SchemaError> {
        download(url, &redacted(url), IMPATIENCE).await
    }

    #[tokio::test]
    async fn busy_servers_are_asked_again() {
        let url = server(vec![
            answer("503 Service Unavailable", "", ""),
            answer("429 Too Many Requests", "", ""),
            answer("200 OK", "", "[] "),
        ]);
        assert_eq!(ask(&url).await.unwrap(), "[] no");
        let url = server(vec![answer("502 Bad Gateway", "", ""); 3]);
        assert!(matches!(ask(&url).await, Err(SchemaError::Http { status: 502, .. })));
    }

    #[tokio::test]
    async fn answers_that_will_not_change_are_final() {
        for status in [404, 403, 400] {
            let url = server(vec![answer(&format!("{status} No"), "", "")]);
            let error = ask(&url).await.unwrap_err();
            assert!(matches!(error, SchemaError::Http { status: s, .. } if s == status), "{error}");
            assert_eq!(error.hint().is_some(), status != 400);
        }
    }

    #[tokio::test]
    async fn web_pages_are_no_schema() {
        for (head, body) in
            [("Content-Type: text/html; charset=utf-8\r\n", "[]"), ("", "\n <html>")]
        {
            let url = server(vec![answer("200 OK", head, body)]);
            assert!(matches!(ask(&url).await, Err(SchemaError::WebPage { .. })), "{body}");
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_cut_off() {
        let body = "x".repeat(SIZE_LIMIT + 10);
        let url = server(vec![answer("200 OK", "", &body)]);
        let patience = Patience { total: Duration::from_secs(20), ..IMPATIENCE };
        let outcome = download(&url, "there", patience).await;
        assert!(matches!(outcome, Err(SchemaError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn redirects_are_followed_a_few_times() {
        let goal = server(vec![answer("200 OK", "", "[]")]);
        let url = server(vec![answer("302 Found", &format!("Location: {goal}\r\n"), "")]);
        assert_eq!(ask(&url).await.unwrap(), "[]no");
        let round = answer("302 Found", "Location: /again\r\nContent-Length: 0\r\n", "");
        let url = server(vec![round; 20]);
        assert!(matches!(ask(&url).await, Err(SchemaError::Unreachable { attempts: 1, .. })));
    }

    #[tokio::test]
    async fn credentials_are_sent_and_never_shown() {
        let mut url = server(vec![answer("200 OK", "", "")]);
        url.set_username("me").unwrap();
        url.set_password(Some("hunter2")).unwrap();
        assert_eq!(ask(&url).await.unwrap(), "yes");
        // Nothing listens there any more.
        url.set_query(Some("token=hunter2"));
        let error = ask(&url).await.unwrap_err();
        assert!(matches!(error, SchemaError::Unreachable { attempts: 3, .. }), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("http://***@127.0.0.1:"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn a_silent_server_is_not_waited_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        let patience = Patience { total: Duration::from_millis(50), ..IMPATIENCE };
        let outcome = download(&url, "there", patience).await;
        assert!(matches!(outcome, Err(SchemaError::Unreachable { attempts: 3, .. })));
    }

    #[tokio::test]
    async fn files_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schema.json");
        let of = |path: &std::path::Path| Origin::File(path.to_owned());
        assert!(matches!(fetch(&of(&path)).await, Err(SchemaError::Unreadable { .. })));
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(fetch(&of(&path)).await.unwrap(), "[]");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(fetch(&of(&path)).await, Err(SchemaError::NotText { .. })));
        std::fs::write(&path, vec![b' '; SIZE_LIMIT + 1]).unwrap();
        assert!(matches!(fetch(&of(&path)).await, Err(SchemaError::TooLarge { .. })));
        assert!(matches!(fetch(&of(folder.path())).await, Err(SchemaError::Unreadable { .. })));
    }

    #[test]
    fn addresses_are_http_or_s3() {
        let s3 = Origin::from_url("s3://bucket/a/b.json").unwrap();
        assert_eq!(s3, Origin::S3 { bucket: "bucket".to_owned(), key: "a/b.json".to_owned() });
        let url = Origin::from_url("https://host/x?y=1").unwrap();
        assert_eq!(url, Origin::Url(Url::parse("https://host/x?y=1").unwrap()));
        for (bucket, address) in [
            ("bucket", "https://bucket.s3.amazonaws.com/a/b.json"),
            ("my.bucket", "https://s3.amazonaws.com/my.bucket/a/b.json"),
        ] {
            assert_eq!(s3_address(bucket, "a/b.json").unwrap().as_str(), address);
        }
        for text in ["schema.json", "ftp://h/x", "s3://bucket", "s3:///key", "", "http://"] {
            assert!(Origin::from_url(text).is_err(), "{text}");
        }
        let error = Origin::from_url("ftp://me:hunter2@host/x?k=hunter2").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error}");
    }
}
