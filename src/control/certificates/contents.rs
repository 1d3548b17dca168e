//! The files of a listener's TLS, read whole at one moment.
//!
//! Whatever is made of them is made of one such reading: a file that changes meanwhile is a new reading.

use super::fault::{Fault, Place};
use super::settings::TlsSettings;
use ring::digest::{Context, SHA256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes: room for large revocation lists; a device or a log named by mistake is not
/// read to its end.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What stands in the files, or why one cannot be read.
pub(super) struct Contents(BTreeMap<PathBuf, Result<Vec<u8>, String>>);

/// By which two readings are held against each other.
pub(super) type Fingerprint = [u8; 32];

impl Contents {
    /// Reads all files of the settings. Waits for the disk.
    pub(super) fn read(settings: &TlsSettings) -> Contents {
        Contents::of_files(settings.files().into_iter())
    }

    /// Reads these files. Waits for the disk.
    pub(super) fn of_files<'f>(files: impl Iterator<Item = &'f Path>) -> Contents {
        let read = |path: &Path| (path.to_owned(), read_capped(path).map_err(|error| refusal(&error)));
        Contents(files.map(read).collect())
    }

    /// What stands in a file of the settings.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of(&self, place: Place, path: &Path) -> Result<&[u8], Fault> {
        let fault = |words: &str| Fault { place, file: path.to_owned(), words: words.into() };
        match self.0.get(path) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(words)) => Err(fault(words)),
            None => Err(fault("was not read — restart the server")),
        }
    }

    /// The same for two readings of which nothing is different.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut context = Context::new(&SHA256);
        for (path, content) in &self.0 {
            let (kind, bytes) = match content {
                Ok(bytes) => (0, bytes.as_slice()),
                Err(words) => (1, words.as_bytes()),
            };
            context.update(path.as_os_str().as_encoded_bytes());
            context.update(&[0, kind]);
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        }
        digest(context)
    }
}

pub(super) fn digest(context: Context) -> Fingerprint {
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// # Errors
/// The kernel's, or one of ours for a file that is too large.
fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there — write the name of a file".into(),
        io::ErrorKind::PermissionDenied => "may not be read — give the user that runs edgehold leave to read it".into(),
        io::ErrorKind::IsADirectory => "is a folder — write the name of a file".into(),
        io::ErrorKind::FileTooLarge => "is larger than 16 MiB — write the name of a file in PEM".into(),
        _ => format!("cannot be read ({error}) — write the name of a file"),
    }
}
