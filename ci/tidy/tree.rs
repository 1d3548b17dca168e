//! The files of the checkout, and how a breach of a rule is said.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::source::Source;

/// A file with its text.
pub(crate) struct File {
    /// From the root of the checkout, with `/`.
    pub(crate) path: String,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub(crate) text: String,
}

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    path: String,
    line: usize,
    words: String,
}

impl Breach {
    /// `words` say what is wrong and what to do about it; `line` counts from 1.
    pub(crate) fn new(path: &str, line: usize, words: impl Into<String>) -> Breach {
        Breach { path: path.to_owned(), line, words: words.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.words)
    }
}

impl File {
    /// A file that is not on disk.
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn has_extension(&self, wanted: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == wanted)
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Rust that becomes part of the server.
    pub(crate) fn is_shipped(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/") && !self.path.starts_with("src/wire/tests/")
    }

    /// What package managers write for themselves.
    pub(crate) fn is_lock(&self) -> bool {
        self.path.ends_with("Cargo.lock") || self.path.ends_with("package-lock.json")
    }

    /// As Rust.
    pub(crate) fn source(&self) -> Source<'_> {
        Source::read(&self.text)
    }
}

/// Every file of the checkout that git knows or would take, as it is on disk now.
pub(crate) fn read(root: &Path) -> Vec<File> {
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).args(LISTED).output();
    let listed = listed.expect("git is installed");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("the paths are UTF-8");
    paths.split_terminator('\0').filter_map(|path| file(root, path)).collect()
}

/// New files too, so that a breach is found before it is committed.
const LISTED: [&str; 3] = ["--cached", "--others", "--exclude-standard"];

/// `None` for a file that was deleted but not yet committed as such, and for one that is no text.
fn file(root: &Path, path: &str) -> Option<File> {
    let bytes = std::fs::read(root.join(path)).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let is_text = !bytes.contains(&0);
    is_text.then(|| File { path: path.to_owned(), text })
}
