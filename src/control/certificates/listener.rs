//! The TLS of one listener: loaded at start, and again when its files have changed.
//!
//! New files are used when all of them are well, and not before: then the configuration is replaced as one. Else
//! everything stays as it is, and the log, the metrics and `/v1/status` say why.

use super::advice::{Advice, advice};
use super::contents::{Contents, Fingerprint};
use super::fault::{Fault, date, line};
use super::identity::Moment;
use super::server::Loaded;
use super::settings::TlsSettings;
use super::state::{Shown, TlsState, shown};
use super::tickets::TicketKeys;
use crate::mesh::ListenerTls;
use rustls::KeyLog;
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The TLS of one listener.
pub struct TlsListener {
    settings: Arc<TlsSettings>,
    key_log: Arc<dyn KeyLog>,
    current: ListenerTls,
    pub(super) keys: Arc<TicketKeys>,
    pub(super) state: Arc<TlsState>,
    /// The reading that was tried last, good or not.
    tried: Fingerprint,
    /// The reading that is used.
    used: Fingerprint,
    /// The certificates and the rules for clients in it.
    shown: Vec<CertificateDer<'static>>,
    rules: Fingerprint,
}

/// What came of looking at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are those that were read last.
    Unchanged,
    /// They have replaced those before.
    Replaced,
    /// They cannot be used.
    Refused,
}

/// A reading that is to be held against the one before.
pub(super) struct Reading {
    fingerprint: Fingerprint,
    loaded: Result<Loaded, Vec<Fault>>,
}

impl Reading {
    /// Reads and checks the files. Waits for the disk.
    pub(super) fn of(settings: &TlsSettings, moment: &Moment) -> Reading {
        let contents = Contents::read(settings);
        Reading { fingerprint: contents.fingerprint(), loaded: Loaded::of(settings, &contents, moment) }
    }

    /// Where nothing is in use yet.
    fn first(settings: &TlsSettings) -> Reading {
        Reading::of(settings, &Moment { now: now(), ..Moment::default() })
    }
}

impl TlsListener {
    /// Reads the files of the listener called `name`. Secrets of its sessions are told to `key_log`.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(name: &str, settings: &TlsSettings, key_log: &Arc<dyn KeyLog>) -> Result<TlsListener, Vec<Fault>> {
        let Reading { fingerprint, loaded } = Reading::first(settings);
        let loaded = loaded?;
        let keys = TicketKeys::new(settings.tickets.rotate, loaded.secrets.as_deref(), now());
        let state = TlsState::new(name);
        state.show(settings, &loaded);
        let listener = TlsListener {
            current: ListenerTls::new(loaded.config(settings, &keys, key_log), loaded.signs_slowly()),
            settings: Arc::new(settings.clone()),
            key_log: key_log.clone(),
            keys,
            state,
            tried: fingerprint,
            used: fingerprint,
            shown: leaves(&loaded),
            rules: loaded.clients.rules,
        };
        listener.tell(&loaded);
        Ok(listener)
    }

    /// The name of the listener.
    pub fn name(&self) -> &str {
        &self.state.listener
    }

    /// What its shards take at each handshake.
    pub fn current(&self) -> ListenerTls {
        self.current.clone()
    }

    /// What the admin address tells of it.
    pub(in crate::control) fn state(&self) -> Arc<TlsState> {
        self.state.clone()
    }

    pub(super) fn settings(&self) -> Arc<TlsSettings> {
        self.settings.clone()
    }

    /// Against what the next reading is held.
    pub(super) fn moment(&self) -> Moment {
        Moment { now: now(), shown: self.shown.clone(), rules: Some(self.rules) }
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.settings.files().into_iter().map(Into::into).collect()
    }

    /// Takes a reading where it is well and another than before.
    pub(super) fn take(&mut self, reading: Reading) -> Look {
        let before = std::mem::replace(&mut self.tried, reading.fingerprint);
        if before == reading.fingerprint {
            return Look::Unchanged;
        }
        match reading.loaded {
            // The files are again those that are used, after others that were refused.
            Ok(_) if self.used == reading.fingerprint => self.restored(),
            Ok(loaded) => self.replace(&loaded),
            Err(faults) => self.refuse(&faults),
        }
    }

    fn replace(&mut self, loaded: &Loaded) -> Look {
        (self.used, self.shown, self.rules) = (self.tried, leaves(loaded), loaded.clients.rules);
        if let Some(secrets) = &loaded.secrets {
            self.keys.replace(secrets, now());
        }
        let config = loaded.config(&self.settings, &self.keys, &self.key_log);
        self.current.replace(config, loaded.signs_slowly());
        self.state.show(&self.settings, loaded);
        self.state.replaced.add();
        tracing::info!(listener = self.state.listener, "TLS: the files have changed and are used from now on");
        self.tell(loaded);
        Look::Replaced
    }

    fn restored(&self) -> Look {
        self.state.refuse(&[]);
        tracing::info!(listener = self.state.listener, "TLS: the files are again those that are used");
        Look::Unchanged
    }

    fn refuse(&self, faults: &[Fault]) -> Look {
        self.state.refuse(faults);
        self.state.refused.add();
        let (listener, why) = (&self.state.listener, line(faults));
        tracing::error!(listener, why, "TLS: the files have changed and cannot be used; those before stay in use");
        Look::Refused
    }

    /// Says in the log what is shown, and what is to be said of it.
    fn tell(&self, loaded: &Loaded) {
        for Shown { file, names, ends } in shown(&self.settings, loaded) {
            let (names, until) = (names.join(" "), date(ends));
            tracing::info!(listener = self.state.listener, certificate = file, names, until, "TLS certificate");
        }
        self.warn(&advice(&self.settings, loaded, now()));
    }

    /// Says once more what is to be said of files that have not changed.
    pub(super) fn remind(&self, reading: &Reading) {
        if let Ok(loaded) = &reading.loaded {
            self.warn(&advice(&self.settings, loaded, now()));
        }
    }

    fn warn(&self, advice: &[Advice]) {
        for Advice { file, words } in advice {
            tracing::warn!(listener = self.state.listener, "TLS: {} {words}", file.display());
        }
    }
}

fn leaves(loaded: &Loaded) -> Vec<CertificateDer<'static>> {
    loaded.identities.iter().filter_map(|it| it.certified.cert.first().cloned()).collect()
}

/// The certificates of a listener as they would be shown, and what is to be said of its files.
pub struct Inspection {
    /// In the order of the configuration.
    pub certificates: Vec<Shown>,
    /// What the operator should know.
    pub advice: Vec<Advice>,
}

/// Reads the files of a listener as [`TlsListener::load`] does, to see whether it could.
///
/// # Errors
/// Everything that is wrong with the files.
pub fn inspect(settings: &TlsSettings) -> Result<Inspection, Vec<Fault>> {
    let loaded = Reading::first(settings).loaded?;
    Ok(Inspection { certificates: shown(settings, &loaded), advice: advice(settings, &loaded, now()) })
}
