//! TLS of tokio-rustls, tuned as the documentation of rustls says (docs.rs/rustls, server::ServerConfig): tickets
//! without state of the server's, since there are none by default; one for each client, which is what a client of
//! WebSocket needs; AES-128 before AES-256, as for every peer, and the server's order counts.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// With the certificate, its issuers behind it, and its key.
///
/// # Errors
///
/// Where a file cannot be read, or where the key is not the certificate's.
pub fn acceptor(certificate: &str, key: &str) -> io::Result<TlsAcceptor> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?;
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 1;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(is_another);
    provider
}

/// The sort keeps the order of those that are alike.
fn is_another(suite: &SupportedCipherSuite) -> bool {
    suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256
}
