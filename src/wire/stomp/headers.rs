//! A frame that was read, where it lies, and what its header lines say.

use super::{Coding, Command, Fault, Version};
use alloc::borrow::Cow;
use alloc::string::String;
use core::str;
use memchr::memchr;

/// A frame, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'b> {
    /// What it is.
    pub command: Command,
    /// Its headers.
    pub headers: Headers<'b>,
    /// Its body, without the NUL behind it.
    pub body: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The value of the first header of this name.
    pub fn get(&self, name: &str) -> Option<Cow<'b, str>> {
        self.headers.get(name)
    }
}

/// The header lines of a frame. They are checked: UTF-8, each with a name and a colon, and with no escape that is not
/// defined. Nothing is allocated but for a name or value that has escapes.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'b> {
    text: &'b str,
    coding: Coding,
}

impl<'b> Headers<'b> {
    /// The lines as they came, each with its end, without the empty one behind them.
    pub fn raw(&self) -> &'b str {
        self.text
    }

    /// Names and values in their order. Of a name that comes more than once the first value counts (STOMP 1.2, Repeated
    /// Header Entries); the others are here, too.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'b, str>, Cow<'b, str>)> + use<'b> {
        let coding = self.coding;
        self.parts().map(move |(name, value)| (unescaped(name, coding), unescaped(value, coding)))
    }

    /// The value of the first header of this name.
    pub fn get(&self, name: &str) -> Option<Cow<'b, str>> {
        let coding = self.coding;
        self.parts().find(|(its, _)| unescaped(its, coding) == name).map(|(_, value)| unescaped(value, coding))
    }

    fn parts(&self) -> impl Iterator<Item = (&'b str, &'b str)> + use<'b> {
        let coding = self.coding;
        lines(self.text)
            .filter_map(|line| line.split_once(':'))
            .map(move |it| (trimmed(it.0, coding), trimmed(it.1, coding)))
    }

    /// Whether a frame like this has nothing but what 1.0 has.
    pub(super) fn is_of_10(&self) -> bool {
        self.coding == Coding::Trimmed
    }

    /// Checks the header lines of a frame; returns them with the number in their `content-length`.
    ///
    /// # Errors
    /// What is wrong with the first line that has something wrong.
    pub(super) fn check(bytes: &'b [u8], command: Command, version: Version) -> Result<(Self, Option<usize>), Fault> {
        let text = str::from_utf8(bytes).map_err(|_| Fault::Utf8)?;
        let headers = Headers { text, coding: coding(command, version, text) };
        let mut may_tell = false;
        for line in lines(text) {
            check_line(line, headers.coding)?;
            may_tell |= line.trim_ascii_start().starts_with("content-length");
        }
        let length = if may_tell { headers.get("content-length") } else { None };
        Ok((headers, length.map(|text| number(&text)).transpose()?))
    }
}

/// CONNECT and CONNECTED come before a version is agreed on: what else they say tells of which they are.
fn coding(command: Command, version: Version, text: &str) -> Coding {
    let says = |name: &str| lines(text).any(|line| line.split(':').next().is_some_and(|its| its.trim() == name));
    match command {
        Command::Connect if !says("accept-version") => Coding::Trimmed,
        Command::Connected if !says("version") => Coding::Trimmed,
        _ => Coding::of(command, version),
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// A name of white space is none in any version.
fn check_line(line: &str, coding: Coding) -> Result<(), Fault> {
    let (name, _) = line.split_once(':').ok_or(Fault::Header)?;
    let has_lone_cr = || memchr(b'\r', line.as_bytes()).is_some();
    if name.trim_ascii().is_empty() || coding == Coding::Escaped12 && has_lone_cr() {
        return Err(Fault::Header);
    }
    if coding.has_escapes() { check_escapes(line, coding) } else { Ok(()) }
}

fn check_escapes(line: &str, coding: Coding) -> Result<(), Fault> {
    let mut rest = line;
    while let Some((_, behind)) = rest.split_once('\\') {
        let mut chars = behind.chars();
        match chars.next() {
            Some('n' | 'c' | '\\') => {}
            Some('r') if coding == Coding::Escaped12 => {}
            _ => return Err(Fault::Escape),
        }
        rest = chars.as_str();
    }
    Ok(())
}

fn trimmed(text: &str, coding: Coding) -> &str {
    if coding == Coding::Trimmed { text.trim_ascii() } else { text }
}

fn unescaped(text: &str, coding: Coding) -> Cow<'_, str> {
    if !coding.has_escapes() || memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.extend(chars.next().map(meaning)),
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// What a backslash and this character stand for.
fn meaning(escape: char) -> char {
    match escape {
        'n' => '\n',
        'r' => '\r',
        'c' => ':',
        other => other,
    }
}

/// With or without spaces around it: there are clients of all versions that write them. One that is too large for this
/// machine is too large for any limit.
fn number(text: &str) -> Result<usize, Fault> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::ContentLength);
    }
    digits.parse().map_err(|_| Fault::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &str, command: Command, version: Version) -> Result<Headers<'_>, Fault> {
        Headers::check(lines.as_bytes(), command, version).map(|it| it.0)
    }

    #[test]
    fn the_first_of_a_name_counts_and_all_are_shown() {
        let headers = checked("x:1\r\nx:2\ny:\nx:3\n", Command::Message, Version::V12).unwrap();
        assert_eq!([headers.get("x"), headers.get("y"), headers.get("z")], [Some("1".into()), Some("".into()), None]);
        let all: alloc::vec::Vec<_> = headers.iter().collect();
        assert_eq!(
            all,
            [("x", "1"), ("x", "2"), ("y", ""), ("x", "3")].map(|(name, value)| (name.into(), value.into()))
        );
        assert_eq!(headers.raw(), "x:1\r\nx:2\ny:\nx:3\n");
    }

    #[test]
    fn each_version_has_its_escapes_and_its_white_space() {
        let value = |command, version, line| checked(line, command, version).map(|it| it.get("a").unwrap());
        let line = "a: \\\\\\c\\n:b \n";
        assert_eq!(value(Command::Send, Version::V12, line), Ok(" \\:\n:b ".into()));
        assert_eq!(value(Command::Send, Version::V11, line), Ok(" \\:\n:b ".into()));
        assert_eq!(value(Command::Send, Version::V10, line), Ok("\\\\\\c\\n:b".into()));
        assert_eq!(value(Command::Send, Version::V12, "a:\\r\n"), Ok("\r".into()));
        assert_eq!(value(Command::Send, Version::V11, "a:\\r\n"), Err(Fault::Escape));
        assert_eq!(value(Command::Send, Version::V11, "a:b\rc\n"), Ok("b\rc".into()));
        assert_eq!(value(Command::Send, Version::V12, "a:b\rc\n"), Err(Fault::Header));
        for version in Version::ALL {
            assert_eq!(value(Command::Connect, version, "accept-version:1.1\na: \\x \n"), Ok(" \\x ".into()));
            assert_eq!(value(Command::Connected, version, "version:1.1\na: \\x \n"), Ok(" \\x ".into()));
            assert_eq!(value(Command::Connect, version, "a : \\x \n"), Ok("\\x".into()));
            assert_eq!(value(Command::Connected, version, "a: \\x \n"), Ok("\\x".into()));
            assert_eq!(value(Command::Stomp, version, "a: \\r \n"), Ok(" \r ".into()));
        }
    }

    #[test]
    fn only_what_has_escapes_is_copied() {
        let headers = checked("a:b\\cc\nd:e\n", Command::Send, Version::V12).unwrap();
        let borrowed = |name| matches!(headers.get(name), Some(Cow::Borrowed(_)));
        assert_eq!([borrowed("a"), borrowed("d")], [false, true]);
    }

    #[test]
    fn an_undefined_escape_is_found_wherever_it_stands() {
        for line in ["a:\\t\n", "a:b\\\n", "\\x:b\n", "a:\\\\\\\n", "a:\\é\n", "a:b\nc:\\N\n"] {
            assert_eq!(checked(line, Command::Send, Version::V12).unwrap_err(), Fault::Escape, "{line:?}");
        }
    }

    #[test]
    fn the_length_of_the_body_is_a_number() {
        let length = |lines: &str| Headers::check(lines.as_bytes(), Command::Send, Version::V12).map(|it| it.1);
        assert_eq!([length("content-length:5\n"), length("a:b\ncontent-length: 07 \n")], [Ok(Some(5)), Ok(Some(7))]);
        assert_eq!(
            [length("content-length:1\ncontent-length:x\n"), length("content-lengths:x\n")],
            [Ok(Some(1)), Ok(None)]
        );
        assert_eq!(length("content-length:99999999999999999999999\n"), Err(Fault::TooLarge));
        for bad in ["", "-1", "+1", "1 2", "0x1", "1e3", "１"] {
            assert_eq!(length(&alloc::format!("content-length:{bad}\n")), Err(Fault::ContentLength), "{bad:?}");
        }
    }
}
