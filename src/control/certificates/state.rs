//! What the admin address tells of the TLS of listeners.

use super::fault::{Fault, line};
use super::server::Loaded;
use super::settings::TlsSettings;
use crate::control::stats::Count;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The state and the counters of one listener's TLS: written by the task that keeps it.
#[derive(Debug)]
pub struct TlsState {
    /// The listener's name.
    pub listener: String,
    /// Times that changed files have replaced those before.
    pub replaced: Count,
    /// Times that changed files could not be used.
    pub refused: Count,
    /// Times that the keys of tickets have changed.
    pub rotations: Count,
    now: ArcSwap<Standing>,
}

/// What holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The certificates that are shown, in the order of the configuration.
    pub certificates: Vec<Shown>,
    /// When the first of the revocation lists is to be replaced, in seconds since 1970.
    pub lists_end: Option<i64>,
    /// Why the files as they are now are not used; `None`: they are.
    pub refusal: Option<String>,
}

/// A certificate that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its file.
    pub file: String,
    /// Its names, of which the client's decides.
    pub names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub ends: i64,
}

impl TlsState {
    pub(super) fn new(listener: &str) -> Arc<TlsState> {
        let [replaced, refused, rotations] = [Count::default(), Count::default(), Count::default()];
        Arc::new(TlsState { listener: listener.into(), replaced, refused, rotations, now: ArcSwap::default() })
    }

    /// What holds now.
    pub fn standing(&self) -> Arc<Standing> {
        self.now.load_full()
    }

    /// These are used from now on.
    pub(super) fn show(&self, settings: &TlsSettings, loaded: &Loaded) {
        let lists_end = loaded.clients.lists_end;
        self.now.store(Arc::new(Standing { certificates: shown(settings, loaded), lists_end, refusal: None }));
    }

    /// The files were read and are not used, or are again those that are used.
    pub(super) fn refuse(&self, faults: &[Fault]) {
        let refusal = (!faults.is_empty()).then(|| line(faults));
        self.now.store(Arc::new(Standing { refusal, ..Standing::clone(&self.standing()) }));
    }
}

/// The certificates of a reading.
pub(super) fn shown(settings: &TlsSettings, loaded: &Loaded) -> Vec<Shown> {
    let pairs = settings.certificates.iter().zip(&loaded.identities);
    let shown = pairs.map(|(files, identity)| Shown {
        file: files.certificate.display().to_string(),
        names: identity.names.clone(),
        ends: identity.facts().ends,
    });
    shown.collect()
}
