//! What clients of a broker say and hear: STOMP 1.2 or MQTT 3.1.1, over whatever carries it.
//!
//! - `stomp`, `mqtt`: the bytes
//! - `voice`: those who publish
//!
//! A client logs in, subscribes to one topic, and stands when the broker has confirmed that. Message `number` of all
//! goes to topic `number % topics`, so that the clients of each topic hear every so-manieth of them, in order.

mod mqtt;
mod stomp;
pub mod voice;

use crate::cli::Speaking;
use crate::failure::{Failure, mistaken};
use edgehold_wire::ws;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// STOMP 1.2.
    Stomp,
    /// MQTT 3.1.1.
    Mqtt,
}

/// How this run's clients speak.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// What is spoken.
    pub protocol: Protocol,
    /// The name and the password of all.
    pub login: Option<(String, String)>,
    /// STOMP's `host`: RabbitMQ's virtual host.
    pub host: String,
    /// The destination or topic, `{}` being its number.
    pub topic: String,
    /// How many topics there are.
    pub topics: u32,
    /// Messages are acknowledged: MQTT's QoS 1 both ways, STOMP's receipts of what is published.
    pub acknowledged: bool,
    /// Bytes of a message.
    pub size: usize,
}

/// One frame or packet of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'b> {
    /// A heart-beat, or something else that needs no answer.
    Nothing,
    /// The login was taken.
    Welcome,
    /// What was asked for last is done.
    Done,
    /// A message.
    Message {
        /// It.
        body: &'b [u8],
        /// What it is to be acknowledged by, where it is.
        id: Option<u16>,
    },
}

impl Dialect {
    /// As the flags say; `None`: the clients are no broker's. `size`: bytes of a message.
    ///
    /// # Errors
    /// Topics of which none is told from the other.
    pub fn of(flags: &Speaking, acknowledged: bool, size: usize) -> Result<Option<Dialect>, Failure> {
        let Some(protocol) = flags.protocol else { return Ok(None) };
        let usual = match protocol {
            Protocol::Stomp => "/topic/bench-{}",
            Protocol::Mqtt => "bench/{}",
        };
        let topic = flags.topic.as_deref().unwrap_or(usual);
        if flags.topics > 1 && !topic.contains("{}") {
            return mistaken(format!("--topic {topic}: {{}} stands for the number of the topic, and is missing"));
        }
        Ok(Some(Dialect {
            protocol,
            login: flags.user.clone().zip(flags.password.clone()),
            host: flags.host.clone(),
            topic: topic.into(),
            topics: flags.topics,
            acknowledged,
            size,
        }))
    }

    /// For the opening of a WebSocket.
    pub fn subprotocols(&self) -> &'static [&'static str] {
        match self.protocol {
            Protocol::Stomp => &["v12.stomp"],
            Protocol::Mqtt => &["mqtt"],
        }
    }

    /// What carries it in a WebSocket: STOMP is text, MQTT is not (MQTT 3.1.1 section 6).
    pub fn opcode(&self) -> ws::Opcode {
        match self.protocol {
            Protocol::Stomp => ws::Opcode::Text,
            Protocol::Mqtt => ws::Opcode::Binary,
        }
    }

    /// The login of a client with this name, which is nobody else's.
    pub fn connect(&self, name: &str) -> Vec<u8> {
        match self.protocol {
            Protocol::Stomp => stomp::connect(self),
            Protocol::Mqtt => mqtt::connect(self, name),
        }
    }

    /// The subscription to a topic.
    pub fn subscribe(&self, topic: u32) -> Vec<u8> {
        match self.protocol {
            Protocol::Stomp => stomp::subscribe(&self.topic_of(topic)),
            Protocol::Mqtt => mqtt::subscribe(&self.topic_of(topic), self.acknowledged),
        }
    }

    /// A message for a topic; `number` is the publisher's own.
    pub fn publish(&self, topic: u32, number: u32, message: &str) -> Vec<u8> {
        match self.protocol {
            Protocol::Stomp => stomp::publish(&self.topic_of(topic), self.acknowledged.then_some(number), message),
            Protocol::Mqtt => mqtt::publish(&self.topic_of(topic), self.acknowledged.then_some(number), message),
        }
    }

    /// What the message of this id is acknowledged with.
    pub fn acknowledgement(id: u16) -> [u8; 4] {
        mqtt::acknowledgement(id)
    }

    /// The frame or packet at the front, and its length, once it is whole.
    ///
    /// # Errors
    /// The broker refuses something, or speaks another protocol.
    pub fn hear<'b>(&self, bytes: &'b [u8]) -> Result<Option<(Heard<'b>, usize)>, String> {
        match self.protocol {
            Protocol::Stomp => stomp::hear(bytes),
            Protocol::Mqtt => mqtt::hear(bytes),
        }
    }

    fn topic_of(&self, number: u32) -> String {
        self.topic.replace("{}", &number.to_string())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// For tests of others, too.
    pub fn dialect(protocol: Protocol) -> Dialect {
        Dialect {
            protocol,
            login: Some(("a".into(), "b:c".into())),
            host: "/".into(),
            topic: "/topic/{}".into(),
            topics: 3,
            acknowledged: true,
            size: 20,
        }
    }

    /// What a broker would say, by hand.
    fn said(protocol: Protocol) -> Vec<(Vec<u8>, Heard<'static>)> {
        match protocol {
            Protocol::Stomp => vec![
                (b"CONNECTED\nversion:1.2\n\n\0".to_vec(), Heard::Welcome),
                (b"\n".to_vec(), Heard::Nothing),
                (b"RECEIPT\nreceipt-id:0\n\n\0".to_vec(), Heard::Done),
                (b"MESSAGE\nsubscription:0\n\nhi\0".to_vec(), Heard::Message { body: b"hi", id: None }),
            ],
            Protocol::Mqtt => vec![
                (vec![0x20, 2, 0, 0], Heard::Welcome),
                (vec![0xd0, 0], Heard::Nothing),
                (vec![0x90, 3, 0, 1, 1], Heard::Done),
                (vec![0x40, 2, 0, 9], Heard::Done),
                (b"\x30\x05\0\x01thi".to_vec(), Heard::Message { body: b"hi", id: None }),
                (b"\x32\x07\0\x01t\x01\x02hi".to_vec(), Heard::Message { body: b"hi", id: Some(0x102) }),
            ],
        }
    }

    #[test]
    fn what_a_broker_says_is_heard_when_it_is_whole() {
        for protocol in [Protocol::Stomp, Protocol::Mqtt] {
            for (bytes, heard) in said(protocol) {
                let dialect = dialect(protocol);
                for len in 0..bytes.len() {
                    assert_eq!(dialect.hear(&bytes[..len]), Ok(None), "{bytes:?} at {len}");
                }
                let behind = [&bytes[..], b"M"].concat();
                assert_eq!(dialect.hear(&behind), Ok(Some((heard, bytes.len()))), "{bytes:?}");
            }
        }
    }

    #[test]
    fn refusals_are_told() {
        let hear = |protocol, bytes: &[u8]| dialect(protocol).hear(bytes).map(drop);
        let words = hear(Protocol::Stomp, b"ERROR\nmessage:Bad CONNECT\n\n\0").expect_err("a refusal");
        assert_eq!(words, "the broker says: Bad CONNECT");
        assert_eq!(hear(Protocol::Mqtt, &[0x20, 2, 0, 5]), Err("the broker refuses the login (5)".into()));
        assert_eq!(hear(Protocol::Mqtt, &[0x90, 3, 0, 1, 0x80]), Err("the broker refuses the subscription".into()));
        assert!(hear(Protocol::Stomp, b"HTTP/1.1 400 Bad Request\r\n").is_err());
        assert!(hear(Protocol::Mqtt, b"HTTP/1.1 400 Bad Request\r\n").is_err());
        assert!(hear(Protocol::Mqtt, &[0x20, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}
