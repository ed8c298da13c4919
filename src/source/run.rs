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
use crate::source::replication::{Frame, Reply, WalStream};
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
    /// Time between the last two reports.
    last_gap: Duration,
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
            last_gap: Duration::ZERO,
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
                self.take_keepalive(wal_end, reply, Instant::now());
                Ok(())
            }
        }
    }

    /// Inside a transaction the position of a keepalive says nothing that could be handed on.
    fn take_keepalive(&mut self, wal_end: Lsn, reply: Reply, now: Instant) {
        if reply == Reply::Wanted {
            self.feedback.asked(now);
        }
        if self.assembler.is_inside_transaction() {
            return;
        }
        let idle = self.feedback.idle(wal_end, reply, now);
        self.progress.set_received(self.feedback.received());
        self.held = idle.map(|lsn| (SourceEvent::Idle(lsn), now));
    }

    fn take_message(&mut self, lsn: Lsn, payload: &Bytes) -> Result<(), SourceError> {
        self.progress.read(payload.len());
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
            self.progress.handed_on(&part.changes);
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
        self.last_gap = now.duration_since(self.last_report);
        self.last_report = now;
        self.progress.set_reported(self.feedback.reported());
        Ok(())
    }

    /// The server closes the connection without a word when it has heard nothing for too long. After
    /// a pause of ours the first report may still leave before the hang-up is noticed.
    fn explain(&self, error: SourceError) -> SourceError {
        let silence = self.last_report.elapsed().max(self.last_gap);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::source::PartLimits;

    /// Short, so that reports are due every 20 ms.
    const PATIENCE: Duration = Duration::from_millis(80);

    /// The server's side of a stream.
    struct Server(DuplexStream);

    /// What the server hears.
    #[derive(Debug, PartialEq, Eq)]
    enum Heard {
        Report { received: u64, durable: u64 },
        CopyDone,
        Terminate,
    }

    impl Server {
        async fn send(&mut self, tag: u8, body: &[u8]) {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            self.0.write_all(&[&[tag], &length[..], body].concat()).await.unwrap();
        }

        async fn data(&mut self, message: &[u8]) {
            let header = [b"w", &[0_u8; 24][..]].concat();
            self.send(b'd', &[&header[..], message].concat()).await;
        }

        async fn keepalive(&mut self, wal_end: u64) {
            let body = [b"k", &wal_end.to_be_bytes()[..], &[0; 8], &[0]].concat();
            self.send(b'd', &body).await;
        }

        /// A transaction without a change.
        async fn transaction(&mut self, commit: u64) {
            let commit_lsn = commit.to_be_bytes();
            let end = (commit + 8).to_be_bytes();
            self.data(&[b"B", &commit_lsn[..], &[0; 8], &[0, 0, 0, 5]].concat()).await;
            self.data(&[b"C", &[0][..], &commit_lsn, &end, &[0; 8]].concat()).await;
        }

        async fn hear(&mut self) -> Heard {
            let tag = self.0.read_u8().await.unwrap();
            let length = usize::try_from(self.0.read_u32().await.unwrap()).unwrap() - 4;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            let number = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
            match tag {
                b'd' => Heard::Report { received: number(1), durable: number(9) },
                b'c' => Heard::CopyDone,
                b'X' => Heard::Terminate,
                tag => panic!("tag {tag}"),
            }
        }

        async fn hear_durable(&mut self, wanted: u64) {
            while !matches!(self.hear().await, Heard::Report { durable, .. } if durable == wanted) {
            }
        }
    }

    struct Stage {
        server: Server,
        events: mpsc::Receiver<SourceEvent>,
        durable: watch::Sender<Lsn>,
        stop: CancellationToken,
        run: tokio::task::JoinHandle<Result<(), SourceError>>,
    }

    fn stage() -> Stage {
        stage_with(PATIENCE)
    }

    /// A source on a scripted server, with room for one event.
    #[expect(
        clippy::disallowed_methods,
        reason = "the stage under test runs beside its neighbours"
    )]
    fn stage_with(patience: Duration) -> Stage {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let settings = SourceSettings {
            slot: "s".into(),
            publication: "p".into(),
            start: Lsn(10),
            wal_sender_timeout: Some(patience),
            limits: PartLimits::default(),
        };
        let (out, events) = mpsc::channel(1);
        let (durable, heard) = watch::channel(Lsn(0));
        let stop = CancellationToken::new();
        let token = stop.clone();
        let run = Run::new(WalStream::scripted(ours), &settings, heard, Arc::default());
        let run = tokio::spawn(async move { run.run(out, &token).await });
        Stage { server: Server(theirs), events, durable, stop, run }
    }

    fn position(event: Option<SourceEvent>) -> u64 {
        match event {
            Some(SourceEvent::Part(part)) => part.commit.0,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn reports_go_on_while_nobody_takes_events() {
        let mut stage = stage();
        for commit in [100, 200, 300] {
            stage.server.transaction(commit).await;
        }
        for _ in 0..10 {
            assert!(matches!(stage.server.hear().await, Heard::Report { durable: 0, .. }));
        }
        stage.durable.send(Lsn(108)).unwrap();
        stage.server.hear_durable(108).await;
        for commit in [100, 200, 300] {
            assert_eq!(position(stage.events.recv().await), commit);
        }
    }

    #[tokio::test]
    async fn a_stopped_source_reports_until_its_followers_are_done() {
        let mut stage = stage();
        stage.server.transaction(100).await;
        assert_eq!(position(stage.events.recv().await), 100);
        stage.stop.cancel();
        assert_eq!(stage.events.recv().await, None, "the queue closes at once");
        stage.server.hear_durable(0).await;
        stage.durable.send(Lsn(108)).unwrap();
        drop(stage.durable);
        stage.server.hear_durable(108).await;
        assert_eq!(stage.server.hear().await, Heard::CopyDone);
        stage.server.send(b'c', &[]).await;
        stage.server.send(b'C', b"COPY 0\0").await;
        stage.server.send(b'Z', b"I").await;
        assert_eq!(stage.server.hear().await, Heard::Terminate);
        stage.run.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_keepalive_between_transactions_becomes_idle() {
        let mut stage = stage();
        stage.server.keepalive(50).await;
        assert_eq!(stage.events.recv().await, Some(SourceEvent::Idle(Lsn(50))));
        stage.durable.send(Lsn(50)).unwrap();
        stage.server.hear_durable(50).await;
    }

    #[tokio::test]
    async fn a_keepalive_inside_a_transaction_is_no_position() {
        let mut stage = stage();
        stage.server.data(&[b"B", &100_u64.to_be_bytes()[..], &[0; 12]].concat()).await;
        stage.server.keepalive(50).await;
        for _ in 0..3 {
            assert_eq!(stage.server.hear().await, Heard::Report { received: 10, durable: 0 });
        }
        assert!(stage.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_unreadable_message_ends_the_source() {
        let mut stage = stage();
        stage.server.data(b"?").await;
        let error = stage.run.await.unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Decode { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_a_lost_connection() {
        let mut stage = stage_with(Duration::from_mins(1));
        stage.server.transaction(100).await;
        drop(stage.server);
        let error = stage.run.await.unwrap().unwrap_err();
        assert!(matches!(error, SourceError::ConnectionLost { .. }), "{error:?}");
        assert!(error.is_transient());
    }
}
