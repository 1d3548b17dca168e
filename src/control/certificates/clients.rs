//! What is asked of clients: who verifies their certificates, against whose lists.

use super::contents::{Contents, Fingerprint, digest};
use super::fault::{Fault, Place, date};
use super::identity::{Moment, certificates, damaged};
use super::settings::ClientCertificates;
use crate::mesh::x509;
use ring::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::Path;
use std::sync::Arc;

/// What is asked of clients, ready to be used.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Different for any two rules by which a client could be let in by one and not by the other: a ticket is good for
    /// the rules only under which it was made.
    pub(super) rules: Fingerprint,
    /// When the first of the revocation lists is to be replaced, in seconds since 1970.
    pub(super) lists_end: Option<i64>,
}

impl Clients {
    /// # Errors
    /// Everything that is wrong with the files.
    pub(super) fn read(
        settings: &ClientCertificates,
        contents: &Contents,
        provider: &Arc<CryptoProvider>,
        moment: &Moment,
    ) -> Result<Clients, Vec<Fault>> {
        let ClientCertificates::Verified { optional, ca, crl } = settings else { return Ok(Clients::off()) };
        let (roots, rules) = (roots(ca, contents), rules(settings, contents));
        // Lists that are in use have no date to keep any more: they let nobody in, and nothing else is held up by it.
        let now = if moment.rules == Some(rules) { i64::MIN } else { moment.now };
        let lists = crl.as_deref().map_or(Ok(Lists::default()), |file| lists(file, contents, now));
        let (roots, lists) = match (roots, lists) {
            (Ok(roots), Ok(lists)) => (roots, lists),
            (roots, lists) => return Err([roots.err(), lists.err()].into_iter().flatten().collect()),
        };
        let lists_end = lists.end;
        let verifier = verifier(roots, lists, *optional, provider).map_err(|words| {
            let file = crl.clone().unwrap_or_else(|| ca.clone());
            vec![Fault { place: Place::Crl, file, words }]
        })?;
        Ok(Clients { verifier, rules, lists_end })
    }

    fn off() -> Clients {
        let rules = digest(Context::new(&SHA256));
        Clients { verifier: WebPkiClientVerifier::no_client_auth(), rules, lists_end: None }
    }
}

/// A list for each issuer is asked for, and one that is past its next update lets nobody in, as OpenSSL has it.
fn verifier(
    roots: RootCertStore,
    lists: Lists,
    optional: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = builder.with_crls(lists.ders).enforce_revocation_expiration();
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| format!("cannot be used ({error}) — write lists that the authorities have signed"))
}

/// All that decides who is let in.
fn rules(settings: &ClientCertificates, contents: &Contents) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    if let ClientCertificates::Verified { optional, ca, crl } = settings {
        context.update(&[1, u8::from(*optional)]);
        let crl = crl.as_deref().map(|crl| (Place::Crl, crl));
        for (place, file) in [Some((Place::Ca, ca.as_path())), crl].into_iter().flatten() {
            let bytes = contents.of(place, file).unwrap_or_default();
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        }
    }
    digest(context)
}

/// The authorities of a file.
///
/// # Errors
/// It has none, or one that cannot be used.
pub(super) fn roots(file: &Path, contents: &Contents) -> Result<RootCertStore, Fault> {
    let fault = |words: String| Fault { place: Place::Ca, file: file.to_owned(), words };
    let mut roots = RootCertStore::empty();
    for (index, der) in certificates(contents.of(Place::Ca, file)?).map_err(fault)?.into_iter().enumerate() {
        let number = index + 1;
        let words = |error| format!("has a certificate that cannot be used, number {number} ({error}) — leave it out");
        roots.add(der).map_err(|error| fault(words(error)))?;
    }
    Ok(roots)
}

/// Revocation lists.
#[derive(Default)]
struct Lists {
    ders: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them is to be replaced.
    end: Option<i64>,
}

fn lists(file: &Path, contents: &Contents, now: i64) -> Result<Lists, Fault> {
    let fault = |words: String| Fault { place: Place::Crl, file: file.to_owned(), words };
    let pem = contents.of(Place::Crl, file)?;
    let ders: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let ders = ders.map_err(|error| fault(damaged(&error)))?;
    if ders.is_empty() {
        return Err(fault("has no revocation list in PEM — it begins with BEGIN X509 CRL".into()));
    }
    let end = ders.iter().filter_map(|der| x509::next_update(der)).min();
    match end {
        Some(end) if end <= now => Err(fault(format!("was to be replaced on {} — fetch it anew", date(end)))),
        end => Ok(Lists { ders, end }),
    }
}
