//! Findings as a table for eyes, and how limits and sizes stand in it.

use crate::engine::finding::Finding;
use std::fmt::Write as _;

/// Whether one of the rows means that the server would not run.
pub fn fails(rows: &[Finding]) -> bool {
    rows.iter().any(Finding::fails)
}

pub(super) fn limit(value: u64) -> String {
    if value >= i64::MAX as u64 { "unlimited".into() } else { value.to_string() }
}

/// A size for eyes, in the largest unit that leaves at least one.
pub(super) fn bytes(value: u64) -> String {
    match value {
        u64::MAX => "unlimited".into(),
        GIB.. => format!("{:.1} GiB", value as f64 / GIB as f64),
        MIB.. => format!("{:.1} MiB", value as f64 / MIB as f64),
        _ => format!("{} KiB", value / 1024),
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The rows as plain text: aligned columns, and below each row that is not well its remedy.
pub fn text(rows: &[Finding]) -> String {
    let width = |cell: fn(&Finding) -> &str| rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
    let (what, is) = (width(|row| &row.what), width(|row| &row.is));
    let mut text = String::new();
    for row in rows {
        let Finding { what: name, is: value, should, verdict, command } = row;
        let _ = writeln!(text, "{:<6}  {name:<what$}  {value:<is$}  {should}", verdict.word());
        if !command.is_empty() {
            let _ = writeln!(text, "{:<6}  → {command}", "");
        }
    }
    text
}
