//! An `ErrorResponse` of the server, whichever connection it came in on.

use std::fmt;

use tokio_postgres::error::DbError;

/// What the server said when it refused something.
///
/// Only `message` is shown: `detail` may hold cell values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE, five characters.
    pub code: String,
    /// Primary message, in the server's language.
    pub message: String,
    /// The server's own hint.
    pub hint: Option<String>,
    /// The C function that raised it: tells apart what one SQLSTATE lumps together.
    pub routine: Option<String>,
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
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
            routine: error.routine().map(str::to_owned),
        }
    }
}
