//! Properties of MQTT 5 (2.2.2): read once to be checked, then again whenever they are asked for.

use super::reader::Reader;
use super::{Fault, Role, topic};
use alloc::vec::Vec;

/// The properties of a packet, as they stand in it without their length; empty before MQTT 5.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'b> {
    raw: &'b [u8],
}

/// One property (2.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'b> {
    /// 1: the payload is UTF-8 text.
    PayloadFormat(bool),
    /// 2: seconds for which a message is good.
    MessageExpiry(u32),
    /// 3.
    ContentType(&'b str),
    /// 8: the topic to answer to.
    ResponseTopic(&'b str),
    /// 9.
    CorrelationData(&'b [u8]),
    /// 11: 1 to 268 435 455.
    SubscriptionId(u32),
    /// 17: seconds; `u32::MAX` is for ever.
    SessionExpiry(u32),
    /// 18.
    AssignedClientId(&'b str),
    /// 19: seconds; 0 is none.
    ServerKeepAlive(u16),
    /// 21.
    AuthMethod(&'b str),
    /// 22.
    AuthData(&'b [u8]),
    /// 23.
    RequestProblem(bool),
    /// 24: seconds.
    WillDelay(u32),
    /// 25.
    RequestResponse(bool),
    /// 26.
    ResponseInformation(&'b str),
    /// 28: where else to go.
    ServerReference(&'b str),
    /// 31: words for a person.
    Reason(&'b str),
    /// 33: messages of QoS 1 and 2 that may be under way; not 0.
    ReceiveMaximum(u16),
    /// 34: 0 is none.
    TopicAliasMaximum(u16),
    /// 35: not 0.
    TopicAlias(u16),
    /// 36: QoS 0, or 1; 2 is said by saying nothing.
    MaximumQos(bool),
    /// 37.
    RetainAvailable(bool),
    /// 38: a name and a value of the user's, any number of them.
    User(&'b str, &'b str),
    /// 39: bytes of a packet; not 0.
    MaximumPacketSize(u32),
    /// 40.
    WildcardAvailable(bool),
    /// 41.
    SubscriptionIdAvailable(bool),
    /// 42.
    SharedAvailable(bool),
}

/// A packet as a place for properties: its type, and 0 for a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home(pub(super) u8);

impl Home {
    pub(super) const WILL: Home = Home(0);
    const PUBLISH: Home = Home(3);
}

/// Where a property may stand, one bit for each type of packet (2.2.2.2, the table).
const fn homes(id: u8) -> u16 {
    const WILL: u16 = 1;
    const CONNECT: u16 = 1 << 1;
    const CONNACK: u16 = 1 << 2;
    const PUBLISH: u16 = 1 << 3;
    const SUBSCRIBE: u16 = 1 << 8;
    const DISCONNECT: u16 = 1 << 14;
    const AUTH: u16 = 1 << 15;
    match id {
        1 | 2 | 3 | 8 | 9 => PUBLISH | WILL,
        11 => PUBLISH | SUBSCRIBE,
        17 => CONNECT | CONNACK | DISCONNECT,
        18 | 19 | 26 | 36 | 37 | 40 | 41 | 42 => CONNACK,
        21 | 22 => CONNECT | CONNACK | AUTH,
        23 | 25 => CONNECT,
        24 => WILL,
        28 => CONNACK | DISCONNECT,
        // CONNACK, PUBACK to PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH.
        31 => CONNACK | 0b1111 << 4 | 1 << 9 | 1 << 11 | DISCONNECT | AUTH,
        33 | 34 | 39 => CONNECT | CONNACK,
        35 => PUBLISH,
        // All that have properties: not PINGREQ and PINGRESP.
        38 => !(0b11 << 12),
        _ => 0,
    }
}

impl<'b> Properties<'b> {
    /// What [`Property::write`] has written, one behind the other. Of anything else [`Properties::iter`] tells what can
    /// be read.
    pub const fn written(raw: &'b [u8]) -> Properties<'b> {
        Properties { raw }
    }

    /// As they stand in the packet, without their length.
    pub const fn raw(&self) -> &'b [u8] {
        self.raw
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Each of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'b>> + Clone + use<'b> {
        let mut reader = Reader::new(self.raw);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // What was read was checked then; what was written by hand ends where it cannot be read.
            let property = Property::read(&mut reader).ok();
            if property.is_none() {
                reader.rest();
            }
            property
        })
    }

    /// Takes length and properties off a packet, and checks them all.
    pub(super) fn read(from: &mut Reader<'b>, home: Home, role: Role) -> Result<Properties<'b>, Fault> {
        let len = from.variable()? as usize;
        let raw = from.take(len)?;
        let (mut reader, mut seen) = (Reader::new(raw), 0_u64);
        let mut has_method = false;
        let mut has_data = false;
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            let bit = 1_u64 << property.id();
            property.check(home, role)?;
            if seen & bit != 0 && !property.is_repeatable(home) {
                return Err(Fault::PropertyTwice);
            }
            seen |= bit;
            has_method |= matches!(property, Property::AuthMethod(_));
            has_data |= matches!(property, Property::AuthData(_));
        }
        // "It is a Protocol Error to include Authentication Data if there is no Authentication Method."
        if has_data && !has_method { Err(Fault::AuthData) } else { Ok(Properties { raw }) }
    }
}

impl core::fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'b> Property<'b> {
    /// Its identifier, 1 to 42.
    pub const fn id(&self) -> u8 {
        match self {
            Property::PayloadFormat(_) => 1,
            Property::MessageExpiry(_) => 2,
            Property::ContentType(_) => 3,
            Property::ResponseTopic(_) => 8,
            Property::CorrelationData(_) => 9,
            Property::SubscriptionId(_) => 11,
            Property::SessionExpiry(_) => 17,
            Property::AssignedClientId(_) => 18,
            Property::ServerKeepAlive(_) => 19,
            Property::AuthMethod(_) => 21,
            Property::AuthData(_) => 22,
            Property::RequestProblem(_) => 23,
            Property::WillDelay(_) => 24,
            Property::RequestResponse(_) => 25,
            Property::ResponseInformation(_) => 26,
            Property::ServerReference(_) => 28,
            Property::Reason(_) => 31,
            Property::ReceiveMaximum(_) => 33,
            Property::TopicAliasMaximum(_) => 34,
            Property::TopicAlias(_) => 35,
            Property::MaximumQos(_) => 36,
            Property::RetainAvailable(_) => 37,
            Property::User(..) => 38,
            Property::MaximumPacketSize(_) => 39,
            Property::WildcardAvailable(_) => 40,
            Property::SubscriptionIdAvailable(_) => 41,
            Property::SharedAvailable(_) => 42,
        }
    }

    /// Appends identifier and value. A string or data longer than 65535 bytes is cut to that.
    #[allow(clippy::match_same_arms, reason = "those of one type in several lines are less to read than one by one")]
    pub fn write(&self, out: &mut Vec<u8>) {
        use super::write::{binary, variable};
        out.push(self.id());
        match *self {
            Property::PayloadFormat(is) | Property::RequestProblem(is) | Property::RequestResponse(is) => {
                out.push(u8::from(is));
            }
            Property::MaximumQos(is) | Property::RetainAvailable(is) | Property::WildcardAvailable(is) => {
                out.push(u8::from(is));
            }
            Property::SubscriptionIdAvailable(is) | Property::SharedAvailable(is) => out.push(u8::from(is)),
            Property::MessageExpiry(value) | Property::SessionExpiry(value) => out.extend(value.to_be_bytes()),
            Property::WillDelay(value) | Property::MaximumPacketSize(value) => out.extend(value.to_be_bytes()),
            Property::ServerKeepAlive(value) | Property::ReceiveMaximum(value) => out.extend(value.to_be_bytes()),
            Property::TopicAliasMaximum(value) | Property::TopicAlias(value) => out.extend(value.to_be_bytes()),
            Property::SubscriptionId(value) => variable(out, value),
            Property::CorrelationData(data) | Property::AuthData(data) => binary(out, data),
            Property::ContentType(text) | Property::ResponseTopic(text) => binary(out, text.as_bytes()),
            Property::AssignedClientId(text) | Property::AuthMethod(text) => binary(out, text.as_bytes()),
            Property::ResponseInformation(text) | Property::ServerReference(text) => binary(out, text.as_bytes()),
            Property::Reason(text) => binary(out, text.as_bytes()),
            Property::User(name, value) => {
                binary(out, name.as_bytes());
                binary(out, value.as_bytes());
            }
        }
    }

    /// The next one: its identifier is one byte, as all that there are are below 128.
    fn read(reader: &mut Reader<'b>) -> Result<Property<'b>, Fault> {
        Ok(match reader.byte()? {
            1 => Property::PayloadFormat(bit(reader)?),
            2 => Property::MessageExpiry(reader.u32()?),
            3 => Property::ContentType(reader.text()?),
            8 => Property::ResponseTopic(reader.text()?),
            9 => Property::CorrelationData(reader.binary()?),
            11 => Property::SubscriptionId(reader.variable()?),
            17 => Property::SessionExpiry(reader.u32()?),
            18 => Property::AssignedClientId(reader.text()?),
            19 => Property::ServerKeepAlive(reader.u16()?),
            21 => Property::AuthMethod(reader.text()?),
            22 => Property::AuthData(reader.binary()?),
            23 => Property::RequestProblem(bit(reader)?),
            24 => Property::WillDelay(reader.u32()?),
            25 => Property::RequestResponse(bit(reader)?),
            26 => Property::ResponseInformation(reader.text()?),
            28 => Property::ServerReference(reader.text()?),
            31 => Property::Reason(reader.text()?),
            33 => Property::ReceiveMaximum(reader.u16()?),
            34 => Property::TopicAliasMaximum(reader.u16()?),
            35 => Property::TopicAlias(reader.u16()?),
            36 => Property::MaximumQos(bit(reader)?),
            37 => Property::RetainAvailable(bit(reader)?),
            38 => Property::User(reader.text()?, reader.text()?),
            39 => Property::MaximumPacketSize(reader.u32()?),
            40 => Property::WildcardAvailable(bit(reader)?),
            41 => Property::SubscriptionIdAvailable(bit(reader)?),
            42 => Property::SharedAvailable(bit(reader)?),
            _ => return Err(Fault::Property),
        })
    }

    /// Whether it may stand in this packet, with this value.
    fn check(&self, home: Home, role: Role) -> Result<(), Fault> {
        let is_at_home = homes(self.id()) & 1 << home.0 != 0;
        // "A PUBLISH packet sent from a Client to a Server MUST NOT contain a Subscription Identifier" (MQTT-3.3.4-6).
        let is_servers = home == Home::PUBLISH && role == Role::Server && matches!(self, Property::SubscriptionId(_));
        if !is_at_home || is_servers {
            return Err(if is_servers { Fault::PropertyValue } else { Fault::Property });
        }
        match *self {
            Property::SubscriptionId(0) | Property::ReceiveMaximum(0) | Property::MaximumPacketSize(0) => {
                Err(Fault::PropertyValue)
            }
            Property::TopicAlias(0) => Err(Fault::TopicAlias),
            Property::ResponseTopic(name) if !topic::is_name(name) => Err(Fault::TopicName),
            _ => Ok(()),
        }
    }

    /// A message tells every subscription that it comes for (3.3.2.3.8).
    const fn is_repeatable(&self, home: Home) -> bool {
        match self {
            Property::User(..) => true,
            Property::SubscriptionId(_) => home.0 == Home::PUBLISH.0,
            _ => false,
        }
    }
}

/// 0 or 1.
fn bit(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::PropertyValue),
    }
}
