//! The words of a script line: names, numbers, and bytes written down.
//!
//! Bytes are written as `"text"` with the escapes `\r \n \t \0 \\ \"` and `\xNN`, or as `<hex digits>`; either may
//! be repeated (`"a" * 125`), and several in a row are one. `\(name)` stands for a variable.

use std::collections::BTreeMap;

/// Values of variables, by their names.
pub(crate) type Variables = BTreeMap<String, Vec<u8>>;

/// What is wrong with a script or with a playing of it, in words.
pub(crate) type Problem = String;

/// A stretch of bytes as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The value of this variable.
    Variable(String),
}

/// The bytes of `parts`. `Err`: the name of a variable that has no value.
pub(crate) fn resolve(parts: &[Part], variables: &Variables) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(these) => bytes.extend_from_slice(these),
            Part::Variable(name) => bytes.extend(variables.get(name).ok_or_else(|| name.clone())?),
        }
    }
    Ok(bytes)
}

/// A reader of one line, from its front.
pub(crate) struct Words<'t>(&'t str);

impl<'t> Words<'t> {
    /// At the front of `text`.
    pub(crate) fn new(text: &'t str) -> Words<'t> {
        Words(text.trim())
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'t str {
        self.0
    }

    /// The next word, empty at the end.
    pub(crate) fn word(&mut self) -> &'t str {
        let (word, rest) = self.0.split_at(self.0.find(char::is_whitespace).unwrap_or(self.0.len()));
        self.0 = rest.trim_start();
        word
    }

    /// Takes `word` if it comes next.
    pub(crate) fn takes(&mut self, word: &str) -> bool {
        let mut ahead = Words(self.0);
        let is_next = ahead.word() == word;
        if is_next {
            self.0 = ahead.0;
        }
        is_next
    }

    /// The next word as a number.
    pub(crate) fn number<N: std::str::FromStr>(&mut self) -> Result<N, String> {
        let word = self.word();
        word.parse().map_err(|_| format!("{word:?} is no number that fits here"))
    }

    /// Whether bytes come next.
    pub(crate) fn is_at_bytes(&self) -> bool {
        self.0.starts_with(['"', '<'])
    }

    /// Bytes, as long as there are any; empty where there are none.
    pub(crate) fn parts(&mut self) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        while self.is_at_bytes() {
            let term = if self.0.starts_with('"') { self.quoted()? } else { self.hex()? };
            for _ in 0..self.times()? {
                parts.extend_from_slice(&term);
            }
        }
        Ok(join(parts))
    }

    /// Bytes without variables.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, String> {
        resolve(&self.parts()?, &Variables::new()).map_err(|name| format!("no variable may stand here: {name}"))
    }

    /// One quoted text and no more, unlike [`Words::bytes`].
    pub(crate) fn quoted_text(&mut self) -> Result<String, String> {
        let inside = self.0.strip_prefix('"').and_then(|it| it.split_once('"')).ok_or("a quoted text is missing")?;
        self.0 = inside.1.trim_start();
        Ok(inside.0.into())
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("too much: {:?}", self.0)) }
    }

    fn times(&mut self) -> Result<usize, String> {
        if self.takes("*") { self.number() } else { Ok(1) }
    }

    fn quoted(&mut self) -> Result<Vec<Part>, String> {
        let inside = &self.0[1..];
        let mut escaped = false;
        let end = inside.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        let end = end.ok_or("a quotation mark is missing")?;
        self.0 = inside[end + 1..].trim_start();
        unescape(&inside[..end])
    }

    fn hex(&mut self) -> Result<Vec<Part>, String> {
        let (inside, rest) = self.0[1..].split_once('>').ok_or("a > is missing")?;
        self.0 = rest.trim_start();
        let bytes: Result<Vec<u8>, _> = inside.split_whitespace().map(|byte| u8::from_str_radix(byte, 16)).collect();
        Ok(vec![Part::Bytes(bytes.map_err(|_| format!("<{inside}> is not hex"))?)])
    }
}

/// Text with escapes.
pub(crate) fn unescape(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        parts.push(Part::Bytes(rest[..at].into()));
        let (part, after) = escape(&rest[at + 1..])?;
        parts.push(part);
        rest = after;
    }
    parts.push(Part::Bytes(rest.into()));
    Ok(join(parts))
}

/// What stands behind a backslash, and what follows it.
fn escape(text: &str) -> Result<(Part, &str), String> {
    let refusal = || format!("no such escape: \\{text}");
    let kind = text.chars().next().ok_or_else(refusal)?;
    let rest = &text[kind.len_utf8()..];
    let byte = match kind {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' | '"' => kind as u8,
        'x' => {
            let digits = rest.get(..2).ok_or_else(refusal)?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| refusal())?;
            return Ok((Part::Bytes(vec![byte]), &rest[2..]));
        }
        '(' => {
            let (name, rest) = rest.split_once(')').ok_or_else(refusal)?;
            return Ok((Part::Variable(name.into()), rest));
        }
        _ => return Err(refusal()),
    };
    Ok((Part::Bytes(vec![byte]), rest))
}

/// Neighbouring bytes become one part, empty ones none.
fn join(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (_, Part::Bytes(more)) if more.is_empty() => {}
            (Some(Part::Bytes(bytes)), Part::Bytes(more)) => bytes.extend(more),
            (_, part) => joined.push(part),
        }
    }
    joined
}

#[test]
fn bytes_are_read_as_they_are_written() {
    let read = |text: &str| Words::new(text).bytes();
    assert_eq!(read(r#""a\r\n\t\0\\\"\x7fé" <00 fF>"#), Ok(b"a\r\n\t\0\\\"\x7f\xc3\xa9\x00\xff".to_vec()));
    assert_eq!(read(r#""ab" * 3 <1> * 2"#), Ok(b"ababab\x01\x01".to_vec()));
    for bad in [r#""a"#, r#""\q""#, "<xy>", r#""\(name)""#, r#""a" * b"#] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let parts = Words::new(r#""a\(name)b""#).parts().expect("good words");
    assert_eq!(resolve(&parts, &[("name".to_owned(), b"-".to_vec())].into()), Ok(b"a-b".to_vec()));
    assert_eq!(resolve(&parts, &Variables::new()), Err("name".into()));
}
