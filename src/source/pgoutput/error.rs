//! What can be wrong with the bytes of a message: which message, which field.

/// Bytes that are no message of pgoutput.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing at all.
    #[error("a message without a byte")]
    Empty,
    /// A first byte that no version of the protocol up to 4 knows.
    #[error("message tag {tag:#04x} is unknown")]
    UnknownMessage {
        /// First byte.
        tag: u8,
    },
    /// The message ends inside a field.
    #[error("{message} ends inside `{field}`: {needed} bytes wanted, {left} left")]
    Truncated {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// Bytes the field needs; for text, one more than are left.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// The message goes on behind its last field.
    #[error("{message} has {left} bytes behind its end")]
    Trailing {
        /// Which message.
        message: &'static str,
        /// Bytes left.
        left: usize,
    },
    /// A name is not UTF-8, although the connection's encoding is.
    #[error("{message} has a `{field}` that is not UTF-8")]
    NotUtf8 {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A code the protocol does not define.
    #[error("{message} has an undefined `{field}`: {code:#04x}")]
    UndefinedCode {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What stands there.
        code: u8,
    },
    /// A count or length below zero.
    #[error("{message} has a negative `{field}`")]
    Negative {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A time outside of what the platform can hold.
    #[error("{message} has a `{field}` out of range")]
    TimeOutOfRange {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
}
