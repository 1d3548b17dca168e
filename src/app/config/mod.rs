//! The configuration: one TOML file, read once, checked whole.
//!
//! | step | files |
//! |---|---|
//! | the one table of all keys: name, form, bounds, default, words, and where the value goes | `keys` |
//! | the walk along that table, from the text to a draft | `read`, `values`, `misplaced`, `draft` |
//! | how values are written | `forms`, `sources` |
//! | what no single key can know: two routes on one path, a key of another service | `check` |
//!
//! Every step notes what it finds in the `report` and goes on, so that the operator sees all problems of a file at
//! once, each with its line. What comes out (`model`) is plain data with every default filled in; nothing in it is
//! derived from the machine: that is `crate::app::derive`. Where a value means the same to a room below, it has that
//! room's own type.

mod check;
mod draft;
mod forms;
mod keys;
mod misplaced;
mod model;
mod read;
mod report;
mod sources;
mod values;

use std::path::Path;

pub use keys::reference;
pub use model::*;
pub use read::FILE_BYTES_MAX;
pub use report::Problem;

/// Reads a configuration from its text. `file_name` is how problems call it; `base`
/// is the folder that relative paths start from. The only other input is the file
/// system, asked whether a `root` is a folder, and for the files of `tls`, which are read
/// and held against each other and against the clock.
///
/// # Errors
/// Every problem of the text, in the order of its lines; never an empty list.
pub fn read(text: &str, file_name: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    let (draft, mut report) = read::read(text, file_name)?;
    let config = check::check(draft, base, &mut report);
    let problems = report.finish();
    config.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Reads a configuration file; relative paths in it start from its folder.
///
/// # Errors
/// As [`read()`]; a file that is absent, unreadable, larger than [`FILE_BYTES_MAX`]
/// or not UTF-8 is one problem of its own.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let text = read::text_of(path).map_err(|problem| vec![problem])?;
    read(&text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")))
}

/// The configuration used when none is given: `demo.toml`, built in.
///
/// # Panics
/// The text has a problem; a test reads it.
pub fn demo() -> Config {
    // The text is part of the program and a test reads it: a failure here is our own.
    read(include_str!("../demo.toml"), "demo.toml", Path::new(".")).expect("demo.toml is a valid configuration")
}
