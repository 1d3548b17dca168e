//! Reads the sources and holds them to the rules of the house (docs/ARCHITECTURE.md, docs/STYLE.md).
//!
//! Each rule lives in a module with the lists of what it allows, and with tests that plant a breach of it and see
//! it found. The tests below hold the checkout itself to the rules; a failing one prints every breach with its
//! place and with what to do.

mod caution;
mod floors;
mod pages;
mod sizes;
mod source;
mod tree;
mod words;

use std::path::Path;
use std::sync::LazyLock;

use tree::{Breach, File};

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))));

/// Panics with all breaches, if there are any.
#[track_caller]
fn clean(breaches: impl IntoIterator<Item = Breach>) {
    let mut said: Vec<String> = breaches.into_iter().map(|breach| breach.to_string()).collect();
    said.sort();
    assert!(said.is_empty(), "{} to mend:\n{}", said.len(), said.join("\n"));
}

#[test]
fn the_checkout_is_read() {
    let paths: Vec<&str> = FILES.iter().map(|file| file.path.as_str()).collect();
    assert!(paths.contains(&"src/shard/read.rs") && paths.contains(&"ci/tidy/tidy.rs"), "{paths:?}");
}

#[test]
fn rooms_look_down_and_doors_have_one_keeper() {
    clean(FILES.iter().flat_map(floors::check));
}

#[test]
fn unsafe_is_rare_and_explained() {
    clean(FILES.iter().flat_map(caution::check).chain(caution::stale(&FILES)));
}

#[test]
fn files_functions_and_lines_are_short() {
    let lengths = sizes::Lengths::of(&FILES);
    println!("{} functions, median {} lines, longest {}", lengths.count, lengths.median, lengths.longest);
    clean(FILES.iter().flat_map(sizes::check).chain(sizes::stale(&FILES)).chain(lengths.breach()));
}

#[test]
fn nothing_is_unfinished_or_of_one_machine() {
    clean(FILES.iter().flat_map(words::check));
}

#[test]
fn pages_are_linked() {
    clean(pages::check(&FILES));
}
