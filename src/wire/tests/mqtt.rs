//! Packets of MQTT: what is written is read, a cut packet says so, and garbage fails the same wherever it is cut.

mod laws;

use edgehold_wire::mqtt::{
    self, Ack, Auth, ConnAck, Connect, Disconnect, Fault, Limits, Options, Packet, Properties, Property, Publish, QoS,
    Read, Role, SubAck, UnsubAck, Version, Will,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { packet_bytes: 1 << 20 };

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V31, Version::V311, Version::V5])
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-zé/]{1,20}", 1 => "[a-z/]{120,300}"]
}

/// User properties, so many, as they stand in a packet.
fn block(version: Version, many: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    for _ in 0..if version == Version::V5 { many } else { 0 } {
        Property::User("name", "välue").write(&mut raw);
    }
    raw
}

fn read_whole(bytes: &[u8], version: Option<Version>, role: Role) -> Result<Packet<'_>, Fault> {
    match mqtt::read(bytes, &LIMITS, version, role)? {
        Read::Packet { packet, used } if used == bytes.len() => Ok(packet),
        other => panic!("{other:?} of {bytes:x?}"),
    }
}

/// Bytes that look like packets more often than chance would have it.
fn near_packets() -> impl Strategy<Value = Vec<u8>> {
    let connect = b"\x10\x10\0\x04MQTT\x05\xc2\0\x3c\0\0\x01a\0\x01".to_vec();
    let scraps = prop::sample::select(vec![
        connect,
        b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0".to_vec(),
        b"\0\x06MQIsdp\x03".to_vec(),
        b"\x30\x05\0\x01a".to_vec(),
        b"\x32\x08\0\x01a\0\x01".to_vec(),
        b"\x82\x08\0\x01\0\0\x01#\x01".to_vec(),
        b"\x90\x04\0\x01\0\x02".to_vec(),
        b"\x40\x02\0\x01".to_vec(),
        b"\x62\x04\0\x01\x92\0".to_vec(),
        b"\xc0\0".to_vec(),
        b"\xe0\x02\x81\0".to_vec(),
        b"\x03\x23\0\x01".to_vec(),
        b"\x80\x80\x80\x01".to_vec(),
        b"\0\x03a/+".to_vec(),
    ]);
    let scrap = prop_oneof![9 => scraps, 2 => prop::collection::vec(any::<u8>(), 0..8)];
    prop::collection::vec(scrap, 0..5).prop_map(|scraps| scraps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_read_as_it_was_written(
        version in version(), qos in qos(), retain: bool, dup: bool, topic in text(), id in 1..=u16::MAX,
        many in 0..9_usize, payload in prop::collection::vec(any::<u8>(), 0..300), role in prop::bool::ANY,
    ) {
        let raw = block(version, many);
        let packet_id = (qos != QoS::AtMostOnce).then_some(id);
        let properties = Properties::written(&raw);
        let dup = dup && packet_id.is_some();
        let publish = Publish { dup, qos, retain, topic: &topic, packet_id, properties, payload: &payload };
        let role = if role { Role::Server } else { Role::Client };
        laws::mqtt_again(&Packet::Publish(publish), Some(version), role);
    }

    #[test]
    fn a_connect_is_read_as_it_was_written(
        version in version(), clean_start: bool, keep_alive: u16, client_id in text(), many in 0..9_usize,
        will in prop::option::of((text(), qos(), any::<bool>())), user in prop::option::of(text()),
        password in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let raw = block(version, many);
        let properties = Properties::written(&raw);
        let will = will.as_ref().map(|(topic, qos, retain)| {
            Will { topic, payload: &password, qos: *qos, retain: *retain, properties }
        });
        let (user, password) = (user.as_deref(), user.as_ref().map(|_| &password[..]));
        let client_id = client_id.as_str();
        let connect = Connect { version, clean_start, keep_alive, client_id, will, user, password, properties };
        laws::mqtt_again(&Packet::Connect(connect), None, Role::Server);
    }

    #[test]
    fn what_answers_is_read_as_it_was_written(
        version in version(), id in 1..=u16::MAX, codes in prop::collection::vec(0..=2_u8, 1..200), many in 0..9_usize,
    ) {
        let raw = block(version, many);
        let (properties, is_v5) = (Properties::written(&raw), version == Version::V5);
        let ack = Ack { packet_id: id, reason: if is_v5 { 0x92 } else { 0 }, properties };
        let none = vec![0; if is_v5 { codes.len() } else { 0 }];
        let (client, server) = ((Some(version), Role::Client), (Some(version), Role::Server));
        let connack = ConnAck { session_present: version != Version::V31, reason: 0, properties };
        laws::mqtt_again(&Packet::ConnAck(connack), client.0, client.1);
        laws::mqtt_again(&Packet::PubRel(ack), client.0, client.1);
        laws::mqtt_again(&Packet::PubComp(ack), server.0, server.1);
        laws::mqtt_again(&Packet::PubAck(Ack { reason: 0, ..ack }), server.0, server.1);
        laws::mqtt_again(&Packet::PubRec(Ack { reason: 0, ..ack }), server.0, server.1);
        laws::mqtt_again(&Packet::SubAck(SubAck { packet_id: id, properties, codes: &codes }), client.0, client.1);
        laws::mqtt_again(&Packet::UnsubAck(UnsubAck { packet_id: id, properties, codes: &none }), client.0, client.1);
        laws::mqtt_again(&Packet::Disconnect(Disconnect { reason: 0, properties }), server.0, server.1);
        if is_v5 {
            laws::mqtt_again(&Packet::Disconnect(Disconnect { reason: 0x8e, properties }), client.0, client.1);
            laws::mqtt_again(&Packet::Auth(Auth { reason: 0x18, properties }), client.0, client.1);
        }
    }

    #[test]
    fn filters_are_read_as_they_were_written(
        version in version(), id in 1..=u16::MAX,
        filters in prop::collection::vec(("[a-z]{0,60}/(#|[+])", qos(), any::<[bool; 2]>(), 0..3_u8), 1..9),
    ) {
        let options = |(filter, qos, [no_local, retain_as_published], retain_handling): &(String, _, [bool; 2], u8)| {
            let plain = Options { qos: *qos, ..Options::default() };
            let all = Options { no_local: *no_local, retain_as_published: *retain_as_published,
                retain_handling: *retain_handling, qos: *qos };
            (filter.clone(), if version == Version::V5 { all } else { plain })
        };
        let filters: Vec<(String, Options)> = filters.iter().map(options).collect();
        let each = || filters.iter().map(|(filter, options)| (&filter[..], *options));
        let mut out = Vec::new();
        mqtt::write_subscribe(&mut out, version, id, Properties::default(), each());
        let Packet::Subscribe(it) = read_whole(&out, Some(version), Role::Server).unwrap() else { panic!("{out:x?}") };
        prop_assert!(it.packet_id == id && it.filters.iter().eq(each()));
        let mut out = Vec::new();
        mqtt::write_unsubscribe(&mut out, version, id, Properties::default(), each().map(|(filter, _)| filter));
        let read = read_whole(&out, Some(version), Role::Server).unwrap();
        let Packet::Unsubscribe(it) = read else { panic!("{out:x?}") };
        prop_assert!(it.packet_id == id && it.filters.iter().map(|(it, _)| it).eq(each().map(|(it, _)| it)));
    }

    #[test]
    fn garbage_fails_the_same_wherever_cut(bytes in prop::collection::vec(any::<u8>(), 0..60), limit in 0..64_u32) {
        laws::mqtt(&bytes, limit);
    }

    #[test]
    fn near_packets_fail_the_same_wherever_cut(bytes in near_packets(), limit in 8..64_u32) {
        laws::mqtt(&bytes, limit);
    }
}

/// What a server of MQTT 5 says to these bytes.
fn fault(bytes: &[u8]) -> Fault {
    read_whole(bytes, Some(Version::V5), Role::Server).expect_err(&format!("{bytes:x?}"))
}

#[test]
fn what_is_malformed_has_its_reason() {
    for (bytes, expected, reason) in [
        (&b"\x00\0"[..], Fault::Type, 0x81),
        (b"\x10\0", Fault::SecondConnect, 0x82),
        (b"\x20\x02\0\0", Fault::Direction, 0x82),
        (b"\x36\x05\0\x01a\0\x01", Fault::QoS, 0x81),
        (b"\x38\x04\0\x01a\0", Fault::Dup, 0x81),
        (b"\x32\x06\0\x01a\0\0\0", Fault::PacketId, 0x82),
        (b"\x60\x02\0\x01", Fault::Flags, 0x81),
        (b"\x80\x02\0\x01", Fault::Flags, 0x81),
        (b"\x30\xff\xff\xff\xff\x01", Fault::Length, 0x81),
        (b"\x30\x80\0", Fault::Length, 0x81),
        (b"\x30\x81\x80\x40", Fault::TooLarge, 0x95),
        (b"\x30\x02\0\x01", Fault::Cut, 0x81),
        (b"\xc0\x01a", Fault::Trailing, 0x81),
        (b"\x30\x04\0\x01\xff\0", Fault::Text, 0x81),
        (b"\x30\x06\0\x03\xed\xa0\x80\0", Fault::Text, 0x81),
        (b"\x30\x04\0\x01\0\0", Fault::Nul, 0x81),
        (b"\x30\x03\0\0\0", Fault::NoTopic, 0x82),
        (b"\x30\x04\0\x01#\0", Fault::TopicName, 0x90),
        (b"\x30\x07\0\x01a\x03\x23\0\0", Fault::TopicAlias, 0x94),
        (b"\x30\x06\0\x01a\x02\x0b\x01", Fault::PropertyValue, 0x82),
        (b"\x30\x06\0\x01a\x02\x01\x02", Fault::PropertyValue, 0x82),
        (b"\x30\x08\0\x01a\x04\x01\x01\x01\x01", Fault::PropertyTwice, 0x82),
        (b"\x30\x06\0\x01a\x02\x7f\x01", Fault::Property, 0x81),
        (b"\x30\x07\0\x01a\x03\x21\0\x01", Fault::Property, 0x81),
        (b"\x30\x08\0\x01a\x04\x08\0\x01#", Fault::TopicName, 0x90),
        (b"\x82\x03\0\x01\0", Fault::NoFilter, 0x82),
        (b"\x82\x07\0\x01\0\0\x01a\xc0", Fault::Options, 0x81),
        (b"\x82\x07\0\x01\0\0\x01a\x30", Fault::Options, 0x81),
        (b"\x82\x07\0\x01\0\0\x01a\x03", Fault::QoS, 0x81),
        (b"\x82\x08\0\x01\0\0\x02a#\0", Fault::TopicFilter, 0x8f),
        (b"\x82\x09\0\x01\x02\x0b\0\0\x01a\0", Fault::PropertyValue, 0x82),
        (b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04", Fault::SharedNoLocal, 0x82),
        (b"\x40\x03\0\x01\x92", Fault::Reason, 0x82),
        (b"\xe0\x01\x01", Fault::Reason, 0x82),
        (b"\xf0\x06\x18\x04\x16\0\x01a", Fault::AuthData, 0x82),
    ] {
        assert_eq!((fault(bytes), fault(bytes).reason()), (expected, reason), "{bytes:x?}");
    }
}

#[test]
fn a_connect_keeps_to_its_law() {
    let connect = |rest: &[u8]| [&[0x10, rest.len() as u8], rest].concat();
    for (rest, expected) in [
        (&b"\0\x04MQTX\x04\x02\0\0\0\0"[..], Fault::ProtocolName),
        (b"\0\x04MQTT\x06\x02\0\0\0\0", Fault::ProtocolLevel),
        (b"\0\x04MQTT\x03\x02\0\0\0\0", Fault::ProtocolLevel),
        (b"\0\x06MQIsdp\x04\x02\0\0\0\0", Fault::ProtocolLevel),
        (b"\0\x04MQTT\x84\x02\0\0\0\0", Fault::ProtocolLevel),
        (b"\0\x04MQTT\x04\x03\0\0\0\0", Fault::ConnectFlags),
        (b"\0\x04MQTT\x04\x0a\0\0\0\0", Fault::WillFlags),
        (b"\0\x04MQTT\x04\x22\0\0\0\0", Fault::WillFlags),
        (b"\0\x04MQTT\x04\x1e\0\0\0\0", Fault::WillFlags),
        (b"\0\x04MQTT\x04\x42\0\0\0\0\0\0", Fault::PasswordAlone),
        (b"\0\x04MQTT\x04\0\0\0\0\0", Fault::ClientId),
        (b"\0\x06MQIsdp\x03\x02\0\0\0\0", Fault::ClientId),
        (b"\0\x04MQTT\x04\x06\0\0\0\0\0\x01+\0\0", Fault::TopicName),
        (b"\0\x04MQTT\x05\x02\0\0\x05\x18\0\0\0\x01\0\0", Fault::Property),
        (b"\0\x04MQTT\x04\x02\0\0\0\0a", Fault::Trailing),
    ] {
        assert_eq!(read_whole(&connect(rest), None, Role::Server), Err(expected), "{rest:x?}");
    }
    let alone = connect(b"\0\x04MQTT\x05\x42\0\0\0\0\0\0\x01p");
    let Ok(Packet::Connect(it)) = read_whole(&alone, None, Role::Server) else { panic!("not read") };
    assert_eq!((it.user, it.password), (None, Some(&b"p"[..])));
    assert_eq!(mqtt::read(b"GET / HTTP/1.1", &LIMITS, None, Role::Server), Err(Fault::NotConnect));
}

#[test]
fn a_server_of_3_1_takes_what_was_sent_again() {
    let again = b"\x8a\x06\0\x01\0\x01a\x01";
    assert!(read_whole(again, Some(Version::V31), Role::Server).is_ok());
    assert_eq!(read_whole(again, Some(Version::V311), Role::Server), Err(Fault::Flags));
}
