//! Starts logging: to stderr, as text or JSON, filtered as configured.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the process. Colours only on a terminal.
///
/// # Errors
/// [`TryInitError`] if logging was started before.
pub fn start(config: &LogConfig) -> Result<(), TryInitError> {
    // The directives were checked with the configuration.
    let filter = EnvFilter::builder().parse_lossy(&config.directives);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
}
