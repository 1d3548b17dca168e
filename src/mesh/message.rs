//! A message of a feed, and the bytes that are sent of it by each transport, encoded once for all shards.
//!
//! A message is made by the control thread, goes to every shard as a counted reference (`Arc`), and does not change.
//! Its bytes in a [`Form`] are encoded by the shard that needs them first ([`Message::form`]); all others read the same
//! bytes. The plain WebSocket frame is made at once: the payload is stored in it.
//!
//! Encoded forms last as long as a message is new. Who keeps one for replay drops them ([`Message::without_forms`]),
//! and who sends an old one encodes it again ([`Message::form_once`]), so a kept message costs [`Message::cost`] bytes,
//! whatever forms are asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgehold_wire::http1;
use edgehold_wire::sse;
use edgehold_wire::ws::{self, Opcode};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// Number of a feed, in the order of the configuration.
pub type FeedNumber = u16;

/// A message of a feed that has no sequence yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Its feed.
    pub feed: FeedNumber,
    /// Its channel.
    pub channel: String,
    /// The feed's own id for it.
    pub id: Option<String>,
    /// Its event name.
    pub event: Option<String>,
    /// It replaces what was said before under this key (`last_values`).
    pub key: Option<String>,
    /// Text if the payload is UTF-8; else binary.
    pub text: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// How a message is encoded for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// What is encoded.
    pub body: Body,
    /// The framing around it.
    pub frame: Frame,
}

/// What is encoded of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// The payload.
    Plain,
    /// A JSON object: channel, id, event, and the payload as `data` (text) or `base64` (binary).
    Json,
}

/// The framing around the body of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// One unmasked WebSocket frame (RFC 6455 section 5.2).
    WebSocket,
    /// The same, its payload deflated (RFC 7692) if that makes it shorter.
    Deflated,
    /// An event of an event stream (HTML, server-sent events). A binary payload is in base64.
    Event,
    /// Such an event as a chunk (RFC 9112 section 7.1).
    EventChunk,
    /// JSON and a line feed, or the payload as it is.
    Piece,
    /// The same as a chunk.
    PieceChunk,
}

/// A message with its sequence.
#[derive(Debug)]
pub struct Message {
    /// Its number, from one over all feeds and channels of this process, so that one number says up to where a client
    /// has got all channels that it is subscribed to.
    pub sequence: u64,
    /// The run of the server, within which sequences count.
    pub epoch: u32,
    /// Its feed.
    pub feed: FeedNumber,
    /// Text (UTF-8), else binary.
    pub text: bool,
    /// Its channel.
    pub channel: Box<str>,
    /// The feed's own id for it.
    pub own_id: Option<Box<str>>,
    /// Its event name.
    pub event: Option<Box<str>>,
    /// It replaces what was said before under this key (`last_values`).
    pub key: Option<Box<str>>,
    /// Its plain WebSocket frame, in which the payload is stored.
    frame: Arc<[u8]>,
    /// Length of the frame's header.
    payload_at: u8,
    /// Other forms, encoded so far: a list that only grows.
    forms: OnceLock<Box<Made>>,
}

/// An encoded form, and the next one of the list.
#[derive(Debug)]
struct Made {
    form: Form,
    bytes: Box<[u8]>,
    next: OnceLock<Box<Made>>,
}

/// The fields of [`Body::Json`].
#[derive(Serialize)]
struct Envelope<'m> {
    channel: &'m str,
    id: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Message {
    /// Gives a message its sequence. A text payload that is not UTF-8 becomes binary.
    pub fn new(draft: NewMessage, epoch: u32, sequence: u64) -> Message {
        let text = draft.text && simdutf8::basic::from_utf8(&draft.payload).is_ok();
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let head = ws::head(opcode, true, draft.payload.len() as u64, None);
        Message {
            sequence,
            epoch,
            feed: draft.feed,
            text,
            channel: draft.channel.into(),
            own_id: draft.id.map(Into::into),
            event: draft.event.map(Into::into),
            key: draft.key.map(Into::into),
            frame: [head.as_bytes(), &draft.payload].concat().into(),
            payload_at: head.as_bytes().len() as u8,
            forms: OnceLock::new(),
        }
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.payload_at)..]
    }

    /// Its id as clients see it: the feed's own, or else that of epoch and sequence ([`id()`]).
    pub fn id(&self) -> String {
        self.own_id.as_deref().map_or_else(|| id(self.epoch, self.sequence), Into::into)
    }

    /// Bytes that it takes, about, its encoded forms other than the plain frame not counted.
    pub fn cost(&self) -> u64 {
        let words = [&self.own_id, &self.event, &self.key].map(|it| it.as_ref().map_or(0, |it| it.len()));
        (size_of::<Message>() + self.frame.len() + self.channel.len() + words.iter().sum::<usize>()) as u64
    }

    /// Bytes of its plain WebSocket frame: about what is sent of it in any form.
    pub fn frame_len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// Its bytes in this form; they are encoded by the first call of any thread and stay. `deflate` is called for
    /// [`Frame::Deflated`] alone: it appends the compressed body to the vector, without the tail that RFC 7692 section
    /// 7.2.1 removes.
    pub fn form(&self, form: Form, deflate: impl FnOnce(&[u8], &mut Vec<u8>)) -> &[u8] {
        if form == (Form { body: Body::Plain, frame: Frame::WebSocket }) {
            return &self.frame;
        }
        match self.find(form) {
            Ok(bytes) => bytes,
            Err(place) => self.make(place, form, deflate),
        }
    }

    /// Its bytes in this form, which do not stay unless they were encoded before. [`Frame::Deflated`] is not compressed
    /// for one client: it is then [`Frame::WebSocket`].
    pub fn form_once(&self, form: Form) -> Cow<'_, [u8]> {
        let plain = Form { body: form.body, frame: Frame::WebSocket };
        match self.find(form) {
            _ if form == (Form { body: Body::Plain, ..plain }) => Cow::Borrowed(&self.frame),
            Ok(bytes) => Cow::Borrowed(bytes),
            Err(_) if form.frame == Frame::Deflated => self.form_once(plain),
            Err(_) => Cow::Owned(self.encode(form, |_, _| {}).into()),
        }
    }

    /// A copy without encoded forms, which shares the payload; `None`: it has none.
    pub fn without_forms(&self) -> Option<Message> {
        self.forms.get()?;
        Some(Message {
            channel: self.channel.clone(),
            own_id: self.own_id.clone(),
            event: self.event.clone(),
            key: self.key.clone(),
            frame: self.frame.clone(),
            forms: OnceLock::new(),
            ..*self
        })
    }

    /// The form's bytes, or the end of the list.
    fn find(&self, form: Form) -> Result<&[u8], &OnceLock<Box<Made>>> {
        let mut place = &self.forms;
        while let Some(made) = place.get() {
            if made.form == form {
                return Ok(&made.bytes);
            }
            place = &made.next;
        }
        Err(place)
    }

    /// Encodes the form and appends it to the list. Where another thread has appended meanwhile, goes on behind that,
    /// or takes its bytes if they are of the same form.
    fn make<'m>(
        &'m self,
        mut place: &'m OnceLock<Box<Made>>,
        form: Form,
        deflate: impl FnOnce(&[u8], &mut Vec<u8>),
    ) -> &'m [u8] {
        let mut bytes = self.encode(form, deflate);
        loop {
            let made =
                place.get_or_init(|| Box::new(Made { form, bytes: std::mem::take(&mut bytes), next: OnceLock::new() }));
            if made.form == form {
                return &made.bytes;
            }
            place = &made.next;
        }
    }

    fn encode(&self, form: Form, deflate: impl FnOnce(&[u8], &mut Vec<u8>)) -> Box<[u8]> {
        let json = (form.body == Body::Json).then(|| self.envelope());
        let body = json.as_deref().unwrap_or(self.payload());
        let text = self.text || json.is_some();
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        match form.frame {
            Frame::WebSocket => frame(opcode, body),
            Frame::Deflated => deflated(opcode, body, deflate),
            Frame::Event => self.as_event(body, text).into(),
            Frame::EventChunk => http1::chunk(&self.as_event(body, text)).into(),
            Frame::Piece => piece(body, json.is_some()).into(),
            Frame::PieceChunk => http1::chunk(&piece(body, json.is_some())).into(),
        }
    }

    /// An event stream is UTF-8: a binary body is in base64.
    fn as_event(&self, body: &[u8], text: bool) -> Vec<u8> {
        let mut event = Vec::with_capacity(body.len() + 64);
        match text {
            true => sse::event(&mut event, &self.id(), self.event.as_deref(), body),
            false => sse::event(&mut event, &self.id(), self.event.as_deref(), STANDARD.encode(body).as_bytes()),
        }
        event
    }

    fn envelope(&self) -> Vec<u8> {
        let text = if self.text { str::from_utf8(self.payload()).ok() } else { None };
        let envelope = Envelope {
            channel: &self.channel,
            id: &self.id(),
            event: self.event.as_deref(),
            data: text,
            base64: text.is_none().then(|| STANDARD.encode(self.payload())),
        };
        serde_json::to_vec(&envelope).unwrap_or_default()
    }
}

fn frame(opcode: Opcode, body: &[u8]) -> Box<[u8]> {
    [ws::head(opcode, true, body.len() as u64, None).as_bytes(), body].concat().into()
}

/// A body that does not become shorter is framed as it is.
fn deflated(opcode: Opcode, body: &[u8], deflate: impl FnOnce(&[u8], &mut Vec<u8>)) -> Box<[u8]> {
    let mut small = Vec::new();
    deflate(body, &mut small);
    match small.len() < body.len() {
        true => [ws::deflated_head(opcode, small.len() as u64).as_bytes(), &small].concat().into(),
        false => frame(opcode, body),
    }
}

fn piece(body: &[u8], json: bool) -> Vec<u8> {
    if json { [body, b"\n"].concat() } else { body.to_vec() }
}

/// The id of a message without one of its own: the epoch in eight hexadecimal digits, and the sequence, as in
/// `5f3a01bc-42`.
pub fn id(epoch: u32, sequence: u64) -> String {
    format!("{epoch:08x}-{sequence}")
}

/// The sequence in an id of this epoch ([`id()`]), which a client may send; `None`: it is none.
pub fn sequence_of(text: &str, epoch: u32) -> Option<u64> {
    let (of, sequence) = text.split_once('-')?;
    let digits = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
    sequence.parse().ok().filter(|_| digits && epoch_of(of) == Some(epoch))
}

/// The epoch of such an id: eight hexadecimal digits.
pub fn epoch_of(text: &str) -> Option<u32> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn message(text: bool, payload: &[u8]) -> Message {
        let draft = NewMessage { event: Some("e".into()), text, payload: payload.into(), ..NewMessage::default() };
        let draft = NewMessage { channel: "c".into(), ..draft };
        Message::new(draft, 0x5f3a_01bc, 42)
    }

    fn form(message: &Message, body: Body, frame: Frame) -> Vec<u8> {
        message.form(Form { body, frame }, |_, _| unreachable!("nothing is to be deflated")).to_vec()
    }

    #[test]
    fn each_form_has_its_bytes() {
        let said = message(true, b"a\nb");
        assert_eq!(form(&said, Body::Plain, Frame::WebSocket), b"\x81\x03a\nb");
        let event = b"id: 5f3a01bc-42\nevent: e\ndata: a\ndata: b\n\n";
        assert_eq!(form(&said, Body::Plain, Frame::Event), event);
        assert_eq!(form(&said, Body::Plain, Frame::EventChunk), [&b"2a\r\n"[..], event, b"\r\n"].concat());
        assert_eq!(form(&said, Body::Plain, Frame::PieceChunk), b"3\r\na\nb\r\n");
        let json = r#"{"channel":"c","id":"5f3a01bc-42","event":"e","data":"a\nb"}"#;
        assert_eq!(form(&said, Body::Json, Frame::Piece), format!("{json}\n").as_bytes());
        assert_eq!(form(&said, Body::Json, Frame::WebSocket)[2..], *json.as_bytes());
    }

    #[test]
    fn what_is_not_utf8_is_binary_whatever_was_said() {
        let said = message(true, b"\xff");
        assert_eq!((said.text, form(&said, Body::Plain, Frame::WebSocket)), (false, b"\x82\x01\xff".to_vec()));
        assert!(form(&said, Body::Json, Frame::Piece).ends_with(b"\"base64\":\"/w==\"}\n"));
        assert!(form(&said, Body::Plain, Frame::Event).ends_with(b"data: /w==\n\n"));
    }

    #[test]
    fn a_form_is_made_once_and_deflated_only_where_that_helps() {
        let (said, times) = (message(true, &[b'x'; 600]), Cell::new(0));
        let deflated = Form { body: Body::Plain, frame: Frame::Deflated };
        let compression = |_: &[u8], out: &mut Vec<u8>| {
            times.set(times.get() + 1);
            out.extend_from_slice(b"small");
        };
        let first = said.form(deflated, compression).as_ptr();
        form(&said, Body::Plain, Frame::Event);
        assert_eq!((said.form(deflated, compression).as_ptr(), times.get()), (first, 1));
        assert_eq!(said.form(deflated, compression), b"\xc1\x05small");
        let short = message(true, b"x");
        assert_eq!(short.form(deflated, compression), b"\x81\x01x");
    }

    #[test]
    fn an_id_leads_back_to_its_sequence_in_its_epoch_only() {
        let text = id(0xab, 7);
        assert_eq!((text.as_str(), sequence_of(&text, 0xab), sequence_of(&text, 0xac)), ("000000ab-7", Some(7), None));
        for garbage in ["", "7", "ab-7", "000000ab-", "000000ab-x", "000000ab-7-7", "+00000ab-7"] {
            assert_eq!(sequence_of(garbage, 0xab), None, "{garbage}");
        }
    }
}
