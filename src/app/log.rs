//! Structured logs to standard error, as the configuration says.

use super::config::{Level, LogFormat, Server};
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;

/// Starts logging. Call it once.
pub(super) fn start(server: &Server) {
    let level = match server.log {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second start (tests in one process) keeps the first.
    let _ = match server.log_format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
