//! Decoding: bytes of a feed to messages, or the reason why they are refused.
//!
//! Nothing here waits or counts. A message comes raw (all of it is the payload) or as a JSON object. What its source
//! says of it besides its bytes (the topic, the stream's own id) is [`Metadata`]; the object's own fields go before it.
//!
//! A payload is copied once, from the bytes that came into the frame in which it is sent. Only what is written in
//! another way, as base64 or with escapes in JSON, is decoded into a buffer between them.

use crate::mesh::{FeedNumber, NewMessage, PlainFrame};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgehold_wire::sse;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Bytes of a channel, an id, an event name or a key, at most.
pub const WORD_BYTES: usize = 255;

/// Bytes that a byte of text takes in JSON, at most (`\u001f`).
const ESCAPED: usize = 6;

/// Bytes of a JSON message beside its payload, at most.
const OVERHEAD: usize = 4096;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// All of it is the payload.
    Raw,
    /// A JSON object: `channel`, `id`, `event`, `key`, and `data` or `base64`.
    Json,
}

/// What becomes of a text message that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidText {
    /// It is dropped and counted.
    Drop,
    /// It is sent as binary.
    Binary,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Longer than `message_bytes`.
    Oversized,
    /// Text that is not UTF-8, where that is dropped; JSON always must be.
    NotUtf8,
    /// Neither the feed nor the message names a channel.
    NoChannel,
    /// The channel is empty, longer than 255 bytes, or has control characters or a `*`.
    BadChannel,
    /// Not the JSON object, or not the fields, that are expected.
    BadJson,
    /// An id, an event name or a key that is longer than 255 bytes or would break a line; an id that is empty, or that
    /// no field of an HTTP head can carry.
    BadId,
    /// Nothing of this channel or topic is asked for.
    NotAllowed,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 7] = [
        Reason::Oversized,
        Reason::NotUtf8,
        Reason::NoChannel,
        Reason::BadChannel,
        Reason::BadJson,
        Reason::BadId,
        Reason::NotAllowed,
    ];

    /// The value of the metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Oversized => "oversized",
            Reason::NotUtf8 => "not_utf8",
            Reason::NoChannel => "no_channel",
            Reason::BadChannel => "bad_channel",
            Reason::BadJson => "bad_json",
            Reason::BadId => "bad_id",
            Reason::NotAllowed => "not_allowed",
        }
    }

    /// The reason in words, for whoever sent the message.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Oversized => "the message is longer than this feed allows (message_bytes)",
            Reason::NotUtf8 => "the text is not UTF-8",
            Reason::NoChannel => "the message names no channel",
            Reason::BadChannel => "a channel has 1 to 255 bytes, no control characters and no `*`",
            Reason::BadJson => "a message is a JSON object with \"data\" or \"base64\"",
            Reason::BadId => {
                "an id has 1 to 255 visible ASCII characters, with spaces only between them; an event name or a key \
                 has 255 bytes at most and no line ends"
            }
            Reason::NotAllowed => "no feed takes messages for this channel",
        }
    }
}

/// What the source of a message says of it, besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metadata<'s> {
    /// The topic, the subject, the name of a Redis channel.
    pub channel: Option<&'s str>,
    /// The source's own id.
    pub id: Option<&'s str>,
    /// An event name.
    pub event: Option<&'s str>,
    /// A last-value key.
    pub key: Option<&'s str>,
}

/// How the messages of a feed are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderSettings {
    /// How a message is written.
    pub format: Format,
    /// Payloads are text; else binary.
    pub text: bool,
    /// What becomes of a text payload that is not UTF-8.
    pub invalid_text: InvalidText,
    /// Bytes of a payload, at most.
    pub message_bytes: usize,
}

/// Decodes the messages of one feed.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The feed's number.
    pub feed: FeedNumber,
    /// The channel of all its messages; `None`: each names its own.
    pub channel: Option<String>,
    /// How messages are decoded.
    pub settings: DecoderSettings,
}

impl Decoder {
    /// Bytes in which a message with the longest payload may come, at most.
    pub fn raw_bytes_max(&self) -> usize {
        match self.settings.format {
            Format::Raw => self.settings.message_bytes,
            Format::Json => json_bytes_max(self.settings.message_bytes),
        }
    }

    /// Decodes a message as the feed's format has it.
    ///
    /// # Errors
    /// Why the message is refused.
    pub fn decode(&self, raw: &[u8], metadata: Metadata<'_>) -> Result<NewMessage, Reason> {
        match self.settings.format {
            _ if raw.len() > self.raw_bytes_max() => Err(Reason::Oversized),
            Format::Raw => self.raw(raw, self.settings.text, metadata),
            Format::Json => self.json(&Json::parse(raw)?, metadata),
        }
    }

    /// A message that is all payload: text where both the feed and `text` say so, else binary.
    ///
    /// # Errors
    /// Why the message is refused.
    pub fn raw(&self, payload: &[u8], text: bool, metadata: Metadata<'_>) -> Result<NewMessage, Reason> {
        let DecoderSettings { invalid_text, text: may_be_text, .. } = self.settings;
        let text = (text && may_be_text).then(|| simdutf8::basic::from_utf8(payload));
        match text {
            Some(Ok(text)) => self.text(text, metadata),
            Some(Err(_)) if invalid_text == InvalidText::Drop => Err(Reason::NotUtf8),
            _ => self.binary(payload, metadata),
        }
    }

    /// A message that came as a JSON object.
    ///
    /// # Errors
    /// Why the message is refused.
    pub fn json(&self, json: &Json<'_>, metadata: Metadata<'_>) -> Result<NewMessage, Reason> {
        let (id, key) = (json.id.map(word_of).transpose()?, json.key.map(word_of).transpose()?);
        let metadata = Metadata {
            channel: json.channel.as_deref().or(metadata.channel),
            id: id.as_deref().or(metadata.id),
            event: json.event.as_deref().or(metadata.event),
            key: key.as_deref().or(metadata.key),
        };
        match (json.data, &json.base64) {
            (Some(data), None) if self.settings.text => self.text(&text_of(data)?, metadata),
            (Some(data), None) => self.binary(text_of(data)?.as_bytes(), metadata),
            (None, Some(base64)) => {
                let payload = STANDARD.decode(base64.as_bytes()).map_err(|_| Reason::BadJson)?;
                self.binary(&payload, metadata)
            }
            _ => Err(Reason::BadJson),
        }
    }

    /// # Errors
    /// As [`Decoder::message`].
    fn text(&self, payload: &str, metadata: Metadata<'_>) -> Result<NewMessage, Reason> {
        self.message(payload.len(), || PlainFrame::text(payload), metadata)
    }

    /// # Errors
    /// As [`Decoder::message`].
    fn binary(&self, payload: &[u8], metadata: Metadata<'_>) -> Result<NewMessage, Reason> {
        self.message(payload.len(), || PlainFrame::binary(payload), metadata)
    }

    /// A message with a payload of so many bytes, which is copied only if the message is not refused.
    ///
    /// # Errors
    /// The payload is too long, or channel, id, event or key are not what they must be.
    fn message(
        &self,
        len: usize,
        payload: impl FnOnce() -> PlainFrame,
        metadata: Metadata<'_>,
    ) -> Result<NewMessage, Reason> {
        if len > self.settings.message_bytes {
            return Err(Reason::Oversized);
        }
        let channel = self.channel.as_deref().or(metadata.channel).ok_or(Reason::NoChannel)?;
        if !is_channel(channel) {
            return Err(Reason::BadChannel);
        }
        Ok(NewMessage {
            mark: 0,
            feed: self.feed,
            channel: channel.to_owned(),
            id: word(metadata.id, is_id)?,
            // An empty one is none.
            event: word(metadata.event.filter(|it| !it.is_empty()), |_| true)?,
            key: word(metadata.key.filter(|it| !it.is_empty()), |_| true)?,
            payload: payload(),
        })
    }
}

/// Bytes of a JSON message whose payload has at most `message_bytes`, at most.
pub fn json_bytes_max(message_bytes: usize) -> usize {
    message_bytes.saturating_mul(ESCAPED).saturating_add(OVERHEAD)
}

/// Whether a text can be the name of a channel.
pub fn is_channel(text: &str) -> bool {
    (1..=WORD_BYTES).contains(&text.len()) && !text.chars().any(|it| it.is_control() || it == '*')
}

/// Whether a text can be an id. A browser sends it back in a field of a head (`Last-Event-ID`), and RFC 9110 section
/// 5.5 strips spaces at the ends of a field's value, and leaves open what bytes beyond ASCII mean.
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_matches(' ').len() == text.len()
}

/// # Errors
/// [`Reason::BadId`]: it is too long, would break a line of an event stream, or is not good.
fn word(text: Option<&str>, is_good: impl Fn(&str) -> bool) -> Result<Option<String>, Reason> {
    match text {
        Some(text) if text.len() > WORD_BYTES || !sse::is_id(text) || !is_good(text) => Err(Reason::BadId),
        text => Ok(text.map(Into::into)),
    }
}

/// A message as a JSON object. Fields of other names are ignored.
#[derive(Debug, Deserialize)]
pub struct Json<'j> {
    /// The channel.
    #[serde(borrow, default)]
    pub channel: Option<Cow<'j, str>>,
    #[serde(borrow, default)]
    id: Option<&'j RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'j, str>>,
    #[serde(borrow, default)]
    key: Option<&'j RawValue>,
    /// The JSON text of the value, so that numbers keep their digits.
    #[serde(borrow, default, deserialize_with = "as_written")]
    data: Option<&'j RawValue>,
    #[serde(borrow, default)]
    base64: Option<Cow<'j, str>>,
}

impl<'j> Json<'j> {
    /// Parses the object.
    ///
    /// # Errors
    /// It is not UTF-8, or no such object.
    pub fn parse(raw: &'j [u8]) -> Result<Json<'j>, Reason> {
        let text = simdutf8::basic::from_utf8(raw).map_err(|_| Reason::NotUtf8)?;
        // serde takes an array for the fields in their order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Reason::BadJson);
        }
        serde_json::from_str(text).map_err(|_| Reason::BadJson)
    }
}

/// A value that is there, `null` too, where serde would take `null` for none.
fn as_written<'j, D: Deserializer<'j>>(from: D) -> Result<Option<&'j RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// A string without its quotes, decoded.
#[derive(Deserialize)]
struct Decoded<'j>(#[serde(borrow)] Cow<'j, str>);

/// A string, decoded, or a number, as it is written.
///
/// # Errors
/// [`Reason::BadJson`]: it is neither.
fn word_of(value: &RawValue) -> Result<Cow<'_, str>, Reason> {
    match value.get().as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => text_of(value),
        _ => Err(Reason::BadJson),
    }
}

/// A string, decoded, or any other value, as it is written. Borrowed unless the string has escapes.
///
/// # Errors
/// [`Reason::BadJson`]: the string has half a surrogate pair.
fn text_of(data: &RawValue) -> Result<Cow<'_, str>, Reason> {
    match data.get() {
        text if text.starts_with('"') => {
            serde_json::from_str(text).map(|Decoded(text)| text).map_err(|_| Reason::BadJson)
        }
        value => Ok(Cow::Borrowed(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: DecoderSettings =
        DecoderSettings { format: Format::Json, text: true, invalid_text: InvalidText::Drop, message_bytes: 64 };

    fn decoder(format: Format) -> Decoder {
        Decoder { feed: 3, channel: None, settings: DecoderSettings { format, ..SETTINGS } }
    }

    fn decode(text: &str) -> Result<NewMessage, Reason> {
        decoder(Format::Json).decode(text.as_bytes(), Metadata { channel: Some("topic"), ..Metadata::default() })
    }

    #[test]
    fn json_says_all_there_is_to_a_message() {
        let text = r#" {"channel":"a/b","id":"7","event":"e","key":"k","data":"Gr\u00fc\u00dfe","more":[1]} "#;
        let expected = NewMessage {
            mark: 0,
            feed: 3,
            channel: "a/b".into(),
            id: Some("7".into()),
            event: Some("e".into()),
            key: Some("k".into()),
            payload: PlainFrame::text("Grüße"),
        };
        assert_eq!(decode(text), Ok(expected));
    }

    #[test]
    fn a_value_is_published_as_it_is_written() {
        for value in ["1.10", "12345678901234567890123", "null", "{\"a\" : [1, 2]}", "true", "\"\""] {
            let message = decode(&format!("{{\"data\":{value}}}")).unwrap();
            let expected = if value == "\"\"" { "" } else { value };
            assert_eq!((message.payload, message.channel.as_str()), (PlainFrame::text(expected), "topic"));
        }
    }

    #[test]
    fn a_number_is_an_id_and_a_key_as_it_is_written() {
        let message = decode(r#"{"id":12345678901234567890123,"key":-1.50,"data":1}"#).unwrap();
        assert_eq!((message.id.as_deref(), message.key.as_deref()), (Some("12345678901234567890123"), Some("-1.50")));
        let message = decode(r#"{"id":null,"key":null,"data":1}"#).unwrap();
        assert_eq!((message.id, message.key), (None, None));
        for wrong in [r#"{"id":true,"data":1}"#, r#"{"key":[1],"data":1}"#, r#"{"id":{},"data":1}"#] {
            assert_eq!(decode(wrong), Err(Reason::BadJson), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_what_a_field_of_a_head_can_carry() {
        for id in ["7", "a b", "~!\"#", "x"] {
            let metadata = Metadata { channel: Some("c"), id: Some(id), ..Metadata::default() };
            assert_eq!(decoder(Format::Raw).decode(b"", metadata).map(|it| it.id), Ok(Some(id.into())), "{id:?}");
        }
        for id in ["", " 7", "7 ", "a\u{c}b", "a\tb", "\u{7f}", "ü", "a\u{a0}"] {
            let metadata = Metadata { channel: Some("c"), id: Some(id), ..Metadata::default() };
            assert_eq!(decoder(Format::Raw).decode(b"", metadata), Err(Reason::BadId), "{id:?}");
        }
    }

    #[test]
    fn json_is_copied_only_where_it_must_be_decoded() {
        let text_of = |json: &str| matches!(text_of(serde_json::from_str(json).unwrap()), Ok(Cow::Borrowed(_)));
        assert_eq!(["\"Gr\u{fc}\u{df}e\"", "{\"a\":1}", "\"a\\nb\""].map(text_of), [true, true, false]);
    }

    #[test]
    fn base64_is_binary() {
        let message = decode(r#"{"base64":"AP8="}"#).unwrap();
        assert_eq!(message.payload, PlainFrame::binary(&[0, 255]));
    }

    #[test]
    fn what_is_wrong_has_its_reason() {
        let long = "x".repeat(256);
        for (text, reason) in [
            ("", Reason::BadJson),
            ("[]", Reason::BadJson),
            ("[null,null,null,null,1]", Reason::BadJson),
            ("{}", Reason::BadJson),
            ("{\"data\":1,\"base64\":\"\"}", Reason::BadJson),
            ("{\"data\":1,\"data\":2}", Reason::BadJson),
            ("{\"data\":\"\\ud800\"}", Reason::BadJson),
            ("{\"base64\":\"?\"}", Reason::BadJson),
            ("{\"data\":1} x", Reason::BadJson),
            ("{\"data\":1,\"channel\":\"\"}", Reason::BadChannel),
            ("{\"data\":1,\"channel\":\"a*\"}", Reason::BadChannel),
            ("{\"data\":1,\"channel\":\"a\\u0007\"}", Reason::BadChannel),
            (&format!("{{\"data\":1,\"channel\":\"{long}\"}}"), Reason::BadChannel),
            ("{\"data\":1,\"id\":\"\"}", Reason::BadId),
            ("{\"data\":1,\"id\":\"a\\nb\"}", Reason::BadId),
            ("{\"data\":1,\"event\":\"a\\u0000\"}", Reason::BadId),
            (&format!("{{\"data\":1,\"key\":\"{long}\"}}"), Reason::BadId),
            (&format!("{{\"data\":\"{}\"}}", "x".repeat(65)), Reason::Oversized),
        ] {
            assert_eq!(decode(text), Err(reason), "{text}");
        }
        assert_eq!(decoder(Format::Json).decode(b"{\"data\":1}", Metadata::default()), Err(Reason::NoChannel));
        assert_eq!(decoder(Format::Json).decode(b"{\"data\":\"\xff\"}", Metadata::default()), Err(Reason::NotUtf8));
    }

    #[test]
    fn the_feeds_own_channel_goes_first() {
        let decoder = Decoder { channel: Some("fixed".into()), ..decoder(Format::Json) };
        assert_eq!(decoder.decode(b"{\"data\":1,\"channel\":\"b\"}", Metadata::default()).unwrap().channel, "fixed");
    }

    #[test]
    fn text_that_is_not_utf8_is_dropped_or_binary() {
        let metadata = Metadata { channel: Some("c"), ..Metadata::default() };
        assert_eq!(decoder(Format::Raw).decode(b"\xff", metadata), Err(Reason::NotUtf8));
        let settings = DecoderSettings { invalid_text: InvalidText::Binary, ..decoder(Format::Raw).settings };
        let binary = Decoder { settings, ..decoder(Format::Raw) };
        assert_eq!(binary.decode(b"\xff", metadata).map(|it| it.payload.is_text()), Ok(false));
        assert_eq!(binary.decode(b"ok", metadata).map(|it| it.payload.is_text()), Ok(true));
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_keeps_the_rules(
            raw: Vec<u8>,
            json: bool,
            text: bool,
            channel: Option<String>,
            id: Option<String>,
        ) {
            let format = if json { Format::Json } else { Format::Raw };
            let decoder = Decoder { settings: DecoderSettings { format, text, ..SETTINGS }, ..decoder(format) };
            let metadata = Metadata { channel: channel.as_deref(), id: id.as_deref(), ..Metadata::default() };
            if let Ok(message) = decoder.decode(&raw, metadata) {
                prop_assert!(is_channel(&message.channel) && message.payload.payload().len() <= 64);
                prop_assert!(!message.payload.is_text() || str::from_utf8(message.payload.payload()).is_ok());
                prop_assert!(message.id.is_none_or(|it| !it.is_empty() && is_id(&it) && it.len() <= WORD_BYTES));
            }
        }

        #[test]
        fn what_json_can_say_is_read_back(
            channel in "[a-z/]{1,20}",
            id in "[0-9-]{1,20}",
            data in "\\PC{0,15}",
            binary: bool,
        ) {
            let mut object = serde_json::json!({ "channel": channel, "id": id });
            if binary {
                object["base64"] = STANDARD.encode(&data).into();
            } else {
                object["data"] = data.as_str().into();
            }
            let message = decoder(Format::Json).decode(object.to_string().as_bytes(), Metadata::default()).unwrap();
            prop_assert_eq!((&message.channel, &message.id), (&channel, &Some(id)));
            prop_assert_eq!(message.payload.is_text(), !binary);
            prop_assert_eq!(message.payload.payload(), data.as_bytes());
        }

        #[test]
        fn the_longest_payload_fits_into_json(data in proptest::collection::vec(0u8..0x20, 0..=64)) {
            let text = String::from_utf8(data).unwrap();
            let raw = serde_json::json!({ "channel": "c", "data": text }).to_string();
            let message = decoder(Format::Json).decode(raw.as_bytes(), Metadata::default()).unwrap();
            prop_assert_eq!(message.payload, PlainFrame::text(&text));
        }
    }
}
