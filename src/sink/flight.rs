//! The requests in flight: sent, answered, split, tried again. One task owns them all; nothing is
//! shared, so nothing is locked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::elasticsearch::bulk::{BulkItem, BulkRequest, unsendable};
use super::elasticsearch::error::without_values;
use super::elasticsearch::outcome::ItemOutcome;
use super::elasticsearch::{ClientError, ErrorClass};
use super::limit::InFlightLimit;
use super::request::{Request, Step, chain, post};
use super::schedule::{Key, RequestLimits, Schedule};
use super::{Counter, DeadLetter, Rejections, Sink, SinkError, SinkState, Target};
use crate::backoff::{Backoff, Jitter};
use crate::document::{DocumentBatch, DocumentId, SnapshotVersion};
use crate::schema::tree::IndexName;

/// The server may fail on a document so often before it counts as rejected: a bug there must not hold
/// a place in flight for ever.
const MAX_FAULTS: u32 = 8;
/// After "request too large" requests are made smaller, down to this.
const SMALLEST_REQUEST: usize = 64 << 10;

/// Requests in flight, and what waits for them.
pub(super) struct Flight {
    sink: Sink,
    pub(super) schedule: Schedule,
    pub(super) steps: FuturesUnordered<BoxFuture<'static, Step>>,
    limit: InFlightLimit,
    limits: RequestLimits,
    /// Permits taken: a request keeps its own while it is split or waits for another try.
    departed: usize,
}

impl Flight {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            schedule: Schedule::default(),
            steps: FuturesUnordered::new(),
            limit: InFlightLimit::new(sink.options.max_in_flight, sink.options.slow_after),
            limits: sink.options.limits(),
            departed: 0,
            sink,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.schedule.is_empty()
    }

    pub(super) fn accept(&mut self, batch: DocumentBatch) -> Result<(), SinkError> {
        let entry = batch.entry;
        let of_entry = |(_, target): &(usize, &Target)| target.entry == entry;
        let targets: Vec<usize> =
            self.sink.targets.iter().enumerate().filter(of_entry).map(|(at, _)| at).collect();
        if targets.is_empty() {
            return Err(SinkError::UnknownEntry { entry });
        }
        self.schedule.accept(batch, &targets);
        Ok(())
    }

    /// Sends as many requests as the limit allows.
    pub(super) fn depart(&mut self) {
        while self.schedule.has_ready() && self.limit.allows_beside(self.departed) {
            let current = self.schedule.take(self.limits);
            let options = &self.sink.options;
            let backoff = Backoff::new(options.initial_backoff, options.max_backoff, Jitter::Equal);
            self.departed += 1;
            self.send(Request { current, parts: Vec::new(), again: Vec::new(), backoff });
        }
        self.sink.progress.set(Counter::InFlight, self.departed as u64);
    }

    /// What is to be done after a step.
    ///
    /// # Errors
    /// [`SinkError`], when another try cannot help.
    pub(super) fn advance(&mut self, step: Step) -> Result<(), SinkError> {
        if let Step::Answered { took, .. } = &step {
            self.sink.progress.answered_after(*took);
        }
        match step {
            Step::Answered { request, answer: Ok(outcomes), took } => {
                self.answered(request, outcomes, took)
            }
            Step::Answered { request, answer: Err(error), .. } => self.failed(request, error),
            Step::Rested(request) => {
                self.send(request);
                Ok(())
            }
            Step::Kept { key, result } => {
                result?;
                self.sink.progress.add(Counter::Rejected, 1);
                if let Some(target) = self.target(&key) {
                    target.status.rejected.add(1);
                }
                self.schedule.settle(&key);
                Ok(())
            }
        }
    }

    fn target(&self, key: &Key) -> Option<&Target> {
        self.sink.targets.get(key.target)
    }

    /// Sends the current documents of a request in the bodies they have at this moment.
    fn send(&mut self, mut request: Request) {
        // No answer to this request is awaited: what came meanwhile takes its place.
        for key in &request.current {
            self.schedule.retry(key);
        }
        let (sendable, refused): (Vec<Key>, Vec<Key>) = std::mem::take(&mut request.current)
            .into_iter()
            .partition(|key| self.schedule.document(key).is_none_or(|d| unsendable(d).is_none()));
        for key in refused {
            let reason = self.schedule.document(&key).and_then(unsendable).unwrap_or_default();
            let reason = reason.to_owned();
            self.keep(key, "unsendable".to_owned(), reason);
        }
        request.current = sendable;
        if request.current.is_empty() {
            self.go_on(request);
            return;
        }
        let bulk = self.encode(&request.current);
        self.sink.progress.add(Counter::Requests, 1);
        self.sink.progress.add(Counter::Bytes, bulk.body.len() as u64);
        let client = self.sink.client.clone();
        let post = async move {
            let began = Instant::now();
            let answer = post(&client, bulk).await;
            Step::Answered { request, answer, took: began.elapsed() }
        };
        self.steps.push(post.boxed());
    }

    fn encode(&self, keys: &[Key]) -> BulkRequest {
        let items: Vec<BulkItem<'_>> = keys
            .iter()
            .filter_map(|key| {
                let target = self.target(key)?;
                let document = self.schedule.document(key)?;
                let pipeline = target.pipeline.as_deref();
                Some(BulkItem { alias: &target.alias, pipeline, document })
            })
            .collect();
        BulkRequest::encode(&items)
    }

    fn answered(
        &mut self,
        mut request: Request,
        outcomes: Vec<ItemOutcome>,
        took: Duration,
    ) -> Result<(), SinkError> {
        let (mut settled, mut overload, mut failure) = (false, false, None);
        for (key, outcome) in std::mem::take(&mut request.current).into_iter().zip(outcomes) {
            match outcome {
                ItemOutcome::Written => self.written(&key),
                ItemOutcome::Superseded { stored } => self.superseded(&key, stored)?,
                ItemOutcome::Retry { reason, overload: busy } => {
                    overload |= busy;
                    failure = Some(reason);
                    self.again(&mut request, key);
                    continue;
                }
                ItemOutcome::Fault { kind, reason } => {
                    if self.schedule.count_fault(&key) < MAX_FAULTS {
                        failure = Some(format!("{kind}: {reason}"));
                        self.again(&mut request, key);
                        continue;
                    }
                    self.reject(key, kind, reason)?;
                }
                ItemOutcome::Rejected { kind, reason } => self.reject(key, kind, reason)?,
                ItemOutcome::AliasGone => return Err(self.alias_gone(&key)),
                ItemOutcome::PipelineMissing => return Err(self.pipeline_missing(&key)),
            }
            settled = true;
        }
        if overload {
            self.limit.overloaded();
        } else {
            self.limit.answered(took);
        }
        if settled {
            request.backoff.reset();
            self.note(SinkState::Writing, failure);
        } else {
            self.note(SinkState::Refusing, failure);
        }
        self.go_on(request);
        Ok(())
    }

    /// The request as a whole brought nothing.
    fn failed(&mut self, mut request: Request, error: ClientError) -> Result<(), SinkError> {
        if let (Some(status @ (400 | 413)), ErrorClass::Permanent) = (error.status(), error.class())
        {
            return self.split(request, status, error);
        }
        if error.class() == ErrorClass::Permanent {
            return Err(SinkError::Refused(error));
        }
        self.limit.overloaded();
        let state = match &error {
            ClientError::Refused { .. } => SinkState::Refusing,
            ClientError::Options { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Malformed { .. }
            | ClientError::TooLarge { .. } => SinkState::Unreachable,
        };
        self.note(state, Some(chain(&error)));
        for key in std::mem::take(&mut request.current) {
            self.again(&mut request, key);
        }
        // The other parts would meet the same server: they wait with it.
        for key in std::mem::take(&mut request.parts).into_iter().flatten() {
            self.again(&mut request, key);
        }
        self.go_on(request);
        Ok(())
    }

    /// Sends a request that was refused as a whole in halves, until the guilty document is alone.
    fn split(
        &mut self,
        mut request: Request,
        status: u16,
        error: ClientError,
    ) -> Result<(), SinkError> {
        if status == 413 {
            self.limits.bytes = (self.limits.bytes / 2).max(SMALLEST_REQUEST);
        }
        let half = request.current.len() / 2;
        if half > 0 {
            request.parts.push(request.current.split_off(half));
            self.send(request);
            return Ok(());
        }
        let (kind, reason) = match error {
            ClientError::Refused { kind, reason, .. } => (kind, reason),
            other => (String::new(), other.to_string()),
        };
        if let Some(key) = request.current.pop() {
            let kind = if kind.is_empty() { format!("status {status}") } else { kind };
            self.reject(key, kind, without_values(&reason))?;
        }
        self.go_on(request);
        Ok(())
    }

    /// Sends the next part of a request, or lets it rest before another try, or gives its permit
    /// back.
    fn go_on(&mut self, mut request: Request) {
        if let Some(part) = request.parts.pop() {
            request.current = part;
            self.send(request);
        } else if request.again.is_empty() {
            self.departed -= 1;
        } else {
            request.current = std::mem::take(&mut request.again);
            let delay = request.backoff.next_delay();
            let rest = tokio::time::sleep(delay).map(|()| Step::Rested(request));
            self.steps.push(rest.boxed());
        }
    }

    fn again(&self, request: &mut Request, key: Key) {
        self.sink.progress.add(Counter::Retries, 1);
        request.again.push(key);
    }

    fn written(&mut self, key: &Key) {
        let indexed = self.schedule.document(key).is_some_and(|document| document.body.is_some());
        self.sink.progress.add(if indexed { Counter::Written } else { Counter::Deleted }, 1);
        if let Some(target) = self.target(key) {
            target.unrefreshed.store(true, Ordering::Release);
            let figures = &target.status;
            if indexed { figures.written.add(1) } else { figures.deleted.add(1) }
        }
        self.schedule.settle(key);
    }

    fn superseded(&mut self, key: &Key, stored: Option<u64>) -> Result<(), SinkError> {
        let document = self.schedule.document(key);
        let ours = document.map_or(0, |document| document.version.get());
        let ours = SnapshotVersion::generation_of(ours);
        let stored = SnapshotVersion::generation_of(stored.unwrap_or_default());
        if stored > ours {
            return Err(SinkError::Superseded { index: self.index_of(key), ours, stored });
        }
        self.sink.progress.add(Counter::Superseded, 1);
        if let Some(target) = self.target(key) {
            target.status.superseded.add(1);
        }
        self.schedule.settle(key);
        Ok(())
    }

    fn reject(&mut self, key: Key, kind: String, reason: String) -> Result<(), SinkError> {
        if self.schedule.give_way(&key) {
            return Ok(());
        }
        if self.sink.options.rejections == Rejections::Stop {
            let (index, id) = (self.index_of(&key), key.id.to_string());
            return Err(SinkError::Rejected { index, id, kind, reason });
        }
        self.keep(key, kind, reason);
        Ok(())
    }

    /// Hands a dead letter over; its document is settled when it is kept.
    fn keep(&mut self, key: Key, kind: String, reason: String) {
        let (Some(target), Some(document)) = (self.target(&key), self.schedule.document(&key))
        else {
            return;
        };
        let letter = DeadLetter {
            entry: target.entry,
            index: target.index.clone(),
            id: DocumentId(Box::from(&*key.id)),
            key: document.key.clone(),
            version: document.version,
            kind,
            reason,
            at: SystemTime::now(),
        };
        tracing::warn!(index = %letter.index, id = %key.id, kind = %letter.kind,
            reason = %letter.reason, "document rejected");
        let keeper = self.sink.keeper.clone();
        let kept = async move {
            let result = keeper.keep(letter).await;
            Step::Kept { key, result }
        };
        self.steps.push(kept.boxed());
    }

    fn alias_gone(&self, key: &Key) -> SinkError {
        let alias = self.target(key).map(|target| target.alias.clone()).unwrap_or_default();
        SinkError::AliasGone { index: self.index_of(key), alias }
    }

    fn pipeline_missing(&self, key: &Key) -> SinkError {
        let pipeline = self.target(key).and_then(|target| target.pipeline.clone());
        SinkError::PipelineMissing {
            index: self.index_of(key),
            pipeline: pipeline.unwrap_or_default(),
        }
    }

    fn index_of(&self, key: &Key) -> IndexName {
        let index = self.target(key).map(|target| target.index.clone());
        index.unwrap_or_else(|| IndexName(String::new()))
    }

    /// Notes the state, with a line in the log when it is another one.
    fn note(&self, state: SinkState, error: Option<String>) {
        let progress = Arc::clone(&self.sink.progress);
        let shown = error.clone().unwrap_or_default();
        if !progress.note(state, error) {
            return;
        }
        match state {
            SinkState::Writing => tracing::info!("the server takes documents again"),
            SinkState::Refusing => {
                tracing::warn!(error = %shown, "the server takes no documents, trying on");
            }
            SinkState::Unreachable => {
                tracing::warn!(error = %shown, "no usable answer from the server, trying on");
            }
        }
    }
}
