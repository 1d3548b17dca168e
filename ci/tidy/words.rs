//! Words that must not stand in a file: unfinished work, waits by the clock, and what only one machine knows.
//!
//! The words themselves are put together from parts here, so that this file obeys its own rules.

use crate::source::Source;
use crate::tree::{Breach, File};

/// Notes of unfinished work.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Macros of unfinished work.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Top folders in which a path belongs to one machine.
const FOLDERS: [&str; 5] = ["work", "root", "home", "tmp", "Users"];

/// Files that may name such a folder, with the reason.
const MACHINES: [(&str, &str); 2] = [
    ("ci/kernels/init", "the folders of the emulated machine it runs in"),
    ("ci/kernels/run", "the folders of the emulated machine it builds"),
];

/// Hosts of package registries, and the keys that would name another.
const REGISTRIES: [&str; 13] = [
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
    concat!("pypi.", "org"),
    concat!("python", "hosted.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
    concat!("arti", "factory"),
    concat!("registry", "="),
    concat!("registry", " = "),
    concat!("index-", "url"),
    concat!("\"reso", "lved\":"),
];

/// What cargo writes for a package of the public registry; any other source names a place of this machine's.
const SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Where a thread may sleep: between two looks at a condition with a deadline.
/// And readers who are slow on purpose: their pace is what is tested.
const SLEEPERS: [(&str, &str); 11] = [
    ("src/app/addresses.rs", "patiently"),
    ("bench/micro/src/bin/fan_limit.rs", "has"),
    ("bench/micro/src/bin/fan_limit.rs", "pace"),
    ("bench/micro/src/bin/fan_limit.rs", "settled"),
    ("bench/src/calibrate.rs", "steady"),
    ("bench/src/crowd/mod.rs", "until"),
    ("bench/src/publisher.rs", "wait_until"),
    ("ci/load/by_hand.rs", "sip"),
    ("ci/load/by_hand.rs", "sip_all"),
    ("ci/load/floods.rs", "flood"),
    ("ci/load/peer.rs", "wait_for"),
];

/// All rules of this file.
pub(crate) fn check(file: &File) -> Vec<Breach> {
    let mut breaches: Vec<Breach> = machine(file).chain(registries(file)).collect();
    if file.is_rust() {
        let source = file.source();
        breaches.extend(notes(file, source.comments.iter().map(|(&line, &words)| (line, words))));
        breaches.extend(macros(file, &source));
        breaches.extend(sleeps(file, &source));
    } else if !file.is_lock() {
        breaches.extend(notes(file, numbered(file)));
    }
    breaches
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &str)> {
    file.text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn notes<'a>(file: &File, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Breach> {
    let noted = lines.filter_map(|(at, line)| Some((at, *NOTES.iter().find(|note| has_word(line, note))?)));
    noted.map(|(at, note)| Breach::new(&file.path, at, format!("{note}: do it now, or take the note away"))).collect()
}

/// Whether `word` stands in the line by itself, not as part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

fn macros(file: &File, source: &Source<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for name in MACROS {
        let words = format!("{name}! is for work in progress: finish it");
        let call = [name, "!"];
        breaches.extend(source.find(&call).map(|at| Breach::new(&file.path, source.tokens[at].line, words.clone())));
    }
    breaches
}

fn sleeps(file: &File, source: &Source<'_>) -> Vec<Breach> {
    let threads = source.find(&["thread", "::"]);
    let sleeps = threads.filter(|&at| source.paths(at, "").iter().any(|path| path == "thread::sleep"));
    let awake = sleeps.map(|at| source.tokens[at].line).filter(|&line| !may_sleep(file, source, line));
    let words = "a wait by the clock: poll a condition with a deadline (ci/load/peer.rs, wait_for)";
    awake.map(|line| Breach::new(&file.path, line, words)).collect()
}

fn may_sleep(file: &File, source: &Source<'_>, line: usize) -> bool {
    let sleepers = SLEEPERS.iter().filter(|(path, _)| *path == file.path);
    let mut lists = sleepers.flat_map(|(_, name)| source.functions().into_iter().filter(move |f| f.name == *name));
    lists.any(|function| (function.line..function.line + function.lines).contains(&line))
}

// ---- what only one machine knows ----

fn machine(file: &File) -> impl Iterator<Item = Breach> {
    let listed = MACHINES.iter().any(|(path, _)| *path == file.path);
    let named = numbered(file).filter(move |(_, line)| !listed && names_folder(line));
    named.map(|(at, _)| {
        let words = "an absolute path of one machine: make it relative, or take it from the environment";
        Breach::new(&file.path, at, words)
    })
}

fn names_folder(line: &str) -> bool {
    FOLDERS.iter().any(|folder| {
        let path = format!("/{folder}");
        let mut places = line.match_indices(&path).map(|(at, _)| (&line[..at], &line[at + path.len()..]));
        places.any(|(before, after)| begins_path(before) && ends_name(after))
    })
}

/// Not behind a folder's name, a variable or a host: the path is absolute.
fn begins_path(before: &str) -> bool {
    before.chars().next_back().is_none_or(|c| c.is_whitespace() || "\"'`=(:[,<>|;@".contains(c))
        && !before.ends_with("${")
}

fn ends_name(after: &str) -> bool {
    !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.')
}

fn registries(file: &File) -> impl Iterator<Item = Breach> {
    let locks = file.path.ends_with("Cargo.lock");
    let named = numbered(file).filter(move |(_, line)| names_registry(line, locks));
    named.map(|(at, _)| {
        let words = "a package registry by name: leave it to the machine's own settings of cargo, npm, pip or apt";
        Breach::new(&file.path, at, words)
    })
}

/// `locks`: the file is one in which `source` says where a package comes from; elsewhere it is a feed's key.
fn names_registry(line: &str, locks: bool) -> bool {
    let foreign = locks && line.starts_with("source = \"") && line != SOURCE;
    foreign || REGISTRIES.iter().any(|registry| line.contains(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&File::new(path, text)).len()
    }

    #[test]
    fn unfinished_work_is_found() {
        for note in NOTES {
            assert_eq!(count("src/a.rs", &format!("// {note}: later\n")), 1);
            assert_eq!(count("docs/a.md", &format!("- {note}\n")), 1);
            assert_eq!(count("src/a.rs", &format!("// {note}S_ONLY\nlet a = \"{note}\";")), 0);
        }
        for name in MACROS {
            assert_eq!(count("ci/a.rs", &format!("fn f() {{ {name}!() }}")), 1);
        }
        assert_eq!(count("ci/a.rs", "fn f() { todo(); }"), 0);
    }

    #[test]
    fn a_wait_by_the_clock_is_found() {
        assert_eq!(count("ci/a.rs", "fn f() { std::thread::sleep(d); }"), 1);
        assert_eq!(count("src/a.rs", "use std::{thread::{self, sleep}, time};"), 1);
        assert_eq!(count("src/a.rs", "use tokio::time::sleep;"), 0);
        assert_eq!(count("ci/load/peer.rs", "fn wait_for() {\n thread::sleep(d);\n}\nfn f() { thread::sleep(d) }"), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for folder in FOLDERS {
            for text in ["see /F/x", "\"/F\"", "a=/F/b", "file:/F/b", "`/F`"] {
                assert_eq!(count("ci/a.sh", &text.replace('F', folder)), 1, "{text}");
            }
            for text in ["$dir/F/x", "a/F", "/Fs/x", "/F-y"] {
                assert_eq!(count("ci/a.sh", &text.replace('F', folder)), 0, "{text}");
            }
        }
    }

    #[test]
    fn a_registry_is_found() {
        for registry in REGISTRIES {
            assert_eq!(count("ci/a", &format!("x {registry} y")), 1, "{registry}");
        }
        assert_eq!(count("Cargo.lock", "source = \"registry+https://elsewhere.example/index\""), 1);
        assert_eq!(count("Cargo.lock", SOURCE), 0);
    }
}
