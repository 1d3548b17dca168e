//! Scripts are read: text becomes stories, a story becomes steps. The grammar stands at the head of `main.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::deflated::deflate;
use crate::feed;
use crate::voice::{ANY, Act, Frame, Length, Party, Response};
use crate::words::{Part, Problem, Variables, Words, unescape};

/// The key of every `opening`, from RFC 6455 section 1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Which of edgehold's two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// With the client.
    Front,
    /// With the upstream.
    Back,
}

/// One line of a story.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Its number in the file.
    pub(crate) line: usize,
    /// Between whom.
    pub(crate) channel: Channel,
    /// Who does it.
    pub(crate) by: Party,
    /// What is done.
    pub(crate) act: Act,
    /// The same, as it was written.
    pub(crate) source: String,
}

/// One story: a connection from its first byte to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// The file's path below ci/specs.
    pub(crate) file: String,
    /// The line of its title.
    pub(crate) line: usize,
    /// What it is about.
    pub(crate) title: String,
    /// The host that its own routes are for.
    pub(crate) host: String,
    /// The clauses that it proves.
    pub(crate) proves: String,
    /// The configuration file it is played with.
    pub(crate) config: String,
    /// Its own `[[route]]` tables, without `host`.
    pub(crate) routes: Vec<String>,
    /// Whether it means nothing where the server may read every file.
    pub(crate) not_as_root: bool,
    /// What is said.
    pub(crate) steps: Vec<Step>,
}

/// All stories of the files below `folder`, sorted by name; none where there is no such folder.
pub(crate) fn read_folder(root: &Path, folder: &str) -> Vec<Story> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").file_name()).collect();
    files.sort();
    let stories = files.iter().filter_map(|name| name.to_str()).filter(|name| name.strip_suffix(".wire").is_some());
    let read = |name: &str| {
        let text = fs::read_to_string(root.join(folder).join(name)).expect("a readable script");
        read(&format!("{folder}/{name}"), &text).unwrap_or_else(|problem| panic!("{problem}"))
    };
    stories.flat_map(read).collect()
}

/// The stories of one file.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Story>, Problem> {
    let mut preamble = Story { file: file.into(), config: "edgehold.toml".into(), ..Story::default() };
    let mut stories: Vec<Story> = Vec::new();
    for block in blocks(text) {
        let at = |problem: String| format!("{file}:{}: {problem}", block.line);
        let (speaker, words) = block.text.split_once(':').ok_or_else(|| at("no colon".into()))?;
        if speaker == "story" {
            stories.push(begin(&preamble, words, block.line, stories.len()));
        } else {
            let story = stories.last_mut().unwrap_or(&mut preamble);
            story.take(speaker, words.trim(), &block).map_err(at)?;
        }
    }
    stories.iter().try_for_each(Story::check)?;
    if stories.is_empty() { Err(format!("{file}: no story")) } else { Ok(stories) }
}

fn begin(preamble: &Story, title: &str, line: usize, number: usize) -> Story {
    let stem = preamble.file.trim_end_matches(".wire").replace('/', ".");
    Story { title: title.trim().into(), line, host: format!("{stem}.{number}"), ..preamble.clone() }
}

/// A line and the indented lines below it.
struct Block<'t> {
    line: usize,
    text: &'t str,
    more: Vec<&'t str>,
}

impl Block<'_> {
    /// All of it as one line.
    fn joined(&self, first: &str) -> String {
        [&[first], &self.more[..]].concat().join(" ")
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match blocks.last_mut() {
            Some(block) if text.starts_with(' ') => block.more.push(trimmed),
            _ => blocks.push(Block { line, text: trimmed, more: Vec::new() }),
        }
    }
    blocks
}

impl Story {
    /// What the variables `\(host)` and such stand for before anything was heard.
    pub(crate) fn variables(&self) -> Variables {
        let host = ("host".to_owned(), self.host.clone().into_bytes());
        [host, ("channel".to_owned(), feed::CHANNEL.into()), (ANY.to_owned(), feed::sample_id(ANY))].into()
    }

    /// Whether a feed may speak.
    pub(crate) fn has_feed(&self) -> bool {
        self.config == feed::CONFIG
    }

    /// Whether an upstream answers: only one playing at a time can.
    pub(crate) fn has_upstream(&self) -> bool {
        self.steps.iter().any(|step| step.channel == Channel::Back)
    }

    fn take(&mut self, speaker: &str, words: &str, block: &Block<'_>) -> Result<(), Problem> {
        match speaker {
            "proves" => self.proves = block.joined(words),
            "config" => self.config = words.into(),
            "not as root" => self.not_as_root = true,
            "route" => self.routes.push([&[words], &block.more[..]].concat().join("\n")),
            "client" => self.add(block, Channel::Front, Party::Peer, words)?,
            "server" => self.add(block, Channel::Front, Party::Edge, words)?,
            "upstream" => self.add(block, Channel::Back, Party::Peer, words)?,
            "onward" => self.add(block, Channel::Back, Party::Edge, words)?,
            "feed" => self.publish(block, words)?,
            _ => return Err(format!("who is {speaker:?}?")),
        }
        Ok(())
    }

    fn add(&mut self, block: &Block<'_>, channel: Channel, by: Party, words: &str) -> Result<(), Problem> {
        let mut reader = Words::new(words);
        let act = if reader.takes("response") {
            Act::Response(response(&mut reader, &block.more)?)
        } else {
            act(&mut Words::new(&block.joined(words)), channel, by, block.line)?
        };
        self.steps.push(Step { line: block.line, channel, by, act, source: block.joined(block.text) });
        Ok(())
    }

    fn publish(&mut self, block: &Block<'_>, words: &str) -> Result<(), Problem> {
        let act = feed::act(&mut Words::new(&block.joined(words)))?;
        let (channel, by, source) = (Channel::Front, Party::Peer, block.joined(block.text));
        self.steps.push(Step { line: block.line, channel, by, act, source });
        Ok(())
    }

    /// A story says what it proves and is told to its end.
    fn check(&self) -> Result<(), Problem> {
        let at = |problem: &str| Err(format!("{}:{}: {problem}", self.file, self.line));
        if !self.proves.contains("section") {
            return at("the clause it proves is missing");
        }
        let ends = |channel| {
            let speaks = |step: &&Step| !matches!(step.act, Act::Published(_) | Act::Listeners(_));
            let mut steps = self.steps.iter().rev().filter(speaks).filter(|step| step.channel == channel);
            steps.next().is_none_or(|step| matches!(step.act, Act::End | Act::Reset))
        };
        if !ends(Channel::Front) || !ends(Channel::Back) {
            return at("a connection is left without `end` or `reset`");
        }
        if self.steps.is_empty() { at("nothing happens") } else { Ok(()) }
    }
}

fn act(words: &mut Words<'_>, channel: Channel, by: Party, line: usize) -> Result<Act, Problem> {
    if words.is_at_bytes() {
        let parts = words.parts()?;
        words.end()?;
        return Ok(Act::Bytes(parts));
    }
    let act = match (words.word(), channel, by) {
        ("end", ..) => Act::End,
        ("reset", ..) => Act::Reset,
        ("connects", Channel::Back, Party::Edge) => Act::Connects,
        ("waits", _, Party::Edge) => Act::Waits(Duration::from_millis(words.number()?)),
        ("opening", Channel::Front, Party::Peer) => opening(words)?,
        ("opened", Channel::Front, Party::Edge) => opened(words)?,
        ("stream", Channel::Front, Party::Edge) => stream(words)?,
        ("deflated", Channel::Front, Party::Edge) => deflated(words)?,
        ("chunks", Channel::Front, Party::Edge) => Act::Chunks(words.parts()?),
        ("at", Channel::Front, Party::Edge) if words.takes("most") => repeated(words)?,
        ("says", Channel::Front, _) => {
            Act::Says { key: (by == Party::Peer).then_some(key(line)), parts: words.parts()? }
        }
        ("close", Channel::Front, Party::Edge) => closes(words)?,
        (kind, Channel::Front, _) => Act::Frame(frame(kind, words, by, line)?),
        (kind, ..) => return Err(format!("{kind:?} cannot be done here")),
    };
    words.end()?;
    Ok(act)
}

// ---- HTTP ----

fn response(words: &mut Words<'_>, lines: &[&str]) -> Result<Response, Problem> {
    let status = words.number()?;
    let to_head = words.takes("to") && words.takes("HEAD");
    let streams = words.takes("that") && words.takes("streams");
    let mut response = Response { status, to_head, streams, ..Response::default() };
    words.end()?;
    for line in lines {
        response_line(&mut response, line)?;
    }
    Ok(response)
}

fn response_line(response: &mut Response, line: &str) -> Result<(), Problem> {
    let mut words = Words::new(line);
    if words.takes("no") {
        response.absent.push(words.word().into());
    } else if words.takes("body") {
        response.body = Some(words.parts()?);
    } else if let Some(body) = response.body.as_mut().filter(|_| words.is_at_bytes()) {
        body.extend(words.parts()?);
    } else {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("no field line: {line}"))?;
        response.fields.push((name.into(), unescape(value)?));
        return Ok(());
    }
    words.end()
}

/// A good opening request: `opening "/path"`, with the subprotocols and the extensions offered behind it.
fn opening(words: &mut Words<'_>) -> Result<Act, Problem> {
    let path = words.quoted_text()?;
    let mut offer = String::new();
    if words.is_at_bytes() {
        offer += &format!("Sec-WebSocket-Protocol: {}\r\n", words.quoted_text()?);
    }
    if words.takes("with") {
        offer += &format!("Sec-WebSocket-Extensions: {}\r\n", words.quoted_text()?);
    }
    let before = [vec![Part::Bytes("GET ".into())], unescape(&path)?].concat();
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let after = format!("\r\n{fields}Sec-WebSocket-Key: {KEY}\r\n{offer}\r\n");
    let [between, after] = [" HTTP/1.1\r\nHost: ", &after].map(|it| Part::Bytes(it.into()));
    Ok(Act::Bytes([before, vec![between, Part::Variable("host".into()), after]].concat()))
}

fn opened(words: &mut Words<'_>) -> Result<Act, Problem> {
    let field = |name: &str, value: &str| (name.to_owned(), vec![Part::Bytes(value.into())]);
    let mut fields =
        vec![field("Upgrade", "websocket"), field("Connection", "Upgrade"), field("Sec-WebSocket-Accept", ACCEPT)];
    let mut absent = Vec::new();
    if words.is_at_bytes() {
        fields.push(field("Sec-WebSocket-Protocol", &words.quoted_text()?));
    } else {
        absent.push("Sec-WebSocket-Protocol".into());
    }
    if words.takes("with") {
        fields.push(field("Sec-WebSocket-Extensions", &words.quoted_text()?));
    } else {
        absent.push("Sec-WebSocket-Extensions".into());
    }
    Ok(Act::Response(Response { status: 101, fields, absent, ..Response::default() }))
}

// ---- WebSocket ----

fn stream(words: &mut Words<'_>) -> Result<Act, Problem> {
    let text = words.word() == "text";
    Ok(Act::Stream { text, payload: words.bytes()? })
}

fn deflated(words: &mut Words<'_>) -> Result<Act, Problem> {
    let text = words.word() == "text";
    Ok(Act::Deflated { text, payload: words.bytes()? })
}

/// `at most N text "…"`.
fn repeated(words: &mut Words<'_>) -> Result<Act, Problem> {
    let most = words.number()?;
    let text = words.word() == "text";
    Ok(Act::Repeated { most, text, payload: words.bytes()? })
}

/// A close frame of the server: without a reason here, any reason will do.
fn closes(words: &mut Words<'_>) -> Result<Act, Problem> {
    if words.rest().is_empty() {
        return Ok(Act::Frame(Frame { opcode: 8, ..Frame::default() }));
    }
    let code: u16 = words.number()?;
    if !words.is_at_bytes() {
        return Ok(Act::Close(code));
    }
    let payload = [&code.to_be_bytes()[..], &words.bytes()?].concat();
    Ok(Act::Frame(Frame { opcode: 8, payload, ..Frame::default() }))
}

fn frame(kind: &str, words: &mut Words<'_>, by: Party, line: usize) -> Result<Frame, Problem> {
    let key = (by == Party::Peer).then_some(key(line));
    let mut frame = Frame { opcode: opcode(kind, words)?, key, ..Frame::default() };
    let mut deflated = false;
    while !words.rest().is_empty() && !words.is_at_bytes() {
        match words.word() {
            "more" => frame.more = true,
            "unmasked" => frame.key = None,
            "deflated" => (deflated, frame.reserved) = (true, frame.reserved | 0x40),
            "rsv1" => frame.reserved |= 0x40,
            "rsv2" => frame.reserved |= 0x20,
            "rsv3" => frame.reserved |= 0x10,
            "length16" => frame.length = Length::Bits16,
            "length64" => frame.length = Length::Bits64,
            "claims" => frame.claims = Some(words.number()?),
            code if frame.opcode == 8 && frame.payload.is_empty() => {
                let code: u16 = code.parse().map_err(|_| format!("{code:?} is no close code"))?;
                frame.payload = code.to_be_bytes().to_vec();
            }
            word => return Err(format!("what is {word:?} of a frame?")),
        }
    }
    let payload = words.bytes()?;
    frame.payload.extend(if deflated { deflate(&payload) } else { payload });
    Ok(frame)
}

/// A key of its own for each line, so that a key carried over from another frame is noticed.
fn key(line: usize) -> [u8; 4] {
    (line as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()
}

fn opcode(kind: &str, words: &mut Words<'_>) -> Result<u8, Problem> {
    Ok(match kind {
        "continuation" => 0,
        "text" => 1,
        "binary" => 2,
        "close" => 8,
        "ping" => 9,
        "pong" => 10,
        "opcode" => words.number()?,
        _ => return Err(format!("{kind:?} is nothing that can be said")),
    })
}

#[test]
fn scripts_that_are_not_whole_are_refused() {
    let good = "proves: RFC 1 section 1\nstory: s\nclient: \"a\"\nserver: response 200\n  A: b\nserver: end\n";
    assert_eq!(read("x/y.wire", good).expect("a good script")[0].steps.len(), 3);
    let bad = [
        good.replace("proves", "#proves"),
        good.replace("server: end", "#"),
        good.replace("story", "client"),
        good.replace("client", "nobody"),
        good.replace("\"a\"", "shout"),
        good.replace("  A: b", "  A"),
        good.replace("end", "end now"),
    ];
    for text in bad {
        assert!(read("x/y.wire", &text).is_err(), "{text}");
    }
}
