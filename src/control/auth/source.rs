//! Users and keys as they are now: what was good last stays in use when what comes next is not.

use super::keys::KeySet;
use super::stats::SourceState;
use super::users::{self, Users};
use arc_swap::ArcSwapOption;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was good last, and how the source is.
pub(super) struct Source<T> {
    now: ArcSwapOption<T>,
    pub(super) state: Arc<SourceState>,
}

impl<T> Source<T> {
    pub(super) fn new(kind: &'static str, name: String) -> Arc<Source<T>> {
        Arc::new(Source { now: ArcSwapOption::empty(), state: SourceState::new(kind, name) })
    }

    /// `None`: it has not been good yet.
    pub(super) fn now(&self) -> Option<Arc<T>> {
        self.now.load_full()
    }

    /// It was read: with so many entries, or in vain.
    pub(super) fn take(&self, read: Read<T>) {
        match read {
            Ok((value, entries)) => {
                self.now.store(Some(Arc::new(value)));
                self.state.succeed(entries);
            }
            Err(why) => self.state.fail(&why),
        }
    }
}

/// What was read, and how many entries it has; or what is wrong with it, in words.
type Read<T> = Result<(T, usize), String>;

/// A file that is read again when the operator says so.
pub(super) trait Reread: Send + Sync {
    /// Reads it on this thread.
    fn reread(&self);
}

/// A source that is a file.
pub(super) struct FileSource<T> {
    pub(super) file: PathBuf,
    pub(super) source: Arc<Source<T>>,
    parse: fn(&[u8]) -> Read<T>,
}

impl<T: Send + Sync> Reread for FileSource<T> {
    fn reread(&self) {
        self.source.take(read(&self.file, self.parse));
    }
}

impl FileSource<Users> {
    pub(super) fn users(file: PathBuf) -> FileSource<Users> {
        let source = Source::new("users", file.display().to_string());
        FileSource { file, source, parse: parse_users }
    }
}

impl FileSource<KeySet> {
    pub(super) fn keys(file: PathBuf) -> FileSource<KeySet> {
        let source = Source::new("keys", file.display().to_string());
        FileSource { file, source, parse: parse_keys }
    }
}

/// What is wrong with a file of users as it is now, line by line, in words; empty: nothing. Waits for the disk.
pub fn inspect_users(file: &Path) -> Vec<String> {
    let line = |it: &users::LineFault| format!("line {} {}", it.line, it.words);
    match read(file, |bytes| Ok((bytes.to_vec(), 0))).map(|(bytes, _)| String::from_utf8(bytes)) {
        Err(words) => vec![words],
        Ok(Err(_)) => vec![not_text()],
        Ok(Ok(text)) => Users::of(&text).err().unwrap_or_default().iter().map(line).collect(),
    }
}

/// What is wrong with a file of keys as it is now, in words; `None`: nothing. Waits for the disk.
pub fn inspect_keys(file: &Path) -> Option<String> {
    read(file, parse_keys).err()
}

fn parse_users(bytes: &[u8]) -> Read<Users> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_text())?;
    let users = Users::of(text).map_err(|faults| format!("line {} {}", faults[0].line, faults[0].words))?;
    let entries = users.count();
    Ok((users, entries))
}

fn parse_keys(bytes: &[u8]) -> Read<KeySet> {
    let keys = KeySet::of_file(bytes)?;
    let entries = keys.keys.len();
    Ok((keys, entries))
}

fn not_text() -> String {
    "is not UTF-8 — write it as text".into()
}

fn read<T>(file: &Path, parse: impl Fn(&[u8]) -> Read<T>) -> Read<T> {
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|it| it.take(users::FILE_BYTES + 1).read_to_end(&mut bytes));
    opened.map_err(|error| format!("cannot be read ({error}) — write it, or give edgehold's user leave to read it"))?;
    if bytes.len() as u64 > users::FILE_BYTES {
        return Err("is larger than 16 MiB — name another file".into());
    }
    parse(&bytes)
}
