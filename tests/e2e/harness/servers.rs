//! The servers that the environment names, and how to speak to them.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Client as Http, Method};
use serde_json::Value as Json;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use url::Url;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static HTTP: LazyLock<Http> =
    LazyLock::new(|| Http::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap());

/// Runs a future on the runtime that all tests share.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// An address that `tests/services.sh env` prints.
///
/// # Panics
/// Without it: a test that is skipped silently would be a green lie.
pub(crate) fn address(server: &str) -> Url {
    variable(&format!("PGSYNCD_TEST_{server}_URL")).parse().unwrap()
}

/// A variable that `tests/services.sh env` prints.
pub(crate) fn variable(name: &str) -> String {
    let value = std::env::var(name).unwrap_or_default();
    assert!(!value.is_empty(), "{name} is not set: eval \"$(tests/services.sh env)\"");
    value
}

/// The address of a database of the server that most tests use.
pub(crate) fn database_url(database: &str) -> Url {
    let mut url = address("POSTGRES");
    url.set_path(database);
    url
}

/// A connection without TLS.
pub(crate) fn connect(url: &Url) -> Client {
    let (client, connection) = block_on(tokio_postgres::connect(url.as_str(), NoTls)).unwrap();
    RUNTIME.spawn(connection);
    client
}

/// Runs statements; their text is in the panic.
pub(crate) fn run(client: &Client, sql: &str) {
    block_on(client.batch_execute(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The first column of all rows, as text.
pub(crate) fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = block_on(client.query(sql, &[]));
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Asks Elasticsearch; the status and the answer.
pub(crate) fn elasticsearch(method: Method, path: &str, body: Option<&Json>) -> (u16, Json) {
    let url = format!("{}{path}", address("ELASTICSEARCH").as_str().trim_end_matches('/'));
    let mut request = HTTP.request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    let (status, text) = fetch(request).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Json::Null))
}

/// Asks a service on this machine; the status and the text, or that nobody answers.
pub(crate) fn get(url: &str) -> Result<(u16, String), String> {
    fetch(HTTP.get(url)).map_err(|error| error.to_string())
}

fn fetch(request: reqwest::RequestBuilder) -> Result<(u16, String), reqwest::Error> {
    block_on(async {
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}
