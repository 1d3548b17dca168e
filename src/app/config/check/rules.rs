//! Rules that hold for tables of every kind: how many there may be, what must be written, what belongs to another, what
//! may stand once.

use super::super::draft::Section;
use super::super::keys::{Key, ListenerDraft, Preset, Table};
use super::super::model::Server;
use super::super::report::Report;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Where the process listens already.
pub(super) struct Places<'s> {
    pub(super) admin: Option<SocketAddr>,
    pub(super) listeners: &'s [Section<ListenerDraft>],
}

/// Notes a group that nobody changes to.
pub(super) fn check_group(server: &Section<Server>, report: &mut Report<'_>) {
    if server.value.privileges.group.is_some() && !server.gives("user") {
        report.note_key(server, "group", "belongs to `user`, which is missing — write user, or leave this out".into());
    }
}

/// Notes the first section that is one too many.
pub(super) fn too_many<T>(sections: &[Section<T>], table: &Table, report: &mut Report<'_>) {
    let most = table.most;
    if let Some(first) = sections.get(most) {
        let words = format!("{} of these — {most} at most", sections.len());
        report.note(first.place(""), &first.label, words);
    }
}

/// Notes the keys that must be written and were not. `owner` is the service of a route, the source of a feed.
pub(super) fn require<T>(keys: &[Key<T>], section: &Section<T>, owner: Option<&str>, report: &mut Report<'_>) {
    let due = |key: &&Key<T>| matches!(key.default, Preset::Required) && !section.gives(key.name);
    let ours = |key: &&Key<T>| key.owners.is_empty() || owner.is_some_and(|owner| key.is_of(owner));
    for key in keys.iter().filter(due).filter(ours) {
        report.note_key(section, key.name, format!("is missing — write {}", key.field.expected()));
    }
}

/// Notes a section whose value for `key` an earlier one has already.
pub(super) fn twice<T, V: Eq + std::hash::Hash>(
    sections: &[Section<T>],
    key: &str,
    value: impl Fn(&T) -> Option<V>,
    report: &mut Report<'_>,
) {
    let mut seen = HashMap::new();
    for section in sections {
        let Some(value) = value(&section.value) else {
            continue;
        };
        let first = seen.entry(value).or_insert(section);
        if first.label != section.label {
            let (line, _) = report.position(first.place(key));
            let words = format!("is the same as in {} (line {line}) — change one of them", first.label);
            report.note_key(section, key, words);
        }
    }
}

/// A key of another service or source is a mistake: nothing would ever read it. `kind` is what the section is and
/// what some of its keys belong to.
pub(super) fn foreign_keys<T>(
    keys: &[Key<T>],
    section: &Section<T>,
    kind: (&str, &str),
    owner: Option<&str>,
    report: &mut Report<'_>,
) {
    let (table, word) = kind;
    let Some(owner) = owner else { return };
    for key in keys.iter().filter(|key| !key.is_of(owner) && section.gives(key.name)) {
        let owners = listed(key.owners);
        let words =
            format!("`{}` belongs to {word} {owners}, this {table} has {word} {owner} — leave it out", key.name);
        report.note_key(section, key.name, words);
    }
}

/// Names as they stand in a sentence.
fn listed(names: &[&str]) -> String {
    match names {
        [front @ .., last] if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        _ => names.concat(),
    }
}

/// Whether two sockets cannot be bound side by side.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let any = a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    same_port && (any || a.ip() == b.ip())
}
