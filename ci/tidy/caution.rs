//! `unsafe`: in few files, and never without the reason why it is sound.

use std::collections::BTreeSet;

use crate::source::Source;
use crate::tree::{Breach, File};

/// The files that may hold `unsafe`, each with what it needs it for.
const FILES: [(&str, &str); 28] = [
    ("bench/micro/src/bin/echo_limit.rs", "submission"),
    ("bench/micro/src/bin/fan_limit.rs", "submission"),
    ("bench/micro/src/bin/tls_memory.rs", "an allocator that counts"),
    ("bench/micro/src/provided.rs", "buffers shared with the kernel"),
    ("bench/src/crowd/worker.rs", "send"),
    ("ci/load/lost_shard.rs", "a seccomp filter for a child, and its answers"),
    ("ci/load/refusal.rs", "a seccomp filter for a child"),
    ("src/control/certificates/watch.rs", "tokio's registration of a descriptor"),
    ("src/control/dispatcher.rs", "tokio's registration of a descriptor"),
    ("src/engine/buffers.rs", "memory shared with the kernel"),
    ("src/engine/descriptors.rs", "owning what an accept has opened"),
    ("src/engine/files.rs", "numbers of open files, and reads into memory of the caller"),
    ("src/engine/mapping.rs", "memory of the kernel's"),
    ("src/engine/mod.rs", "the promise a send asks of its caller"),
    ("src/engine/privilege/calls.rs", "system calls that a test makes to be refused"),
    ("src/engine/script.rs", "reading what a send points to, as the kernel would"),
    ("src/engine/sockets.rs", "a socket option without a safe wrapper"),
    ("src/engine/uring.rs", "submission, and addresses written by the kernel"),
    ("src/mesh/zeroed.rs", "zeroed words as atomics"),
    ("src/shard/batches.rs", "reading what a send has left over"),
    ("src/shard/files.rs", "requests about files"),
    ("src/shard/outbox.rs", "payload pages that a send reads"),
    ("src/shard/outbox/sealed.rs", "payload pages that are encrypted"),
    ("src/shard/reconcile.rs", "send"),
    ("src/wire/deflate/deflater.rs", "the length of what the library has written"),
    ("src/wire/deflate/inflater.rs", "the length of what the library has written"),
    ("src/wire/mask.rs", "vector instructions"),
    ("src/wire/utf8.rs", "vector instructions"),
];

/// Each `unsafe` of a file that is in the wrong place or has no reason above it.
pub(crate) fn check(file: &File) -> Vec<Breach> {
    if !file.is_rust() {
        return Vec::new();
    }
    let source = file.source();
    let listed = FILES.iter().any(|(path, _)| *path == file.path);
    let mut breaches = Vec::new();
    for at in uses(&source) {
        let line = source.tokens[at].line;
        if !listed {
            let words = "unsafe outside the listed files: do without it, or list the file in ci/tidy/caution.rs";
            breaches.push(Breach::new(&file.path, line, words));
        }
        if !is_explained(&source, at) {
            let words = "unsafe without its reason: write `// SAFETY: …` (a function: `/// # Safety`) right above";
            breaches.push(Breach::new(&file.path, line, words));
        }
    }
    breaches
}

/// Files that are listed and hold no `unsafe` any more.
pub(crate) fn stale(files: &[File]) -> Vec<Breach> {
    let holds = |file: &&File| file.is_rust() && uses(&file.source()).next().is_some();
    let holding: BTreeSet<&str> = files.iter().filter(holds).map(|file| file.path.as_str()).collect();
    let stale = FILES.iter().filter(|(path, _)| !holding.contains(path));
    let words = "no unsafe is left here: take it off FILES in ci/tidy/caution.rs";
    stale.map(|(path, _)| Breach::new(path, 1, words)).collect()
}

/// Where `unsafe` begins something; not where it is part of a type (`unsafe fn(…)`) or of an attribute
/// (`#[unsafe(…)]`).
fn uses(source: &Source<'_>) -> impl Iterator<Item = usize> {
    source.find(&["unsafe"]).filter(|&at| !source.reads(at + 1, &["fn", "("]) && source.word(at + 1) != "(")
}

fn is_explained(source: &Source<'_>, at: usize) -> bool {
    let line = source.tokens[at].line;
    if source.word(at + 1) == "fn" {
        comment_above(source, line, "# Safety") || is_of_trait(source, line)
    } else {
        comment_above(source, line, "SAFETY: ")
    }
}

/// Whether the comment that ends right above `line` says `words`; attributes may stand between.
fn comment_above(source: &Source<'_>, line: usize, words: &str) -> bool {
    let above = (1..line).rev().skip_while(|&line| source.lines[line - 1].trim_start().starts_with("#["));
    let mut comment = above.map_while(|line| source.lines[line - 1].trim_start().strip_prefix("//"));
    comment.any(|text| text.contains(words))
}

/// A function of `impl Trait for Type`, whose promise is written once, at the trait.
fn is_of_trait(source: &Source<'_>, line: usize) -> bool {
    let indent = |line: usize| source.lines[line - 1].len() - source.lines[line - 1].trim_start().len();
    let outer = |&above: &usize| !source.lines[above - 1].trim().is_empty() && indent(above) < indent(line);
    let head = (1..line).rev().find(outer).map_or("", |line| source.lines[line - 1].trim_start());
    head.starts_with("impl") && head.contains(" for ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "src/wire/mask.rs";

    fn count(path: &str, text: &str) -> usize {
        check(&File::new(path, text)).len()
    }

    #[test]
    fn unsafe_in_another_file_is_found() {
        assert_eq!(count("src/app/run.rs", "// SAFETY: so.\nunsafe { f() }"), 1);
        assert_eq!(count("src/app/run.rs", "// unsafe\nlet x = \"unsafe\";"), 0);
    }

    #[test]
    fn unsafe_without_a_reason_is_found() {
        assert_eq!(count(LISTED, "unsafe { f() }"), 1);
        assert_eq!(count(LISTED, "// SAFETY: so.\n\nunsafe { f() }"), 1);
        assert_eq!(count(LISTED, "// SAFETY: so.\nlet y = 1;\nlet x = unsafe { f() };"), 1);
        assert_eq!(count(LISTED, "/// Does it.\nunsafe fn f() {}"), 1);
        assert_eq!(count(LISTED, "impl T {\n    unsafe fn f() {}\n}"), 1);
        assert_eq!(count(LISTED, "unsafe impl Send for T {}"), 1);
    }

    #[test]
    fn a_reason_is_seen() {
        assert_eq!(count(LISTED, "// SAFETY: so,\n// as one sees.\nlet x = unsafe { f() };"), 0);
        assert_eq!(count(LISTED, "/// # Safety\n/// Be careful.\n#[inline]\npub unsafe fn f() {}"), 0);
        assert_eq!(count(LISTED, "impl R for T {\n    fn g() {\n    }\n\n    unsafe fn f() {}\n}"), 0);
        assert_eq!(count(LISTED, "type F = unsafe fn(u8);"), 0);
    }

    #[test]
    fn a_stale_entry_is_found() {
        let only = [File::new(LISTED, "// SAFETY: so.\nunsafe { f() }")];
        assert_eq!(stale(&only).len(), FILES.len() - 1);
    }
}
