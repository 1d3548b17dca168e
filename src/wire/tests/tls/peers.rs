//! Both ends of a connection: ours, a parked state with its driver, and rustls's.
#![allow(dead_code, reason = "a fuzz target asks for some of it")]

use edgehold_wire::tls::{Aead, ClientHandshake, Direction, Established, Failure, Handshake, Opened, Parked};
use edgehold_wire::tls::{Alert, Fault, Plain, Role, Suite, Version};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, Connection, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

/// The name that the server has.
pub(crate) const NAME: &str = "edge.example";

/// Who signs everybody's certificates.
pub(crate) static AUTHORITY: LazyLock<(CertificateDer<'static>, Issuer<'static, KeyPair>)> =
    LazyLock::new(|| authority("ours"));

/// A certificate with its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Who signs certificates; nobody trusts one but [`AUTHORITY`].
pub(crate) fn authority(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, Issuer::new(params, key))
}

/// A certificate that `issuer` has signed, once `change` has been made.
pub(crate) fn identity_by(issuer: &Issuer<'_, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(vec![NAME.to_string()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// A certificate that is in order.
pub(crate) fn identity() -> Identity {
    identity_by(&AUTHORITY.1, |_| {})
}

/// All suites: three of TLS 1.3 and three of 1.2.
pub(crate) fn suites() -> [Suite; 6] {
    let aeads = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::ChaCha20Poly1305];
    let [a, b, c] = aeads;
    [Suite::tls13(a), Suite::tls13(b), Suite::tls13(c), Suite::tls12(a), Suite::tls12(b), Suite::tls12(c)]
}

/// rustls's suite of this kind.
fn stock(suite: Suite) -> SupportedCipherSuite {
    use ring::cipher_suite::*;
    match (suite.version, suite.aead) {
        (Version::Tls13, Aead::Aes128Gcm) => TLS13_AES_128_GCM_SHA256,
        (Version::Tls13, Aead::Aes256Gcm) => TLS13_AES_256_GCM_SHA384,
        (Version::Tls13, Aead::ChaCha20Poly1305) => TLS13_CHACHA20_POLY1305_SHA256,
        (Version::Tls12, Aead::Aes128Gcm) => TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        (Version::Tls12, Aead::Aes256Gcm) => TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        (Version::Tls12, Aead::ChaCha20Poly1305) => TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

/// A provider with these suites only.
pub(crate) fn provider(suites: &[Suite]) -> Arc<CryptoProvider> {
    let cipher_suites = suites.iter().map(|&suite| stock(suite)).collect();
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

pub(crate) fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.0.clone()).unwrap();
    roots
}

pub(crate) fn server_config(suites: &[Suite]) -> ServerConfig {
    let (chain, key) = identity();
    let builder = ServerConfig::builder_with_provider(provider(suites)).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.ticketer = ring::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

pub(crate) fn client_config(suites: &[Suite]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider(suites)).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots()).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

pub(crate) fn stock_client(config: &Arc<ClientConfig>) -> Connection {
    let name = ServerName::try_from(NAME).unwrap();
    rustls::ClientConnection::new(config.clone(), name).unwrap().into()
}

pub(crate) fn stock_server(config: &Arc<ServerConfig>) -> Connection {
    rustls::ServerConnection::new(config.clone()).unwrap().into()
}

/// Our side of a handshake, of either role.
pub(crate) enum Ours {
    Server(Handshake),
    Client(ClientHandshake),
}

impl Ours {
    pub(crate) fn server(config: &ServerConfig) -> Ours {
        Ours::Server(Handshake::new(config).unwrap())
    }

    pub(crate) fn client(config: &ClientConfig) -> Ours {
        Ours::Client(ClientHandshake::new(config, ServerName::try_from(NAME).unwrap()).unwrap())
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, Failure> {
        match self {
            Ours::Server(handshake) => handshake.feed(bytes, out),
            Ours::Client(handshake) => handshake.feed(bytes, out),
        }
    }
}

/// What rustls wants to send.
pub(crate) fn sent_by(stock: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while stock.wants_write() {
        stock.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives rustls bytes; returns the plaintext that they held.
pub(crate) fn give(stock: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        stock.read_tls(&mut bytes).unwrap();
        let state = stock.process_new_packets()?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        stock.reader().read_exact(&mut plain[start..]).unwrap();
    }
    Ok(plain)
}

/// Seals by rustls.
pub(crate) fn say(stock: &mut Connection, plain: &[u8]) -> Vec<u8> {
    stock.set_buffer_limit(None);
    stock.writer().write_all(plain).unwrap();
    sent_by(stock)
}

/// A handshake with rustls to its end; what rustls sends arrives in pieces that end where `cuts` says, counted over all
/// of it. rustls must agree to the end.
pub(crate) fn shake(ours: &mut Ours, stock: &mut Connection, cuts: &[usize]) -> Result<Established, Failure> {
    let (mut received, mut established) = (0, None);
    let mut out = Vec::new();
    for _ in 0..8 {
        let flight = sent_by(stock);
        let mut ends: Vec<usize> = cuts.iter().filter_map(|&cut| cut.checked_sub(received)).collect();
        ends.retain(|&end| end < flight.len());
        ends.push(flight.len());
        let mut start = 0;
        for end in ends {
            if established.is_none() {
                established = ours.feed(&flight[start..end], &mut out)?;
            } else if let Some(Established { leftover, .. }) = &mut established {
                leftover.extend_from_slice(&flight[start..end]);
            }
            start = end;
        }
        received += flight.len();
        give(stock, &std::mem::take(&mut out)).unwrap();
        let is_over = !stock.is_handshaking() && !stock.wants_write();
        if let Some(established) = established.take_if(|_| is_over) {
            return Ok(established);
        }
    }
    panic!("the handshake has no end");
}

/// Our end of a connection whose handshake is over.
pub(crate) struct Peer {
    parked: Option<Parked>,
    inbox: Vec<u8>,
    /// What has been received.
    pub(crate) plain: Vec<u8>,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
    pub(crate) warnings: Vec<Alert>,
    pub(crate) closed: bool,
    /// Wakes as a whole instead of by halves.
    pub(crate) whole: bool,
}

impl Peer {
    pub(crate) fn new(parked: Parked) -> Peer {
        let (inbox, plain, out, warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Peer { parked: Some(parked), inbox, plain, out, warnings, closed: false, whole: false }
    }

    pub(crate) fn parked(&mut self) -> &mut Parked {
        self.parked.as_mut().unwrap()
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.inbox.extend_from_slice(bytes);
        while let Some(len) = self.whole_record()? {
            let mut record: Vec<u8> = self.inbox.drain(..len).collect();
            self.open(&mut record)?;
            self.answer();
        }
        Ok(())
    }

    fn whole_record(&mut self) -> Result<Option<usize>, Fault> {
        let mut lent = self.parked.as_mut().unwrap().lend();
        Ok(lent.record_len(&self.inbox)?.filter(|&len| len <= self.inbox.len()))
    }

    fn open(&mut self, record: &mut [u8]) -> Result<(), Fault> {
        let opened = if self.whole {
            let mut awake = self.parked.take().unwrap().wake();
            let opened = awake.read().open(record);
            self.parked = Some(awake.park());
            opened?
        } else {
            self.parked().wake_read().open(record)?
        };
        match opened {
            Opened::Data(plain) => self.plain.extend_from_slice(plain),
            Opened::Nothing => {}
            Opened::Warning(alert) => self.warnings.push(alert),
            Opened::CloseNotify => self.closed = true,
        }
        Ok(())
    }

    fn answer(&mut self) {
        let mut out = [0; 100];
        if self.parked().lend().owes() {
            let len = self.parked().wake_write().answer(&mut out);
            assert!(len > 0 && !self.parked().lend().owes());
            self.out.extend_from_slice(&out[..len]);
        }
    }

    /// Seals into `out`, as one message of these parts.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) {
        let mut plain = Plain::new(parts);
        let start = self.out.len();
        let len = self.parked().wake_write().sealed_len(plain.len());
        self.out.resize(start + len, 0);
        let written = if self.whole {
            let mut awake = self.parked.take().unwrap().wake();
            let written = awake.write().seal(&mut plain, &mut self.out[start..]);
            self.parked = Some(awake.park());
            written.unwrap()
        } else {
            self.parked.as_mut().unwrap().wake_write().seal(&mut plain, &mut self.out[start..]).unwrap()
        };
        assert!(written == len && plain.is_empty(), "{written} of {len}");
    }

    pub(crate) fn taken(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

/// Both ends of a connection, of secrets that are made up, with so many records sent and received.
pub(crate) fn pair(suite: Suite, sequence: u64) -> (Peer, Peer) {
    let material = |seed: u8| (0..suite.material_len() as u8).map(|n| n.wrapping_mul(7) ^ seed).collect::<Vec<u8>>();
    let (client, server) = (material(1), material(2));
    let client = Direction { sequence, material: &client };
    let server = Direction { sequence, material: &server };
    let first = Parked::new(suite, Role::Client, client, server).unwrap();
    (Peer::new(first), Peer::new(Parked::new(suite, Role::Server, server, client).unwrap()))
}
