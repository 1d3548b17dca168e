//! A message for many clients: what a feed published, and each form in which it is sent, encoded once for all shards.
//!
//! The control thread makes a message and sends every shard a counted reference to it; it never changes. Its payload
//! lies in its plain WebSocket frame ([`PlainFrame`]), into which the feed's decoder has copied it: the only copy
//! between the source's bytes and the sends to clients that take plain frames. Its bytes in any other form of a
//! transport are encoded by the shard that needs them first ([`Message::form`]) and stay for the others.
//!
//! Forms live for as long as a message is new. A log that keeps one for replay drops them ([`Message::without_forms`]),
//! and a client that asks for an old one has its form encoded for itself ([`Message::form_once`]): what is kept costs
//! what [`Message::cost`] says, whatever forms were asked for.

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
    /// The feed that it comes from.
    pub feed: FeedNumber,
    /// The channel that it is published to.
    pub channel: String,
    /// The source's own id for it.
    pub id: Option<String>,
    /// Its event name.
    pub event: Option<String>,
    /// The key of which it is the last value.
    pub key: Option<String>,
    /// What its source says of it besides, in the source's own bits.
    pub mark: u8,
    /// Its payload, text or binary.
    pub payload: PlainFrame,
}

/// A payload in its plain WebSocket frame (RFC 6455 section 5.2: whole, not masked, not deflated), in one shared
/// allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFrame {
    bytes: Arc<[u8]>,
    /// Bytes of the frame's head: 2, 4 or 10.
    head_len: u8,
    is_text: bool,
}

impl PlainFrame {
    /// A text frame.
    pub fn text(payload: &str) -> PlainFrame {
        PlainFrame::with_opcode(Opcode::Text, payload.as_bytes())
    }

    /// A binary frame.
    pub fn binary(payload: &[u8]) -> PlainFrame {
        PlainFrame::with_opcode(Opcode::Binary, payload)
    }

    /// A text frame where the payload is UTF-8, else a binary one.
    pub fn text_or_binary(payload: &[u8]) -> PlainFrame {
        simdutf8::basic::from_utf8(payload).map_or_else(|_| PlainFrame::binary(payload), PlainFrame::text)
    }

    /// An `Arc<[u8]>` made of a `Vec` is a second copy, and one that is not initialised needs `unsafe` code. Collected
    /// from an iterator of known length it is allocated once, and filled by memset.
    fn with_opcode(opcode: Opcode, payload: &[u8]) -> PlainFrame {
        let head = ws::head(opcode, true, payload.len() as u64, None);
        let head = head.as_bytes();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, head.len() + payload.len()).collect();
        if let Some(bytes) = Arc::get_mut(&mut bytes) {
            bytes[..head.len()].copy_from_slice(head);
            bytes[head.len()..].copy_from_slice(payload);
        }
        PlainFrame { bytes, head_len: head.len() as u8, is_text: opcode == Opcode::Text }
    }

    /// Whether it is a text frame: the payload is UTF-8.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// The payload, without the frame's head.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.head_len)..]
    }
}

/// Binary, of no bytes.
impl Default for PlainFrame {
    fn default() -> PlainFrame {
        PlainFrame::binary(b"")
    }
}

/// The bytes of a message for one kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// What the body is.
    pub body: Body,
    /// What frames it.
    pub frame: Frame,
}

/// The body of a message, as a client asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// The payload.
    Plain,
    /// A JSON object: channel, id, event, and the payload as `data` (text) or `base64` (binary).
    Json,
}

/// What frames the body of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// A WebSocket frame.
    WebSocket,
    /// A WebSocket frame, its payload deflated (RFC 7692) if that makes it smaller.
    Deflated,
    /// An event of an event stream.
    Event,
    /// Such an event as a chunk of a body (RFC 9112 section 7.1).
    EventChunk,
    /// A JSON body with its line feed, or the payload as it is.
    Piece,
    /// Such a piece as a chunk of a body.
    PieceChunk,
}

/// A message with its place among all messages of this process.
#[derive(Debug)]
pub struct Message {
    /// Its place: counted from one over all feeds and channels, so that one number says how far a client has received
    /// all the channels that it subscribes to.
    pub sequence: u64,
    /// The run of the server that counts so.
    pub epoch: u32,
    /// The feed that it comes from.
    pub feed: FeedNumber,
    /// Text (UTF-8), else binary.
    pub text: bool,
    /// [`NewMessage::mark`].
    pub mark: u8,
    /// Bytes of the head of `frame`.
    head_len: u8,
    /// The channel that it was published to.
    pub channel: Box<str>,
    /// The source's own id for it.
    pub own_id: Option<Box<str>>,
    /// Its event name.
    pub event: Option<Box<str>>,
    /// The key of which it is the last value.
    pub key: Option<Box<str>>,
    /// Its plain WebSocket frame.
    frame: Arc<[u8]>,
    forms: OnceLock<Box<Encoded>>,
}

/// A form that was encoded: an entry of a list that grows at its end, without a lock.
#[derive(Debug)]
struct Encoded {
    form: Form,
    bytes: Box<[u8]>,
    next: OnceLock<Box<Encoded>>,
}

/// A message as a JSON object.
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
    /// The message with its sequence, which must be one that this epoch has not given out. Copies no payload.
    pub fn new(new: NewMessage, epoch: u32, sequence: u64) -> Message {
        Message {
            sequence,
            epoch,
            feed: new.feed,
            text: new.payload.is_text,
            mark: new.mark,
            head_len: new.payload.head_len,
            channel: new.channel.into(),
            own_id: new.id.map(Into::into),
            event: new.event.map(Into::into),
            key: new.key.map(Into::into),
            frame: new.payload.bytes,
            forms: OnceLock::new(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.head_len)..]
    }

    /// Its id for clients: the source's own, else that of [`id`].
    pub fn id(&self) -> String {
        self.own_id.as_deref().map_or_else(|| id(self.epoch, self.sequence), Into::into)
    }

    /// Bytes that keeping it costs, about: without its forms, and without what the allocator adds.
    pub fn cost(&self) -> u64 {
        let words = [&self.own_id, &self.event, &self.key].map(|it| it.as_ref().map_or(0, |it| it.len()));
        (size_of::<Message>() + self.frame.len() + self.channel.len() + words.iter().sum::<usize>()) as u64
    }

    /// Bytes of its plain frame: about what sending it in any form costs.
    pub fn frame_len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// Its bytes in this form, encoded if no shard has asked for them before. `deflate` is called for a deflated form
    /// that has to be encoded: it appends the compressed body to the vector, without the four bytes that RFC 7692
    /// section 7.2.1 strips.
    pub fn form(&self, form: Form, deflate: impl FnOnce(&[u8], &mut Vec<u8>)) -> &[u8] {
        if form == (Form { body: Body::Plain, frame: Frame::WebSocket }) {
            return &self.frame;
        }
        match self.find(form) {
            Ok(bytes) => bytes,
            Err(end) => self.append(end, form, deflate),
        }
    }

    /// Its bytes in this form, which is not kept if it was not there. A deflated form that was not there is the plain
    /// one.
    pub fn form_once(&self, form: Form) -> Cow<'_, [u8]> {
        let plain = Form { body: form.body, frame: Frame::WebSocket };
        match self.find(form) {
            _ if form == (Form { body: Body::Plain, ..plain }) => Cow::Borrowed(&self.frame),
            Ok(bytes) => Cow::Borrowed(bytes),
            Err(_) if form.frame == Frame::Deflated => self.form_once(plain),
            Err(_) => Cow::Owned(self.encode(form, |_, _| {}).into()),
        }
    }

    /// The same message without the forms that were encoded of it; `None`: there are none.
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

    /// The bytes of the form, or the end of the list, where it is to be appended.
    fn find(&self, form: Form) -> Result<&[u8], &OnceLock<Box<Encoded>>> {
        let mut place = &self.forms;
        while let Some(encoded) = place.get() {
            if encoded.form == form {
                return Ok(&encoded.bytes);
            }
            place = &encoded.next;
        }
        Err(place)
    }

    /// Encodes the form and appends it to the list. Another shard may have appended another one, or the same one,
    /// meanwhile.
    fn append<'m>(
        &'m self,
        mut end: &'m OnceLock<Box<Encoded>>,
        form: Form,
        deflate: impl FnOnce(&[u8], &mut Vec<u8>),
    ) -> &'m [u8] {
        let mut bytes = self.encode(form, deflate);
        loop {
            let entry = || Box::new(Encoded { form, bytes: std::mem::take(&mut bytes), next: OnceLock::new() });
            let encoded = end.get_or_init(entry);
            if encoded.form == form {
                return &encoded.bytes;
            }
            end = &encoded.next;
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

    /// An event stream is UTF-8 (HTML, server-sent events, section 9.2.5): a binary body goes in base64.
    fn as_event(&self, body: &[u8], text: bool) -> Vec<u8> {
        let mut event = Vec::with_capacity(body.len() + 64);
        let data = if text { Cow::Borrowed(body) } else { Cow::Owned(STANDARD.encode(body).into_bytes()) };
        sse::event(&mut event, &self.id(), self.event.as_deref(), &data);
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

/// A body that deflating does not make smaller is framed as it is.
fn deflated(opcode: Opcode, body: &[u8], deflate: impl FnOnce(&[u8], &mut Vec<u8>)) -> Box<[u8]> {
    let mut small = Vec::new();
    deflate(body, &mut small);
    if small.len() >= body.len() {
        return frame(opcode, body);
    }
    [ws::deflated_head(opcode, small.len() as u64).as_bytes(), &small].concat().into()
}

fn piece(body: &[u8], json: bool) -> Vec<u8> {
    if json { [body, b"\n"].concat() } else { body.to_vec() }
}

/// The id of a message whose source has none: epoch in eight hexadecimal digits and sequence, `5f3a01bc-42`.
pub fn id(epoch: u32, sequence: u64) -> String {
    format!("{epoch:08x}-{sequence}")
}

/// The sequence of an id that [`id`] wrote; `None`: it is not such an id, or of another epoch.
pub fn sequence_of(text: &str, epoch: u32) -> Option<u64> {
    let (of, sequence) = text.split_once('-')?;
    let digits = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
    sequence.parse().ok().filter(|_| digits && epoch_of(of) == Some(epoch))
}

/// The epoch of an id, from its eight hexadecimal digits; `None`: they are not such.
pub fn epoch_of(text: &str) -> Option<u32> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn message(text: bool, payload: &[u8]) -> Message {
        let payload = if text { PlainFrame::text_or_binary(payload) } else { PlainFrame::binary(payload) };
        let new = NewMessage { channel: "c".into(), event: Some("e".into()), payload, ..NewMessage::default() };
        Message::new(new, 0x5f3a_01bc, 42)
    }

    fn form(message: &Message, body: Body, frame: Frame) -> Vec<u8> {
        message.form(Form { body, frame }, |_, _| unreachable!("nothing is to be deflated")).to_vec()
    }

    #[test]
    fn each_form_has_its_bytes() {
        let message = message(true, b"a\nb");
        assert_eq!(form(&message, Body::Plain, Frame::WebSocket), b"\x81\x03a\nb");
        let event = b"id: 5f3a01bc-42\nevent: e\ndata: a\ndata: b\n\n";
        assert_eq!(form(&message, Body::Plain, Frame::Event), event);
        assert_eq!(form(&message, Body::Plain, Frame::EventChunk), [&b"2a\r\n"[..], event, b"\r\n"].concat());
        assert_eq!(form(&message, Body::Plain, Frame::PieceChunk), b"3\r\na\nb\r\n");
        let json = r#"{"channel":"c","id":"5f3a01bc-42","event":"e","data":"a\nb"}"#;
        assert_eq!(form(&message, Body::Json, Frame::Piece), format!("{json}\n").as_bytes());
        assert_eq!(form(&message, Body::Json, Frame::WebSocket)[2..], *json.as_bytes());
    }

    #[test]
    fn the_payload_is_copied_once_into_its_frame() {
        for (len, head_len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload = PlainFrame::binary(&vec![7; len]);
            assert_eq!((payload.payload(), payload.bytes.len()), (&vec![7; len][..], head_len + len));
            let at = payload.payload().as_ptr();
            let message = Message::new(NewMessage { payload, ..NewMessage::default() }, 1, 1);
            assert_eq!((message.payload().as_ptr(), message.payload().len()), (at, len), "it was copied again");
        }
    }

    #[test]
    fn what_is_not_utf8_is_binary() {
        let message = message(true, b"\xff");
        assert_eq!((message.text, form(&message, Body::Plain, Frame::WebSocket)), (false, b"\x82\x01\xff".to_vec()));
        assert!(form(&message, Body::Json, Frame::Piece).ends_with(b"\"base64\":\"/w==\"}\n"));
        assert!(form(&message, Body::Plain, Frame::Event).ends_with(b"data: /w==\n\n"));
    }

    #[test]
    fn a_form_is_made_once_and_deflated_only_where_that_helps() {
        let (long, times) = (message(true, &[b'x'; 600]), Cell::new(0));
        let deflated = Form { body: Body::Plain, frame: Frame::Deflated };
        let compression = |_: &[u8], out: &mut Vec<u8>| {
            times.set(times.get() + 1);
            out.extend_from_slice(b"small");
        };
        let first = long.form(deflated, compression).as_ptr();
        form(&long, Body::Plain, Frame::Event);
        assert_eq!((long.form(deflated, compression).as_ptr(), times.get()), (first, 1));
        assert_eq!(long.form(deflated, compression), b"\xc1\x05small");
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
