//! What is wrong with a configuration file: problems, each with its line and column, in the order of the file.

use super::draft::Section;
use std::collections::BTreeSet;
use std::fmt;

/// One thing wrong with a configuration: where it stands, what it is, what to write instead.
///
/// Displayed on one line: `edgehold.toml:12:5: route[1].upstream: …what… — …instead…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named by the caller.
    pub file: String,
    /// Line from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Column from 1, in characters; 0 where the file as a whole is meant.
    pub column: usize,
    /// The key, as `route[2].path` (tables count from 1); empty where there is none.
    pub key: String,
    /// What is wrong, a dash, and what to write instead.
    pub words: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub(super) fn of_file(file: &str, words: String) -> Problem {
        Problem { file: file.into(), line: 0, column: 0, key: String::new(), words }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.words)
    }
}

/// The problems found so far, and the text that their lines and columns are counted in.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    /// Of the text of a file that is called `file` in problems.
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Report { file, text, lines: std::iter::once(0).chain(after).collect(), problems: Vec::new() }
    }

    /// Notes a problem at a byte of the text.
    pub(super) fn note(&mut self, at: usize, key: &str, words: String) {
        let (line, column) = self.position(at);
        let (file, key) = (self.file.into(), key.into());
        self.problems.push(Problem { file, line, column, key, words });
    }

    /// Notes a problem of a key of a section, where that key stands.
    pub(super) fn note_key<T>(&mut self, section: &Section<T>, name: &str, words: String) {
        self.note(section.place(name), &format!("{}.{name}", section.label), words);
    }

    /// Notes a problem that has no place in the text: something is missing.
    pub(super) fn note_whole(&mut self, key: &str, words: String) {
        let (file, key) = (self.file.into(), key.into());
        self.problems.push(Problem { file, line: 0, column: 0, key, words });
    }

    /// Line and column from 1 of a byte; columns count characters.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at);
        let front = &self.text.as_bytes()[self.lines[line - 1]..at];
        // A byte of the form 10xxxxxx continues a character.
        (line, 1 + front.iter().filter(|b| **b & 0xC0 != 0x80).count())
    }

    /// Adds the parser's errors, and drops problems that may only follow from them: those on a line that is no TOML,
    /// and all below the head of a table that is none, since the parser took the keys there for those of the table
    /// before.
    pub(super) fn add_syntax_errors(&mut self, errors: &[toml::de::Error]) {
        let broken: BTreeSet<usize> = errors.iter().map(|e| self.position(start(e)).0).collect();
        let head = broken.iter().copied().filter(|line| self.is_head(*line)).min();
        let sound = |line: usize| line > 0 && !broken.contains(&line) && head.is_none_or(|head| line < head);
        self.problems.retain(|problem| sound(problem.line));
        for error in errors {
            let words = format!("{} — this is no TOML as it stands", one_line(error.message()));
            self.note(start(error), "", words);
        }
    }

    fn is_head(&self, line: usize) -> bool {
        self.text[self.lines[line - 1]..].trim_start_matches([' ', '\t']).starts_with('[')
    }

    /// All problems in the order of the file; what was noted twice stands once.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.dedup();
        self.problems
    }
}

fn start(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let report = Report::new("x", "äb\n\nc");
        assert_eq!(report.position(0), (1, 1));
        assert_eq!(report.position(2), (1, 2));
        assert_eq!(report.position(4), (2, 1));
        assert_eq!(report.position(5), (3, 1));
        assert_eq!(report.position(99), (3, 2));
    }
}
