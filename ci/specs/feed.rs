//! What a story says through a feed: messages published over HTTP at the admin address of the server under test.
//!
//! Every playing has a channel of its own, `\(channel)`, so that playings of one server do not hear each other. A
//! message has been said when the shard has it: `POST` only means that it is on its way, so a second one goes to a
//! channel where nobody listens, and `HEAD` asks there until it has come. The configuration has one shard for this.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::peer::{Server, patience};
use crate::voice::{Act, Saying};
use crate::words::{Part, Problem, Variables, Words, resolve};

/// Where nobody listens; `broadcast.toml` lets everybody ask.
const LAST: &str = "/last/";

/// The configuration of stories in which a feed speaks.
pub(crate) const CONFIG: &str = "broadcast.toml";

/// Seconds until the shard must have what was said.
const LIMIT: u64 = 10;

/// The channel of a playing in memory.
pub(crate) const CHANNEL: &str = "c000000";

/// An id for a variable that a feed would set: the same for the same name, so that both voices know it.
pub(crate) fn sample_id(name: &str) -> Vec<u8> {
    format!("0123abcd-{}", name.bytes().map(u32::from).sum::<u32>()).into_bytes()
}

/// The variable that holds the channel of a playing against a server, and its value.
pub(crate) fn own_channel() -> (String, Vec<u8>) {
    static PLAYINGS: AtomicU64 = AtomicU64::new(1);
    let number = PLAYINGS.fetch_add(1, Ordering::Relaxed);
    ("channel".to_owned(), format!("c{number:06}").into_bytes())
}

/// Reads `feed: says …` and `feed: waits for N`.
pub(crate) fn act(words: &mut Words<'_>) -> Result<Act, Problem> {
    let act = match words.word() {
        "says" => Act::Published(saying(words)?),
        "waits" if words.takes("for") => Act::Listeners(words.number()?),
        word => return Err(format!("a feed cannot do {word:?}")),
    };
    words.end()?;
    Ok(act)
}

fn saying(words: &mut Words<'_>) -> Result<Saying, Problem> {
    let mut saying = Saying { variable: "id".into(), times: 1, ..Saying::default() };
    while !words.rest().is_empty() {
        if words.is_at_bytes() {
            saying.payload = words.bytes()?;
            continue;
        }
        match words.word() {
            "to" => saying.suffix = words.quoted_text()?,
            "as" => saying.variable = words.word().into(),
            "times" => saying.times = words.number()?,
            "binary" => saying.binary = true,
            about @ ("id" | "event" | "key") => saying.about.push(format!("{about}={}", words.quoted_text()?)),
            word => return Err(format!("what is {word:?} of a message?")),
        }
    }
    Ok(saying)
}

/// The feed of a server under test.
#[derive(Clone, Copy)]
pub(crate) struct Feed {
    admin: SocketAddr,
    clients: SocketAddr,
}

/// An answer: its status, the value of Last-Event-ID, its content.
struct Answer {
    status: u16,
    last: Option<String>,
    content: String,
}

impl Feed {
    pub(crate) fn of(server: &Server) -> Feed {
        Feed { admin: server.admin, clients: server.address }
    }

    /// Says it, as often as it wants; sets the variable to the last one's id.
    pub(crate) fn say(&self, saying: &Saying, variables: &mut Variables) -> Result<(), Problem> {
        let channel = channel(variables)? + &saying.suffix;
        let kind = if saying.binary { "application/octet-stream" } else { "text/x-message" };
        let target = format!("{channel}?{}", saying.about.join("&"));
        for _ in 0..saying.times {
            let id = self.publish(&target, kind, &saying.payload)?;
            variables.insert(saying.variable.clone(), id.into_bytes());
        }
        let marker = format!("marker-{channel}");
        let id = self.publish(&marker, kind, b"")?;
        until(&format!("the shard has {id}"), || {
            let answer = ask(self.clients, "HEAD", &format!("{LAST}{marker}?after="), "", b"")?;
            Ok(answer.last.is_some_and(|last| sequence(&last) >= sequence(&id)))
        })
    }

    /// Waits until so many listen to the channel of this playing.
    pub(crate) fn wait_for(&self, count: u32, variables: &Variables) -> Result<(), Problem> {
        let target = format!("/v1/channels/{}", channel(variables)?);
        until(&format!("{count} listen"), || {
            let answer = ask(self.admin, "GET", &target, "", b"")?;
            Ok(says_count(&answer.content, count))
        })
    }

    fn publish(&self, target: &str, kind: &str, payload: &[u8]) -> Result<String, Problem> {
        let answer = ask(self.admin, "POST", &format!("/v1/publish/{target}"), kind, payload);
        let answer = answer.map_err(|error| format!("publishing fails: {error}"))?;
        let id = answer.content.strip_prefix("{\"id\":\"").and_then(|it| it.split_once('"')).map(|it| it.0.to_owned());
        id.filter(|_| answer.status == 200).ok_or_else(|| format!("publishing: {} {}", answer.status, answer.content))
    }
}

fn channel(variables: &Variables) -> Result<String, Problem> {
    let channel = resolve(&[Part::Variable("channel".into())], variables);
    String::from_utf8(channel.map_err(|name| format!("there is no {name}"))?).map_err(|error| error.to_string())
}

/// Each look is a request of its own: that is pause enough.
fn until(what: &str, mut condition: impl FnMut() -> io::Result<bool>) -> Result<(), Problem> {
    let deadline = Instant::now() + patience(LIMIT);
    while !condition().map_err(|error| format!("{what}: {error}"))? {
        if Instant::now() >= deadline {
            return Err(format!("not in time: {what}"));
        }
    }
    Ok(())
}

/// What is behind the epoch of an id: playings that come in between have counted on.
fn sequence(id: &str) -> u64 {
    id.split_once('-').and_then(|it| it.1.parse().ok()).unwrap_or(0)
}

/// Whether the answer tells of so many; of none, it may not tell at all.
fn says_count(content: &str, count: u32) -> bool {
    content.contains(&format!("\"subscribers\":{count}}}")) || count == 0 && content.contains("\"channels\":[]")
}

/// One request on a connection of its own, by HTTP/1.0: the answer ends with the connection.
fn ask(address: SocketAddr, method: &str, target: &str, kind: &str, content: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience(LIMIT)))?;
    let fields = format!("Host: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", content.len());
    let fields = if kind.is_empty() { format!("Host: {address}\r\n") } else { fields };
    stream.write_all(&[format!("{method} {target} HTTP/1.0\r\n{fields}\r\n").as_bytes(), content].concat())?;
    let mut came = String::new();
    stream.read_to_string(&mut came)?;
    let (head, content) = came.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|it| it.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let field = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("Last-Event-ID").then(|| value.to_owned())
    };
    Ok(Answer { status, last: head.lines().find_map(field), content: content.into() })
}
