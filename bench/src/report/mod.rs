//! `report`: one self-contained HTML page with plots from the files that `--json` wrote.
//!
//! The way of a figure: [`units`] and [`figures`] give it a name and a unit, [`trials`] puts it beside those of the
//! same work, [`charts`] decides what is plotted, [`axis`] and [`plots`] draw, [`tables`] and [`page`] write. The page
//! needs no script, no font and no other file; all that comes from the files is escaped.

mod axis;
mod charts;
mod figures;
mod html;
mod page;
mod plots;
mod tables;
mod trials;
mod units;

use crate::cli;
use crate::result::{Outcome, SCHEMA};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use trials::Run;

/// Why there is no page.
#[derive(Debug)]
pub enum Failure {
    /// No file was named.
    Empty,
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is no JSON.
    NotJson(PathBuf, serde_json::Error),
    /// A file is JSON of another form, or written by a tool with another schema (which, if it says so).
    OtherSchema(PathBuf, Option<u64>),
    /// A file says that it has our schema and does not keep to it.
    Broken(PathBuf, serde_json::Error),
    /// A plot could not be drawn.
    Undrawn(String),
    /// The page cannot be written.
    Unwritable(PathBuf, io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Empty => write!(f, "no files: name those that runs wrote with --json"),
            Failure::Unreadable(file, error) => write!(f, "{}: {error}: name a file that can be read", file.display()),
            Failure::NotJson(file, error) => {
                write!(f, "{}: no JSON ({error}): name a file that a run wrote with --json", file.display())
            }
            Failure::OtherSchema(file, Some(schema)) => {
                let file = file.display();
                write!(f, "{file}: schema {schema}, and this tool reads {SCHEMA}: use the version that wrote the file")
            }
            Failure::OtherSchema(file, None) => {
                write!(f, "{}: not the JSON of a run: name a file that a run wrote with --json", file.display())
            }
            Failure::Broken(file, error) => {
                write!(f, "{}: not as a run writes it ({error}): repeat the run, or leave the file out", file.display())
            }
            Failure::Undrawn(why) => write!(f, "{why}"),
            Failure::Unwritable(file, error) => {
                write!(f, "{}: {error}: choose another place with --output", file.display())
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Reads the files and writes the page. The first file that cannot be used ends it, and nothing is written.
pub fn run(asked: &cli::Report) -> Result<(), Failure> {
    let runs = read_all(&asked.files)?;
    let page = page::write(&asked.title, &runs).map_err(Failure::Undrawn)?;
    fs::write(&asked.output, page).map_err(|error| Failure::Unwritable(asked.output.clone(), error))
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    if files.is_empty() {
        return Err(Failure::Empty);
    }
    let common = common_folder(files);
    let name = |file: &Path| file.strip_prefix(&common).unwrap_or(file).display().to_string();
    files.iter().map(|file| Ok(Run { file: name(file), outcome: read(file)? })).collect()
}

/// The folder that all files are in: it is left out of their names, since it is the reader's own.
fn common_folder(files: &[PathBuf]) -> PathBuf {
    let folders = files.iter().map(|file| file.parent().unwrap_or(Path::new("")).to_path_buf());
    folders
        .reduce(|a, b| a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect())
        .unwrap_or_default()
}

fn read(file: &Path) -> Result<Outcome, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::Unreadable(file.to_owned(), error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| Failure::NotJson(file.to_owned(), error))?;
    let schema = value.get("schema").and_then(Value::as_u64);
    if schema != Some(u64::from(SCHEMA)) {
        return Err(Failure::OtherSchema(file.to_owned(), schema));
    }
    serde_json::from_value(value).map_err(|error| Failure::Broken(file.to_owned(), error))
}

#[cfg(test)]
mod tests;
