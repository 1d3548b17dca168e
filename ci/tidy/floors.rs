//! The floors of the house: a room looks down, never up, and some doors have one keeper.
//!
//! Every path is followed that begins at `crate`, `super`, `edgehold` or `edgehold_wire`, or at the name of a
//! library that not every room may use, whether it stands in a `use` or in the midst of the code.

use crate::source::Source;
use crate::tree::{Breach, File};

/// What each room may import of ours. `shard::service` stands for the room's module and what is in it.
const ROOMS: [(&str, &[&str]); 7] = [
    ("wire", &[]),
    ("engine", &[]),
    ("mesh", &["wire"]),
    ("shard", &["wire", "engine", "mesh"]),
    ("service", &["wire", "mesh", "shard::service", "shard::slab", "shard::clock"]),
    ("control", &["wire", "mesh", "engine::claim"]),
    ("app", &["wire", "engine", "mesh", "shard", "service", "control"]),
];

/// Parts of a room that know nothing else of it: what stands on them there is above them.
const INNER: [&str; 1] = ["service::fanout"];

/// Libraries, and the rooms or files that may use them.
const LIBRARIES: [(&str, &[&str]); 14] = [
    ("glommio", &["src/shard/pump.rs", "src/app/run.rs"]),
    ("rustls", &["src/wire/tls/", "src/mesh/tls.rs", "src/mesh/tls_errors.rs", "src/control/certificates/"]),
    ("ring", &["src/wire/tls/", "src/control/certificates/", "src/control/auth/"]),
    ("jsonwebtoken", &["src/control/auth/"]),
    ("argon2", &["src/control/auth/"]),
    ("bcrypt", &["src/control/auth/"]),
    ("x509_parser", &["src/mesh/x509.rs", "src/mesh/x509/"]),
    ("tokio", &["src/control/"]),
    ("axum", &["src/control/"]),
    ("io_uring", &["src/engine/"]),
    ("landlock", &["src/engine/privilege/"]),
    ("seccompiler", &["src/engine/privilege/"]),
    ("nix", &["src/engine/privilege/"]),
    // `wire` declares no_std; this names the crate for those who would undo it.
    ("std", &["src/main.rs", "src/engine/", "src/mesh/", "src/shard/", "src/service/", "src/control/", "src/app/"]),
];

/// The only caller of parsers, outside `wire` itself.
const READER: &str = "src/shard/read.rs";

/// The only caller of the ring's requests about a connection.
const SPEAKER: &str = "src/shard/reconcile.rs";

/// The requests of `Ring` that only [`SPEAKER`] makes.
const REQUESTS: [&str; 8] = ["connect", "recv", "recv_once", "poll", "send", "cancel", "shutdown", "close"];

/// Functions of `wire` that parse what a peer sent.
const PARSERS: [&[&str]; 3] = [&["http1", "::", "read"], &["BodyReader", "::"], &["Parser", "::", "next"]];

/// All rules of this file.
pub(crate) fn check(file: &File) -> Vec<Breach> {
    if !file.is_shipped() {
        return Vec::new();
    }
    let source = file.source();
    let mut breaches = imports(file, &source);
    breaches.extend(libraries(file, &source));
    breaches.extend(parsers(file, &source));
    breaches.extend(requests(file, &source));
    breaches
}

/// The modules a file's own items live in: `src/shard/mod.rs` is `[shard]`, `src/shard/conn.rs` `[shard, conn]`.
fn modules(path: &str) -> Vec<&str> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).collect()
}

/// `None` for `lib.rs` and `main.rs`, which stand above all floors.
fn room(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let first = *modules(path).first()?;
    ROOMS.into_iter().find(|(room, _)| *room == first)
}

// ---- rooms ----

fn imports(file: &File, source: &Source<'_>) -> Vec<Breach> {
    if modules(&file.path).is_empty() {
        return Vec::new();
    }
    let Some((room, below)) = room(&file.path) else {
        return vec![Breach::new(&file.path, 1, "a room without a floor: give it a line in ROOMS (ci/tidy/floors.rs)")];
    };
    let room = inner(&file.path).unwrap_or(room);
    let mut breaches = Vec::new();
    for at in 0..source.tokens.len() {
        for path in ours(file, source, at) {
            if !is_below(&path, room, below) {
                let words = format!("{room} may not import {path}: it may use {}", list(below));
                breaches.push(Breach::new(&file.path, source.tokens[at].line, words));
            }
        }
    }
    breaches
}

/// The part of [`INNER`] that a file belongs to.
fn inner(path: &str) -> Option<&'static str> {
    let file = modules(path).join("::");
    INNER.into_iter().find(|inner| file == *inner || file.starts_with(&format!("{inner}::")))
}

fn list(rooms: &[&str]) -> String {
    if rooms.is_empty() { "none of our rooms".into() } else { format!("{} only", rooms.join(", ")) }
}

fn is_below(path: &str, room: &str, below: &[&str]) -> bool {
    let covers = |allowed: &str| path == allowed || path.starts_with(&format!("{allowed}::"));
    covers(room) || below.iter().any(|allowed| covers(allowed))
}

/// The paths of our own that begin at this word, from the room on, groups (`{a, b}`) spread out. Empty for any
/// other word.
fn ours(file: &File, source: &Source<'_>, at: usize) -> Vec<String> {
    let begins = at == 0 || source.word(at - 1) != "::";
    if !begins || source.word(at + 1) != "::" {
        return Vec::new();
    }
    let in_wire = file.path.starts_with("src/wire/");
    match source.word(at) {
        "crate" | "super" if in_wire => Vec::new(),
        "crate" | "edgehold" => source.paths(at + 2, ""),
        "edgehold_wire" => source.paths(at + 2, "wire"),
        "super" => upward(file, source, at),
        _ => Vec::new(),
    }
}

/// `super::super::x`, seen from the crate's root.
fn upward(file: &File, source: &Source<'_>, at: usize) -> Vec<String> {
    let mut steps = 0;
    while source.reads(at + 2 * steps, &["super", "::"]) {
        steps += 1;
    }
    let modules = modules(&file.path);
    let depth = (modules.len() + source.module_depth(at)).saturating_sub(steps);
    source.paths(at + 2 * steps, &modules[..depth.min(modules.len())].join("::"))
}

// ---- libraries ----

fn libraries(file: &File, source: &Source<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (library, users) in LIBRARIES {
        let allowed = users.iter().any(|user| file.path.starts_with(user));
        let name = [library];
        let uses = source.find(&name).filter(|&at| !allowed && names_library(source, at));
        breaches.extend(uses.map(|at| {
            let words = format!("{library} belongs to {}: reach it through them", users.join(", "));
            Breach::new(&file.path, source.tokens[at].line, words)
        }));
    }
    breaches.extend(system_calls(file, source));
    breaches
}

/// `glommio::…`, `use glommio`, `extern crate glommio`, but no field or variable of that name; tests may use
/// `std` anywhere.
fn names_library(source: &Source<'_>, at: usize) -> bool {
    let before = if at == 0 { "" } else { source.word(at - 1) };
    let in_path = source.word(at + 1) == "::" && (before != "::" || at < 2 || !is_name(source.word(at - 2)));
    let token = source.tokens[at];
    (in_path || ["use", "crate"].contains(&before)) && !(token.test && token.text == "std")
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Above the engine, `libc` gives numbers (`libc::EAGAIN`) and does nothing.
fn system_calls(file: &File, source: &Source<'_>) -> Vec<Breach> {
    if file.path.starts_with("src/engine/") {
        return Vec::new();
    }
    let calls = source.find(&["libc", "::"]).filter(|&at| !source.word(at + 2).starts_with(char::is_uppercase));
    let calls = calls.map(|at| {
        let words = "libc is called by src/engine only: give the engine a function for it, or use rustix or std";
        Breach::new(&file.path, source.tokens[at].line, words)
    });
    calls.collect()
}

// ---- the one reader and the one speaker ----

fn parsers(file: &File, source: &Source<'_>) -> Vec<Breach> {
    if file.path == READER || file.path.starts_with("src/wire/") {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for at in 0..source.tokens.len() {
        if !source.tokens[at].test && (is_parser(source, at) || is_parsing_step(source, at)) {
            let words = format!("only {READER} calls parsers: hand it the bytes, or take what it has understood");
            breaches.push(Breach::new(&file.path, source.tokens[at].line, words));
        }
    }
    breaches
}

fn is_parser(source: &Source<'_>, at: usize) -> bool {
    let imported = || ours_of_wire(source, at).iter().any(|path| path == "wire::http1::read");
    PARSERS.iter().any(|words| source.reads(at, words)) || imported()
}

fn ours_of_wire(source: &Source<'_>, at: usize) -> Vec<String> {
    if source.reads(at, &["edgehold_wire", "::"]) { source.paths(at + 2, "wire") } else { Vec::new() }
}

/// An iterator's `next` takes nothing; a parser's takes its input.
fn is_parsing_step(source: &Source<'_>, at: usize) -> bool {
    source.reads(at, &[".", "next", "("]) && source.word(at + 3) != ")"
}

fn requests(file: &File, source: &Source<'_>) -> Vec<Breach> {
    if file.path == SPEAKER || file.path.starts_with("src/engine/") {
        return Vec::new();
    }
    let calls = (0..source.tokens.len()).filter(|&at| is_request(source, at) && !source.tokens[at].test);
    let calls = calls.map(|at| {
        let words = format!("only {SPEAKER} asks the ring for this: say in Conn what is wanted, and list the slot");
        Breach::new(&file.path, source.tokens[at].line, words)
    });
    calls.collect()
}

/// `ring.send(…)`, `shard.ring().send(…)`, `Ring::send(…)`, `R::send(…)`.
fn is_request(source: &Source<'_>, at: usize) -> bool {
    let request = |at: usize| REQUESTS.contains(&source.word(at)) && source.word(at + 1) == "(";
    source.reads(at, &["ring", "."]) && request(at + 2)
        || source.reads(at, &["ring", "(", ")", "."]) && request(at + 4)
        || ["Ring", "R", "Uring"].contains(&source.word(at)) && source.word(at + 1) == "::" && request(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&File::new(path, text)).len()
    }

    #[test]
    fn a_room_that_looks_up_is_found() {
        assert_eq!(count("src/mesh/a.rs", "use crate::shard::Shard;"), 1);
        assert_eq!(count("src/engine/a.rs", "use edgehold_wire::ws;"), 1);
        assert_eq!(count("src/control/a.rs", "fn f() { crate::engine::probe(); }"), 1);
        assert_eq!(count("src/service/a.rs", "use crate::{mesh::Cause, shard::{service::Desk, conn, slab}};"), 1);
        assert_eq!(count("src/service/mod.rs", "use super::engine;"), 1);
        assert_eq!(count("src/service/a.rs", "mod b { use super::super::super::{mesh, control as c}; }"), 1);
        assert_eq!(count("src/wire/a.rs", "use edgehold::mesh;"), 1);
        assert_eq!(count("src/new/a.rs", ""), 1);
    }

    #[test]
    fn a_room_that_looks_down_is_not() {
        assert_eq!(count("src/shard/mod.rs", "use super::{engine, mesh::Bell}; use crate::shard::conn;"), 0);
        assert_eq!(count("src/service/a.rs", "use super::echo; mod t { use super::super::echo::x; }"), 0);
        assert_eq!(count("src/service/a.rs", "use crate::shard::clock::{self, ticks};"), 0);
        assert_eq!(count("src/wire/a.rs", "use crate::mask; // crate::shard::x\n"), 0);
        assert_eq!(count("src/main.rs", "use edgehold::{app, control};"), 0);
    }

    #[test]
    fn an_inner_part_knows_nothing_else_of_its_room() {
        assert_eq!(count("src/service/fanout/a.rs", "use super::super::broadcast::x; use crate::service::gate;"), 2);
        assert_eq!(count("src/service/fanout/mod.rs", "use super::broadcast::x;"), 1);
        assert_eq!(count("src/service/fanout/a.rs", "use super::b; mod t { use super::super::c; use super::*; }"), 0);
        assert_eq!(count("src/service/broadcast/a.rs", "use crate::service::fanout::x; use super::super::gate;"), 0);
    }

    #[test]
    fn a_library_in_the_wrong_room_is_found() {
        assert_eq!(count("src/shard/conn.rs", "use glommio::io;"), 1);
        assert_eq!(count("src/shard/read.rs", "fn f() { ::rustls::go(); }"), 1);
        assert_eq!(count("src/service/a.rs", "use tokio;"), 1);
        assert_eq!(count("src/app/run.rs", "use axum::{x}; use glommio::y;"), 1);
        assert_eq!(count("src/wire/a.rs", "use std::io; #[cfg(test)] mod t { use std::vec; }"), 1);
        assert_eq!(count("src/shard/mod.rs", "fn f() { libc::close(1); libc::EAGAIN; }"), 1);
        assert_eq!(count("src/shard/mod.rs", "fn f() { io_uring(); x.tokio; a::tokio::b; }"), 0);
    }

    #[test]
    fn a_second_reader_is_found() {
        assert_eq!(count("src/service/a.rs", "fn f() { http1::read(b); }"), 1);
        assert_eq!(count("src/shard/door.rs", "fn f() { conn.parser.next(&mut bytes, &rules); }"), 1);
        assert_eq!(count("src/shard/door.rs", "use edgehold_wire::{http1::{read, Head}};"), 1);
        assert_eq!(count("src/shard/side_table.rs", "fn f() { BodyReader::new(b); }"), 1);
        assert_eq!(count("src/shard/side_table.rs", "use edgehold_wire::http1::BodyReader; fn f() { it.next(); }"), 0);
        assert_eq!(count(READER, "fn f() { http1::read(b); p.next(b); }"), 0);
    }

    #[test]
    fn a_second_speaker_is_found() {
        for request in REQUESTS {
            assert_eq!(count("src/shard/mod.rs", &format!("fn f() {{ self.ring.{request}(tag); }}")), 1);
        }
        assert_eq!(count("src/shard/pump.rs", "fn f() { shard.ring().close(tag); Ring::send(r, t); }"), 2);
        assert_eq!(count("src/shard/mod.rs", "fn f() { ring.accept(t); ring.turn(); sender.send(x); }"), 0);
        assert_eq!(count(SPEAKER, "fn f() { ring.close(t); }"), 0);
    }
}
