//! The two voices of a story agree with each other, before either is held against edgehold.
//!
//! First they are played to each other in memory. Then both are read plainly, by other eyes than edgehold's: every
//! answer has a request, every request an answer; Sec-WebSocket-Accept is that of the key; a frame is refused with
//! 1002, 1007 or 1009 exactly if it has that fault, deflated or not; pongs carry what the pings carried.

use std::thread;

use httparse::{EMPTY_HEADER, Header, Request, parse_chunk_size};
use socket2::{Domain, Socket, Type};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::deflated::Reader;
use crate::feed::sample_id;
use crate::play::{Failure, Player};
use crate::script::{Channel, Step, Story};
use crate::voice::{Act, Frame, Party, Response, sample, say};
use crate::words::{Part, Variables, resolve};

/// The limit of the configuration files for stories whose routes set none.
const MESSAGE_BYTES: u64 = 128 << 10;

/// Plays the story's two sides to each other.
pub(crate) fn play_in_memory(story: &Story) -> Result<(), Failure> {
    let pair = || Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a socket pair");
    let ((client, front), (upstream, back)) = (pair(), pair());
    let peers = Player::in_memory(story, Party::Peer, client, upstream);
    let edge = Player::in_memory(story, Party::Edge, front, back).knowing(samples(story));
    thread::scope(|scope| {
        let edge = scope.spawn(|| edge.play());
        let peers = peers.play();
        let edge = edge.join().expect("the player of edgehold's part");
        peers.and(edge).map(|_| ())
    })
}

/// An example for each variable that the story takes from a response.
fn samples(story: &Story) -> Variables {
    let mut samples = story.variables();
    let responses = story.steps.iter().filter_map(|step| step.response());
    for (_, value) in responses.flat_map(|response| &response.fields) {
        if let [Part::Variable(name)] = &value[..] {
            samples.insert(name.clone(), sample(name).into());
        }
    }
    for step in &story.steps {
        if let Act::Published(saying) = &step.act {
            samples.insert(saying.variable.clone(), sample_id(&saying.variable));
        }
    }
    samples
}

impl Step {
    fn response(&self) -> Option<&Response> {
        if let Act::Response(response) = &self.act { Some(response) } else { None }
    }

    fn frame(&self) -> Option<&Frame> {
        if let Act::Frame(frame) = &self.act { Some(frame) } else { None }
    }

    fn is(&self, channel: Channel, by: Party) -> bool {
        self.channel == channel && self.by == by
    }

    /// The code of a close frame; 1000 for one without a body, since that is what edgehold makes of it.
    fn close_code(&self) -> Option<u16> {
        match &self.act {
            Act::Close(code) => Some(*code),
            Act::Frame(frame) if frame.opcode == 8 => match frame.payload.first_chunk() {
                Some(code) => Some(u16::from_be_bytes(*code)),
                None => Some(1000),
            },
            _ => None,
        }
    }
}

/// Reads both voices plainly.
pub(crate) fn read_plainly(story: &Story) -> Result<(), String> {
    let samples = samples(story);
    let client = as_http_1_1(voice(&story.steps, &samples)?);
    let mut rest = &client[..];
    let front = || story.steps.iter().filter(|step| step.is(Channel::Front, Party::Edge));
    let mut responses = front().filter_map(Step::response).peekable();
    while let Some(response) = responses.next() {
        let closes = response.says("Connection", "close", &samples);
        if closes && responses.peek().is_some() {
            return Err("a response follows one that closes".into());
        }
        let mut store = [EMPTY_HEADER; 256];
        match request(rest, &mut store) {
            Ok(Some(request)) => {
                request.agrees_with(response, &samples)?;
                if response.status == 101 {
                    let head = client.len() - rest.len() + request.len;
                    return frames(story, head, agreed(response, &samples), &samples);
                }
                if closes {
                    return Ok(());
                }
                rest = match request.skip_content(rest) {
                    Ok(rest) => rest,
                    Err(problem) => return content_is_refused(responses.next(), &problem, &samples),
                };
            }
            _ if closes && is_refusal(response.status) => return Ok(()),
            _ => return Err(format!("{} answers what is no request", response.status)),
        }
    }
    match request(rest, &mut [EMPTY_HEADER; 256]) {
        Ok(Some(_)) if leaves(story) => Ok(()),
        Ok(Some(_)) => Err("a request is left without an answer".into()),
        Ok(None) => Ok(()),
        Err(error) => Err(format!("what follows the last answer is no request: {error}")),
    }
}

/// The client goes, whatever is still to come.
fn leaves(story: &Story) -> bool {
    story.steps.iter().any(|step| step.is(Channel::Front, Party::Peer) && matches!(step.act, Act::Reset))
}

/// Content that is cut or malformed is answered by nothing, or by a refusal that closes.
fn content_is_refused(next: Option<&Response>, problem: &str, samples: &Variables) -> Result<(), String> {
    match next {
        None => Ok(()),
        Some(next) if next.says("Connection", "close", samples) && is_refusal(next.status) => Ok(()),
        Some(next) => Err(format!("{} answers what follows content that is none: {problem}", next.status)),
    }
}

/// Statuses that may answer bytes which are no whole, sound request.
fn is_refusal(status: u16) -> bool {
    matches!(status, 400 | 408 | 413 | 414 | 431 | 501 | 505)
}

/// httparse knows 1.0 and 1.1 only; RFC 9110 section 2.5 lets 1.2 be read like 1.1.
fn as_http_1_1(mut bytes: Vec<u8>) -> Vec<u8> {
    const LATER: &[u8] = b" HTTP/1.2\r\n";
    if let Some(at) = bytes.windows(LATER.len()).position(|it| it == LATER) {
        bytes[at + LATER.len() - 3] = b'1';
    }
    bytes
}

/// All that the client says in `steps`.
fn voice(steps: &[Step], samples: &Variables) -> Result<Vec<u8>, String> {
    let steps = steps.iter().filter(|step| step.is(Channel::Front, Party::Peer));
    let is_silent = |act: &Act| matches!(act, Act::End | Act::Reset | Act::Published(_) | Act::Listeners(_));
    let spoken = steps.filter(|step| !is_silent(&step.act));
    let said: Result<Vec<Vec<u8>>, String> = spoken.map(|step| say(&step.act, Party::Peer, samples)).collect();
    Ok(said?.concat())
}

// ---- HTTP ----

struct PlainRequest<'b> {
    method: &'b str,
    fields: Vec<(&'b str, &'b str)>,
    len: usize,
}

fn request<'b>(bytes: &'b [u8], store: &mut [Header<'b>]) -> Result<Option<PlainRequest<'b>>, httparse::Error> {
    let mut head = Request::new(store);
    let httparse::Status::Complete(len) = head.parse(bytes)? else { return Ok(None) };
    let field = |header: &Header<'b>| (header.name, std::str::from_utf8(header.value).unwrap_or(""));
    let fields = head.headers.iter().map(field).collect();
    Ok(Some(PlainRequest { method: head.method.unwrap_or(""), fields, len }))
}

impl<'b> PlainRequest<'b> {
    fn field(&self, name: &str) -> Option<&'b str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }

    fn agrees_with(&self, response: &Response, samples: &Variables) -> Result<(), String> {
        if (self.method == "HEAD") != response.to_head {
            return Err(format!("a response to HEAD answers only HEAD, this is {}", self.method));
        }
        if response.status != 101 {
            return Ok(());
        }
        let accept = derive_accept_key(self.field("Sec-WebSocket-Key").unwrap_or("").as_bytes());
        if !response.says("Sec-WebSocket-Accept", &accept, samples) {
            return Err(format!("Sec-WebSocket-Accept should be {accept}"));
        }
        let offers = |name: &str| {
            let mut lines = self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case("Sec-WebSocket-Protocol"));
            lines.any(|line| line.1.split(',').any(|offer| offer.trim() == name))
        };
        match response.value("Sec-WebSocket-Protocol", samples) {
            Some(name) if !offers(&name) => Err(format!("{name} was not offered")),
            _ => Ok(()),
        }
    }

    fn skip_content(&self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let content = &bytes[self.len..];
        if self.field("Transfer-Encoding").is_some() {
            return skip_chunks(content);
        }
        let length: usize = self.field("Content-Length").unwrap_or("0").parse().map_err(|_| "what length?")?;
        content.get(length..).ok_or_else(|| "the content is cut".into())
    }
}

/// RFC 9112 section 7.1, without trailers that would need more than a look for the empty line.
fn skip_chunks(mut content: &[u8]) -> Result<&[u8], String> {
    loop {
        let Ok(httparse::Status::Complete((at, size))) = parse_chunk_size(content) else {
            return Err("no chunk size".into());
        };
        if size == 0 {
            let trailers = &content[at - 2..];
            let end = trailers.windows(4).position(|it| it == b"\r\n\r\n").ok_or("the last chunk is cut")?;
            return Ok(&trailers[end + 4..]);
        }
        content = content.get(at + size as usize + 2..).ok_or("a chunk is cut")?;
    }
}

impl Response {
    fn value(&self, name: &str, samples: &Variables) -> Option<String> {
        let field = self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name))?;
        String::from_utf8(resolve(&field.1, samples).ok()?).ok()
    }

    fn says(&self, name: &str, value: &str, samples: &Variables) -> bool {
        self.value(name, samples).is_some_and(|it| it.split(", ").any(|it| it == value))
    }
}

// ---- WebSocket ----

/// What a client's frames come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judgement {
    pings: Vec<Vec<u8>>,
    /// The code of its close frame.
    close: Option<u16>,
    /// The code that its first fault deserves.
    fault: Option<u16>,
}

/// Frames begin at `head` of the client's voice. What the client says after the server's close frame has no meaning.
fn frames(story: &Story, head: usize, deflate: Option<Reader>, samples: &Variables) -> Result<(), String> {
    let says_goodbye = |step: &Step| step.is(Channel::Front, Party::Edge) && step.close_code().is_some();
    let end = story.steps.iter().position(says_goodbye).unwrap_or(story.steps.len());
    let judgement = judge(&voice(&story.steps[..end], samples)?[head..], message_bytes(story), deflate);
    let server: Vec<&Step> = story.steps.iter().filter(|step| step.is(Channel::Front, Party::Edge)).collect();
    let pongs: Vec<Vec<u8>> = server
        .iter()
        .filter_map(|step| step.frame().filter(|it| it.opcode == 10))
        .map(|it| it.payload.clone())
        .collect();
    if pongs != judgement.pings {
        return Err(format!("the pings are {:?}, the pongs {pongs:?}", judgement.pings));
    }
    let code = server.iter().find_map(|step| step.close_code());
    match judgement {
        Judgement { fault: Some(fault), .. } if code != Some(fault) => Err(format!("a fault that deserves {fault}")),
        // RFC 6455 section 5.5.1 lets the server have another code than the client's: here, for a lost upstream.
        Judgement { fault: None, close: Some(close), .. } if code != Some(close) && code != Some(1011) => {
            Err(format!("{close} is not echoed"))
        }
        Judgement { fault: None, close: None, .. } if matches!(code, Some(1002 | 1007 | 1009)) => {
            Err("there is no fault".into())
        }
        _ => Ok(()),
    }
}

/// `message_bytes` of the story's routes, where one sets it.
fn message_bytes(story: &Story) -> u64 {
    let mut lines = story.routes.iter().flat_map(|route| route.lines());
    let value = lines.find_map(|line| line.strip_prefix("message_bytes = \"")?.strip_suffix('"')?.parse().ok());
    value.unwrap_or(MESSAGE_BYTES)
}

/// How the client's messages may be deflated, by the 101 (RFC 7692 section 7.1.1.2).
fn agreed(response: &Response, samples: &Variables) -> Option<Reader> {
    let value = response.value("Sec-WebSocket-Extensions", samples)?;
    Some(Reader::new(!value.contains("client_no_context_takeover")))
}

/// A message that has begun.
struct Begun {
    is_text: bool,
    is_deflated: bool,
    content: Vec<u8>,
}

/// Reads a client's frames as RFC 6455 and RFC 7692 describe them, all at once.
fn judge(mut bytes: &[u8], limit: u64, mut deflate: Option<Reader>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut message: Option<Begun> = None;
    while judgement.close.is_none() && !bytes.is_empty() {
        match judge_frame(&mut bytes, &mut message, limit, &mut deflate, &mut judgement) {
            Ok(true) => {}
            Ok(false) => break,
            Err(code) => {
                judgement.fault = Some(code);
                break;
            }
        }
    }
    judgement
}

/// `Ok(false)`: the frame is cut. `Err`: the code that its fault deserves.
fn judge_frame(
    bytes: &mut &[u8],
    message: &mut Option<Begun>,
    limit: u64,
    deflate: &mut Option<Reader>,
    judgement: &mut Judgement,
) -> Result<bool, u16> {
    let (fin, opcode) = (bytes[0] & 0x80 != 0, bytes[0] & 0xf);
    let is_control = opcode >= 8;
    let stray = if opcode == 0 { message.is_none() } else { !is_control && message.is_some() };
    let is_deflated = bytes[0] & 0x70 == 0x40 && matches!(opcode, 1 | 2) && deflate.is_some();
    if bytes[0] & 0x70 != 0 && !is_deflated || !matches!(opcode, 0..=2 | 8..=10) || is_control && !fin || stray {
        return Err(1002);
    }
    let Some(second) = bytes.get(1) else { return Ok(false) };
    if second & 0x80 == 0 || is_control && second & 0x7f > 125 || opcode == 8 && second & 0x7f == 1 {
        return Err(1002);
    }
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = bytes.get(2..2 + extended) else { return Ok(false) };
    let length = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let length = if extended == 0 { u64::from(second & 0x7f) } else { length };
    if extended == 2 && length < 126 || extended == 8 && (length < 1 << 16 || length >> 63 == 1) {
        return Err(1002);
    }
    let so_far = message.as_ref().map_or(0, |it| it.content.len() as u64);
    if !is_control && so_far.saturating_add(length) > limit {
        return Err(1009);
    }
    let Some(key) = bytes.get(2 + extended..6 + extended) else { return Ok(false) };
    let payload = &bytes[6 + extended..];
    let payload = &payload[..payload.len().min(length as usize)];
    let is_whole = payload.len() as u64 == length;
    let clear: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    *bytes = &bytes[6 + extended + payload.len()..];
    if is_control {
        return if is_whole { judge_control(opcode, clear, judgement).map(|()| true) } else { Ok(false) };
    }
    let begun = message.get_or_insert(Begun { is_text: opcode == 1, is_deflated, content: Vec::new() });
    begun.content.extend(clear);
    let ends = fin && is_whole;
    begun.judge(ends, limit, deflate)?;
    if ends {
        *message = None;
    }
    Ok(is_whole)
}

impl Begun {
    /// What has come of it so far; a deflated message is judged when it is whole.
    fn judge(&mut self, ends: bool, limit: u64, deflate: &mut Option<Reader>) -> Result<(), u16> {
        if let Some(reader) = deflate.as_mut().filter(|_| self.is_deflated && ends) {
            self.content = reader.read(&self.content, limit)?;
        }
        let says = ends || !self.is_deflated;
        match std::str::from_utf8(&self.content) {
            Err(error) if self.is_text && says && (ends || error.error_len().is_some()) => Err(1007),
            _ => Ok(()),
        }
    }
}

fn judge_control(opcode: u8, payload: Vec<u8>, judgement: &mut Judgement) -> Result<(), u16> {
    match opcode {
        9 => judgement.pings.push(payload),
        8 => judgement.close = Some(judge_close(&payload)?),
        _ => {}
    }
    Ok(())
}

fn judge_close(body: &[u8]) -> Result<u16, u16> {
    let Some((code, reason)) = body.split_first_chunk() else { return Ok(1000) };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(1002);
    }
    if std::str::from_utf8(reason).is_err() { Err(1007) } else { Ok(code) }
}

#[test]
fn voices_that_do_not_agree_are_noticed() {
    let good = "proves: RFC 6455 section 1\nstory: s\nclient: opening \"/echo\" \"a, b\"\nserver: opened \"b\"\n\
                client: ping \"p\"\nserver: pong \"p\"\nclient: close 1000\nserver: close 1000\nserver: end\n";
    let judged = |text: &str| read_plainly(&crate::script::read("x/y.wire", text).expect("a script")[0]);
    assert_eq!(judged(good), Ok(()));
    let bad = [
        good.replace("opened \"b\"", "opened \"c\""),
        good.replace("server: pong \"p\"", "server: pong \"q\""),
        good.replace("server: pong \"p\"\n", ""),
        good.replace("server: close 1000", "server: close 1002"),
        good.replace("client: close 1000", "client: close 1005"),
        good.replace("client: ping", "client: ping unmasked"),
        good.replace("server: close 1000", "server: close 1001"),
        good.replace("server: opened \"b\"", "server: response 200"),
        good.replace("server: opened \"b\"", "server: response 101\n  Sec-WebSocket-Accept: x"),
        good.replace("client: opening \"/echo\" \"a, b\"", "client: \"GET / HTTP/1.1\\r\\n\""),
    ];
    for text in &bad {
        assert!(judged(text).is_err(), "{text}");
    }
}

#[test]
fn voices_that_talk_past_each_other_are_noticed() {
    let script = "proves: RFC 1 section 1\nstory: s\nclient: \"a\"\nserver: response 200\n  ETag: \\(etag)\n\
                  client: \"\\(etag)\"\nserver: end\n";
    let plays = |text: &str| play_in_memory(&crate::script::read("x/y.wire", text).expect("a script")[0]);
    assert!(plays(script).is_ok());
    assert!(plays(&script.replace("client: \"\\(etag)", "client: \"\\(tag)")).is_err());
}
