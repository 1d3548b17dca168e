//! The packets (3.1 to 3.15), read from their content.

use super::properties::Home;
use super::reader::Reader;
use super::{Fault, Properties, Property, QoS, Role, Version, topic};

/// A packet. Reason codes are those of MQTT 5, and 0 where an older packet has none, but for [`ConnAck::reason`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "it lies on the stack of its reader for as long as it is looked at")]
pub enum Packet<'b> {
    /// 1: a client asks to be let in.
    Connect(Connect<'b>),
    /// 2: it is, or not.
    ConnAck(ConnAck<'b>),
    /// 3: a message.
    Publish(Publish<'b>),
    /// 4: a message of QoS 1 has come.
    PubAck(Ack<'b>),
    /// 5: a message of QoS 2 has come.
    PubRec(Ack<'b>),
    /// 6: it may be forgotten.
    PubRel(Ack<'b>),
    /// 7: it is forgotten.
    PubComp(Ack<'b>),
    /// 8.
    Subscribe(Subscribe<'b>),
    /// 9.
    SubAck(SubAck<'b>),
    /// 10.
    Unsubscribe(Unsubscribe<'b>),
    /// 11.
    UnsubAck(UnsubAck<'b>),
    /// 12.
    PingReq,
    /// 13.
    PingResp,
    /// 14.
    Disconnect(Disconnect<'b>),
    /// 15.
    Auth(Auth<'b>),
}

/// CONNECT (3.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connect<'b> {
    /// What is spoken from here on.
    pub version: Version,
    /// Nothing is remembered of an earlier session; before MQTT 5, nothing of this one either.
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive: u16,
    /// Empty: the server chooses one.
    pub client_id: &'b str,
    /// What is published when the client is lost.
    pub will: Option<Will<'b>>,
    /// The user's name.
    pub user: Option<&'b str>,
    /// The password, or a token.
    pub password: Option<&'b [u8]>,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// The will in a CONNECT (3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Will<'b> {
    /// Where it is published.
    pub topic: &'b str,
    /// What is published.
    pub payload: &'b [u8],
    /// How.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// CONNACK (3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnAck<'b> {
    /// The server has a session of this client.
    pub session_present: bool,
    /// 0: the client is let in. The reason code of MQTT 5, the return code (0 to 5) of 3.x.
    pub reason: u8,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// PUBLISH (3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Publish<'b> {
    /// It was sent before.
    pub dup: bool,
    /// How surely it is to be delivered.
    pub qos: QoS,
    /// It is to be kept, or was.
    pub retain: bool,
    /// Empty only where a topic alias says it (MQTT 5).
    pub topic: &'b str,
    /// With QoS 1 and 2; not 0.
    pub packet_id: Option<u16>,
    /// Its properties.
    pub properties: Properties<'b>,
    /// The message.
    pub payload: &'b [u8],
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack<'b> {
    /// Not 0.
    pub packet_id: u16,
    /// 0 is success.
    pub reason: u8,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subscribe<'b> {
    /// Not 0.
    pub packet_id: u16,
    /// Its properties.
    pub properties: Properties<'b>,
    /// At least one filter, each with options.
    pub filters: Filters<'b>,
}

/// How a subscription is to be served (3.8.3.1); before MQTT 5 only with its QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The most that is sent.
    pub qos: QoS,
    /// Not what this client publishes itself.
    pub no_local: bool,
    /// RETAIN is sent as it was published, not only with what was kept.
    pub retain_as_published: bool,
    /// Retained messages are sent: 0 always, 1 where the subscription is new, 2 never.
    pub retain_handling: u8,
}

impl Options {
    /// The byte behind the filter.
    pub const fn byte(self) -> u8 {
        let flags = (self.no_local as u8) << 2 | (self.retain_as_published as u8) << 3;
        self.qos.level() | flags | self.retain_handling << 4
    }

    fn read(byte: u8, version: Version) -> Result<Options, Fault> {
        let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
        if byte & reserved != 0 || byte & 0x30 == 0x30 {
            return Err(Fault::Options);
        }
        Ok(Options {
            qos: QoS::of(byte & 3).ok_or(Fault::QoS)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: byte >> 4 & 3,
        })
    }
}

/// SUBACK (3.9).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubAck<'b> {
    /// That of the SUBSCRIBE.
    pub packet_id: u16,
    /// Its properties.
    pub properties: Properties<'b>,
    /// One for each filter: the QoS that is granted, or a reason from 0x80 on.
    pub codes: &'b [u8],
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unsubscribe<'b> {
    /// Not 0.
    pub packet_id: u16,
    /// Its properties.
    pub properties: Properties<'b>,
    /// At least one filter, without options.
    pub filters: Filters<'b>,
}

/// UNSUBACK (3.11).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnsubAck<'b> {
    /// That of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// Its properties.
    pub properties: Properties<'b>,
    /// One for each filter; none before MQTT 5.
    pub codes: &'b [u8],
}

/// DISCONNECT (3.14).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disconnect<'b> {
    /// 0: as it should be; from a client, its will is not published.
    pub reason: u8,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// AUTH (3.15).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auth<'b> {
    /// 0, 0x18 or 0x19.
    pub reason: u8,
    /// Its properties.
    pub properties: Properties<'b>,
}

/// Topic filters of a SUBSCRIBE or UNSUBSCRIBE, which were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters<'b> {
    raw: &'b [u8],
    has_options: bool,
    version: Version,
}

impl<'b> Filters<'b> {
    /// Each filter, and its options: those of an UNSUBSCRIBE say nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, Options)> + Clone + use<'b> {
        let (mut reader, has_options, version) = (Reader::new(self.raw), self.has_options, self.version);
        core::iter::from_fn(move || filter(&mut reader, has_options, version).ok())
    }

    fn read(from: &mut Reader<'b>, has_options: bool, version: Version) -> Result<Filters<'b>, Fault> {
        let raw = from.rest();
        let mut reader = Reader::new(raw);
        if reader.is_empty() {
            return Err(Fault::NoFilter);
        }
        while !reader.is_empty() {
            let (filter, options) = filter(&mut reader, has_options, version)?;
            if !topic::is_filter(filter) {
                return Err(Fault::TopicFilter);
            }
            // "It is a Protocol Error to set the No Local bit to 1 on a Shared Subscription" (MQTT-3.8.3-4).
            if options.no_local && topic::shared(filter).is_some() {
                return Err(Fault::SharedNoLocal);
            }
        }
        Ok(Filters { raw, has_options, version })
    }
}

fn filter<'b>(from: &mut Reader<'b>, has_options: bool, version: Version) -> Result<(&'b str, Options), Fault> {
    let filter = from.text()?;
    let options = if has_options { Options::read(from.byte()?, version)? } else { Options::default() };
    Ok((filter, options))
}

// ---- the first byte ----

/// Types of packets (2.1.2), as the first byte has them.
pub(super) mod kind {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const CONNACK: u8 = 2;
    pub(in super::super) const PUBLISH: u8 = 3;
    pub(in super::super) const PUBREL: u8 = 6;
    pub(in super::super) const SUBSCRIBE: u8 = 8;
    pub(in super::super) const SUBACK: u8 = 9;
    pub(in super::super) const UNSUBSCRIBE: u8 = 10;
    pub(in super::super) const UNSUBACK: u8 = 11;
    pub(in super::super) const PINGREQ: u8 = 12;
    pub(in super::super) const PINGRESP: u8 = 13;
    pub(in super::super) const DISCONNECT: u8 = 14;
    pub(in super::super) const AUTH: u8 = 15;
}

/// Whether a packet that begins so may come: what is known before its length.
pub(super) fn check_first(first: u8, version: Option<Version>, role: Role) -> Result<(), Fault> {
    let kind = first >> 4;
    let is_known = kind != 0 && (kind != kind::AUTH || version.is_none_or(|it| it == Version::V5));
    if !is_known {
        return Err(Fault::Type);
    }
    match version {
        None if kind != kind::CONNECT => return Err(Fault::NotConnect),
        Some(_) if kind == kind::CONNECT && role == Role::Server => return Err(Fault::SecondConnect),
        Some(it) if !comes(kind, it, role) => return Err(Fault::Direction),
        _ => {}
    }
    check_flags(kind, first & 0x0f, version)
}

/// Which end sends what (2.1.2, table 2-1).
fn comes(kind: u8, version: Version, role: Role) -> bool {
    match (kind, role) {
        (kind::CONNECT | kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PINGREQ, role) => role == Role::Server,
        (kind::CONNACK | kind::SUBACK | kind::UNSUBACK | kind::PINGRESP, role) => role == Role::Client,
        (kind::DISCONNECT, Role::Client) => version == Version::V5,
        _ => true,
    }
}

/// Of PUBLISH they are looked at with the rest (2.1.3, table 2-2). MQTT 3.1 lets those with QoS 1 be sent again.
fn check_flags(kind: u8, flags: u8, version: Option<Version>) -> Result<(), Fault> {
    let expected = match kind {
        kind::PUBLISH => return check_publish(flags),
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
        _ => 0,
    };
    let may_be_again = expected == 2 && version == Some(Version::V31);
    let flags = if may_be_again { flags & !8 } else { flags };
    if flags == expected { Ok(()) } else { Err(Fault::Flags) }
}

fn check_publish(flags: u8) -> Result<(), Fault> {
    match (flags >> 1 & 3, flags & 8 != 0) {
        (3, _) => Err(Fault::QoS),
        (0, true) => Err(Fault::Dup),
        _ => Ok(()),
    }
}

// ---- the content ----

/// What is read of one packet.
struct Content<'b> {
    from: Reader<'b>,
    kind: u8,
    version: Version,
    role: Role,
}

/// `first` was checked.
pub(super) fn read(first: u8, from: Reader<'_>, version: Option<Version>, role: Role) -> Result<Packet<'_>, Fault> {
    let Some(version) = version else { return connect(from, role).map(Packet::Connect) };
    let mut content = Content { from, kind: first >> 4, version, role };
    let packet = match content.kind {
        kind::CONNACK => Packet::ConnAck(content.connack()?),
        kind::PUBLISH => Packet::Publish(content.publish(first)?),
        4 => Packet::PubAck(content.ack()?),
        5 => Packet::PubRec(content.ack()?),
        kind::PUBREL => Packet::PubRel(content.ack()?),
        7 => Packet::PubComp(content.ack()?),
        kind::SUBSCRIBE => Packet::Subscribe(content.subscribe()?),
        kind::SUBACK => Packet::SubAck(content.suback()?),
        kind::UNSUBSCRIBE => Packet::Unsubscribe(content.unsubscribe()?),
        kind::UNSUBACK => Packet::UnsubAck(content.unsuback()?),
        kind::PINGREQ => Packet::PingReq,
        kind::PINGRESP => Packet::PingResp,
        kind::DISCONNECT => Packet::Disconnect(content.disconnect()?),
        _ => Packet::Auth(content.auth()?),
    };
    content.from.end().map(|()| packet)
}

impl<'b> Content<'b> {
    /// Those of this packet; before MQTT 5 there are none.
    fn properties(&mut self) -> Result<Properties<'b>, Fault> {
        match self.version {
            Version::V5 => Properties::read(&mut self.from, Home(self.kind), self.role),
            _ => Ok(Properties::default()),
        }
    }

    fn connack(&mut self) -> Result<ConnAck<'b>, Fault> {
        let session_present = match self.from.byte()? {
            0 => false,
            // Of 3.1 the whole byte is reserved.
            1 => self.version != Version::V31,
            _ => return Err(Fault::Flags),
        };
        let reason = self.from.byte()?;
        let is_known = if self.version == Version::V5 { reason == 0 || reason >= 0x80 } else { reason <= 5 };
        if !is_known {
            return Err(Fault::Reason);
        }
        Ok(ConnAck { session_present, reason, properties: self.properties()? })
    }

    fn publish(&mut self, first: u8) -> Result<Publish<'b>, Fault> {
        let qos = QoS::of(first >> 1 & 3).ok_or(Fault::QoS)?;
        let topic = self.from.text()?;
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(self.from.packet_id()?) };
        let properties = self.properties()?;
        if topic.is_empty() && self.version == Version::V5 {
            // "It is a Protocol Error if the Topic Name is zero length and there is no Topic Alias."
            if !properties.iter().any(|property| matches!(property, Property::TopicAlias(_))) {
                return Err(Fault::NoTopic);
            }
        } else if !topic::is_name(topic) {
            return Err(Fault::TopicName);
        }
        let payload = self.from.rest();
        let (dup, retain) = (first & 8 != 0, first & 1 != 0);
        Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload })
    }

    fn ack(&mut self) -> Result<Ack<'b>, Fault> {
        let packet_id = self.from.packet_id()?;
        let (reason, properties) = self.reason()?;
        Ok(Ack { packet_id, reason, properties })
    }

    /// Reason code and properties, which may both be left out in MQTT 5, and are not there before.
    fn reason(&mut self) -> Result<(u8, Properties<'b>), Fault> {
        if self.version != Version::V5 || self.from.is_empty() {
            return Ok((0, Properties::default()));
        }
        let reason = self.from.byte()?;
        if !is_reason(self.kind, reason) {
            return Err(Fault::Reason);
        }
        let properties = if self.from.is_empty() { Properties::default() } else { self.properties()? };
        Ok((reason, properties))
    }

    fn subscribe(&mut self) -> Result<Subscribe<'b>, Fault> {
        let (packet_id, properties) = (self.from.packet_id()?, self.properties()?);
        Ok(Subscribe { packet_id, properties, filters: Filters::read(&mut self.from, true, self.version)? })
    }

    fn unsubscribe(&mut self) -> Result<Unsubscribe<'b>, Fault> {
        let (packet_id, properties) = (self.from.packet_id()?, self.properties()?);
        Ok(Unsubscribe { packet_id, properties, filters: Filters::read(&mut self.from, false, self.version)? })
    }

    fn suback(&mut self) -> Result<SubAck<'b>, Fault> {
        let (packet_id, properties) = (self.from.packet_id()?, self.properties()?);
        // Before MQTT 5 there is one failure, and it has no name (3.1.1: 3.9.3).
        let last = if self.version == Version::V5 { u8::MAX } else { 0x80 };
        Ok(SubAck { packet_id, properties, codes: self.codes(|code| code <= 2 || (0x80..=last).contains(&code))? })
    }

    fn unsuback(&mut self) -> Result<UnsubAck<'b>, Fault> {
        let (packet_id, properties) = (self.from.packet_id()?, self.properties()?);
        let codes = if self.version == Version::V5 {
            self.codes(|code| matches!(code, 0 | 0x11) || code >= 0x80)?
        } else {
            &[]
        };
        Ok(UnsubAck { packet_id, properties, codes })
    }

    fn codes(&mut self, is_known: impl Fn(u8) -> bool) -> Result<&'b [u8], Fault> {
        match self.from.rest() {
            [] => Err(Fault::NoFilter),
            codes if codes.iter().all(|&code| is_known(code)) => Ok(codes),
            _ => Err(Fault::Reason),
        }
    }

    fn disconnect(&mut self) -> Result<Disconnect<'b>, Fault> {
        self.reason().map(|(reason, properties)| Disconnect { reason, properties })
    }

    fn auth(&mut self) -> Result<Auth<'b>, Fault> {
        self.reason().map(|(reason, properties)| Auth { reason, properties })
    }
}

/// Which codes a packet may have (2.4): the tables of 3.4.2.1 and its like.
fn is_reason(kind: u8, reason: u8) -> bool {
    match kind {
        4 | 5 => matches!(reason, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
        6 | 7 => matches!(reason, 0 | 0x92),
        kind::AUTH => matches!(reason, 0 | 0x18 | 0x19),
        _ => matches!(reason, 0 | 4) || reason >= 0x80,
    }
}

// ---- CONNECT ----

/// Connect flags (3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN: u8 = 2;
    pub(super) const WILL: u8 = 4;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER: u8 = 0x80;
}

fn connect(mut from: Reader<'_>, role: Role) -> Result<Connect<'_>, Fault> {
    let version = version(&mut from)?;
    let flags = from.byte()?;
    check_connect(flags, version)?;
    let keep_alive = from.u16()?;
    let mut content = Content { from, kind: kind::CONNECT, version, role };
    let properties = content.properties()?;
    let client_id = content.from.text()?;
    let clean_start = flags & flag::CLEAN != 0;
    check_client_id(client_id, clean_start, version)?;
    let will = if flags & flag::WILL == 0 { None } else { Some(content.will(flags)?) };
    let user = if flags & flag::USER == 0 { None } else { Some(content.from.text()?) };
    let password = if flags & flag::PASSWORD == 0 { None } else { Some(content.from.binary()?) };
    content.from.end()?;
    Ok(Connect { version, clean_start, keep_alive, client_id, will, user, password, properties })
}

/// Protocol name and level.
fn version(from: &mut Reader<'_>) -> Result<Version, Fault> {
    let name = from.binary()?;
    let level = match name {
        b"MQTT" | b"MQIsdp" => from.byte()?,
        _ => return Err(Fault::ProtocolName),
    };
    let versions = [Version::V31, Version::V311, Version::V5];
    let is_it = |it: &Version| (it.wire().0.as_bytes(), it.wire().1) == (name, level);
    versions.into_iter().find(is_it).ok_or(Fault::ProtocolLevel)
}

fn check_connect(flags: u8, version: Version) -> Result<(), Fault> {
    let will_qos = flags >> 3 & 3;
    let has_will = flags & flag::WILL != 0;
    if flags & flag::RESERVED != 0 {
        Err(Fault::ConnectFlags)
    } else if will_qos == 3 || !has_will && (will_qos != 0 || flags & flag::WILL_RETAIN != 0) {
        Err(Fault::WillFlags)
    } else if version != Version::V5 && flags & (flag::USER | flag::PASSWORD) == flag::PASSWORD {
        Err(Fault::PasswordAlone)
    } else {
        Ok(())
    }
}

/// What MQTT 3.1 says of lengths (1 to 23 characters) is only held for the empty one.
fn check_client_id(id: &str, clean_start: bool, version: Version) -> Result<(), Fault> {
    let may_be_empty = version == Version::V5 || version == Version::V311 && clean_start;
    if id.is_empty() && !may_be_empty { Err(Fault::ClientId) } else { Ok(()) }
}

impl<'b> Content<'b> {
    fn will(&mut self, flags: u8) -> Result<Will<'b>, Fault> {
        let properties = match self.version {
            Version::V5 => Properties::read(&mut self.from, Home::WILL, self.role)?,
            _ => Properties::default(),
        };
        let topic = self.from.text()?;
        if !topic::is_name(topic) {
            return Err(Fault::TopicName);
        }
        let qos = QoS::of(flags >> 3 & 3).ok_or(Fault::WillFlags)?;
        Ok(Will { topic, payload: self.from.binary()?, qos, retain: flags & flag::WILL_RETAIN != 0, properties })
    }
}
