//! A Rust file as the rules see it: words in order, comments by line, functions with their length.
//!
//! Method: one pass over the bytes that knows comments, literals and lifetimes, and no more of the grammar. It is
//! enough, as the rules ask only which words follow each other and where braces close; and it keeps a word in a
//! string or a comment from being taken for code.

use std::collections::HashMap;

/// One word of code: a name or number, `::`, another single mark, or a whole literal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    /// As it stands in the file.
    pub(crate) text: &'a str,
    /// From 1.
    pub(crate) line: usize,
    /// Inside an item marked `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Where `fn` stands, from 1.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace, both counted.
    pub(crate) lines: usize,
    /// Inside an item marked `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// A Rust file.
pub(crate) struct Source<'a> {
    /// Its lines, without line ends.
    pub(crate) lines: Vec<&'a str>,
    /// All of its code.
    pub(crate) tokens: Vec<Token<'a>>,
    /// The comment of each line that has one; of several on a line the last.
    pub(crate) comments: HashMap<usize, &'a str>,
}

impl<'a> Source<'a> {
    /// Reads a file's text.
    pub(crate) fn read(text: &'a str) -> Source<'a> {
        let mut source = Source { lines: text.lines().collect(), tokens: Vec::new(), comments: HashMap::new() };
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let (kind, len) = lexeme(rest, first);
            let (text, after) = rest.split_at(len);
            source.keep(kind, text, line);
            line += text.matches('\n').count();
            rest = after;
        }
        source.mark_tests();
        source
    }

    fn keep(&mut self, kind: Kind, text: &'a str, line: usize) {
        match kind {
            Kind::Blank => {}
            Kind::Comment => text.lines().enumerate().for_each(|(i, words)| {
                self.comments.insert(line + i, words.trim());
            }),
            Kind::Code => self.tokens.push(Token { text, line, test: false }),
        }
    }

    /// What follows `at`, as plain text; empty behind the end.
    pub(crate) fn word(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    /// Whether these words follow each other from `at`.
    pub(crate) fn reads(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| self.word(at + i) == *word)
    }

    /// Where these words begin to follow each other.
    pub(crate) fn find(&self, words: &[&str]) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(|&at| self.reads(at, words))
    }

    /// The place of the brace that closes the one at `open`; the last word if none does.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.word(at) {
                "{" => depth += 1,
                "}" if depth == 1 => return at,
                "}" => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len() - 1
    }

    fn mark_tests(&mut self) {
        let marks: Vec<usize> = self.find(&["#", "[", "cfg", "(", "test", ")", "]"]).collect();
        for mark in marks {
            let end = self.item_end(mark + 7);
            self.tokens[mark..=end].iter_mut().for_each(|token| token.test = true);
        }
    }

    /// The last word of the item that has begun: its closing brace, or its semicolon.
    fn item_end(&self, from: usize) -> usize {
        match self.body(from) {
            Some(open) => self.closing(open),
            None => (from..self.tokens.len()).find(|&at| self.word(at) == ";").unwrap_or(self.tokens.len() - 1),
        }
    }

    /// The opening brace of the item that has begun; `None` if a semicolon outside brackets ends it before.
    fn body(&self, from: usize) -> Option<usize> {
        let mut depth = 0;
        for at in from..self.tokens.len() {
            match self.word(at) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "{" if depth == 0 => return Some(at),
                ";" if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function<'a>> {
        let is_name = |at: usize| self.word(at).starts_with(|c: char| c.is_alphabetic() || c == '_');
        let heads = self.find(&["fn"]).filter(|&at| is_name(at + 1));
        heads.filter_map(|at| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function<'a>> {
        let end = self.closing(self.body(at)?);
        let (head, end) = (self.tokens[at], self.tokens[end]);
        Some(Function { name: self.word(at + 1), line: head.line, lines: end.line - head.line + 1, test: head.test })
    }

    /// How many inline modules (`mod name { … }`) the word at `at` stands in.
    pub(crate) fn module_depth(&self, at: usize) -> usize {
        let modules = self.find(&["mod"]).filter(|&module| module < at && self.word(module + 2) == "{");
        modules.filter(|&module| at < self.closing(module + 2)).count()
    }

    /// Every path of the tree of names at `at` (`a::{b, c::{self, d as e}}` is `a::b`, `a::c`, `a::c::d`), each
    /// behind `base`.
    pub(crate) fn paths(&self, at: usize, base: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.branch(at, base, &mut found);
        found
    }

    /// One branch; says where it ends.
    fn branch(&self, mut at: usize, base: &str, found: &mut Vec<String>) -> usize {
        let mut path = base.to_owned();
        loop {
            match self.word(at) {
                "{" => return self.group(at + 1, &path, found),
                "self" => {}
                name if path.is_empty() => name.clone_into(&mut path),
                name => path = format!("{path}::{name}"),
            }
            if self.word(at + 1) != "::" {
                found.push(path);
                return at + 1;
            }
            at += 2;
        }
    }

    fn group(&self, mut at: usize, base: &str, found: &mut Vec<String>) -> usize {
        while !["}", ""].contains(&self.word(at)) {
            at = self.branch(at, base, found);
            // A new name (`as x`) and the comma.
            while ![",", "}", ""].contains(&self.word(at)) {
                at += 1;
            }
            at += usize::from(self.word(at) == ",");
        }
        at + 1
    }

    /// Lines of the file without the tests at its end.
    pub(crate) fn lines_shipped(&self) -> usize {
        let last = self.tokens.iter().rposition(|token| !token.test);
        match last {
            Some(last) if last + 1 < self.tokens.len() => self.tokens[last].line,
            _ => self.lines.len(),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Blank,
    Comment,
    Code,
}

/// What `rest`, which begins with `first`, begins with, and its length in bytes.
fn lexeme(rest: &str, first: char) -> (Kind, usize) {
    if first.is_whitespace() {
        (Kind::Blank, span(rest, char::is_whitespace))
    } else if rest.starts_with("//") {
        (Kind::Comment, span(rest, |c| c != '\n'))
    } else if rest.starts_with("/*") {
        (Kind::Comment, block_comment(rest))
    } else {
        (Kind::Code, literal(rest).unwrap_or_else(|| word(rest, first)))
    }
}

/// Bytes at the beginning of `rest` of which each character is wanted.
fn span(rest: &str, wanted: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !wanted(c)).unwrap_or(rest.len())
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str, first: char) -> usize {
    match first {
        c if is_name(c) => span(rest, is_name),
        ':' if rest.starts_with("::") => 2,
        c => c.len_utf8(),
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let pair = rest.as_bytes().get(at..at + 2).unwrap_or_default();
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string, character or lifetime at the beginning; `None` if there is none.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| after.starts_with(['"', '#', '\'']))
    })?;
    let body = &rest[prefix.len()..];
    let raw = prefix.ends_with('r');
    let len = match body.as_bytes()[0] {
        b'#' | b'"' if raw => raw_string(body)?,
        b'"' => quoted(body, '"'),
        b'\'' if !raw => character(body),
        _ => return None,
    };
    Some(prefix.len() + len)
}

/// `None` for a raw name (`r#type`) rather than a raw string.
fn raw_string(body: &str) -> Option<usize> {
    let hashes = span(body, |c| c == '#');
    let inside = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &body[..hashes]);
    let len = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(hashes + 1 + len)
}

/// Up to and with the closing quote; what follows a backslash closes nothing.
fn quoted(body: &str, quote: char) -> usize {
    let mut chars = body.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// A character in quotes, or a lifetime.
fn character(body: &str) -> usize {
    let mut chars = body.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    if first == Some('\\') || second == Some('\'') { quoted(body, '\'') } else { 1 + span(&body[1..], is_name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Source::read(text).tokens.iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_in_strings_and_comments_are_no_code() {
        assert_eq!(words("a /* b /* c */ d */ e // f"), ["a", "e"]);
        assert_eq!(words(r##"x("\"y", r#"z"w"#, b'"', 'q')"##).len(), 10);
        assert_eq!(words("'\\'' 'a' &'a str<'_>"), ["'\\''", "'a'", "&", "'a", "str", "<", "'_", ">"]);
        assert_eq!(words("r#type b::c"), ["r", "#", "type", "b", "::", "c"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = Source::read("\"1\n2\" /* 2\n3 */ x // four\n\n\ny");
        let lines: Vec<usize> = source.tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 6]);
        assert_eq!((source.comments[&2], source.comments[&3]), ("/* 2", "// four"));
    }

    #[test]
    fn trees_of_names_are_spread() {
        let source = Source::read("a::{b, c::{self, d as e}, f::*};");
        assert_eq!(source.paths(0, "x"), ["x::a::b", "x::a::c", "x::a::c::d", "x::a::f::*"]);
        assert_eq!(Source::read("{a, {b}").paths(0, ""), ["a", "b"]);
    }

    #[test]
    fn functions_have_a_name_and_a_length() {
        let source = Source::read("fn a();\nfn b(x: [u8; 2]) {\n if c { d }\n}\n#[cfg(test)]\nmod t {\n fn e() {}\n}");
        let functions = source.functions();
        let b = Function { name: "b", line: 2, lines: 3, test: false };
        let e = Function { name: "e", line: 7, lines: 1, test: true };
        assert_eq!((functions, source.lines_shipped()), (vec![b, e], 4));
    }
}
