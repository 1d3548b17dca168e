//! TLS towards one upstream of proxy routes: loaded at start, and again when its files have changed. As with a
//! listener's, new files are used when all of them are well, and not before.

use super::client::{ClientFiles, ClientTls};
use super::contents::{Contents, Fingerprint};
use crate::mesh::UpstreamTls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an operator wrote about TLS towards an upstream: plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTlsSettings {
    /// Whom edgehold believes, and what it shows of itself.
    pub files: ClientFiles,
    /// For which name or address the upstream's certificate must be, and for which it is asked (SNI); `None`: the host
    /// of its URL.
    pub server_name: Option<String>,
    /// Application protocols that are offered (ALPN, RFC 7301), the best first; empty: none.
    pub alpn: Vec<String>,
}

/// TLS towards one upstream, as the control thread keeps it.
pub struct TlsUpstream {
    label: String,
    settings: Arc<UpstreamTlsSettings>,
    current: UpstreamTls,
    /// The reading that was tried last, good or not.
    tried: Fingerprint,
}

/// A reading that is to be held against the one before.
pub(super) struct ClientReading {
    fingerprint: Fingerprint,
    config: Result<Arc<ClientConfig>, String>,
}

impl ClientReading {
    /// Reads and checks the files. Waits for the disk.
    pub(super) fn of(settings: &UpstreamTlsSettings) -> ClientReading {
        let fingerprint = Contents::of_files(settings.files.files()).fingerprint();
        ClientReading { fingerprint, config: config(settings) }
    }
}

fn config(settings: &UpstreamTlsSettings) -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::clone(&ClientTls::read(&settings.files)?.config());
    config.alpn_protocols = settings.alpn.iter().map(|it| it.clone().into_bytes()).collect();
    Ok(Arc::new(config))
}

impl TlsUpstream {
    /// Reads the files for the upstream that the configuration calls `label`, at `host`.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub fn load(label: &str, host: &str, settings: &UpstreamTlsSettings) -> Result<TlsUpstream, String> {
        let ClientReading { fingerprint, config } = ClientReading::of(settings);
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("no certificate can be for {name:?} — write `upstream_tls.server_name`"))?;
        Ok(TlsUpstream {
            label: label.into(),
            settings: Arc::new(settings.clone()),
            current: UpstreamTls::new(label.into(), name, config?),
            tried: fingerprint,
        })
    }

    /// What shards take at each handshake.
    pub fn current(&self) -> UpstreamTls {
        self.current.clone()
    }

    pub(super) fn settings(&self) -> Arc<UpstreamTlsSettings> {
        self.settings.clone()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.settings.files.files().map(Path::to_owned)
    }

    /// Takes a reading where it is well and another than before.
    pub(super) fn take(&mut self, reading: ClientReading) {
        let before = std::mem::replace(&mut self.tried, reading.fingerprint);
        if before == reading.fingerprint {
            return;
        }
        self.current.refuse(reading.config.is_err());
        match reading.config {
            Ok(config) => {
                self.current.replace(config);
                tracing::info!(upstream = self.label, "TLS: the files have changed and are used from now on");
            }
            Err(why) => tracing::error!(
                upstream = self.label,
                why,
                "TLS: the files have changed and cannot be used; those before stay in use"
            ),
        }
    }
}
