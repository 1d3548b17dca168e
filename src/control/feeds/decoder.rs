//! How the bytes of a feed become messages: what is one, for whom it is, and what is refused, by reason.
//!
//! Nothing here waits or counts. A message comes raw (all of it is the payload) or as a JSON object; what its source
//! says of it besides (the topic, the stream's own id) is [`Said`], and the object's own words go before it.

use crate::mesh::{FeedNumber, NewMessage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgehold_wire::sse;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Bytes of a channel, an id, an event name or a key, at most.
pub const WORD_BYTES: usize = 255;

/// In JSON a byte of text takes six at most (`\u001f`).
const ESCAPED: usize = 6;

/// Room for what stands around the payload in a JSON message.
const AROUND: usize = 4096;

/// How a message is read.
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

/// Why a message is not passed on.
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

    /// The same for whoever sent it.
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
pub struct Said<'s> {
    /// The topic, the subject, the name of a Redis channel.
    pub channel: Option<&'s str>,
    /// The source's own id.
    pub id: Option<&'s str>,
    /// An event name.
    pub event: Option<&'s str>,
    /// A last-value key.
    pub key: Option<&'s str>,
}

/// How the messages of one feed are read.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which feed.
    pub feed: FeedNumber,
    /// The channel of all its messages.
    pub channel: Option<String>,
    /// How a message is read.
    pub format: Format,
    /// Payloads are text.
    pub text: bool,
    /// What becomes of text that is not UTF-8.
    pub invalid_text: InvalidText,
    /// The longest payload.
    pub message_bytes: usize,
}

impl Rules {
    /// The most bytes in which a message of the longest payload may come.
    pub fn raw_bytes_max(&self) -> usize {
        match self.format {
            Format::Raw => self.message_bytes,
            Format::Json => json_bytes_max(self.message_bytes),
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub fn read(&self, raw: &[u8], said: Said<'_>) -> Result<NewMessage, Reason> {
        match self.format {
            _ if raw.len() > self.raw_bytes_max() => Err(Reason::Oversized),
            Format::Raw => self.raw(raw, self.text, said),
            Format::Json => self.json(Json::read(raw)?, said),
        }
    }

    /// A message that is all payload, `text` or binary.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub fn raw(&self, payload: &[u8], text: bool, said: Said<'_>) -> Result<NewMessage, Reason> {
        let text = self.text && text;
        let is_text = text && simdutf8::basic::from_utf8(payload).is_ok();
        if text && !is_text && self.invalid_text == InvalidText::Drop {
            return Err(Reason::NotUtf8);
        }
        self.draft(payload.to_vec(), is_text, said)
    }

    /// A message that came as a JSON object.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub fn json(&self, json: Json<'_>, said: Said<'_>) -> Result<NewMessage, Reason> {
        let (id, key) = (json.id.map(word_of).transpose()?, json.key.map(word_of).transpose()?);
        let said = Said {
            channel: json.channel.as_deref().or(said.channel),
            id: id.as_deref().or(said.id),
            event: json.event.as_deref().or(said.event),
            key: key.as_deref().or(said.key),
        };
        match (json.data, &json.base64) {
            (Some(data), None) => self.draft(text_of(data)?.into(), self.text, said),
            (None, Some(base64)) => {
                let payload = STANDARD.decode(base64.as_bytes()).map_err(|_| Reason::BadJson)?;
                self.draft(payload, false, said)
            }
            _ => Err(Reason::BadJson),
        }
    }

    fn draft(&self, payload: Vec<u8>, text: bool, said: Said<'_>) -> Result<NewMessage, Reason> {
        if payload.len() > self.message_bytes {
            return Err(Reason::Oversized);
        }
        let channel = self.channel.as_deref().or(said.channel).ok_or(Reason::NoChannel)?;
        if !is_channel(channel) {
            return Err(Reason::BadChannel);
        }
        Ok(NewMessage {
            feed: self.feed,
            channel: channel.to_owned(),
            id: word(said.id, is_id)?,
            // Nothing is what an empty one says.
            event: word(said.event.filter(|it| !it.is_empty()), |_| true)?,
            key: word(said.key.filter(|it| !it.is_empty()), |_| true)?,
            text,
            payload,
        })
    }
}

/// The most bytes of a JSON message whose payload has so many.
pub fn json_bytes_max(message_bytes: usize) -> usize {
    message_bytes.saturating_mul(ESCAPED).saturating_add(AROUND)
}

/// Whether a text can be the name of a channel.
pub fn is_channel(text: &str) -> bool {
    (1..=WORD_BYTES).contains(&text.len()) && !text.chars().any(|it| it.is_control() || it == '*')
}

/// Whether a text can be an id: a client comes back with it in a field of a head, as a browser wrote it there (RFC 9110
/// section 5.5: no spaces at the ends; what is not ASCII is read differently from place to place).
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_matches(' ').len() == text.len()
}

fn word(text: Option<&str>, is_good: impl Fn(&str) -> bool) -> Result<Option<String>, Reason> {
    match text {
        Some(text) if text.len() > WORD_BYTES || !sse::is_id(text) || !is_good(text) => Err(Reason::BadId),
        text => Ok(text.map(Into::into)),
    }
}

/// A message as JSON. Fields of other names are passed over.
#[derive(Debug, Deserialize)]
pub struct Json<'j> {
    /// For whom it is.
    #[serde(borrow, default)]
    pub channel: Option<Cow<'j, str>>,
    #[serde(borrow, default)]
    id: Option<&'j RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'j, str>>,
    #[serde(borrow, default)]
    key: Option<&'j RawValue>,
    /// As it is written, so that numbers keep their digits.
    #[serde(borrow, default, deserialize_with = "as_written")]
    data: Option<&'j RawValue>,
    #[serde(borrow, default)]
    base64: Option<Cow<'j, str>>,
}

impl<'j> Json<'j> {
    /// Reads the object.
    ///
    /// # Errors
    /// Not UTF-8, or no such object.
    pub fn read(raw: &'j [u8]) -> Result<Json<'j>, Reason> {
        let text = simdutf8::basic::from_utf8(raw).map_err(|_| Reason::NotUtf8)?;
        // A list would be taken for the fields in their order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Reason::BadJson);
        }
        serde_json::from_str(text).map_err(|_| Reason::BadJson)
    }
}

/// `null` is a value like any other, where serde would see nothing.
fn as_written<'j, D: Deserializer<'j>>(from: D) -> Result<Option<&'j RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// A string says what is in it, a number itself, as it is written.
fn word_of(value: &RawValue) -> Result<String, Reason> {
    match value.get().as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => text_of(value),
        _ => Err(Reason::BadJson),
    }
}

/// A string says what is in it, any other value itself.
fn text_of(data: &RawValue) -> Result<String, Reason> {
    match data.get() {
        text if text.starts_with('"') => serde_json::from_str(text).map_err(|_| Reason::BadJson),
        value => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(format: Format) -> Rules {
        Rules { feed: 3, channel: None, format, text: true, invalid_text: InvalidText::Drop, message_bytes: 64 }
    }

    fn read(text: &str) -> Result<NewMessage, Reason> {
        rules(Format::Json).read(text.as_bytes(), Said { channel: Some("topic"), ..Said::default() })
    }

    #[test]
    fn json_says_all_there_is_to_a_message() {
        let text = r#" {"channel":"a/b","id":"7","event":"e","key":"k","data":"Gr\u00fc\u00dfe","more":[1]} "#;
        let expected = NewMessage {
            feed: 3,
            channel: "a/b".into(),
            id: Some("7".into()),
            event: Some("e".into()),
            key: Some("k".into()),
            text: true,
            payload: "Grüße".into(),
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn a_value_is_passed_on_as_it_is_written() {
        for value in ["1.10", "12345678901234567890123", "null", "{\"a\" : [1, 2]}", "true", "\"\""] {
            let draft = read(&format!("{{\"data\":{value}}}")).unwrap();
            let expected = if value == "\"\"" { "" } else { value };
            assert_eq!((draft.payload, draft.channel.as_str(), draft.text), (expected.into(), "topic", true));
        }
    }

    #[test]
    fn a_number_is_an_id_and_a_key_as_it_is_written() {
        let draft = read(r#"{"id":12345678901234567890123,"key":-1.50,"data":1}"#).unwrap();
        assert_eq!((draft.id.as_deref(), draft.key.as_deref()), (Some("12345678901234567890123"), Some("-1.50")));
        let draft = read(r#"{"id":null,"key":null,"data":1}"#).unwrap();
        assert_eq!((draft.id, draft.key), (None, None));
        for wrong in [r#"{"id":true,"data":1}"#, r#"{"key":[1],"data":1}"#, r#"{"id":{},"data":1}"#] {
            assert_eq!(read(wrong), Err(Reason::BadJson), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_what_a_field_of_a_head_can_carry() {
        for id in ["7", "a b", "~!\"#", "x"] {
            let said = Said { channel: Some("c"), id: Some(id), ..Said::default() };
            assert_eq!(rules(Format::Raw).read(b"", said).map(|it| it.id), Ok(Some(id.into())), "{id:?}");
        }
        for id in ["", " 7", "7 ", "a\u{c}b", "a\tb", "\u{7f}", "ü", "a\u{a0}"] {
            let said = Said { channel: Some("c"), id: Some(id), ..Said::default() };
            assert_eq!(rules(Format::Raw).read(b"", said), Err(Reason::BadId), "{id:?}");
        }
    }

    #[test]
    fn base64_is_binary() {
        let draft = read(r#"{"base64":"AP8="}"#).unwrap();
        assert_eq!((draft.payload, draft.text), (vec![0, 255], false));
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
            assert_eq!(read(text), Err(reason), "{text}");
        }
        assert_eq!(rules(Format::Json).read(b"{\"data\":1}", Said::default()), Err(Reason::NoChannel));
        assert_eq!(rules(Format::Json).read(b"{\"data\":\"\xff\"}", Said::default()), Err(Reason::NotUtf8));
    }

    #[test]
    fn the_feeds_own_channel_goes_first() {
        let rules = Rules { channel: Some("fixed".into()), ..rules(Format::Json) };
        assert_eq!(rules.read(b"{\"data\":1,\"channel\":\"b\"}", Said::default()).unwrap().channel, "fixed");
    }

    #[test]
    fn text_that_is_not_utf8_is_dropped_or_binary() {
        let said = Said { channel: Some("c"), ..Said::default() };
        assert_eq!(rules(Format::Raw).read(b"\xff", said), Err(Reason::NotUtf8));
        let binary = Rules { invalid_text: InvalidText::Binary, ..rules(Format::Raw) };
        assert_eq!(binary.read(b"\xff", said).map(|it| it.text), Ok(false));
        assert_eq!(binary.read(b"ok", said).map(|it| it.text), Ok(true));
    }

    proptest! {
        #[test]
        fn whatever_is_passed_on_keeps_the_rules(
            raw: Vec<u8>,
            json: bool,
            text: bool,
            channel: Option<String>,
            id: Option<String>,
        ) {
            let format = if json { Format::Json } else { Format::Raw };
            let rules = Rules { text, ..rules(format) };
            let said = Said { channel: channel.as_deref(), id: id.as_deref(), ..Said::default() };
            if let Ok(draft) = rules.read(&raw, said) {
                prop_assert!(is_channel(&draft.channel) && draft.payload.len() <= 64);
                prop_assert!(!draft.text || str::from_utf8(&draft.payload).is_ok());
                prop_assert!(draft.id.is_none_or(|it| !it.is_empty() && is_id(&it) && it.len() <= WORD_BYTES));
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
            match binary {
                true => object["base64"] = STANDARD.encode(&data).into(),
                false => object["data"] = data.as_str().into(),
            }
            let draft = rules(Format::Json).read(object.to_string().as_bytes(), Said::default()).unwrap();
            prop_assert_eq!((draft.channel, draft.id, draft.text), (channel, Some(id), !binary));
            prop_assert_eq!(draft.payload, data.into_bytes());
        }

        #[test]
        fn the_longest_payload_fits_into_json(data in proptest::collection::vec(0u8..0x20, 0..=64)) {
            let text = String::from_utf8(data).unwrap();
            let raw = serde_json::json!({ "channel": "c", "data": text }).to_string();
            let draft = rules(Format::Json).read(raw.as_bytes(), Said::default()).unwrap();
            prop_assert_eq!(draft.payload, text.into_bytes());
        }
    }
}
