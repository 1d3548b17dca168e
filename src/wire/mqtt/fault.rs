//! What the other end can do wrong, with the reason code that answers it.

/// What is wrong with a packet. The connection must be ended: with CONNACK or DISCONNECT of [`Fault::reason`] in MQTT 5
/// (4.13), without a word in 3.x, but for [`Fault::refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A packet type that there is not (2.1.2).
    Type,
    /// Reserved bits of a fixed header (2.1.3).
    Flags,
    /// A length in more than four bytes, or in more than it needs (1.5.5).
    Length,
    /// A packet longer than this end takes (3.1.2.11.4).
    TooLarge,
    /// A field reaches beyond its packet.
    Cut,
    /// Bytes behind the last field.
    Trailing,
    /// A string that is not UTF-8 (1.5.4).
    Text,
    /// A string with U+0000 in it (1.5.4).
    Nul,
    /// Another packet before CONNECT (3.1).
    NotConnect,
    /// A second CONNECT (3.1).
    SecondConnect,
    /// A packet that this end never receives.
    Direction,
    /// Not a protocol name of MQTT (3.1.2.1).
    ProtocolName,
    /// A protocol level that is not spoken (3.1.2.2).
    ProtocolLevel,
    /// The reserved bit among the connect flags (3.1.2.3).
    ConnectFlags,
    /// Will QoS or will retain without a will, or a will QoS of 3 (3.1.2.6, 3.1.2.7).
    WillFlags,
    /// A password without a user name, before MQTT 5 (3.1.1: 3.1.2.9).
    PasswordAlone,
    /// A client identifier that must not be empty (3.1.1: 3.1.3.1).
    ClientId,
    /// QoS 3 (3.3.1.2).
    QoS,
    /// DUP with QoS 0 (3.3.1.1).
    Dup,
    /// Packet identifier 0 (2.2.1).
    PacketId,
    /// A topic name with a wildcard in it, or an empty one (4.7).
    TopicName,
    /// A topic filter that is empty, or with a wildcard where there must be none (4.7).
    TopicFilter,
    /// No topic and no alias for it (3.3.2.3.4).
    NoTopic,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter, SUBACK or UNSUBACK without a code (3.8.3).
    NoFilter,
    /// Reserved bits of subscription options, or retain handling 3 (3.8.3.1).
    Options,
    /// No local with a shared subscription (3.8.3.1).
    SharedNoLocal,
    /// A property that there is not, or not in this packet (2.2.2.2).
    Property,
    /// A property twice (2.2.2.2).
    PropertyTwice,
    /// A property with a value that it must not have (3.1.2.11, 3.3.2.3).
    PropertyValue,
    /// A topic alias of 0 (3.3.2.3.4).
    TopicAlias,
    /// Authentication data without a method (3.1.2.11.10).
    AuthData,
    /// A reason code that this packet does not have (2.4).
    Reason,
}

impl Fault {
    /// Every fault, in the order in which they are declared.
    pub const ALL: [Fault; 32] = [
        Fault::Type,
        Fault::Flags,
        Fault::Length,
        Fault::TooLarge,
        Fault::Cut,
        Fault::Trailing,
        Fault::Text,
        Fault::Nul,
        Fault::NotConnect,
        Fault::SecondConnect,
        Fault::Direction,
        Fault::ProtocolName,
        Fault::ProtocolLevel,
        Fault::ConnectFlags,
        Fault::WillFlags,
        Fault::PasswordAlone,
        Fault::ClientId,
        Fault::QoS,
        Fault::Dup,
        Fault::PacketId,
        Fault::TopicName,
        Fault::TopicFilter,
        Fault::NoTopic,
        Fault::NoFilter,
        Fault::Options,
        Fault::SharedNoLocal,
        Fault::Property,
        Fault::PropertyTwice,
        Fault::PropertyValue,
        Fault::TopicAlias,
        Fault::AuthData,
        Fault::Reason,
    ];

    /// The reason code of the DISCONNECT or CONNACK that answers it in MQTT 5 (2.4).
    pub const fn reason(self) -> u8 {
        match self {
            Fault::TooLarge => 0x95,
            Fault::ProtocolName | Fault::ProtocolLevel => 0x84,
            Fault::ClientId => 0x85,
            Fault::TopicName => 0x90,
            Fault::TopicFilter => 0x8f,
            Fault::TopicAlias => 0x94,
            Fault::NotConnect
            | Fault::SecondConnect
            | Fault::Direction
            | Fault::PacketId
            | Fault::NoTopic
            | Fault::NoFilter
            | Fault::SharedNoLocal
            | Fault::PropertyTwice
            | Fault::PropertyValue
            | Fault::AuthData
            | Fault::Reason => 0x82,
            _ => 0x81,
        }
    }

    /// The return code of the CONNACK that answers it in 3.x, where there is one (3.1.1: 3.2.2.3).
    pub const fn refusal(self) -> Option<u8> {
        match self {
            Fault::ProtocolLevel => Some(1),
            Fault::ClientId => Some(2),
            _ => None,
        }
    }

    /// The fault in words, for a log and for the reason string of a DISCONNECT; ASCII.
    pub const fn words(self) -> &'static str {
        match self {
            Fault::Type => "unknown packet type",
            Fault::Flags => "reserved flags of a packet",
            Fault::Length => "malformed remaining length",
            Fault::TooLarge => "packet above the limit",
            Fault::Cut => "field beyond the end of its packet",
            Fault::Trailing => "bytes behind the last field",
            Fault::Text => "string is not UTF-8",
            Fault::Nul => "string with a null character",
            Fault::NotConnect => "first packet is not CONNECT",
            Fault::SecondConnect => "second CONNECT",
            Fault::Direction => "packet of the other end",
            Fault::ProtocolName => "protocol name is not MQTT",
            Fault::ProtocolLevel => "protocol level is not 3, 4 or 5",
            _ => self.words_of_fields(),
        }
    }

    const fn words_of_fields(self) -> &'static str {
        match self {
            Fault::ConnectFlags => "reserved connect flag",
            Fault::WillFlags => "will flags without a will, or will QoS 3",
            Fault::PasswordAlone => "password without user name",
            Fault::ClientId => "empty client identifier",
            Fault::QoS => "QoS 3",
            Fault::Dup => "DUP with QoS 0",
            Fault::PacketId => "packet identifier 0",
            Fault::TopicName => "invalid topic name",
            Fault::TopicFilter => "invalid topic filter",
            Fault::NoTopic => "neither topic nor topic alias",
            Fault::NoFilter => "packet without a topic filter or a code",
            Fault::Options => "reserved subscription options",
            Fault::SharedNoLocal => "no local with a shared subscription",
            Fault::Property => "property that this packet does not have",
            Fault::PropertyTwice => "property twice",
            Fault::PropertyValue => "property with an impossible value",
            Fault::TopicAlias => "topic alias 0",
            Fault::AuthData => "authentication data without a method",
            Fault::Reason => "reason code that this packet does not have",
            _ => "malformed packet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_reason_and_words_of_its_own() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            assert!(fault.reason() >= 0x80 && fault.words() != "malformed packet", "{fault:?}");
            assert!(Fault::ALL.iter().skip(at + 1).all(|other| other.words() != fault.words()), "{fault:?}");
        }
    }
}
