//! How long things may be, and how a file begins.

use crate::source::Function;
use crate::tree::{Breach, File};

/// Lines of a file, the tests at its end not counted.
const FILE: usize = 1000;

/// Lines of a function of the server or the load generator.
const FUNCTION: usize = 35;

/// Lines of a function of a test, which may be a table.
const TEST_FUNCTION: usize = 70;

/// Columns of a line of Rust.
const COLUMNS: usize = 120;

/// Lines of the function in the middle, when all that is shipped are put in order of length.
const MEDIAN: usize = 7;

/// Longer functions, each with the reason why it is one page and not several.
const LONG: [(&str, &str, &str); 2] =
    [("src/app/offload.rs", "plan", "a line for each field"), ("src/shard/core.rs", "new", "a line for each field")];

/// All rules of this file but the median's.
pub(crate) fn check(file: &File) -> Vec<Breach> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut breaches: Vec<Breach> = lines(file).into_iter().chain(head(file)).collect();
    breaches.extend(columns(file));
    breaches.extend(functions(file));
    breaches
}

fn lines(file: &File) -> Option<Breach> {
    let lines = file.source().lines_shipped();
    let words = || format!("{lines} lines, and {FILE} are enough: make two files of it, each with one thing to say");
    (lines > FILE).then(|| Breach::new(&file.path, FILE + 1, words()))
}

fn head(file: &File) -> Option<Breach> {
    let words = "a file opens with its purpose and method: begin it with `//! …`";
    (!file.text.starts_with("//! ")).then(|| Breach::new(&file.path, 1, words))
}

fn columns(file: &File) -> impl Iterator<Item = Breach> {
    let lines = file.text.lines().enumerate().map(|(at, line)| (at + 1, line.chars().count()));
    let long = lines.filter(|&(_, columns)| columns > COLUMNS);
    long.map(|(at, columns)| Breach::new(&file.path, at, format!("{columns} columns: break the line at {COLUMNS}")))
}

/// Lines that a function may have.
fn most(file: &File, function: &Function<'_>) -> usize {
    let serves = file.is_shipped() || file.path.starts_with("bench/src/");
    if serves && !function.test { FUNCTION } else { TEST_FUNCTION }
}

fn functions(file: &File) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for function in file.source().functions() {
        let most = most(file, &function);
        if function.lines > most && !is_listed(&file.path, function.name) {
            let (name, lines) = (function.name, function.lines);
            let words = format!("{name} has {lines} lines, {most} at most: part it, or list it in LONG");
            breaches.push(Breach::new(&file.path, function.line, words));
        }
    }
    breaches
}

fn is_listed(path: &str, name: &str) -> bool {
    LONG.iter().any(|(file, function, _)| *file == path && *function == name)
}

/// Functions that are listed and no longer that long.
pub(crate) fn stale(files: &[File]) -> Vec<Breach> {
    let is_long = |path: &str, name: &str| {
        let file = files.iter().find(|file| file.path == path);
        let is_it = |file: &File| file.source().functions().iter().any(|f| f.name == name && f.lines > most(file, f));
        file.is_some_and(is_it)
    };
    let stale = LONG.iter().filter(|(path, name, _)| !is_long(path, name));
    stale.map(|(path, name, _)| Breach::new(path, 1, format!("{name} is short now: take it off LONG"))).collect()
}

/// How long the functions are that become part of the server: how many, and the lines of the one in the middle.
pub(crate) struct Lengths {
    pub(crate) count: usize,
    pub(crate) median: usize,
    pub(crate) longest: usize,
}

impl Lengths {
    /// Of all shipped files, their tests left out.
    pub(crate) fn of(files: &[File]) -> Lengths {
        let mut lengths: Vec<usize> = files.iter().filter(|file| file.is_shipped()).flat_map(shipped).collect();
        lengths.sort_unstable();
        let at = |at: usize| lengths.get(at).copied().unwrap_or(0);
        Lengths { count: lengths.len(), median: at(lengths.len() / 2), longest: at(lengths.len().saturating_sub(1)) }
    }

    /// `None` while the median is small enough.
    pub(crate) fn breach(&self) -> Option<Breach> {
        let words = || format!("the median function has {} lines, {MEDIAN} at most: part the long ones", self.median);
        (self.median > MEDIAN).then(|| Breach::new("src", 1, words()))
    }
}

fn shipped(file: &File) -> Vec<usize> {
    file.source().functions().iter().filter(|function| !function.test).map(|function| function.lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&File::new("src/a.rs", &format!("//! A.\n{text}"))).len()
    }

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "x();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found() {
        assert_eq!((count(&function(FUNCTION)), count(&function(FUNCTION + 1))), (0, 1));
        let test = |lines| count(&format!("#[cfg(test)]\nmod t {{\n{}}}\n", function(lines)));
        assert_eq!((test(TEST_FUNCTION), test(TEST_FUNCTION + 1)), (0, 1));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let lines = "a();\n".repeat(FILE - 1);
        let tests = format!("#[cfg(test)]\nmod t {{\n{}}}\n", "b();\n".repeat(99));
        assert_eq!(count(&lines), 0);
        assert_eq!(count(&format!("{lines}c();\n")), 1);
        assert_eq!(count(&format!("{lines}{tests}")), 0);
        assert_eq!(count(&format!("{lines}{tests}c();\n")), 1);
    }

    #[test]
    fn a_wide_line_is_found() {
        assert_eq!((count(&"ä".repeat(COLUMNS)), count(&"ä".repeat(COLUMNS + 1))), (0, 1));
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert_eq!(check(&File::new("src/a.rs", "use b;\n")).len(), 1);
        assert_eq!(check(&File::new("src/a.toml", "a = 1\n")).len(), 0);
    }

    #[test]
    fn a_large_median_is_found() {
        let files = |lines| [File::new("src/a.rs", &format!("{}{}", function(lines).repeat(2), function(30)))];
        assert!(Lengths::of(&files(MEDIAN)).breach().is_none());
        assert!(Lengths::of(&files(MEDIAN + 1)).breach().is_some());
        let tests = [File::new("src/a.rs", &format!("#[cfg(test)]\nmod t {{\n{}}}", function(50)))];
        assert_eq!(Lengths::of(&tests).count, 0);
    }
}
