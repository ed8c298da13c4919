//! Rim: `/live`, `/ready`, `/status` and `/metrics` over HTTP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::status::{NotReady, Status, StatusReport};

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// What the service is doing.
    pub status: Arc<Status>,
    /// What it counted.
    pub metrics: Metrics,
}

/// HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not ours.
    #[error("cannot listen for HTTP on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The listener failed.
    #[error("HTTP on {address} ended")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The content type of `OpenMetrics`.
///
/// Source: `OpenMetrics` 1.0.0, "Overall Structure".
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Takes the address.
///
/// # Errors
/// [`HttpError::Bind`] if it is taken, or not ours.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(address).await.map_err(|source| HttpError::Bind { address, source })
}

/// Answers until `stop` is ready, then finishes the answers under way.
///
/// # Errors
/// [`HttpError::Serve`] if the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = listener.local_addr().unwrap_or(unknown);
    let served = axum::serve(listener, router(state)).with_graceful_shutdown(stop).await;
    served.map_err(|source| HttpError::Serve { address, source })
}

fn router(state: HttpState) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(state)
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<NotReady>,
}

async fn live(State(state): State<HttpState>) -> impl IntoResponse {
    let live = state.status.is_live();
    (ok_or_unavailable(live), Json(Live { live }))
}

async fn ready(State(state): State<HttpState>) -> impl IntoResponse {
    let StatusReport { ready, not_ready: reasons, .. } = state.status.snapshot();
    (ok_or_unavailable(ready), Json(Ready { ready, reasons }))
}

async fn status(State(state): State<HttpState>) -> Json<StatusReport> {
    Json(state.status.snapshot())
}

async fn metrics(State(state): State<HttpState>) -> Response {
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ok_or_unavailable(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Phase;

    /// Serves a status on a free port and asks it for `path`.
    async fn ask(status: Arc<Status>, path: &str) -> (u16, String, String) {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let state = HttpState { metrics: Metrics::new(Arc::clone(&status)), status };
        let asked = async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client.get(url).send().await.unwrap();
            let kind = answer.headers()[header::CONTENT_TYPE.as_str()].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind, answer.text().await.unwrap())
        };
        tokio::select! {
            answer = asked => answer,
            _ = serve(listener, state, std::future::pending()) => panic!("serving ended"),
        }
    }

    #[tokio::test]
    async fn a_process_that_starts_is_alive_and_not_ready() {
        let status = Arc::new(Status::new(1));
        let (code, _, text) = ask(Arc::clone(&status), "/live").await;
        assert_eq!((code, text.as_str()), (200, r#"{"live":true}"#));
        let (code, kind, text) = ask(status, "/ready").await;
        assert_eq!((code, kind.as_str()), (503, "application/json"));
        assert_eq!(text, r#"{"ready":false,"reasons":[{"reason":"starting"}]}"#);
    }

    #[tokio::test]
    async fn a_streaming_process_is_ready() {
        let status = Arc::new(Status::new(1));
        let pipeline = status.pipeline("shop");
        pipeline.enter(Phase::Streaming);
        pipeline.source.up();
        let (code, _, text) = ask(status, "/ready").await;
        assert_eq!((code, text.as_str()), (200, r#"{"ready":true,"reasons":[]}"#));
    }

    #[tokio::test]
    async fn status_and_metrics_are_served() {
        let status = Arc::new(Status::new(1));
        let (code, _, text) = ask(Arc::clone(&status), "/status").await;
        assert_eq!((code, serde_json::from_str(&text).ok()), (200, Some(status.snapshot())));
        let (code, kind, text) = ask(status, "/metrics").await;
        assert_eq!((code, kind.as_str()), (200, OPEN_METRICS));
        assert!(text.contains("pgsyncd_ready 0"));
    }

    #[tokio::test]
    async fn a_taken_address_is_an_error_that_names_it() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen for HTTP on {address}"));
    }
}
