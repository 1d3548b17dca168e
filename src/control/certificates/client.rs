//! TLS towards servers: whom edgehold believes as a client, and what it shows of itself.
//!
//! Files are read anew for each connection: one that was replaced is used by the next, without a watch.

use super::clients::roots;
use super::contents::Contents;
use super::fault::{Fault, line};
use super::identity::{Identity, Moment};
use super::listener::now;
use super::settings::CertificateFiles;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What an operator wrote about TLS towards a server: plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// Certificates of the authorities that are believed, in PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// What is shown to a server that asks for a certificate; `None`: nothing.
    pub identity: Option<CertificateFiles>,
}

impl ClientFiles {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(CertificateFiles::files);
        self.ca.as_deref().into_iter().chain(identity)
    }
}

/// What the files of a client say, checked.
struct Loaded {
    /// `None`: those of the system are to be read.
    roots: Option<RootCertStore>,
    identity: Option<Identity>,
}

impl Loaded {
    /// # Errors
    /// Everything that is wrong with the files.
    fn of(files: &ClientFiles, provider: &CryptoProvider) -> Result<Loaded, Vec<Fault>> {
        let contents = Contents::of_files(files.files());
        let moment = Moment { now: now(), ..Moment::default() };
        let roots = files.ca.as_deref().map(|file| roots(file, &contents)).transpose().map_err(|fault| vec![fault]);
        let identity = files.identity.as_ref().map(|it| Identity::read(it, 0, &contents, provider, &moment));
        match (roots, identity.transpose()) {
            (Ok(roots), Ok(identity)) => Ok(Loaded { roots, identity }),
            (roots, identity) => Err([roots.err(), identity.err()].into_iter().flatten().flatten().collect()),
        }
    }
}

/// What is wrong with the files as they are now; empty: nothing. Waits for the disk.
pub fn inspect_client(files: &ClientFiles) -> Vec<Fault> {
    Loaded::of(files, &default_provider()).err().unwrap_or_default()
}

/// TLS 1.3 or 1.2 towards a server, for one connection.
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Reads the files, and the certificates of the system where no others are named, on a thread that may wait.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub(in crate::control) async fn load(files: &ClientFiles) -> Result<ClientTls, String> {
        let files = files.clone();
        let read = tokio::task::spawn_blocking(move || ClientTls::read(&files)).await;
        read.map_err(|_| "the server is stopping".to_owned())?
    }

    /// As [`ClientTls::load`], on this thread.
    pub(super) fn read(files: &ClientFiles) -> Result<ClientTls, String> {
        let provider = Arc::new(default_provider());
        let Loaded { roots, identity } = Loaded::of(files, &provider).map_err(|faults| line(&faults))?;
        let roots = roots.map_or_else(system_roots, Ok)?;
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let shown = |it: Identity| Arc::new(SingleCertAndKey::from(it.certified)) as Arc<dyn ResolvesClientCert>;
        Ok(ClientTls(Arc::new(match identity {
            Some(identity) => builder.with_client_cert_resolver(shown(identity)),
            None => builder.with_no_client_auth(),
        })))
    }

    /// For libraries that make the handshake themselves.
    pub(in crate::control) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }

    /// Makes the handshake over a connection to `host`, for which the server's certificate must be.
    ///
    /// # Errors
    /// The handshake fails; [`why`](super::why) finds words for it.
    pub(in crate::control) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.config()).connect(name, stream).await
    }
}

/// The authorities that the system believes (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or where distributions keep them).
///
/// # Errors
/// There is none.
fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let none = "the system has no certificates of authorities — install ca-certificates, or write `tls.ca`";
    if roots.is_empty() { Err(none.into()) } else { Ok(roots) }
}
