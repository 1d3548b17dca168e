//! The TLS of listeners, from what was written to what shards and the control thread work with, and to rows for
//! `doctor` and lines for `check`.

use super::config::{Config, TlsSettings};
use super::failure::Failure;
use crate::control::certificates::{self, Advice, Inspection, Shown, TlsListener};
use crate::engine::finding::{Finding, Verdict};
use crate::mesh::ListenerTls;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;

/// The TLS of all listeners that have one.
pub(super) struct Loaded {
    /// What shards take at each handshake, by the number of the listener; `None`: clear text.
    pub(super) by_listener: Vec<Option<ListenerTls>>,
    /// For the control thread, which keeps them.
    pub(super) listeners: Vec<TlsListener>,
}

/// Reads all files.
///
/// # Errors
/// What is wrong with those of the first listener that has a fault.
pub(super) fn load(config: &Config) -> Result<Loaded, Failure> {
    let key_log = certificates::key_log(config.listeners.iter().any(|it| it.tls.is_some()));
    let mut loaded = Loaded { by_listener: Vec::new(), listeners: Vec::new() };
    for listener in &config.listeners {
        let load = |tls: &TlsSettings| TlsListener::load(&listener.name, tls, &key_log);
        let tls = listener.tls.as_ref().map(load).transpose();
        let tls = tls.map_err(|faults| Failure::Tls { name: listener.name.clone(), faults })?;
        loaded.by_listener.push(tls.as_ref().map(TlsListener::current));
        loaded.listeners.extend(tls);
    }
    Ok(loaded)
}

/// What is not wrong with the files and should be known, a line each; empty where there is nothing.
pub fn advice(config: &Config) -> String {
    let lines = inspections(config).flat_map(|(name, it)| {
        it.advice
            .into_iter()
            .map(move |Advice { file, words }| format!("listener {name}: {} {words}\n", file.display()))
    });
    lines.collect()
}

/// A row for each certificate, and one for each thing that should be known of a file.
pub fn rows(config: &Config) -> Vec<Finding> {
    inspections(config).flat_map(|(name, it)| of_listener(name, &it)).collect()
}

/// The files of a configuration that was just read without a problem.
fn inspections(config: &Config) -> impl Iterator<Item = (&str, Inspection)> {
    config.listeners.iter().filter_map(|listener| {
        let inspection = certificates::inspect(listener.tls.as_ref()?).ok()?;
        Some((listener.name.as_str(), inspection))
    })
}

fn of_listener(name: &str, inspection: &Inspection) -> Vec<Finding> {
    let what = format!("tls of {name}");
    let certificates = inspection.certificates.iter().map(|it| certificate(&what, it));
    let advice = inspection.advice.iter().map(|Advice { file, words }| {
        let (is, should) = words.split_once(" — ").unwrap_or((words, ""));
        let is = format!("{} {is}", file.display());
        Finding::new(&what, is, "nothing to be said".into(), Verdict::Advice, should.into())
    });
    certificates.chain(advice).collect()
}

/// Not a judgement: what is wrong or soon to be is told in rows of its own.
fn certificate(what: &str, Shown { file, names, ends }: &Shown) -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = (ends - i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) / DAY;
    let names = if names.is_empty() { "no name".into() } else { names.join(" ") };
    Finding::new(what, format!("{file}: {names}"), format!("good for {days} days"), Verdict::Ok, String::new())
}
