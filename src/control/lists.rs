//! The lists of networks that may come in, or may not: their files, and what becomes of them at SIGHUP.

use super::stats::Count;
use crate::mesh::{Listed, Lists, Network, Networks, read_list};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// The largest file of networks that is read, in bytes: some two million of them.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// What is said of who may come in: in the configuration itself, and in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSources {
    /// Networks that alone may come, if there are any, or files for them.
    pub allow: Vec<Network>,
    /// Networks that may not.
    pub deny: Vec<Network>,
    /// Files with more of `allow`.
    pub allow_files: Vec<PathBuf>,
    /// Files with more of `deny`.
    pub deny_files: Vec<PathBuf>,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFault {
    /// Which.
    pub file: PathBuf,
    /// The line, and what is wrong there; or why it cannot be read.
    pub words: String,
}

impl ListSources {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(&self) -> Result<Listed, ListFault> {
        let with = |written: &[Network], files: &[PathBuf]| -> Result<Networks, ListFault> {
            Ok(written.iter().copied().chain(read_files(files)?).collect())
        };
        let all = self.allow.is_empty() && self.allow_files.is_empty();
        let allow = (!all).then(|| with(&self.allow, &self.allow_files)).transpose()?;
        Ok(Listed { allow, deny: with(&self.deny, &self.deny_files)? })
    }

    fn has_files(&self) -> bool {
        !self.allow_files.is_empty() || !self.deny_files.is_empty()
    }
}

/// The networks of all these files.
///
/// # Errors
/// The first file that cannot be used.
pub fn read_files(files: &[PathBuf]) -> Result<Vec<Network>, ListFault> {
    let mut networks = Vec::new();
    for file in files {
        let fault = |words| ListFault { file: file.clone(), words };
        let text =
            text_of(file).map_err(|error| fault(format!("cannot be read ({error}) — name a list of networks")))?;
        let read = read_list(&text).map_err(|it| fault(format!("has in line {}: {}", it.line, it.words)))?;
        networks.extend(read);
    }
    Ok(networks)
}

/// # Errors
/// As read(2), or it is too large, or no UTF-8.
fn text_of(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX { Err(io::Error::other("larger than 32 MiB")) } else { Ok(text) }
}

/// The lists of one table `addresses`, their files, and what has become of these so far.
#[derive(Debug)]
pub struct KeptLists {
    /// The listener whose they are; `*`: those of all that have none of their own.
    pub listener: String,
    /// What the shards go by.
    pub lists: Arc<Lists>,
    sources: ListSources,
    /// Times that the files were read and taken.
    pub read: Count,
    /// Times that they could not be used.
    pub failed: Count,
    /// When they were last taken, in seconds since 1970.
    pub last: Count,
    /// They could not be used when they were last looked at.
    pub refused: AtomicBool,
}

impl KeptLists {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn new(listener: &str, sources: ListSources) -> Result<KeptLists, ListFault> {
        let lists = Arc::new(Lists::new(sources.read()?));
        let [read, failed, last] = Default::default();
        let kept = KeptLists { listener: listener.into(), lists, sources, read, failed, last, refused: false.into() };
        kept.stamp();
        Ok(kept)
    }

    /// Reads the files again. Where one cannot be used all lists stay as they are.
    pub fn look(&self) {
        let listed = self.sources.read();
        self.refused.store(listed.is_err(), Ordering::Relaxed);
        match listed {
            Ok(listed) => self.take(listed),
            Err(ListFault { file, words }) => {
                self.failed.add();
                let (listener, file) = (&self.listener, file.display());
                tracing::error!(listener, %file, "the file {words}; the lists that were read before stay in force");
            }
        }
    }

    fn take(&self, listed: Listed) {
        let (allow, deny) = (listed.allow.as_ref().map_or(0, Networks::len), listed.deny.len());
        self.lists.replace(listed);
        self.stamp();
        tracing::info!(listener = self.listener, allow, deny, "lists of networks were read again");
    }

    fn stamp(&self) {
        self.read.add();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.set(now.as_secs() as usize);
    }
}

/// Reads the files of these again for each order (SIGHUP), one after the other, away from the control thread.
pub(super) async fn keep(kept: Arc<[Arc<KeptLists>]>, orders: Arc<Notify>) {
    loop {
        orders.notified().await;
        for one in kept.iter().filter(|it| it.sources.has_files()) {
            let one = one.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || one.look()).await {
                tracing::error!(%error, "lists of networks could not be read");
            }
        }
    }
}

/// Whether there are files to be read again.
pub(super) fn have_files(kept: &[Arc<KeptLists>]) -> bool {
    kept.iter().any(|it| it.sources.has_files())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_malformed_keeps_the_last_good_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deny.list");
        let write = |text: &str| fs::write(&file, text).unwrap();
        write("192.0.2.0/24\n");
        let sources = ListSources { deny_files: vec![file.clone()], ..ListSources::default() };
        let kept = KeptLists::new("*", sources).unwrap();
        let denied = || ["192.0.2.1", "198.51.100.1"].map(|it| !kept.lists.admit(it.parse().unwrap()));
        assert_eq!(denied(), [true, false]);
        for bad in ["198.51.100.0/24\nnonsense\n", "198.51.100.1/24"] {
            write(bad);
            kept.look();
            assert_eq!((denied(), kept.refused.load(Ordering::Relaxed)), ([true, false], true));
        }
        write("198.51.100.0/24 # another\n");
        kept.look();
        assert_eq!((denied(), kept.refused.load(Ordering::Relaxed)), ([false, true], false));
        assert_eq!((kept.read.get(), kept.failed.get()), (2, 2));
    }

    #[test]
    fn a_fault_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow.list");
        fs::write(&file, "# x\n10.0.0.1/8\n").unwrap();
        let words = read_files(std::slice::from_ref(&file)).unwrap_err().words;
        assert!(words.starts_with("has in line 2: `10.0.0.1/8` has bits behind its prefix"), "{words}");
        let missing = folder.path().join("none");
        assert!(read_files(&[file, missing]).is_err());
    }

    #[test]
    fn an_empty_file_allows_nobody_and_no_file_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow.list");
        fs::write(&file, "").unwrap();
        let allows = |allow_files| {
            let listed = ListSources { allow_files, ..ListSources::default() }.read().unwrap();
            Lists::new(listed).admit("192.0.2.1".parse().unwrap())
        };
        assert_eq!([allows(vec![file]), allows(Vec::new())], [false, true]);
    }
}
