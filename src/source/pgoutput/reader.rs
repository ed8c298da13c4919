//! Reads the fields of one message, front to back, and says what is missing by name.

use std::time::SystemTime;

use bytes::{Buf, Bytes};

use super::DecodeError;
use crate::postgres::{Lsn, TransactionId};
use crate::source::wire_time::from_wire;

/// The rest of a message.
#[derive(Debug)]
pub(super) struct Reader {
    rest: Bytes,
    message: &'static str,
}

impl Reader {
    pub(super) fn new(message: Bytes) -> Self {
        Self { rest: message, message: "message" }
    }

    /// Sets what errors call the message.
    pub(super) fn named(&mut self, message: &'static str) -> &mut Self {
        self.message = message;
        self
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn tag(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_empty| DecodeError::Empty)
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { message: self.message, left }),
        }
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.need(1, field)?;
        Ok(self.rest.get_u8())
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.need(4, field)?;
        Ok(self.rest.get_u32())
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.need(4, field)?;
        Ok(self.rest.get_i32())
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.need(8, field)?;
        Ok(Lsn(self.rest.get_u64()))
    }

    pub(super) fn xid(&mut self, field: &'static str) -> Result<TransactionId, DecodeError> {
        self.u32(field).map(TransactionId)
    }

    pub(super) fn time(&mut self, field: &'static str) -> Result<SystemTime, DecodeError> {
        self.need(8, field)?;
        let microseconds = self.rest.get_i64();
        from_wire(microseconds).ok_or(DecodeError::TimeOutOfRange { message: self.message, field })
    }

    /// A count of 16 bits, which the protocol has signed.
    pub(super) fn count16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.need(2, field)?;
        u16::try_from(self.rest.get_i16())
            .map_err(|_negative| DecodeError::Negative { message: self.message, field })
    }

    /// A count of 32 bits, which the protocol has signed.
    pub(super) fn count32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let count = self.i32(field)?;
        u32::try_from(count)
            .map_err(|_negative| DecodeError::Negative { message: self.message, field })
    }

    /// Bytes behind a 32-bit length, as a slice of the message.
    pub(super) fn counted(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count32(field)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.need(length, field)?;
        Ok(self.rest.split_to(length))
    }

    /// UTF-8 up to a zero byte.
    pub(super) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let left = self.rest.len();
        let end = memchr::memchr(0, &self.rest).ok_or(DecodeError::Truncated {
            message: self.message,
            field,
            needed: left + 1,
            left,
        })?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::NotUtf8 { message: self.message, field }),
        }
    }

    /// A byte of flags of which none is defined.
    pub(super) fn no_flags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        match self.u8(field)? {
            0 => Ok(()),
            code => Err(self.undefined(field, code)),
        }
    }

    pub(super) fn undefined(&self, field: &'static str, code: u8) -> DecodeError {
        DecodeError::UndefinedCode { message: self.message, field, code }
    }

    fn need(&self, needed: usize, field: &'static str) -> Result<(), DecodeError> {
        let left = self.rest.len();
        if left < needed {
            return Err(DecodeError::Truncated { message: self.message, field, needed, left });
        }
        Ok(())
    }
}
