//! Frames of the PostgreSQL protocol over a wire. What they mean is not known here.
//!
//! The bytes read so far live in the link, not in the future that reads them: a `fill` that is
//! dropped half way loses nothing.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{COPY_DATA_TAG, COPY_DONE_TAG, Header, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::postgres::wire::Wire;

/// `CopyBothResponse`, which `postgres-protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';

/// PostgreSQL itself builds no message larger than this (`MaxAllocSize`).
const LARGEST_FRAME: usize = 0x3fff_ffff;

/// Read ahead at least so much, and never reserve more than the larger on a mere promise.
const READ_AHEAD: usize = 64 * 1024;
const RESERVE_AT_MOST: usize = 1024 * 1024;

/// A message from the server.
pub(super) enum Incoming {
    /// Start of the stream.
    CopyBoth,
    /// A frame of the stream.
    CopyData(Bytes),
    /// The server ends the stream.
    CopyDone,
    /// Everything else.
    Other(Message),
}

/// A wire with its buffers.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    inbox: BytesMut,
    pub(super) outbox: BytesMut,
}

impl Link {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, inbox: BytesMut::new(), outbox: BytesMut::new() }
    }

    pub(super) fn channel_binding(&self) -> Option<&[u8]> {
        self.wire.channel_binding()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.wire.is_encrypted()
    }

    /// The next message; cancel-safe.
    pub(super) async fn receive(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next message, if it has arrived as a whole.
    pub(super) fn buffered(&mut self) -> io::Result<Option<Incoming>> {
        let Some(length) = frame_length(&self.inbox)? else { return Ok(None) };
        if self.inbox.len() < length {
            return Ok(None);
        }
        match self.inbox.first() {
            Some(&COPY_DATA_TAG) => Ok(Some(Incoming::CopyData(self.take(length)))),
            Some(&COPY_DONE_TAG) => {
                self.inbox.advance(length);
                Ok(Some(Incoming::CopyDone))
            }
            Some(&COPY_BOTH_TAG) => {
                self.inbox.advance(length);
                Ok(Some(Incoming::CopyBoth))
            }
            Some(_) | None => Ok(Message::parse(&mut self.inbox)?.map(Incoming::Other)),
        }
    }

    /// Reads what has arrived, at least one byte; cancel-safe.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        let missing = frame_length(&self.inbox)?.unwrap_or(0).saturating_sub(self.inbox.len());
        self.inbox.reserve(missing.clamp(READ_AHEAD, RESERVE_AT_MOST));
        match self.wire.read_buf(&mut self.inbox).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends the outbox. Not cancel-safe: a part of it may have gone.
    pub(super) async fn send(&mut self) -> io::Result<()> {
        self.wire.write_all(&self.outbox).await?;
        self.outbox.clear();
        self.wire.flush().await
    }

    /// Closes the sending side.
    pub(super) async fn shut_down(&mut self) -> io::Result<()> {
        self.wire.shutdown().await
    }

    /// The payload of the frame at the start of the inbox.
    fn take(&mut self, length: usize) -> Bytes {
        let mut frame = self.inbox.split_to(length).freeze();
        frame.advance(5);
        if length > RESERVE_AT_MOST {
            // Else one huge value would size the buffer for the rest of the connection's life.
            self.inbox = BytesMut::from(self.inbox.as_ref());
        }
        frame
    }
}

/// Length of the frame at the start of `inbox`, tag included, once its header is there.
fn frame_length(inbox: &[u8]) -> io::Result<Option<usize>> {
    let Some(header) = Header::parse(inbox)? else { return Ok(None) };
    match usize::try_from(header.len()) {
        Ok(length) if length <= LARGEST_FRAME => Ok(Some(length + 1)),
        Ok(_) | Err(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a message of more than 1 GiB"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_counts_the_tag_but_not_more_than_a_gigabyte() {
        assert_eq!(frame_length(&[b'd', 0, 0]).unwrap(), None);
        assert_eq!(frame_length(&[b'd', 0, 0, 0, 4]).unwrap(), Some(5));
        assert!(frame_length(&[b'd', 0x40, 0, 0, 0]).is_err());
        assert!(frame_length(&[b'd', 0, 0, 0, 3]).is_err());
    }

    #[tokio::test]
    async fn a_huge_frame_does_not_leave_a_huge_buffer() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let mut link = Link::new(Wire::scripted(ours));
        let length: u32 = 8 * 1024 * 1024;
        let frame = [b"d", &length.to_be_bytes()[..], &vec![0; length as usize - 4]].concat();
        let next = [b'd', 0, 0, 0, 5, 7];
        let (sent, received) = tokio::join!(
            async {
                theirs.write_all(&frame).await?;
                theirs.write_all(&next).await
            },
            link.receive()
        );
        sent.unwrap();
        assert!(
            matches!(received, Ok(Incoming::CopyData(payload)) if payload.len() == frame.len() - 5)
        );
        assert!(matches!(link.receive().await, Ok(Incoming::CopyData(payload)) if *payload == [7]));
        assert!(link.inbox.capacity() <= RESERVE_AT_MOST);
    }

    #[tokio::test]
    async fn a_cancelled_receive_loses_no_byte() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut link = Link::new(Wire::scripted(ours));
        theirs.write_all(&[b'd', 0, 0]).await.unwrap();
        let cut = tokio::time::timeout(std::time::Duration::from_millis(10), link.receive()).await;
        assert!(cut.is_err(), "half a header is no message");
        theirs.write_all(&[0, 6, 1, 2]).await.unwrap();
        let Incoming::CopyData(payload) = link.receive().await.unwrap() else {
            panic!("copy data")
        };
        assert_eq!(payload, [1, 2].as_slice());
    }
}
