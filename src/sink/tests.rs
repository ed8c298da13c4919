//! The stage against a server that answers as the test says: overload, refusals, broken answers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fixtures::{batch, delete, index, version};
use super::*;
use crate::document::Document;

const PATIENCE: Duration = Duration::from_secs(20);

/// One action of a bulk request.
#[derive(Clone, Debug)]
struct Seen {
    id: String,
    body: Option<String>,
}

/// What the server says to a request.
enum Reply {
    /// One status and error per item.
    Items(Vec<(u16, Json)>),
    /// Every item is written.
    Fine,
    Status(u16, Json),
    /// The connection breaks in the middle of the answer.
    Broken,
    /// The answer ends in the middle, as if it were complete.
    CutOff,
}

type Script = Arc<dyn Fn(usize, &[Seen]) -> Reply + Send + Sync>;

/// What the server saw: every request's actions, and whether two requests had one id at a time.
#[derive(Clone, Default)]
struct Log {
    requests: Arc<Mutex<Vec<Vec<Seen>>>>,
    in_flight: Arc<Mutex<HashSet<String>>>,
    doubled: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn requests(&self) -> Vec<Vec<Seen>> {
        self.requests.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<Vec<String>> {
        let ids = |seen: &Vec<Seen>| seen.iter().map(|seen| seen.id.clone()).collect();
        self.requests().iter().map(ids).collect()
    }
}

struct Stage {
    input: Option<mpsc::Sender<DocumentBatch>>,
    output: mpsc::Receiver<Written>,
    letters: mpsc::Receiver<KeepRequest>,
    progress: Arc<SinkProgress>,
    log: Log,
    sink: JoinSet<Result<(), SinkError>>,
    server: JoinSet<()>,
}

fn read_actions(body: &[u8]) -> Vec<Seen> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut lines = text.lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.next() {
        let action: Json = serde_json::from_str(line).unwrap();
        let (kind, what) = action.as_object().unwrap().iter().next().unwrap();
        let body = (kind != "delete").then(|| lines.next().unwrap().to_owned());
        if kind != "update" {
            seen.push(Seen { id: what["_id"].as_str().unwrap().to_owned(), body });
        }
    }
    seen
}

fn answer_of(items: impl IntoIterator<Item = (u16, Json)>) -> String {
    let items: Vec<Json> = items
        .into_iter()
        .map(|(status, error)| match error {
            Json::Null => json!({"index": {"status": status}}),
            error => json!({"index": {"status": status, "error": error}}),
        })
        .collect();
    json!({"errors": true, "items": items}).to_string()
}

fn respond(reply: Reply, count: usize) -> Response {
    let fine = || answer_of((0..count).map(|_| (200, Json::Null)));
    match reply {
        Reply::Items(items) => answer_of(items).into_response(),
        Reply::Fine => fine().into_response(),
        Reply::Status(status, error) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, json!({"error": error, "status": status.as_u16()}).to_string()).into_response()
        }
        Reply::Broken => {
            let parts =
                [Ok(Bytes::from_static(b"{\"errors\":")), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures_util::stream::iter(parts)).into_response()
        }
        Reply::CutOff => {
            let mut answer = fine();
            answer.truncate(answer.len() - 5);
            answer.into_response()
        }
    }
}

/// Starts a server on the listener; each answer takes a moment, so that requests overlap.
fn serve(listener: tokio::net::TcpListener, log: Log, script: Script) -> JoinSet<()> {
    let handler = move |body: Bytes| {
        let (log, script) = (log.clone(), Arc::clone(&script));
        async move {
            let seen = read_actions(&body);
            for one in &seen {
                if !log.in_flight.lock().unwrap().insert(one.id.clone()) {
                    log.doubled.lock().unwrap().push(one.id.clone());
                }
            }
            let number = {
                let mut requests = log.requests.lock().unwrap();
                requests.push(seen.clone());
                requests.len() - 1
            };
            tokio::time::sleep(Duration::from_millis(15)).await;
            let reply = script(number, &seen);
            for one in &seen {
                log.in_flight.lock().unwrap().remove(&one.id);
            }
            respond(reply, seen.len())
        }
    };
    let app = axum::Router::new().fallback(handler);
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    server
}

async fn listener() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn quick() -> SinkOptions {
    SinkOptions {
        initial_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(20),
        ..SinkOptions::default()
    }
}

fn stage_at(address: std::net::SocketAddr, options: SinkOptions, log: Log) -> Stage {
    let url = format!("http://{address}").parse().unwrap();
    let client = Client::new(&ElasticsearchOptions::new(vec![url])).unwrap();
    let (keeper, letters) = DeadLetterKeeper::new(4);
    let progress = Arc::new(SinkProgress::default());
    let target = Target {
        entry: EntryId(0),
        index: IndexName("books".into()),
        alias: "books-pgsyncd-write".into(),
        pipeline: None,
        unrefreshed: Arc::default(),
        status: Arc::default(),
    };
    let sink = Sink::new(client, vec![target], options, keeper, Arc::clone(&progress));
    let (input, received) = mpsc::channel(4);
    let (sender, output) = mpsc::channel(4);
    let mut running = JoinSet::new();
    running.spawn(sink.run(received, sender));
    let server = JoinSet::new();
    Stage { input: Some(input), output, letters, progress, log, sink: running, server }
}

async fn stage(
    options: SinkOptions,
    script: impl Fn(usize, &[Seen]) -> Reply + Send + Sync + 'static,
) -> Stage {
    let (listener, log) = (listener().await, Log::default());
    let mut stage = stage_at(listener.local_addr().unwrap(), options, log.clone());
    stage.server = serve(listener, log, Arc::new(script));
    stage
}

impl Stage {
    async fn send(&self, part: u32, documents: Vec<Document>) {
        self.input.as_ref().unwrap().send(batch(part, documents)).await.unwrap();
    }

    async fn written(&mut self) -> u32 {
        timeout(PATIENCE, self.output.recv()).await.unwrap().unwrap().receipt.part
    }

    async fn letter(&mut self) -> KeepRequest {
        timeout(PATIENCE, self.letters.recv()).await.unwrap().unwrap()
    }

    async fn result(&mut self) -> Result<(), SinkError> {
        timeout(PATIENCE, self.sink.join_next()).await.unwrap().unwrap().unwrap()
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.input = None;
        self.result().await
    }
}

fn documents(count: usize) -> Vec<Document> {
    (0..count).map(|number| index(&number.to_string(), 1, "{}")).collect()
}

fn busy() -> Json {
    json!({"type": "es_rejected_execution_exception", "reason": "queue full"})
}

#[tokio::test]
async fn batches_are_told_when_written_and_the_stage_ends_with_its_input() {
    let mut stage = stage(quick(), |_, _| Reply::Fine).await;
    stage.send(1, documents(3)).await;
    stage.send(2, vec![delete("0", 2)]).await;
    stage.send(3, Vec::new()).await;
    let mut told = [stage.written().await, stage.written().await, stage.written().await];
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
    stage.end().await.unwrap();
    assert!(stage.progress.get(Counter::Written) + stage.progress.get(Counter::Deleted) >= 3);
    assert_eq!(stage.progress.get(Counter::InFlight), 0);
}

#[tokio::test]
async fn items_refused_for_overload_go_again_alone() {
    let mut stage = stage(quick(), |number, seen| match number {
        0 => Reply::Items(vec![(201, Json::Null), (429, busy()), (201, Json::Null)]),
        _ => Reply::Items(seen.iter().map(|_| (201, Json::Null)).collect()),
    })
    .await;
    stage.send(1, documents(3)).await;
    assert_eq!(stage.written().await, 1);
    stage.end().await.unwrap();
    assert_eq!(stage.log.ids(), [vec!["0", "1", "2"], vec!["1"]]);
    assert_eq!(stage.progress.get(Counter::Retries), 1);
}

#[tokio::test]
async fn whole_requests_are_tried_again_after_every_passing_failure() {
    let mut stage = stage(quick(), |number, _| match number {
        0 => Reply::Status(503, Json::Null),
        1 => Reply::Status(429, busy()),
        2 => Reply::Broken,
        3 => Reply::CutOff,
        4 => Reply::Items(vec![(200, Json::Null)]),
        _ => Reply::Fine,
    })
    .await;
    stage.send(1, documents(2)).await;
    assert_eq!(stage.written().await, 1);
    stage.end().await.unwrap();
    assert_eq!(stage.log.requests().len(), 6);
    assert_eq!(stage.progress.get(Counter::Written), 2);
    assert!(stage.progress.standing().last_error.is_some());
}

#[tokio::test]
async fn a_request_refused_as_a_whole_is_halved_until_the_guilty_document_is_alone() {
    let mut stage = stage(quick(), |_, seen| {
        if seen.iter().any(|seen| seen.id == "5") {
            Reply::Status(413, json!({"type": "too_large", "reason": "more than 100 bytes"}))
        } else {
            Reply::Fine
        }
    })
    .await;
    stage.send(1, documents(8)).await;
    let KeepRequest { letter, kept } = stage.letter().await;
    assert_eq!((&*letter.id.0, letter.kind.as_str()), ("5", "too_large"));
    kept.send(()).unwrap();
    assert_eq!(stage.written().await, 1);
    stage.end().await.unwrap();
    assert_eq!(stage.progress.get(Counter::Written), 7);
    assert_eq!(stage.progress.get(Counter::Rejected), 1);
}

#[tokio::test]
async fn a_batch_is_settled_only_when_its_dead_letter_is_kept() {
    let mut stage = stage(quick(), |_, _| {
        let error = json!({"type": "mapper_parsing_exception",
            "reason": "failed to parse field [n] of type [long]. Preview of field's value: 'abc'"});
        Reply::Items(vec![(400, error)])
    })
    .await;
    stage.send(1, documents(1)).await;
    let KeepRequest { letter, kept } = stage.letter().await;
    assert_eq!(letter.reason, "failed to parse field [n] of type [long]");
    let early = timeout(Duration::from_millis(100), stage.output.recv()).await;
    assert!(early.is_err(), "told before the letter was kept");
    kept.send(()).unwrap();
    assert_eq!(stage.written().await, 1);
    stage.end().await.unwrap();
}

#[tokio::test]
async fn ids_that_no_request_may_hold_never_leave() {
    let mut stage = stage(quick(), |_, _| Reply::Fine).await;
    stage.send(1, vec![index("", 1, "{}"), index("a", 1, "{}")]).await;
    let KeepRequest { letter, kept } = stage.letter().await;
    assert_eq!(letter.kind, "unsendable");
    kept.send(()).unwrap();
    assert_eq!(stage.written().await, 1);
    assert_eq!(stage.log.ids(), [["a"]]);
}

#[tokio::test]
async fn a_keeper_that_is_gone_ends_the_stage() {
    let mut stage = stage(quick(), |_, _| Reply::Fine).await;
    let (_, closed) = mpsc::channel(1);
    drop(std::mem::replace(&mut stage.letters, closed));
    stage.send(1, vec![index("", 1, "{}")]).await;
    assert!(matches!(stage.result().await, Err(SinkError::DeadLettersClosed)));
}

#[tokio::test]
async fn one_document_is_never_in_two_requests_at_a_time() {
    let options = SinkOptions { request_documents: 3, ..quick() };
    let mut stage = stage(options, |number, seen| {
        if number % 4 == 1 {
            Reply::Items(seen.iter().map(|_| (429, busy())).collect())
        } else {
            Reply::Fine
        }
    })
    .await;
    let input = stage.input.take().unwrap();
    let mut feeding = JoinSet::new();
    feeding.spawn(async move {
        for round in 1..=40 {
            let body = format!("{{\"n\":{round}}}");
            let documents =
                (0..7).map(|number| index(&number.to_string(), round.into(), &body)).collect();
            input.send(batch(round, documents)).await.unwrap();
        }
    });
    for _ in 1..=40 {
        stage.written().await;
    }
    stage.result().await.unwrap();
    assert_eq!(*stage.log.doubled.lock().unwrap(), Vec::<String>::new());
    let last = |id: &str| {
        let requests = stage.log.requests();
        let of_id = |seen: &Seen| (seen.id == id).then(|| seen.body.clone());
        requests.iter().rev().flatten().find_map(of_id).flatten()
    };
    for number in 0..7 {
        assert_eq!(last(&number.to_string()).as_deref(), Some("{\"n\":40}"));
    }
}

#[tokio::test]
async fn a_retry_takes_the_newer_body_and_settles_both_batches() {
    let (go_on, wait) = oneshot::channel::<()>();
    let wait = Mutex::new(Some(wait));
    let options = SinkOptions {
        initial_backoff: Duration::from_millis(300),
        max_backoff: Duration::from_millis(300),
        ..quick()
    };
    let mut stage = stage(options, move |number, seen| {
        if number == 0 {
            drop(wait.lock().unwrap().take());
            Reply::Items(seen.iter().map(|_| (429, busy())).collect())
        } else {
            Reply::Fine
        }
    })
    .await;
    stage.send(1, vec![index("a", 1, "{\"n\":1}")]).await;
    let mut go_on = go_on;
    timeout(PATIENCE, go_on.closed()).await.unwrap();
    stage.send(2, vec![index("a", 2, "{\"n\":2}")]).await;
    let told = [stage.written().await, stage.written().await];
    assert_eq!(told, [1, 2]);
    stage.end().await.unwrap();
    let bodies: Vec<Option<String>> =
        stage.log.requests().into_iter().flatten().map(|seen| seen.body).collect();
    assert_eq!(bodies, [Some("{\"n\":1}".to_owned()), Some("{\"n\":2}".to_owned())]);
}

#[tokio::test]
async fn a_newer_version_of_our_generation_is_no_error_and_one_of_a_later_generation_ends_us() {
    let conflict = |stored: u64| {
        let reason = format!(
            "[a]: version conflict, current version [{stored}] is higher than the one provided [1]"
        );
        Reply::Items(vec![(
            409,
            json!({"type": "version_conflict_engine_exception", "reason": reason}),
        )])
    };
    let mut stage = stage(quick(), move |number, _| {
        conflict(version(if number == 0 { 0 } else { 3 }, 9).get())
    })
    .await;
    stage.send(1, vec![index("a", 1, "{}")]).await;
    assert_eq!(stage.written().await, 1);
    assert_eq!(stage.progress.get(Counter::Superseded), 1);
    stage.send(2, vec![index("a", 2, "{}")]).await;
    let error = stage.result().await.unwrap_err();
    assert!(matches!(error, SinkError::Superseded { ours: 0, stored: 3, .. }), "{error}");
}

#[tokio::test]
async fn an_alias_that_is_gone_and_a_refused_login_end_the_stage() {
    let gone = json!({"type": "index_not_found_exception", "reason": "no such index [w]"});
    let mut first = stage(quick(), move |_, _| Reply::Items(vec![(404, gone.clone())])).await;
    first.send(1, documents(1)).await;
    assert!(matches!(first.result().await, Err(SinkError::AliasGone { .. })));

    let denied = json!({"type": "security_exception", "reason": "unable to authenticate"});
    let mut second = stage(quick(), move |_, _| Reply::Status(401, denied.clone())).await;
    second.send(1, documents(1)).await;
    assert!(matches!(second.result().await, Err(SinkError::Refused(_))));
}

#[tokio::test]
async fn a_document_the_server_fails_on_is_kept_after_some_tries() {
    let mut stage = stage(quick(), |_, _| {
        Reply::Items(vec![(500, json!({"type": "null_pointer_exception", "reason": "x"}))])
    })
    .await;
    stage.send(1, documents(1)).await;
    let KeepRequest { letter, kept } = stage.letter().await;
    assert_eq!(letter.kind, "null_pointer_exception");
    kept.send(()).unwrap();
    assert_eq!(stage.written().await, 1);
    assert_eq!(stage.log.requests().len(), 8);
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let (listener, log) = (listener().await, Log::default());
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut stage = stage_at(address, quick(), log.clone());
    stage.send(1, documents(2)).await;
    timeout(PATIENCE, async {
        while stage.progress.standing().state != SinkState::Unreachable {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    stage.server = serve(listener, log, Arc::new(|_, _| Reply::Fine));
    assert_eq!(stage.written().await, 1);
    assert_eq!(stage.progress.standing().state, SinkState::Writing);
}

#[tokio::test]
async fn the_input_is_not_read_while_too_much_is_held() {
    let options = SinkOptions { request_bytes: 500, max_in_flight: 1, ..quick() };
    let held = options.held_bytes();
    let stage = stage(options, |_, _| Reply::Status(503, Json::Null)).await;
    let input = stage.input.as_ref().unwrap();
    let large = "x".repeat(held);
    let mut sent = 0;
    for part in 0..100 {
        let documents = vec![index(&part.to_string(), 1, &large)];
        let send = input.send(batch(part, documents));
        if timeout(Duration::from_millis(200), send).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent <= 6, "one held and the channel's four, not {sent}");
}
