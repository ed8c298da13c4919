//! An `ErrorResponse` of the server, whichever connection it came in on.

use std::fmt;

use tokio_postgres::error::DbError;

/// What the server said when it refused something.
///
/// Only `message` is shown: `detail` may hold cell values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE, five characters.
    pub code: Box<str>,
    /// Primary message, in the server's language.
    pub message: Box<str>,
    /// The server's own hint.
    pub hint: Option<Box<str>>,
    /// The C function that raised it: tells apart what one SQLSTATE lumps together.
    pub routine: Option<Box<str>>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for ServerError {}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        Self {
            code: error.code().code().into(),
            message: error.message().into(),
            hint: error.hint().map(Into::into),
            routine: error.routine().map(Into::into),
        }
    }
}
