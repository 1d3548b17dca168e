//! Structured logs to standard error, as the configuration says.

use super::config::{Level, LogFormat, Server};
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. Call it once.
pub(super) fn start(server: &Server) {
    let level = match server.log {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // What libraries find worth saying is not what an operator is to read, unless something is wrong.
    let ours = Targets::new().with_target("edgehold", level).with_default(level.min(LevelFilter::WARN));
    // Its errors come to the feed, which tells them with its name; here they would be told without.
    let ours = ours.with_target("async_nats", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let subscriber = tracing_subscriber::registry().with(ours);
    // A second start (tests in one process) keeps the first.
    let _ = match server.log_format {
        LogFormat::Json => subscriber.with(lines.json()).try_init(),
        LogFormat::Text => subscriber.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
}
