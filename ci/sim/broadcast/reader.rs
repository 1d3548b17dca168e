//! How a subscriber reads: strictly. What no client has to accept is a fault.

use crate::deflated::Deflated;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgehold_wire::upgrade::{self, Offer};
use edgehold_wire::ws::{FrameEvent, Parser, ParserConfig, Role};
use serde_json::Value;
use std::collections::HashMap;

pub const KEY: [u8; 16] = *b"a key of sixteen";

/// How a subscriber is sent messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Socket,
    Events,
    Lines,
    Raw,
    Poll,
}

/// A message as it came. What the transport does not carry is `None`.
#[derive(Default)]
#[expect(clippy::option_option, reason = "no event is not the same as an event that the transport does not carry")]
pub struct Received {
    pub id: Option<String>,
    pub channel: Option<String>,
    pub event: Option<Option<String>>,
    pub text: Option<bool>,
    /// It came as an event: line ends are LF, and what is no text is base64.
    pub folded: bool,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin = String::from_utf8_lossy(&self.body[..self.body.len().min(30)]);
        write!(out, "{:?} {:?} {:?} {} bytes {begin:?}", self.id, self.channel, self.event, self.body.len())
    }
}

impl Received {
    /// What the payload says of itself.
    pub fn sequence(&self) -> Option<u64> {
        let decoded = self.folded.then(|| STANDARD.decode(&self.body).ok()).flatten();
        header(decoded.as_deref().unwrap_or(&self.body)).map(|(sequence, _)| sequence)
    }
}

/// What a subscriber was sent.
#[derive(Debug)]
pub enum Incoming {
    /// The response has begun; it tells of a gap.
    Opened {
        gap: bool,
    },
    Message(Received),
    Gap {
        channel: String,
        after: Option<String>,
        next: Option<String>,
    },
    Subscribed {
        channels: Vec<String>,
        after: String,
    },
    Unsubscribed(Vec<String>),
    Refused(Option<String>),
    /// A poll's answer is whole.
    Answered {
        status: u16,
        last: String,
    },
}

type Read<T> = Result<T, String>;

pub struct Reader {
    pub transport: Transport,
    offer: Offer<'static>,
    /// Of the stream: a subscriber of HTTP/1.0 is not sent chunks.
    http10: bool,
    incoming: Vec<u8>,
    head: Option<Head>,
    /// Of the body, what is not a whole event, line or message yet.
    text: Vec<u8>,
    parser: Parser,
    partial: Vec<u8>,
    pub deflated: Option<Deflated>,
    pub pings: usize,
    pub close_code: Option<u16>,
    /// The last chunk has come.
    pub ended: bool,
    pub origin: bool,
}

/// Of a response.
struct Head {
    status: u16,
    fields: HashMap<String, String>,
}

impl Reader {
    pub fn new(transport: Transport, http10: bool, offer: Offer<'static>) -> Reader {
        Reader {
            transport,
            offer,
            http10,
            incoming: Vec::new(),
            head: None,
            text: Vec::new(),
            parser: Parser::new(),
            partial: Vec::new(),
            deflated: None,
            pings: 0,
            close_code: None,
            ended: false,
            origin: false,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// What must not be sent over this transport.
    pub fn receive(&mut self, bytes: &[u8]) -> Read<Vec<Incoming>> {
        self.incoming.extend_from_slice(bytes);
        let mut words = Vec::new();
        match self.transport {
            Transport::Socket => self.hear_socket(&mut words)?,
            Transport::Poll => while self.hear_answer(&mut words)? {},
            _ => self.hear_stream(&mut words)?,
        }
        Ok(words)
    }

    /// Nothing more comes: nothing may be left over, if the end was meant.
    pub fn left_over(&self) -> usize {
        self.incoming.len() + self.text.len() + self.partial.len()
    }

    /// The connection is the one that the other has read so far.
    pub fn go_on_from(&mut self, other: &mut Reader) {
        self.incoming = std::mem::take(&mut other.incoming);
    }

    /// The response, or the 101, has come.
    pub fn is_open(&self) -> bool {
        self.head.is_some()
    }

    // ---- WebSocket ----

    fn hear_socket(&mut self, words: &mut Vec<Incoming>) -> Read<()> {
        if self.head.is_none() {
            match upgrade::confirm(&self.incoming, KEY, self.offer) {
                Ok(None) => return Ok(()),
                Ok(Some(confirmed)) => {
                    let len = confirmed.len;
                    self.deflated = confirmed.deflate.map(Deflated::new);
                    self.head = Some(Head { status: 101, fields: HashMap::new() });
                    self.incoming.drain(..len);
                    words.push(Incoming::Opened { gap: false });
                }
                Err(why) => return Err(format!("{why:?}: {}", String::from_utf8_lossy(&self.incoming))),
            }
        }
        self.hear_frames(words)
    }

    fn hear_frames(&mut self, words: &mut Vec<Incoming>) -> Read<()> {
        let mut bytes = std::mem::take(&mut self.incoming);
        let mut rest = &mut bytes[..];
        let config = ParserConfig { role: Role::Client, message_bytes: u64::MAX, deflate: self.deflated.is_some() };
        while let Some(event) = self.parser.next(&mut rest, &config).map_err(|fault| format!("{fault:?}"))? {
            if self.close_code.is_some() {
                return Err("something behind Close".into());
            }
            match event {
                FrameEvent::Data { text, deflated, last, payload, .. } => {
                    self.partial.extend_from_slice(payload);
                    if last {
                        let message = std::mem::take(&mut self.partial);
                        let plain = self.deflated.as_mut().filter(|_| deflated).map(|it| it.inflate(&message));
                        words.push(message_or_word(text, plain.unwrap_or(message))?);
                    }
                }
                FrameEvent::Close(body) => self.close_code = Some(body.map_or(1005, |(code, _)| code.0)),
                FrameEvent::Ping(_) => self.pings += 1,
                FrameEvent::Pong(_) | FrameEvent::Empty => {}
            }
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    // ---- HTTP ----

    fn take_head(&mut self) -> Read<Option<Head>> {
        let Some(at) = self.incoming.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
        let head: Vec<u8> = self.incoming.drain(..at + 4).collect();
        let head = String::from_utf8(head).map_err(|_| "a head that is no text")?;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string()));
        let fields: Option<HashMap<_, _>> = lines.map(field).collect();
        match (status, fields) {
            (Some(status), Some(fields)) => Ok(Some(Head { status, fields })),
            _ => Err(format!("no head: {head}")),
        }
    }

    fn hear_stream(&mut self, words: &mut Vec<Incoming>) -> Read<()> {
        if self.head.is_none() {
            let Some(head) = self.take_head()? else { return Ok(()) };
            self.check_stream(&head)?;
            words.push(Incoming::Opened { gap: head.fields.contains_key("Edgehold-Gap") });
            self.head = Some(head);
        }
        if self.http10 {
            self.text.append(&mut self.incoming);
        } else {
            while self.take_chunk()? {}
        }
        match self.transport {
            Transport::Events => while self.take_event(words)? {},
            Transport::Lines => while self.take_line(words)? {},
            _ => while self.take_raw(words) {},
        }
        Ok(())
    }

    fn check_stream(&self, head: &Head) -> Read<()> {
        let media = match self.transport {
            Transport::Events => "text/event-stream",
            Transport::Lines => "application/x-ndjson",
            _ => "application/octet-stream",
        };
        let is = |name: &str, value: &str| head.fields.get(name).is_some_and(|it| it == value);
        let coded = head.fields.contains_key("Transfer-Encoding") && is("Transfer-Encoding", "chunked");
        let fields = is("Content-Type", media) && is("Cache-Control", "no-store") && is("X-Accel-Buffering", "no");
        let last = is("Connection", "close");
        let right = head.status == 200 && fields && coded != self.http10 && (last || !self.http10);
        if right { Ok(()) } else { Err(format!("a stream began with {} {:?}", head.status, head.fields)) }
    }

    /// A chunk holds whole pieces and is never empty; nothing stands behind the last one (RFC 9112 section 7.1).
    fn take_chunk(&mut self) -> Read<bool> {
        let Some(end) = self.incoming.windows(2).position(|it| it == b"\r\n") else { return Ok(false) };
        let size = str::from_utf8(&self.incoming[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or(format!("no chunk: {:?}", &self.incoming[..end.min(20)]))?;
        let (from, to) = (end + 2, end + 2 + size);
        if self.incoming.len() < to + 2 {
            return Ok(false);
        }
        if self.ended || &self.incoming[to..to + 2] != b"\r\n" {
            return Err("a chunk does not end as it should, or stands behind the last".into());
        }
        let whole = self.transport == Transport::Raw || size == 0 || self.incoming[to - 1] == b'\n';
        self.ended = size == 0;
        self.text.extend_from_slice(&self.incoming[from..to]);
        self.incoming.drain(..to + 2);
        if whole { Ok(true) } else { Err("a chunk with a part of a line".into()) }
    }

    /// WHATWG HTML section 9.2.5, without what the edge never writes.
    fn take_event(&mut self, words: &mut Vec<Incoming>) -> Read<bool> {
        if self.text.starts_with(b":") {
            return Ok(self.take_comment());
        }
        let Some(end) = self.text.windows(2).position(|it| it == b"\n\n") else { return Ok(false) };
        let block: Vec<u8> = self.text.drain(..end + 2).collect();
        let block = String::from_utf8(block).map_err(|_| "an event that is not UTF-8")?;
        let (mut id, mut event, mut data) = (None, None, Vec::new());
        for line in block.trim_end_matches('\n').split('\n') {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", value) if id.is_none() && data.is_empty() => id = Some(value.to_string()),
                ("event", value) if event.is_none() && data.is_empty() => event = Some(value.to_string()),
                ("data", value) => data.push(value.to_string()),
                ("retry", "3000") if block == "retry: 3000\n\n" => return Ok(true),
                _ => return Err(format!("no field of an event: {line:?}")),
            }
        }
        if block.contains('\r') || data.is_empty() {
            return Err(format!("no event: {block:?}"));
        }
        words.push(event_word(id, event, data.join("\n"))?);
        Ok(true)
    }

    /// With the empty line behind it, which ends nothing.
    fn take_comment(&mut self) -> bool {
        let Some(end) = self.text.iter().position(|&byte| byte == b'\n') else { return false };
        let end = end + 1;
        if self.text.len() == end {
            return false;
        }
        self.text.drain(..end + usize::from(self.text[end] == b'\n'));
        true
    }

    fn take_line(&mut self, words: &mut Vec<Incoming>) -> Read<bool> {
        let Some(end) = self.text.iter().position(|&byte| byte == b'\n') else { return Ok(false) };
        let line: Vec<u8> = self.text.drain(..=end).collect();
        let line = str::from_utf8(&line).map_err(|_| "a line that is not UTF-8")?.trim_end_matches('\n');
        if !line.trim_start_matches(' ').is_empty() {
            words.push(json_word(&json(line)?)?);
        }
        Ok(true)
    }

    fn take_raw(&mut self, words: &mut Vec<Incoming>) -> bool {
        let Some((_, len)) = header(&self.text).filter(|&(_, len)| len <= self.text.len()) else { return false };
        words.push(Incoming::Message(Received { body: self.text.drain(..len).collect(), ..Received::default() }));
        true
    }

    // ---- long polls ----

    fn hear_answer(&mut self, words: &mut Vec<Incoming>) -> Read<bool> {
        if self.head.is_none() {
            self.head = self.take_head()?;
        }
        let Some(head) = &self.head else { return Ok(false) };
        let length = head.fields.get("Content-Length").map_or(0, |it| it.parse().unwrap_or(usize::MAX));
        if self.incoming.len() < length {
            return Ok(false);
        }
        let body: Vec<u8> = self.incoming.drain(..length).collect();
        let shared = head.fields.get("Access-Control-Allow-Origin").is_some_and(|it| it == "https://page");
        if shared != self.origin {
            return Err(format!("shared with the page of another origin: {shared}, asked: {}", self.origin));
        }
        let (status, last) = (head.status, head.fields.get("Last-Event-ID").cloned());
        self.head = None;
        let last = last.ok_or(format!("an answer {status} without an id: {}", String::from_utf8_lossy(&body)))?;
        answer_words(status, &last, &body, words)?;
        words.push(Incoming::Answered { status, last });
        Ok(true)
    }
}

/// `#sequence;channel;length;`: the sequence, and the length of the whole.
fn header(body: &[u8]) -> Option<(u64, usize)> {
    let mut parts = body.strip_prefix(b"#")?.splitn(4, |&byte| byte == b';');
    let mut number = |skip| str::from_utf8(parts.nth(skip)?).ok()?.parse::<u64>().ok();
    let (sequence, filler) = (number(0)?, number(1)?);
    let rest = parts.next()?;
    Some((sequence, body.len() - rest.len() + filler as usize))
}

fn json(text: &str) -> Read<Value> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {}", &text[..text.len().min(80)]))
}

/// A plain payload never begins like JSON.
fn message_or_word(text: bool, body: Vec<u8>) -> Read<Incoming> {
    if !text || !body.starts_with(b"{") {
        return Ok(Incoming::Message(Received { text: Some(text), body, ..Received::default() }));
    }
    json_word(&json(str::from_utf8(&body).map_err(|_| "text that is not UTF-8")?)?)
}

fn event_word(id: Option<String>, event: Option<String>, data: String) -> Read<Incoming> {
    match (&id, event.as_deref()) {
        (None, Some("gap")) => json_word(&json(&data)?),
        (None, _) => Err(format!("an event without an id: {data:?}")),
        _ if data.starts_with('{') => match json_word(&json(&data)?)? {
            Incoming::Message(received) if received.id == id && received.event.as_ref() == Some(&event) => {
                Ok(Incoming::Message(received))
            }
            other => Err(format!("an event whose parts differ: {id:?} {event:?} {other:?}")),
        },
        _ => Ok(Incoming::Message(Received {
            id,
            event: Some(event),
            folded: true,
            body: data.into_bytes(),
            ..Received::default()
        })),
    }
}

fn string(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(Into::into)
}

fn strings(value: &Value) -> Read<Vec<String>> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn json_word(value: &Value) -> Read<Incoming> {
    if let Some(gap) = value.get("gap") {
        let channel = string(gap, "channel").ok_or("a gap without a channel")?;
        return Ok(Incoming::Gap { channel, after: string(gap, "after"), next: string(gap, "next") });
    }
    if let Some(channels) = value.get("subscribed") {
        let after = string(value, "after").ok_or("subscribed without a place")?;
        return Ok(Incoming::Subscribed { channels: strings(channels)?, after });
    }
    if let Some(channels) = value.get("unsubscribed") {
        return Ok(Incoming::Unsubscribed(strings(channels)?));
    }
    if value.get("error").is_some() {
        return Ok(Incoming::Refused(string(value, "channel")));
    }
    envelope(value).map(Incoming::Message)
}

fn envelope(value: &Value) -> Read<Received> {
    let binary = string(value, "base64").map(|it| STANDARD.decode(it).map_err(|error| error.to_string()));
    let (text, body) = match (string(value, "data"), binary) {
        (Some(data), None) => (true, data.into_bytes()),
        (None, Some(bytes)) => (false, bytes?),
        _ => return Err(format!("neither data nor base64: {value}")),
    };
    let (id, channel) = (string(value, "id"), string(value, "channel"));
    if id.is_none() || channel.is_none() {
        return Err(format!("no envelope: {value}"));
    }
    Ok(Received { id, channel, event: Some(string(value, "event")), text: Some(text), folded: false, body })
}

fn answer_words(status: u16, last: &str, body: &[u8], words: &mut Vec<Incoming>) -> Read<()> {
    let body = str::from_utf8(body).map_err(|_| "an answer that is not UTF-8")?;
    let value = match status {
        204 if body.is_empty() => return Ok(()),
        410 => {
            let gaps = body.lines().map(|line| json_word(&json(line)?)).collect::<Read<Vec<Incoming>>>()?;
            let all = !gaps.is_empty() && gaps.iter().all(|gap| matches!(gap, Incoming::Gap { .. }));
            words.extend(gaps);
            return if all { Ok(()) } else { Err(format!("410 without a gap: {body}")) };
        }
        200 => json(body)?,
        _ => return Err(format!("{status}: {body}")),
    };
    if string(&value, "last").as_deref() != Some(last) {
        return Err(format!("two last ids: {last} and {:?}", value.get("last")));
    }
    for part in ["gaps", "messages"].iter().filter_map(|name| value.get(name)?.as_array()).flatten() {
        words.push(json_word(part)?);
    }
    Ok(())
}
