//! Which certificate a client is shown: by the name that it asks for (SNI, RFC 6066 section 3).

use super::identity::Identity;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener by their names.
#[derive(Debug)]
pub(super) struct Names {
    /// In the order of the configuration; one at least.
    all: Vec<Arc<CertifiedKey>>,
    /// Places in `all`, in their order, by name; wildcards with their `*.`.
    named: HashMap<String, Vec<usize>>,
}

impl Names {
    pub(super) fn new(identities: &[Identity]) -> Names {
        let mut named: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, identity) in identities.iter().enumerate() {
            for name in &identity.names {
                named.entry(name.clone()).or_default().push(place);
            }
        }
        Names { all: identities.iter().map(|it| it.certified.clone()).collect(), named }
    }

    /// The certificates for a name, the best first: those that have it, else those that have its `*.`, else all.
    fn candidates(&self, name: Option<&str>) -> Vec<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_deref().and_then(|name| self.named.get(name));
        match exact.or_else(|| self.named.get(&wildcard(name.as_deref()?)?)) {
            Some(places) => places.iter().map(|place| &self.all[*place]).collect(),
            None => self.all.iter().collect(),
        }
    }
}

/// `*.example.org` for `a.example.org`: a wildcard stands for one label (RFC 9525 section 6.3).
fn wildcard(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, rest)| format!("*.{rest}"))
}

impl ResolvesServerCert for Names {
    /// The first whose signature the client can verify. Where there is none the first is shown all the same, so that
    /// the client is told the reason: rustls then answers handshake_failure.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let usable = |it: &&&Arc<CertifiedKey>| it.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(usable).or(candidates.first()).map(|it| Arc::clone(it))
    }
}
