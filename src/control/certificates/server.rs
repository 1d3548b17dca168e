//! All of a listener's files as one: what a handshake needs, made anew at each reading.

use super::clients::Clients;
use super::contents::Contents;
use super::fault::Fault;
use super::identity::{Identity, Moment};
use super::names::Names;
use super::settings::{MinVersion, TlsSettings};
use super::tickets::{self, Secret, TicketKeys, Ticketer};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite as suite};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{KeyLog, ServerConfig, SignatureAlgorithm, SupportedCipherSuite, SupportedProtocolVersion};
use std::sync::Arc;

/// The ciphers in the order in which they are chosen, whatever the client's order is: AES-128 needs the least memory of
/// a connection that is idle and the least work to wake it, and is as far out of reach as AES-256 is.
const SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The one protocol that is spoken (RFC 7301); who offers others only is told no_application_protocol.
const ALPN: &[u8] = b"http/1.1";

/// What the files of a listener say, checked.
pub(super) struct Loaded {
    pub(super) identities: Vec<Identity>,
    pub(super) clients: Clients,
    pub(super) secrets: Option<Vec<Secret>>,
    provider: Arc<CryptoProvider>,
}

impl Loaded {
    /// # Errors
    /// Everything that is wrong with the files, in the order of the settings.
    pub(super) fn of(settings: &TlsSettings, contents: &Contents, moment: &Moment) -> Result<Loaded, Vec<Fault>> {
        let provider = Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..ring::default_provider() });
        let mut faults = Vec::new();
        let read = |(index, files)| Identity::read(files, index, contents, &provider, moment);
        let identities: Vec<_> =
            settings.certificates.iter().enumerate().map(read).filter_map(|it| or_note(it, &mut faults)).collect();
        let clients = or_note(Clients::read(&settings.clients, contents, &provider, moment), &mut faults);
        let secrets = settings.tickets.keys.as_deref().map(|file| tickets::secrets(file, contents));
        let secrets = or_note(secrets.transpose().map_err(|fault| vec![fault]), &mut faults);
        match (clients, secrets) {
            (Some(clients), Some(secrets)) if faults.is_empty() => {
                Ok(Loaded { identities, clients, secrets, provider })
            }
            _ => Err(faults),
        }
    }

    /// What handshakes use. Secrets of sessions are told to `key_log`.
    ///
    /// # Panics
    /// The ciphers and versions above do not fit each other, which every test would tell.
    pub(super) fn config(
        &self,
        settings: &TlsSettings,
        keys: &Arc<TicketKeys>,
        key_log: &Arc<dyn KeyLog>,
    ) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(versions(settings.min_version)).expect("ciphers for each version");
        let builder = builder.with_client_cert_verifier(self.clients.verifier.clone());
        let mut config = builder.with_cert_resolver(Arc::new(Names::new(&self.identities)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Ticketer::new(keys.clone(), self.clients.rules));
        // A client gets a new one with each connection, and a WebSocket client opens few at once.
        config.send_tls13_tickets = 1;
        // Early data can be replayed (RFC 8446 section 8), and a request that opens a WebSocket has an effect.
        config.max_early_data_size = 0;
        config.enable_secret_extraction = true;
        config.key_log = key_log.clone();
        Arc::new(config)
    }

    /// One of the keys is of RSA: a signature takes 0.4 ms with 2048 bits and 3 ms with 4096, where that of P-256 takes
    /// 12 µs (docs/decisions/tls.md).
    pub(super) fn signs_slowly(&self) -> bool {
        self.identities.iter().any(|it| it.certified.key.algorithm() == SignatureAlgorithm::RSA)
    }
}

fn or_note<T>(result: Result<T, Vec<Fault>>, faults: &mut Vec<Fault>) -> Option<T> {
    result.map_err(|found| faults.extend(found)).ok()
}

/// The versions that are spoken, the newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn versions(oldest: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        MinVersion::V12 => &VERSIONS,
        MinVersion::V13 => &VERSIONS[..1],
    }
}
