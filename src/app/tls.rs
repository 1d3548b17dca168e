//! The TLS of listeners, of the admin address and towards upstreams, from what was written to what shards and the
//! control thread work with, and to rows for `doctor` and lines for `check`.

use super::config::{Config, TlsSettings, Upstream};
use super::failure::Failure;
use super::generation::Generation;
use crate::control::certificates::{self, Advice, Inspection, Kept, Shown, TlsListener, TlsUpstream};
use crate::engine::finding::{Finding, Verdict};
use crate::mesh::{ListenerTls, UpstreamTls};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;

/// What the admin address is called where listeners are by their names: no listener's has a dot.
const ADMIN: &str = "server.admin";

/// What shards take at each handshake with an upstream.
pub type UpstreamsTls = HashMap<Upstream, UpstreamTls>;

/// All TLS but that of feeds.
pub(super) struct Loaded {
    /// What shards take at each handshake, by the number of the listener; `None`: clear text.
    pub(super) by_listener: Vec<Option<ListenerTls>>,
    /// The same for upstreams that have TLS.
    pub(super) by_upstream: UpstreamsTls,
    /// For the control thread, which keeps them; that of the admin address is among the listeners.
    pub(super) kept: Kept,
}

/// Reads all files.
///
/// # Errors
/// What is wrong with those of the first that has a fault.
pub(super) fn load(generation: &Generation) -> Result<Loaded, Failure> {
    let config = &*generation.config;
    let key_log = certificates::key_log(secured(config).next().is_some());
    let load = |name: &str, tls: &TlsSettings| {
        TlsListener::load(name, tls, &key_log).map_err(|faults| Failure::Tls { name: name.into(), faults })
    };
    let mut loaded = Loaded { by_listener: Vec::new(), by_upstream: HashMap::new(), kept: Kept::default() };
    for listener in &config.listeners {
        let tls = listener.tls.as_ref().map(|tls| load(&listener.name, tls)).transpose()?;
        loaded.by_listener.push(tls.as_ref().map(TlsListener::current));
        loaded.kept.listeners.extend(tls);
    }
    let admin = config.server.admin_tls.as_ref().map(|tls| load(ADMIN, tls)).transpose()?;
    loaded.kept.listeners.extend(admin);
    load_upstreams(generation, &mut loaded)?;
    Ok(loaded)
}

/// # Errors
/// As [`load`].
fn load_upstreams(generation: &Generation, loaded: &mut Loaded) -> Result<(), Failure> {
    for upstream in generation.config.routes.iter().flat_map(|route| route.service.upstreams()) {
        let Upstream::Tcp { host, tls: Some(settings), .. } = upstream else { continue };
        if loaded.by_upstream.contains_key(upstream) {
            continue;
        }
        let name = generation.upstream_name(upstream);
        let kept = TlsUpstream::load(&name, host, settings);
        let kept = kept.map_err(|why| Failure::UpstreamTls { upstream: name, why })?;
        loaded.by_upstream.insert(upstream.clone(), kept.current());
        loaded.kept.upstreams.push(kept);
    }
    Ok(())
}

/// That of the admin address, among those of the listeners; `None`: it speaks clear text.
pub(super) fn of_admin(listeners: &[TlsListener]) -> Option<ListenerTls> {
    listeners.iter().find(|it| it.name() == ADMIN).map(TlsListener::current)
}

/// All that have TLS, by their names.
fn secured(config: &Config) -> impl Iterator<Item = (&str, &TlsSettings)> {
    let listeners = config.listeners.iter().filter_map(|it| Some((it.name.as_str(), it.tls.as_ref()?)));
    listeners.chain(config.server.admin_tls.as_ref().map(|tls| (ADMIN, tls)))
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
    secured(config).filter_map(|(name, tls)| Some((name, certificates::inspect(tls).ok()?)))
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
