//! TLS towards the server: how it is spoken, a connection that blocks, and the tickets of the first for all others.

mod stream;
mod tickets;

pub use stream::Stream;

use crate::failure::{Failure, mistaken};
use clap::{Args, ValueEnum};
use edgehold_wire::tls::ClientHandshake;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion, version,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tickets::Tickets;

/// Flags of TLS.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// TLS: the certificates in PEM that the server's must follow from
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// TLS: any certificate is as good as another
    #[arg(long)]
    pub insecure: bool,
    /// TLS: this version only; without it 1.3, or 1.2 where the server has no other
    #[arg(long, value_enum, value_name = "VERSION")]
    pub tls_version: Option<Version>,
    /// TLS: offer suites of this cipher only; without it the server chooses
    #[arg(long, value_enum, value_name = "CIPHER")]
    pub tls_cipher: Option<Cipher>,
    /// TLS: all clients resume the session of the first connection, which only asks whether the server answers
    #[arg(long)]
    pub resume: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Version {
    /// RFC 5246.
    #[value(name = "1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3")]
    Tls13,
}

/// The cipher of a suite, in each version of TLS.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Cipher {
    /// AES-128-GCM.
    #[value(name = "aes-128")]
    Aes128,
    /// AES-256-GCM.
    #[value(name = "aes-256")]
    Aes256,
    /// ChaCha20-Poly1305.
    #[value(name = "chacha20")]
    Chacha20,
}

impl Cipher {
    /// Whether a suite's name at IANA has it.
    fn is_in(self, suite: &str) -> bool {
        let word = match self {
            Cipher::Aes128 => "_AES_128_GCM_",
            Cipher::Aes256 => "_AES_256_GCM_",
            Cipher::Chacha20 => "_CHACHA20_",
        };
        suite.contains(word)
    }
}

/// How TLS is spoken with one server.
#[derive(Clone, Debug)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Option<Arc<Tickets>>,
}

impl Secure {
    /// With the server of this name; `is_http`: it is told that HTTP is spoken (ALPN).
    ///
    /// # Errors
    /// Nothing says which certificates are good, or the file that should cannot be read, or the name is none.
    pub fn new(flags: &Flags, url: &str, name: &str, is_http: bool) -> Result<Secure, Failure> {
        let provider = Arc::new(provider(flags.tls_cipher));
        let verifier = verifier(flags, url)?;
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions(flags.tls_version));
        let builder = builder.or_else(|error| mistaken(format!("{url}: {error}")))?;
        let mut config = match verifier {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Any)).with_no_client_auth(),
        };
        let tickets = flags.resume.then(Arc::<Tickets>::default);
        config.resumption = tickets.clone().map_or_else(Resumption::disabled, |tickets| Resumption::store(tickets));
        if is_http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let name =
            ServerName::try_from(name.to_owned()).or_else(|error| mistaken(format!("{url}: {name}: {error}")))?;
        Ok(Secure { config: Arc::new(config), name, tickets })
    }

    /// A handshake from its beginning.
    ///
    /// # Errors
    /// rustls does not take the configuration.
    pub fn handshake(&self) -> Result<ClientHandshake, String> {
        ClientHandshake::new(&self.config, self.name.clone()).map_err(|error| format!("TLS: {error}"))
    }
}

fn provider(only: Option<Cipher>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|it| only.is_none_or(|cipher| cipher.is_in(it.suite().as_str().unwrap_or_default())));
    provider
}

/// Why a handshake failed, for people.
pub fn in_words(failure: &edgehold_wire::tls::Failure) -> String {
    match &failure.detail {
        Some(error) => format!("TLS: {error}"),
        None => format!("TLS: {:?}", failure.reason),
    }
}

/// The roots of `--ca`; `None` with `--insecure`.
fn verifier(flags: &Flags, url: &str) -> Result<Option<RootCertStore>, Failure> {
    match &flags.ca {
        Some(path) => roots(path).map(Some).or_else(|error| mistaken(format!("--ca {}: {error}", path.display()))),
        None if flags.insecure => Ok(None),
        None => mistaken(format!("{url}: --ca FILE says which certificates are good, or --insecure that all are")),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate in PEM".into()) } else { Ok(roots) }
}

fn versions(only: Option<Version>) -> &'static [&'static SupportedProtocolVersion] {
    const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
    const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match only {
        None => rustls::DEFAULT_VERSIONS,
        Some(Version::Tls12) => TLS12,
        Some(Version::Tls13) => TLS13,
    }
}

/// Accepts any certificate, and does not look at the signature either: it is the server that is measured.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
