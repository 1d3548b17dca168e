//! Who may come in: files of networks are read here, so that what is wrong with one is told with the line that names
//! it. The server reads them once more when it starts, and at each SIGHUP.

use super::super::draft::Section;
use super::super::forms;
use super::super::keys::ListenerDraft;
use super::super::model::Addresses;
use super::super::report::Report;
use crate::control::lists::read_files;
use std::path::{Path, PathBuf};

/// What a listener says for its own clients; `None` where it says nothing.
pub(super) fn of_listener(section: &Section<ListenerDraft>, base: &Path, report: &mut Report<'_>) -> Option<Addresses> {
    section.gives("addresses").then(|| checked(section, &section.value.admission, base, report))
}

/// What is said for all listeners.
pub(super) fn of_limits(section: &Section<Addresses>, base: &Path, report: &mut Report<'_>) -> Addresses {
    checked(section, &section.value, base, report)
}

fn checked<T>(section: &Section<T>, draft: &Addresses, base: &Path, report: &mut Report<'_>) -> Addresses {
    let rate = "addresses.connects_per_second";
    if draft.rate == 0 && draft.burst > 0 {
        let words = "is for `rate`, which is not written — write that too, or leave it out";
        report.note_key(section, &format!("{rate}.burst"), words.into());
    }
    Addresses {
        allow_files: files(section, "addresses.allow_files", &draft.allow_files, base, report),
        deny_files: files(section, "addresses.deny_files", &draft.deny_files, base, report),
        ..draft.clone()
    }
}

/// The files as they are from here; what is wrong with one is noted.
fn files<T>(section: &Section<T>, key: &str, files: &[PathBuf], base: &Path, report: &mut Report<'_>) -> Vec<PathBuf> {
    for (place, file) in (1..).zip(files) {
        if let Err(fault) = read_files(&[base.join(file)]) {
            let item = format!("{key}[{place}]");
            let key = if section.gives(&item) { &item } else { key };
            report.note_key(section, key, format!("{} {}", forms::quote(&file.to_string_lossy()), fault.words));
        }
    }
    files.iter().map(|file| base.join(file)).collect()
}
