//! `healthcheck` and `status`: asks a running service over HTTP.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::HttpConfig;
use crate::status::{IndexReport, LinkReport, LinkState, PipelineReport, StatusReport};

/// Below the usual limit of a container's health check.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service could not be asked, or is not well.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The service is configured without HTTP.
    #[error("the service serves no HTTP: PGSYNCD_HTTP_ADDR is `off`")]
    Off,
    /// Nobody answers.
    #[error("no answer from {address}: is the service running?")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// Why.
        source: reqwest::Error,
    },
    /// Somebody else answers, or another version.
    #[error("the answer from {address} is not understood")]
    Answer {
        /// Where it was asked.
        address: SocketAddr,
        /// Why.
        source: serde_json::Error,
    },
    /// The service says that it is not alive.
    #[error("not alive: {address} answered {code}")]
    NotAlive {
        /// Where it was asked.
        address: SocketAddr,
        /// The HTTP status.
        code: u16,
    },
}

/// Whether the service is alive; the text is the one line to print.
///
/// # Errors
/// [`ProbeError`] if it is not, or cannot be asked.
pub async fn healthcheck(http: &HttpConfig) -> Result<String, ProbeError> {
    let address = reachable(http)?;
    let (code, _) = get(address, "/live").await?;
    if code == 200 { Ok("alive".to_owned()) } else { Err(ProbeError::NotAlive { address, code }) }
}

/// What the service is doing, as JSON or as text.
///
/// # Errors
/// [`ProbeError`] if it cannot be asked.
pub async fn status(http: &HttpConfig, json: bool) -> Result<String, ProbeError> {
    let address = reachable(http)?;
    let (_, body) = get(address, "/status").await?;
    let not_understood = |source| ProbeError::Answer { address, source };
    if json {
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(not_understood)?;
        return serde_json::to_string_pretty(&value).map_err(not_understood);
    }
    serde_json::from_slice(&body).map(|report| describe(&report)).map_err(not_understood)
}

/// The address to call: where the service listens on every address, the one of this machine.
fn reachable(http: &HttpConfig) -> Result<SocketAddr, ProbeError> {
    let mut address = http.address.ok_or(ProbeError::Off)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(address)
}

/// Code and body of an answer.
async fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), ProbeError> {
    let no_answer =
        |source: reqwest::Error| ProbeError::NoAnswer { address, source: source.without_url() };
    // Neither a proxy of the environment nor certificates have a part in this.
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .timeout(PATIENCE)
        .build()
        .map_err(no_answer)?;
    let url = format!("http://{address}{path}");
    let answer = client.get(url).send().await.map_err(no_answer)?;
    let code = answer.status().as_u16();
    Ok((code, answer.bytes().await.map_err(no_answer)?.to_vec()))
}

fn describe(report: &StatusReport) -> String {
    let ready = if report.ready { "ready" } else { "not ready" };
    let mut text = format!("pgsyncd {}, {ready}, started {}", report.version, report.started_at);
    for reason in &report.not_ready {
        append(&mut text, format_args!("\n  not ready: {reason}"));
    }
    for pipeline in &report.pipelines {
        describe_pipeline(&mut text, pipeline);
    }
    text
}

fn describe_pipeline(text: &mut String, pipeline: &PipelineReport) {
    let PipelineReport { database, phase, behind_bytes, restarts, .. } = pipeline;
    append(text, format_args!("\n{database}: {phase}, {behind_bytes} bytes behind"));
    let PipelineReport { received, written, durable, reported, server, .. } = pipeline;
    append(text, format_args!("\n  received {received}, written {written}, durable {durable}"));
    append(text, format_args!(", reported {reported}, server {server}"));
    describe_link(text, "source", &pipeline.source);
    describe_link(text, "sink", &pipeline.sink);
    if let Some(error) = &pipeline.last_error {
        append(text, format_args!("\n  {restarts} restarts, last {}: {}", error.at, error.text));
    }
    for index in &pipeline.indexes {
        describe_index(text, index);
    }
}

fn describe_link(text: &mut String, name: &str, link: &LinkReport) {
    let state = match link.state {
        LinkState::Connecting => "connecting",
        LinkState::Up => "up",
        LinkState::Down => "down",
    };
    append(text, format_args!("\n  {name} {state}"));
    if let Some(since) = link.since {
        append(text, format_args!(" since {since}"));
    }
    if let (LinkState::Down, Some(error)) = (link.state, &link.last_error) {
        append(text, format_args!(": {}", error.text));
    }
}

fn describe_index(text: &mut String, index: &IndexReport) {
    let concrete = index.concrete.as_deref().unwrap_or("none yet");
    append(text, format_args!("\n  index {} ({concrete})", index.index));
    let IndexReport { written, deleted, superseded, rejected, load_rows, .. } = index;
    append(text, format_args!(": {written} written, {deleted} deleted, {superseded} superseded"));
    append(text, format_args!(", {rejected} rejected, load {load_rows}"));
    if let Some(total) = index.load_total {
        append(text, format_args!(" of {total} rows"));
    }
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Phase, Status};

    #[test]
    fn the_text_names_what_is_wrong() {
        let status = Status::new(1);
        let pipeline = status.pipeline("shop");
        pipeline.enter(Phase::Streaming);
        pipeline.source.up();
        pipeline.sink.down("connection refused".to_owned());
        pipeline.index("book").rejected.add(2);
        let text = describe(&status.snapshot());
        for part in [
            "not ready: shop: sink is down: connection refused",
            "\nshop: streaming, 0 bytes behind",
            "\n  source up since ",
            "\n  index book (none yet): 0 written, 0 deleted, 0 superseded, 2 rejected",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_service_on_every_address_is_asked_on_this_machine() {
        let asked = |text: &str| {
            let http = HttpConfig { address: text.parse().ok(), ..HttpConfig::default() };
            reachable(&http).map(|address| address.to_string()).ok()
        };
        assert_eq!(asked("0.0.0.0:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(asked("[::]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(asked("10.0.0.1:1").as_deref(), Some("10.0.0.1:1"));
        assert_eq!(asked("off"), None);
    }
}
