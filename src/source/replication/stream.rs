//! The WAL stream of a slot: frames in, status updates out, a clean end.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use tokio::time::timeout;
use tracing::debug;

use super::authenticate::{is_about_bytes, server_error};
use super::link::{Incoming, Link};
use crate::postgres::Lsn;
use crate::source::error::{Command, SourceError};
use crate::source::wire_time::to_wire;

/// How long a status update may wait for room in the socket: a server that takes nothing for so
/// long is gone.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server is given to end the copy. In the middle of a large transaction it goes on
/// sending to its end; the slot does not care.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// A frame of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message of the output plugin.
    Data {
        /// Its position; zero for messages that have none.
        start: Lsn,
        /// How far the server has read its WAL.
        wal_end: Lsn,
        /// The message.
        payload: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// Position up to which everything that concerns us has been sent.
        wal_end: Lsn,
        /// Whether the server wants a status update at once.
        reply: Reply,
    },
}

/// Whether an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// At once.
    Wanted,
    /// In its time.
    NotWanted,
}

/// What the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Read so far.
    pub received: Lsn,
    /// Durable so far: the server may forget the WAL before it.
    pub durable: Lsn,
    /// Whether the server is to answer with a keepalive.
    pub reply: Reply,
}

/// The stream of a slot.
#[derive(Debug)]
pub struct WalStream {
    link: Link,
    command: Command,
    /// End of the last frame, for errors.
    position: Lsn,
}

impl WalStream {
    pub(super) fn new(link: Link, command: Command) -> Self {
        Self { link, command, position: Lsn(0) }
    }

    /// A stream whose server is the test.
    #[cfg(test)]
    pub(in crate::source) fn scripted(server: tokio::io::DuplexStream) -> Self {
        let wire = crate::postgres::wire::Wire::scripted(server);
        Self::new(Link::new(wire), Command::IdentifySystem)
    }

    /// The next frame. Cancel-safe: what was read stays in the link.
    ///
    /// # Errors
    /// [`SourceError`] when the stream breaks off or the server says why it ends.
    pub async fn next(&mut self) -> Result<Frame, SourceError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.link.fill().await.map_err(|error| self.broken(error))?;
        }
    }

    /// The next frame, if it has arrived as a whole.
    ///
    /// # Errors
    /// As [`WalStream::next`].
    pub fn buffered(&mut self) -> Result<Option<Frame>, SourceError> {
        loop {
            match self.link.buffered().map_err(|error| self.broken(error))? {
                None => return Ok(None),
                Some(Incoming::CopyData(bytes)) => {
                    let frame =
                        decode_frame(bytes).ok_or(SourceError::Frame { lsn: self.position })?;
                    self.advance(&frame);
                    return Ok(Some(frame));
                }
                Some(Incoming::Other(Message::ErrorResponse(body))) => {
                    let refusal = server_error(body.fields()).map_err(SourceError::protocol)?;
                    return Err(self.command.refused(refusal));
                }
                Some(Incoming::Other(Message::NoticeResponse(body))) => {
                    let notice = server_error(body.fields()).map_err(SourceError::protocol)?;
                    debug!(code = %notice.code, message = %notice.message, "notice of the server");
                    self.command.noticed(notice)?;
                }
                Some(Incoming::Other(Message::ParameterStatus(_))) => {}
                Some(Incoming::CopyBoth | Incoming::CopyDone | Incoming::Other(_)) => {
                    return Err(SourceError::StreamEnded { lsn: self.position });
                }
            }
        }
    }

    /// Sends a status update. Not cancel-safe.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`].
    pub async fn report(&mut self, update: StatusUpdate) -> Result<(), SourceError> {
        let body = encode_status(update, SystemTime::now());
        CopyData::new(body).map_err(SourceError::protocol)?.write(&mut self.link.outbox);
        let sent = timeout(REPORT_TIMEOUT, self.link.send()).await;
        let sent = sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        sent.map_err(|error| self.broken(error))
    }

    /// Ends the copy and the session; gives up waiting for the server's part after a while.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if the connection breaks meanwhile.
    pub async fn finish(mut self) -> Result<(), SourceError> {
        match timeout(FINISH_TIMEOUT, self.end_copy()).await {
            Ok(ended) => ended.map_err(|error| self.broken(error)),
            Err(_elapsed) => {
                debug!("the server goes on sending, closing without its consent");
                Ok(())
            }
        }
    }

    async fn end_copy(&mut self) -> io::Result<()> {
        frontend::copy_done(&mut self.link.outbox);
        self.link.send().await?;
        loop {
            match self.link.receive().await? {
                Incoming::Other(Message::ReadyForQuery(_)) => break,
                Incoming::CopyBoth
                | Incoming::CopyData(_)
                | Incoming::CopyDone
                | Incoming::Other(_) => {}
            }
        }
        frontend::terminate(&mut self.link.outbox);
        self.link.send().await?;
        self.link.shut_down().await
    }

    fn advance(&mut self, frame: &Frame) {
        let (Frame::Data { wal_end, .. } | Frame::Keepalive { wal_end, .. }) = frame;
        self.position = self.position.max(*wal_end);
    }

    fn broken(&self, error: io::Error) -> SourceError {
        if is_about_bytes(&error) {
            SourceError::protocol(error)
        } else {
            SourceError::ConnectionLost { lsn: self.position, source: error }
        }
    }
}

fn decode_frame(mut bytes: Bytes) -> Option<Frame> {
    match bytes.try_get_u8().ok()? {
        b'w' => {
            let start = Lsn(bytes.try_get_u64().ok()?);
            let wal_end = Lsn(bytes.try_get_u64().ok()?);
            let _sent_at = bytes.try_get_i64().ok()?;
            Some(Frame::Data { start, wal_end, payload: bytes })
        }
        b'k' => {
            let wal_end = Lsn(bytes.try_get_u64().ok()?);
            let _sent_at = bytes.try_get_i64().ok()?;
            let reply = match bytes.try_get_u8().ok()? {
                0 => Reply::NotWanted,
                _ => Reply::Wanted,
            };
            bytes.is_empty().then_some(Frame::Keepalive { wal_end, reply })
        }
        _ => None,
    }
}

fn encode_status(update: StatusUpdate, now: SystemTime) -> Bytes {
    let mut body = BytesMut::with_capacity(34);
    body.put_u8(b'r');
    body.put_u64(update.received.0);
    body.put_u64(update.durable.0);
    body.put_u64(update.durable.0);
    body.put_i64(to_wire(now));
    body.put_u8(u8::from(update.reply == Reply::Wanted));
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::wire_time::from_wire;

    #[test]
    fn frames_are_read_exactly() {
        let data = [b"w", &[0; 7][..], &[1], &[0; 7], &[2], &[0; 8], b"B"].concat();
        let frame = Frame::Data { start: Lsn(1), wal_end: Lsn(2), payload: "B".into() };
        assert_eq!(decode_frame(data.into()), Some(frame));
        let alive = [b"k", &[0; 7][..], &[9], &[0; 8], &[1]].concat();
        let frame = Frame::Keepalive { wal_end: Lsn(9), reply: Reply::Wanted };
        assert_eq!(decode_frame(alive.clone().into()), Some(frame));
        assert_eq!(decode_frame([&alive[..], &[0]].concat().into()), None);
        assert_eq!(decode_frame(alive[..5].to_vec().into()), None);
        assert_eq!(decode_frame("x".into()), None);
    }

    #[test]
    fn a_status_confirms_no_more_than_is_durable() {
        let update = StatusUpdate { received: Lsn(9), durable: Lsn(4), reply: Reply::Wanted };
        let body = encode_status(update, from_wire(3).unwrap());
        assert_eq!(body.len(), 34);
        let numbers: Vec<u64> = body[1..33]
            .chunks(8)
            .map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
            .collect();
        assert_eq!(numbers, [9, 4, 4, 3]);
        assert_eq!(body[33], 1);
    }
}
