//! What rustls tells about one handshake while it runs, beside its result: the traffic secrets and the server name.
//!
//! Each handshake has a log and a resolver of its own, in a clone of the configuration, so that nothing of one
//! handshake can be taken for another's, however many run on a thread, interleaved or not. rustls wants both to be
//! `Sync`; bytes are kept in atomics, which need neither a lock nor `std`.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{KeyLog, SignatureAlgorithm};
use zeroize::Zeroizing;

/// Bytes of the longest traffic secret.
const SECRET: usize = 48;
/// Bytes of the longest name (RFC 1035 section 2.3.4).
const NAME: usize = 255;

/// Up to `N` bytes that are set by one who only has `&self`. One thread at a time has them; who hands a handshake to
/// another does so by a channel, which orders what was stored.
#[derive(Debug)]
struct Bytes<const N: usize> {
    bytes: [AtomicU8; N],
    len: AtomicUsize,
}

impl<const N: usize> Bytes<N> {
    const fn new() -> Bytes<N> {
        Bytes { bytes: [const { AtomicU8::new(0) }; N], len: AtomicUsize::new(0) }
    }

    /// Longer values are cut.
    fn set(&self, value: &[u8]) {
        self.bytes.iter().zip(value).for_each(|(to, &byte)| to.store(byte, Relaxed));
        self.len.store(value.len().min(N), Relaxed);
    }

    /// Fills `out` with the value and returns its length; the value is overwritten.
    fn take(&self, out: &mut [u8; N]) -> usize {
        out.iter_mut().zip(&self.bytes).for_each(|(to, byte)| *to = byte.swap(0, Relaxed));
        self.len.swap(0, Relaxed)
    }
}

impl<const N: usize> Drop for Bytes<N> {
    fn drop(&mut self) {
        self.bytes.iter().for_each(|byte| byte.store(0, Relaxed));
    }
}

/// The traffic secrets of TLS 1.3 (RFC 8446 section 7.1: client_ and server_application_traffic_secret_0).
pub(super) struct Secrets {
    pub(super) client: Secret,
    pub(super) server: Secret,
}

/// One of them; overwritten when dropped.
pub(super) struct Secret(Zeroizing<[u8; SECRET]>, usize);

impl Secret {
    fn taken(bytes: &Bytes<SECRET>) -> Secret {
        let mut secret = Zeroizing::new([0; SECRET]);
        let len = bytes.take(&mut secret);
        Secret(secret, len)
    }

    /// Empty where there is none.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.split_at(self.1).0
    }
}

/// A log that keeps the traffic secrets of one handshake, and passes everything on to the log that was configured.
#[derive(Debug)]
pub(super) struct SecretLog {
    client: Bytes<SECRET>,
    server: Bytes<SECRET>,
    configured: Arc<dyn KeyLog>,
}

impl SecretLog {
    pub(super) fn new(configured: Arc<dyn KeyLog>) -> Arc<SecretLog> {
        Arc::new(SecretLog { client: Bytes::new(), server: Bytes::new(), configured })
    }

    pub(super) fn take(&self) -> Secrets {
        Secrets { client: Secret::taken(&self.client), server: Secret::taken(&self.server) }
    }

    fn slot(&self, label: &str) -> Option<&Bytes<SECRET>> {
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => Some(&self.client),
            "SERVER_TRAFFIC_SECRET_0" => Some(&self.server),
            _ => None,
        }
    }
}

impl KeyLog for SecretLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if let Some(slot) = self.slot(label) {
            slot.set(secret);
        }
        if self.configured.will_log(label) {
            self.configured.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        self.slot(label).is_some() || self.configured.will_log(label)
    }
}

/// A resolver that notes the name which the client asks for, whether the configured one has a certificate for it, and
/// of what kind its key is.
#[derive(Debug)]
pub(super) struct NameLog {
    name: Bytes<NAME>,
    unresolved: AtomicBool,
    rsa: AtomicBool,
    configured: Arc<dyn ResolvesServerCert>,
}

impl NameLog {
    pub(super) fn new(configured: Arc<dyn ResolvesServerCert>) -> Arc<NameLog> {
        Arc::new(NameLog {
            name: Bytes::new(),
            unresolved: AtomicBool::new(false),
            rsa: AtomicBool::new(false),
            configured,
        })
    }

    pub(super) fn take(&self) -> Option<String> {
        let mut bytes = [0; NAME];
        let len = self.name.take(&mut bytes);
        let name = core::str::from_utf8(bytes.split_at(len).0).ok()?;
        (!name.is_empty()).then(|| String::from(name))
    }

    /// There was no certificate for the name.
    pub(super) fn is_unresolved(&self) -> bool {
        self.unresolved.load(Relaxed)
    }

    /// The certificate has an RSA key.
    pub(super) fn is_rsa(&self) -> bool {
        self.rsa.load(Relaxed)
    }
}

impl ResolvesServerCert for NameLog {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.name.set(hello.server_name().unwrap_or_default().as_bytes());
        let key = self.configured.resolve(hello);
        self.unresolved.store(key.is_none(), Relaxed);
        let rsa = key.as_ref().is_some_and(|it| it.key.algorithm() == SignatureAlgorithm::RSA);
        self.rsa.store(rsa, Relaxed);
        key
    }

    fn only_raw_public_keys(&self) -> bool {
        self.configured.only_raw_public_keys()
    }
}
