//! The loop of the source: one frame or one event at a time, reports whatever happens.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::postgres::Lsn;
use crate::source::assemble::Assembler;
use crate::source::feedback::Feedback;
use crate::source::pgoutput::{Framing, decode, relation_of};
use crate::source::replication::{Frame, WalStream};
use crate::source::{SourceError, SourceEvent, SourceProgress, SourceSettings};

/// Frames taken from the buffer between two looks at the clock and the stop signal.
const BURST: usize = 256;

/// A stream at work.
#[derive(Debug)]
pub(super) struct Run {
    stream: WalStream,
    assembler: Assembler,
    feedback: Feedback,
    durable: watch::Receiver<Lsn>,
    progress: Arc<SourceProgress>,
    wal_sender_timeout: Option<Duration>,
    last_report: Instant,
    /// An event without a place in the queue, and since when. No frame is read meanwhile.
    held: Option<(SourceEvent, Instant)>,
}

impl Run {
    pub(super) fn new(
        stream: WalStream,
        settings: &SourceSettings,
        durable: watch::Receiver<Lsn>,
        progress: Arc<SourceProgress>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            assembler: Assembler::new(settings.limits),
            feedback: Feedback::new(settings.start, settings.wal_sender_timeout, now),
            durable,
            progress,
            wal_sender_timeout: settings.wal_sender_timeout,
            last_report: now,
            held: None,
        }
    }

    pub(super) async fn run(
        mut self,
        out: mpsc::Sender<SourceEvent>,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        self.stream_events(&out, stop).await.map_err(|error| self.explain(error))?;
        drop(out);
        self.drain().await?;
        self.stream.finish().await
    }

    /// Until the stop signal, or until nobody takes events any more.
    async fn stream_events(
        &mut self,
        out: &mpsc::Sender<SourceEvent>,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        loop {
            // Every branch is cancel-safe: the frame being read stays in the stream.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(self.feedback.due()) => self.report().await?,
                permit = out.reserve(), if self.held.is_some() => match permit {
                    Ok(permit) => self.hand_on(permit),
                    Err(_closed) => return Ok(()),
                },
                frame = self.stream.next(), if self.held.is_none() => {
                    self.take(frame?)?;
                    self.take_buffered()?;
                }
            }
        }
    }

    /// Goes on reporting while the stages behind finish what they have.
    async fn drain(&mut self) -> Result<(), SourceError> {
        loop {
            tokio::select! {
                biased;
                changed = self.durable.changed() => {
                    if changed.is_err() {
                        return self.report().await;
                    }
                }
                () = sleep_until(self.feedback.due()) => self.report().await?,
            }
        }
    }

    fn take_buffered(&mut self) -> Result<(), SourceError> {
        for _ in 0..BURST {
            if self.held.is_some() {
                break;
            }
            match self.stream.buffered()? {
                Some(frame) => self.take(frame)?,
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), SourceError> {
        match frame {
            Frame::Data { start, wal_end, payload } => {
                self.progress.heard(wal_end, SystemTime::now());
                let lsn = if start == Lsn(0) { wal_end } else { start };
                self.take_message(lsn, &payload)
            }
            Frame::Keepalive { wal_end, reply } => {
                self.progress.heard(wal_end, SystemTime::now());
                let inside = self.assembler.is_inside_transaction();
                let now = Instant::now();
                let idle = self.feedback.keepalive(wal_end, reply, inside, now);
                self.progress.set_received(self.feedback.received());
                self.held = idle.map(|lsn| (SourceEvent::Idle(lsn), now));
                Ok(())
            }
        }
    }

    fn take_message(&mut self, lsn: Lsn, payload: &Bytes) -> Result<(), SourceError> {
        let message = decode(payload.clone(), Framing::Plain).map_err(|source| {
            let relation = relation_of(payload, Framing::Plain);
            let table = relation.and_then(|relation| self.assembler.table_name(relation));
            SourceError::Decode { lsn, table, source }
        })?;
        let part = self
            .assembler
            .assemble(message)
            .map_err(|source| SourceError::Contradiction { lsn, source })?;
        let Some(part) = part else { return Ok(()) };
        if part.last {
            self.feedback.committed(part.end);
            self.progress.set_received(self.feedback.received());
        }
        self.held = Some((SourceEvent::Part(part), Instant::now()));
        Ok(())
    }

    fn hand_on(&mut self, permit: mpsc::Permit<'_, SourceEvent>) {
        let Some((event, since)) = self.held.take() else { return };
        self.progress.waited(since.elapsed());
        if let SourceEvent::Part(part) = &event {
            self.progress.handed_on(part.changes.len());
            if part.last {
                self.progress.committed(part.committed_at);
            }
        }
        permit.send(event);
    }

    async fn report(&mut self) -> Result<(), SourceError> {
        self.feedback.durable(*self.durable.borrow_and_update());
        let now = Instant::now();
        let update = self.feedback.report(now);
        self.stream.report(update).await?;
        self.last_report = now;
        self.progress.set_reported(self.feedback.reported());
        Ok(())
    }

    /// The server closes the connection without a word when it has heard nothing for too long.
    fn explain(&self, error: SourceError) -> SourceError {
        let silence = self.last_report.elapsed();
        let is_late = self.wal_sender_timeout.filter(|timeout| silence >= *timeout);
        match (error, is_late) {
            (SourceError::ConnectionLost { lsn, source }, Some(timeout))
                if is_hang_up(source.kind()) =>
            {
                SourceError::WalSenderTimeout { lsn, silence, timeout, source }
            }
            (error, _) => error,
        }
    }
}

fn is_hang_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
