//! What is not wrong with the files of a listener, and will be, or is not as it should be.

use super::fault::date;
use super::server::Loaded;
use super::settings::{CertificateFiles, ClientCertificates, TlsSettings};
use crate::mesh::x509::CertificateFacts;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const DAY: i64 = 24 * 3600;

/// A certificate that has less time left is told of; of one that was made for a short time, a quarter of that.
const SOON: i64 = 14 * DAY;

/// A revocation list that has less time left is told of.
const LIST_SOON: i64 = DAY;

/// Something that the operator should know about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The file.
    pub file: PathBuf,
    /// What is to be said of it, a dash, and what to do: to be read behind the name of the file.
    pub words: String,
}

/// All that is to be said at the moment `now`, in seconds since 1970. Looks at the files' modes.
pub(super) fn advice(settings: &TlsSettings, loaded: &Loaded, now: i64) -> Vec<Advice> {
    let mut all = Vec::new();
    for (index, (files, identity)) in settings.certificates.iter().zip(&loaded.identities).enumerate() {
        let of_chain = of_chain(&identity.chain, now).into_iter();
        all.extend(of_chain.map(|words| Advice { file: files.certificate.clone(), words }));
        all.extend(unseen(index, files, &identity.names));
        all.extend(open_to_all(&files.key));
    }
    all.extend(settings.tickets.keys.as_deref().and_then(open_to_all));
    all.extend(of_lists(&settings.clients, loaded.clients.lists_end, now));
    all
}

/// How long before its end a certificate is told of.
fn soon(facts: &CertificateFacts) -> i64 {
    SOON.min(facts.ends.saturating_sub(facts.begins) / 4)
}

fn of_chain(chain: &[CertificateFacts], now: i64) -> Vec<String> {
    let endings = chain.iter().enumerate().filter_map(|(index, facts)| ending(index, facts, now));
    let gap = chain.windows(2).position(|pair| !pair[0].names_as_issuer(&pair[1]));
    let gap = gap.map(|at| {
        let (before, behind) = (at + 1, at + 2);
        format!(
            "has a gap: certificate {behind} did not issue certificate {before} — write each behind the one it issued"
        )
    });
    endings.chain(gap).collect()
}

fn ending(index: usize, facts: &CertificateFacts, now: i64) -> Option<String> {
    let left = facts.ends - now;
    let end = match left {
        ..=0 => "has expired".to_owned(),
        left if left < soon(facts) => format!("expires in {} days", left / DAY),
        _ => return None,
    };
    let which = if index == 0 { String::new() } else { format!("has a chain of which number {} ", index + 1) };
    Some(format!("{which}{end}, on {} — renew it", date(facts.ends)))
}

/// The first is the default and needs no name.
fn unseen(index: usize, files: &CertificateFiles, names: &[String]) -> Option<Advice> {
    let words = "has no DNS name, so that hardly a client is shown it — write its `names`, or leave it out";
    (index > 0 && names.is_empty()).then(|| Advice { file: files.certificate.clone(), words: words.into() })
}

fn open_to_all(file: &Path) -> Option<Advice> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let words = || format!("is open to every user of this machine (mode {mode:04o}) — chmod o= {}", file.display());
    (mode & 0o007 != 0).then(|| Advice { file: file.to_owned(), words: words() })
}

fn of_lists(clients: &ClientCertificates, end: Option<i64>, now: i64) -> Option<Advice> {
    let ClientCertificates::Verified { crl: Some(file), .. } = clients else { return None };
    let end = end.filter(|end| end - now < LIST_SOON)?;
    let when = if end > now { "is to be replaced by" } else { "was to be replaced by" };
    let words = format!("{when} {}, and from then on lets nobody in — fetch it anew", date(end));
    Some(Advice { file: file.clone(), words })
}
