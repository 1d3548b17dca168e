//! edgehold-bench: what a server of WebSocket, SSE or TCP clients costs, measured from outside.
//!
//! - `cli`, `units`: what is asked
//! - `preflight`, `session`, `target`, `tls`: whether it can be done, and with whom
//! - `crowd`: the clients, on the engine and the wire code of the server itself
//! - `modes`: what the clients do; `publisher` speaks to all of them
//! - `broker`: STOMP and MQTT
//! - `watch`, `admin`, `calibrate`: what the server, the machine and the tool itself spend
//! - `result`, `show`, `report`: what was found, as JSON, as text, as a page
//!
//! This file: parse, run, print; the one place where an outcome becomes an exit code.

#![allow(clippy::cast_sign_loss, reason = "counts, spans and rates are not negative where they become whole numbers")]

mod admin;
mod broker;
mod calibrate;
mod cli;
mod crowd;
mod failure;
mod interrupt;
mod modes;
mod preflight;
mod progress;
mod publisher;
mod report;
mod result;
mod session;
mod show;
mod target;
mod tls;
mod units;
mod watch;

use clap::Parser;
use cli::{Cli, Common, Mode};
use failure::Failure;
use result::{Outcome, SCHEMA};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// The command line, the machine or the address does not allow what was asked.
const MISTAKEN: u8 = 2;

fn main() -> ExitCode {
    let mode = Cli::parse().mode;
    if let Err(error) = interrupt::listen() {
        eprintln!("edgehold-bench: Ctrl-C cannot be listened for: {error}");
    }
    match &mode {
        Mode::Report(flags) => match report::run(flags) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => ended(&Failure::Mistaken(error.to_string())),
        },
        Mode::Idle(flags) => measure("idle", &flags.common, |out| modes::idle::run(flags, out)),
        Mode::Echo(flags) => measure("echo", &flags.common, |out| modes::echo::run(flags, out)),
        Mode::Fanout(flags) => measure("fanout", &flags.common, |out| modes::fanout::run(flags, out)),
        Mode::Storm(flags) => measure("storm", &flags.common, |out| modes::storm::run(flags, out)),
        Mode::Slow(flags) => measure("slow", &flags.common, |out| modes::slow::run(flags, out)),
        Mode::Offload(flags) => measure("offload", &flags.common, |out| modes::offload::run(flags, out)),
        Mode::Proxy(flags) => measure("proxy", &flags.common, |out| modes::proxy::run(flags, out)),
    }
}

/// Runs a mode; prints and writes what was measured, however it ended.
fn measure(name: &str, common: &Common, run: impl FnOnce(&mut Outcome) -> Result<(), Failure>) -> ExitCode {
    let mut out = blank(name);
    let ended_well = run(&mut out);
    out.interrupted = interrupt::asked();
    out.client.peak_rss_bytes = watch::own_peak();
    session::judge(&mut out);
    let measured = out.connect.is_some();
    if measured {
        print!("{}", show::outcome(&out));
    }
    let written = match &common.json {
        Some(path) if measured => write(&out, path),
        Some(path) => {
            forget(path);
            Ok(())
        }
        None => Ok(()),
    };
    match ended_well.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&failure),
    }
}

fn blank(mode: &str) -> Outcome {
    Outcome {
        schema: SCHEMA,
        tool: concat!("edgehold-bench ", env!("CARGO_PKG_VERSION")).into(),
        mode: mode.into(),
        command: command(),
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        ..Outcome::default()
    }
}

/// The command line without the place where the program lies.
fn command() -> Vec<String> {
    let arguments = std::env::args().skip(1);
    std::iter::once("edgehold-bench".to_owned()).chain(arguments).collect()
}

fn write(out: &Outcome, path: &Path) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(out).map_err(|error| error.to_string());
    let written = text.and_then(|text| std::fs::write(path, text + "\n").map_err(|error| error.to_string()));
    written.or_else(|error| failure::failed(format!("--json {}: {error}", path.display())))
}

/// Nothing was measured: the file that the preflight made empty goes.
fn forget(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|it| it.len() == 0) {
        let _ = std::fs::remove_file(path);
    }
}

fn ended(failure: &Failure) -> ExitCode {
    eprintln!("edgehold-bench: {failure}");
    ExitCode::from(failure.code().clamp(1, MISTAKEN))
}
