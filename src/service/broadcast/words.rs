//! What clients and a broadcast route say to each other besides messages: JSON, one object each.
//!
//! ```text
//! {"subscribe":["a","b*"],"after":"5f3a01bc-42"}     a client: these too, from behind that id where it is given
//! {"unsubscribe":["a"]}                              a client: no longer
//! {"subscribed":["a","b*"],"after":"5f3a01bc-57"}    the edge: from here on
//! {"unsubscribed":["a"]}                             the edge
//! {"error":"…","channel":"c"}                        the edge: what was not done, and why
//! {"error":"…","more":17}                            the edge: of so many more channels
//! {"gap":{"channel":"a","after":"…","next":"…"}}     the edge: what came between these is gone
//! ```

use edgehold_wire::sse;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a client says.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Channels and prefixes that it wants to hear.
    pub subscribe: Vec<String>,
    /// Channels and prefixes that it no longer wants to hear.
    pub unsubscribe: Vec<String>,
    /// The last id that it has heard of what it subscribes to.
    pub after: Option<String>,
}

/// Reads an order.
///
/// # Errors
/// It is none: words for the client.
pub fn command(text: &[u8]) -> Result<Command, &'static str> {
    let words = "this is no {\"subscribe\":[…]} and no {\"unsubscribe\":[…]}";
    // A list would be read as the object's values in their order.
    let is_object = text.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(text).ok().filter(|_| is_object).ok_or(words)
}

/// That some of what a client may want to hear is gone.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Gap {
    /// Of which channel.
    pub channel: String,
    /// Behind this id, which is the client's last one; absent when the client has only been too slow.
    pub after: Option<String>,
    /// It goes on with this id; absent when nothing is there yet.
    pub next: Option<String>,
}

impl Gap {
    /// As the clients of all transports read it.
    pub fn json(&self) -> String {
        json!({ "gap": self }).to_string()
    }
}

/// The answer to a subscription.
pub fn subscribed(channels: &[String], after: &str) -> String {
    json!({ "subscribed": channels, "after": after }).to_string()
}

/// The answer to the end of one.
pub fn unsubscribed(channels: &[String]) -> String {
    json!({ "unsubscribed": channels }).to_string()
}

/// What was not done.
pub fn error(words: &str, channel: Option<&str>) -> String {
    match channel {
        Some(channel) => json!({ "error": words, "channel": channel }).to_string(),
        None => json!({ "error": words }).to_string(),
    }
}

/// That so many more things were not done.
pub fn more_errors(count: usize) -> String {
    json!({ "error": "this was refused of more channels, too", "more": count }).to_string()
}

/// An event of this name, without an id: the client's last id stays what it is.
pub fn event(name: &str, json: &str) -> Vec<u8> {
    let mut event = Vec::new();
    sse::event(&mut event, "", Some(name), json.as_bytes());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_anything_else_is_not() {
        let read = command(br#"{"subscribe":["a"],"after":"x"}"#).unwrap();
        assert_eq!(read, Command { subscribe: vec!["a".into()], unsubscribe: vec![], after: Some("x".into()) });
        for wrong in ["", "[]", "{", r#"{"subscribe":"a"}"#, r#"{"publish":["a"]}"#, "\u{0}"] {
            assert!(command(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gap_reads_the_same_everywhere() {
        let gap = Gap { channel: "a".into(), after: None, next: Some("1-2".into()) };
        assert_eq!(gap.json(), r#"{"gap":{"after":null,"channel":"a","next":"1-2"}}"#);
        assert_eq!(event("gap", "{}"), b"event: gap\ndata: {}\n\n");
    }
}
