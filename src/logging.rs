//! Starts logging: to stderr, as text or JSON, filtered as configured. On a terminal, progress bars
//! stand below the lines.

use std::io::{self, IsTerminal as _, Write, stderr};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Set when logging starts with text on a terminal.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Starts logging for the process. Colours only on a terminal.
///
/// # Errors
/// [`TryInitError`] if logging was started before.
pub fn start(config: &LogConfig) -> Result<(), TryInitError> {
    // The directives were checked with the configuration.
    let filter = EnvFilter::builder().parse_lossy(&config.directives);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| AboveBars);
    match config.format {
        LogFormat::Text => {
            let is_terminal = stderr().is_terminal();
            if is_terminal {
                BARS.get_or_init(MultiProgress::new);
            }
            lines.with_ansi(is_terminal).finish().try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
}

/// Where progress bars are drawn; `None` unless logs are text on a terminal.
pub(crate) fn bars() -> Option<&'static MultiProgress> {
    BARS.get()
}

/// Stderr, with the bars taken away while a line is written: it comes as one write.
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match bars() {
            Some(bars) => bars.suspend(|| stderr().write(line)),
            None => stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
