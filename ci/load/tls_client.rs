//! A TLS client without a socket (stock rustls): what goes in and out are bytes, and whoever has it moves them.
//!
//! Order of calls: [`TlsClient::seal`] and [`TlsClient::open`] in any order; after either, [`TlsClient::outgoing`] has
//! what is to be sent. Test programs of other folders use this file too.
#![allow(dead_code, unused_imports, reason = "each test program uses the part it needs")]

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, SupportedProtocolVersion};

pub(crate) use rustls::version::{TLS12, TLS13};

/// The name that certificates of these tests are for.
const NAME: &str = "edge.test";

/// A certificate that is its own authority, and its key. Of Ed25519, whose signatures all have the same length, so that
/// a play can be played again.
pub(crate) struct Issued {
    /// DER, as clients are shown it.
    pub(crate) certificate: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

impl Issued {
    /// A new one.
    pub(crate) fn new() -> Issued {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        let made = params.self_signed(&key).expect("a certificate");
        Issued { certificate: made.der().clone(), pem: made.pem(), key }
    }

    /// Certificate and key as files have them.
    pub(crate) fn pem(&self) -> [String; 2] {
        [self.pem.clone(), self.key.serialize_pem()]
    }

    /// The key for a server in this process.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

/// What a client offers: this version, and suites of this name only, where one is given. It believes those who are
/// issued, and keeps tickets in a place of its own.
pub(crate) fn offers(
    version: &'static SupportedProtocolVersion,
    suite: Option<&str>,
    issued: &[&Issued],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    issued.iter().for_each(|one| roots.add(one.certificate.clone()).expect("a root"));
    let mut provider = default_provider();
    provider.cipher_suites.retain(|it| suite.is_none_or(|name| it.suite().as_str() == Some(name)));
    let builder = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::new(provider));
    let builder = builder.with_protocol_versions(&[version]).expect("a suite of this version");
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// The same offer with no tickets yet, and a place for some.
pub(crate) fn without_tickets(offer: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = offer.clone();
    config.resumption = Resumption::in_memory_sessions(4);
    Arc::new(config)
}

/// One client.
pub(crate) struct TlsClient {
    session: ClientConnection,
    closed: bool,
}

impl TlsClient {
    /// Nothing is said yet.
    pub(crate) fn new(config: &Arc<ClientConfig>) -> TlsClient {
        let name = ServerName::try_from(NAME).expect("a name");
        let mut session = ClientConnection::new(config.clone(), name).expect("a client");
        session.set_buffer_limit(None);
        TlsClient { session, closed: false }
    }

    /// Plaintext for the server; it waits until the handshake is over.
    pub(crate) fn seal(&mut self, plain: &[u8]) {
        self.session.writer().write_all(plain).expect("a buffer without a limit");
    }

    /// Bytes of records that are to be sent.
    pub(crate) fn outgoing(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).expect("a vector takes all");
        }
        records
    }

    /// Takes bytes that came, and returns the plaintext in them.
    ///
    /// # Errors
    /// They are not what TLS allows, or an alert.
    pub(crate) fn open(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        while !bytes.is_empty() && !self.closed {
            self.session.read_tls(&mut bytes).expect("all that came before was taken");
            self.closed = self.session.process_new_packets()?.peer_has_closed();
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = self.session.reader().read(&mut piece) {
                plain.extend_from_slice(&piece[..len]);
            }
        }
        Ok(plain)
    }

    /// Says close_notify.
    pub(crate) fn close(&mut self) {
        self.session.send_close_notify();
    }

    /// New keys for what is said from now on (TLS 1.3).
    pub(crate) fn update_keys(&mut self) {
        self.session.refresh_traffic_keys().expect("TLS 1.3, after the handshake");
    }

    /// The handshake is over, and it is TLS 1.3.
    pub(crate) fn is_13(&self) -> bool {
        !self.is_handshaking() && self.session.protocol_version() == Some(TLS13.version)
    }

    /// The handshake is not over.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// close_notify has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate of the server, from this handshake or from that of the session that was resumed.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificates()?.first()
    }
}
