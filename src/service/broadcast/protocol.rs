//! The JSON that is exchanged besides messages: commands of WebSocket clients and their answers, notices of gaps, and
//! the responses to long polls.
//!
//! ```text
//! {"subscribe":["a","b*"],"after":"5f3a01bc-42"}     from a client: subscribe, with an id from behind it
//! {"unsubscribe":["a"]}                              from a client
//! {"authenticate":"eyJ…"}                            from a client: a new token, in time before the one it has ends
//! {"authenticated":true}                             to a client: it was taken
//! {"subscribed":["a","b*"],"after":"5f3a01bc-57"}    to a client: subscribed from behind this id on
//! {"unsubscribed":["a"]}                             to a client
//! {"error":"…","channel":"c"}                        to a client: what was not done, and why
//! {"error":"…","more":17}                            to a client: so many more channels were refused
//! {"gap":{"channel":"a","after":"…","next":"…"}}     to a client: messages between these ids are lost
//! ```

use edgehold_wire::sse;
use serde::Deserialize;
use serde_json::json;

/// A command of a client.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Channels and prefixes to subscribe to.
    pub subscribe: Vec<String>,
    /// Channels and prefixes to unsubscribe from; this is done first.
    pub unsubscribe: Vec<String>,
    /// The id of the last message that it was sent of what it subscribes to.
    pub after: Option<String>,
    /// A token in place of the one that it came with.
    pub authenticate: Option<String>,
}

/// Reads a command.
///
/// # Errors
/// The text is none: words for the client.
pub fn command(text: &[u8]) -> Result<Command, &'static str> {
    let words = "this is no {\"subscribe\":[…]} and no {\"unsubscribe\":[…]}";
    // A list would be read as the object's values in their order.
    let is_object = text.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(text).ok().filter(|_| is_object).ok_or(words)
}

/// The notice of a gap in a channel: between the id with which the client resumed, if the gap is behind that, and the
/// next message, if there is one.
pub fn gap(channel: &str, after: Option<&str>, next: Option<&str>) -> String {
    json!({ "gap": { "channel": channel, "after": after, "next": next } }).to_string()
}

/// The body of the response to a long poll: the id to go on from, and messages and notices, each a JSON object.
pub fn poll(last: &str, messages: &[String], gaps: &[String]) -> String {
    let gaps = if gaps.is_empty() { String::new() } else { format!(r#","gaps":[{}]"#, gaps.join(",")) };
    let last = serde_json::Value::from(last);
    format!("{{\"last\":{last},\"messages\":[{}]{gaps}}}\n", messages.join(","))
}

/// The answer to a subscription: from behind this id on.
pub fn subscribed(channels: &[String], after: &str) -> String {
    json!({ "subscribed": channels, "after": after }).to_string()
}

/// The answer to the end of subscriptions.
pub fn unsubscribed(channels: &[String]) -> String {
    json!({ "unsubscribed": channels }).to_string()
}

/// New credentials were taken.
pub fn authenticated() -> String {
    json!({ "authenticated": true }).to_string()
}

/// What was not done, of which channel if it is about one.
pub fn error(words: &str, channel: Option<&str>) -> String {
    match channel {
        Some(channel) => json!({ "error": words, "channel": channel }).to_string(),
        None => json!({ "error": words }).to_string(),
    }
}

/// That so many more channels were refused.
pub fn more_errors(count: usize) -> String {
    json!({ "error": "this was refused of more channels, too", "more": count }).to_string()
}

/// An event of this name, without an id: the last event id of an `EventSource` stays what it is.
pub fn event(name: &str, json: &str) -> Vec<u8> {
    let mut event = Vec::new();
    sse::event(&mut event, "", Some(name), json.as_bytes());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_anything_else_is_not() {
        let read = command(br#"{"subscribe":["a"],"after":"x"}"#).unwrap();
        assert_eq!(read, Command { subscribe: vec!["a".into()], after: Some("x".into()), ..Command::default() });
        for wrong in ["", "[]", "{", r#"{"subscribe":"a"}"#, r#"{"publish":["a"]}"#, "\u{0}"] {
            assert!(command(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gap_reads_the_same_everywhere() {
        assert_eq!(gap("a", None, Some("1-2")), r#"{"gap":{"after":null,"channel":"a","next":"1-2"}}"#);
        assert_eq!(poll("1-2", &["{}".into(), "1".into()], &[]), "{\"last\":\"1-2\",\"messages\":[{},1]}\n");
        assert_eq!(poll("x", &[], &["{}".into()]), "{\"last\":\"x\",\"messages\":[],\"gaps\":[{}]}\n");
        assert_eq!(event("gap", "{}"), b"event: gap\ndata: {}\n\n");
    }
}
