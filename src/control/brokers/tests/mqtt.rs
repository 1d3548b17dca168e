//! Brokers that speak MQTT.

use super::*;
use edgehold_wire::mqtt::shared::{self, read_shared};
use edgehold_wire::mqtt::{
    self as wire, Ack, AckKind, Limits, Packet, Properties, Property, Publish, QoS, Read, Role, SubAck, UnsubAck,
    Version, write_ack, write_pong, write_publish, write_suback, write_unsuback,
};

/// A connection of the edge, as the broker sees it.
struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    version: Version,
}

/// What the edge has sent.
#[derive(Debug, PartialEq)]
enum Said {
    /// Version and clean start.
    Connect(Version, bool),
    /// Filter, identifier, quality of service, retain handling; the packet identifier.
    Subscribe(String, Option<u32>, u8, u8, u16),
    Unsubscribe(String, u16),
    Ack(&'static str, u16),
    Ping,
}

impl Said {
    fn of(packet: &Packet<'_>) -> Said {
        match packet {
            Packet::Connect(it) => {
                assert_eq!((it.user, it.client_id), (Some("edge"), "edge-1"));
                Said::Connect(it.version, it.clean_start)
            }
            Packet::Subscribe(it) => {
                let (filter, options) = it.filters.iter().next().unwrap();
                let id = it.properties.iter().find_map(|property| match property {
                    Property::SubscriptionId(id) => Some(id),
                    _ => None,
                });
                Said::Subscribe(filter.into(), id, options.qos.level(), options.retain_handling, it.packet_id)
            }
            Packet::Unsubscribe(it) => Said::Unsubscribe(it.filters.iter().next().unwrap().0.into(), it.packet_id),
            Packet::PubAck(it) => Said::Ack("PUBACK", it.packet_id),
            Packet::PubRec(it) => Said::Ack("PUBREC", it.packet_id),
            Packet::PubComp(it) => Said::Ack("PUBCOMP", it.packet_id),
            Packet::PingReq => Said::Ping,
            other => panic!("{other:?}"),
        }
    }
}

impl Peer {
    /// Accepts a connection, which begins as it is to, and lets the edge in. `connack`: flags, reason, properties.
    async fn accept(listener: &TcpListener, begins: Said, connack: &[u8]) -> Peer {
        let mut peer = Peer { stream: accept(listener).await, received: Vec::new(), version: Version::V5 };
        assert_eq!(peer.said_before(None).await, begins);
        if let Said::Connect(version, _) = begins {
            peer.version = version;
        }
        peer.send(&[&[0x20, connack.len() as u8], connack].concat()).await;
        peer
    }

    async fn new(listener: &TcpListener) -> Peer {
        Peer::accept(listener, Said::Connect(Version::V5, true), &[0, 0, 0]).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn said(&mut self) -> Said {
        self.said_before(Some(self.version)).await
    }

    async fn said_before(&mut self, version: Option<Version>) -> Said {
        loop {
            let limits = Limits { packet_bytes: 1 << 20 };
            if let Read::Packet { packet, used } = wire::read(&self.received, &limits, version, Role::Server).unwrap() {
                let said = Said::of(&packet);
                self.received.drain(..used);
                return said;
            }
            let read = self.stream.read_buf(&mut self.received);
            assert!(timeout(PATIENCE, read).await.expect("a packet").unwrap() > 0, "the edge has hung up");
        }
    }

    /// SUBACK of the next SUBSCRIBE: what it was.
    async fn suback(&mut self, code: u8) -> (String, Option<u32>, u8, u8) {
        let said = self.said().await;
        let Said::Subscribe(filter, id, quality, handling, packet_id) = said else { panic!("{said:?}") };
        let mut out = Vec::new();
        let (properties, codes) = (Properties::default(), &[code][..]);
        write_suback(&mut out, self.version, &SubAck { packet_id, properties, codes });
        self.send(&out).await;
        (filter, id, quality, handling)
    }

    async fn unsuback(&mut self, packet_id: u16) {
        let mut out = Vec::new();
        let (properties, codes) = (Properties::default(), &[0][..]);
        write_unsuback(&mut out, self.version, &UnsubAck { packet_id, properties, codes });
        self.send(&out).await;
    }

    /// A message for the filters of these identifiers.
    async fn publish(&mut self, ids: &[u32], qos: QoS, topic: &str, payload: &str) {
        self.publish_as(ids, (qos, false, false), topic, payload).await;
    }

    async fn publish_as(&mut self, ids: &[u32], how: (QoS, bool, bool), topic: &str, payload: &str) {
        let (qos, retain, dup) = how;
        let (mut raw, mut out) = (Vec::new(), Vec::new());
        ids.iter().for_each(|id| Property::SubscriptionId(*id).write(&mut raw));
        let packet_id = (qos != QoS::AtMostOnce).then_some(9);
        let (properties, payload) = (Properties::written(&raw), payload.as_bytes());
        let publish = Publish { dup, qos, retain, topic, packet_id, properties, payload };
        write_publish(&mut out, self.version, &publish);
        self.send(&out).await;
    }
}

impl Seat {
    /// The payloads of the next messages.
    async fn payloads(&mut self, count: usize) -> Vec<String> {
        let messages = self.messages(count).await;
        let text = |it: &Arc<Message>| read_shared(it.payload()).unwrap().payload.to_vec();
        messages.iter().map(|it| String::from_utf8(text(it)).unwrap()).collect()
    }

    async fn is_subscribed(&mut self, topic: &str, quality: u8) {
        assert_eq!(self.told().await, (Some(0), topic.into(), TopicState::Subscribed(quality)));
    }
}

async fn pair(change: impl Fn(BrokerSettings) -> BrokerSettings) -> (Seat, Peer, TcpListener) {
    let (listener, address) = listener().await;
    let seat = Seat::new(change(settings(Protocol::Mqtt, &[address])));
    let peer = Peer::new(&listener).await;
    (seat, peer, listener)
}

fn subscribed(filter: &str, id: u32, quality: u8, handling: u8) -> (String, Option<u32>, u8, u8) {
    (filter.into(), Some(id), quality, handling)
}

#[tokio::test]
async fn a_message_is_published_and_then_acknowledged() {
    let (mut seat, mut peer, _listener) = pair(|it| it).await;
    seat.want(0, "a/+", Some(1));
    assert_eq!(peer.suback(1).await, subscribed("a/+", 1, 1, 0));
    seat.is_subscribed("a/+", 1).await;
    peer.publish_as(&[1], (QoS::AtLeastOnce, true, false), "a/b", "kept").await;
    let message = seat.messages(1).await.remove(0);
    let mark = shared::mark(QoS::AtLeastOnce, true) | shared::KEPT;
    assert_eq!((&*message.channel, message.mark, message.feed, message.text), ("a/b", mark, FEED, false));
    assert_eq!(peer.said().await, Said::Ack("PUBACK", 9));
    // What nobody has asked for is for nobody.
    peer.publish(&[], QoS::AtMostOnce, "other", "x").await;
    peer.publish(&[1], QoS::AtMostOnce, "a/c", "live").await;
    assert_eq!(seat.payloads(1).await, ["live"]);
    seat.want(0, "a/+", None);
    assert_eq!(seat.told().await, (None, "a/+".into(), TopicState::Ended));
    assert!(matches!(peer.said().await, Said::Unsubscribe(filter, _) if filter == "a/+"));
}

#[tokio::test]
async fn of_a_message_for_several_filters_one_copy_is_published() {
    let (mut seat, mut peer, _listener) = pair(|it| it).await;
    for (number, filter) in [(1, "a/+"), (2, "a/#")] {
        seat.want(0, filter, Some(0));
        assert_eq!(peer.suback(0).await, subscribed(filter, number, 0, 0));
        seat.is_subscribed(filter, 0).await;
    }
    for ids in [&[2][..], &[1], &[2, 1]] {
        peer.publish(ids, QoS::AtMostOnce, "a/b", &format!("{ids:?}")).await;
    }
    peer.publish(&[2], QoS::AtMostOnce, "a/b/c", "deep").await;
    assert_eq!(seat.payloads(3).await, ["[1]", "[2, 1]", "deep"]);
    // The older one ends: its copies are taken for as long as there are some.
    seat.want(0, "a/+", None);
    seat.told().await;
    let Said::Unsubscribe(_, id) = peer.said().await else { panic!() };
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "two").await;
    peer.publish(&[1], QoS::AtMostOnce, "a/b", "one").await;
    // It is wanted again meanwhile.
    seat.want(0, "a/+", Some(0));
    assert_eq!(seat.payloads(1).await, ["one"]);
    peer.unsuback(id).await;
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "alone").await;
    assert_eq!(seat.payloads(1).await, ["alone"]);
    assert_eq!(peer.suback(0).await, subscribed("a/+", 3, 0, 0));
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "old").await;
    peer.publish(&[3], QoS::AtMostOnce, "a/b", "new").await;
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "end").await;
    assert_eq!(seat.payloads(2).await, ["old", "end"]);
    assert_eq!(seat.stats().duplicates.get(), 3);
}

#[tokio::test]
async fn a_higher_quality_is_asked_for_and_of_older_filters_whose_copies_are_taken() {
    let (mut seat, mut peer, _listener) = pair(|it| it).await;
    seat.want(0, "a/+", Some(0));
    peer.suback(0).await;
    seat.is_subscribed("a/+", 0).await;
    seat.want(0, "a/b", Some(1));
    assert_eq!(peer.suback(1).await, subscribed("a/+", 1, 1, 2));
    assert_eq!(peer.suback(1).await, subscribed("a/b", 2, 1, 0));
    seat.is_subscribed("a/b", 1).await;
    seat.want(0, "a/b", Some(2));
    assert_eq!(peer.suback(2).await, subscribed("a/+", 1, 2, 2));
    assert_eq!(peer.suback(2).await, subscribed("a/b", 2, 2, 2));
    seat.is_subscribed("a/b", 2).await;
    peer.publish(&[2], QoS::ExactlyOnce, "a/b", "not this").await;
    assert_eq!(peer.said().await, Said::Ack("PUBREC", 9));
}

#[tokio::test]
async fn what_comes_exactly_once_is_published_once() {
    let (mut seat, mut peer, _listener) = pair(|it| it).await;
    seat.want(0, "a", Some(2));
    peer.suback(2).await;
    seat.is_subscribed("a", 2).await;
    for dup in [false, true] {
        peer.publish_as(&[1], (QoS::ExactlyOnce, false, dup), "a", "once").await;
        assert_eq!(peer.said().await, Said::Ack("PUBREC", 9));
    }
    let mut out = Vec::new();
    let ack = Ack { packet_id: 9, reason: 0, properties: Properties::default() };
    write_ack(&mut out, Version::V5, AckKind::PubRel, &ack);
    peer.send(&out).await;
    assert_eq!(peer.said().await, Said::Ack("PUBCOMP", 9));
    peer.publish(&[1], QoS::ExactlyOnce, "a", "another").await;
    assert_eq!(seat.payloads(2).await, ["once", "another"]);
}

#[tokio::test]
async fn a_session_that_the_broker_keeps_goes_on_and_one_that_it_has_lost_is_told() {
    let (mut seat, mut peer, listener) = pair(|it| BrokerSettings { persistent: true, ..it }).await;
    seat.want(0, "a", Some(1));
    seat.want(0, "b", Some(1));
    peer.suback(1).await;
    seat.is_subscribed("a", 1).await;
    peer.said().await;
    drop(peer);
    let mut peer = Peer::accept(&listener, Said::Connect(Version::V5, false), &[1, 0, 0]).await;
    peer.publish(&[1], QoS::AtLeastOnce, "a", "kept").await;
    assert_eq!(seat.payloads(1).await, ["kept"], "and no loss in front of it");
    assert_eq!(peer.said().await, Said::Ack("PUBACK", 9));
    assert_eq!(peer.suback(1).await, subscribed("b", 2, 1, 0));
    seat.is_subscribed("b", 1).await;
    drop(peer);
    let mut peer = Peer::accept(&listener, Said::Connect(Version::V5, false), &[0, 0, 0]).await;
    assert_eq!(seat.loss().await, None);
    assert_eq!(peer.suback(1).await, subscribed("a", 1, 1, 0));
    assert_eq!(peer.suback(1).await, subscribed("b", 2, 1, 0));
    assert_eq!((seat.stats().lost.get(), seat.stats().reconnects.get()), (2, 2));
}

#[tokio::test]
async fn a_session_that_is_not_kept_is_told_when_it_is_lost() {
    let (mut seat, mut peer, listener) = pair(|it| it).await;
    seat.want(0, "a", Some(1));
    peer.suback(1).await;
    seat.is_subscribed("a", 1).await;
    // A topic alias, where the edge has offered none.
    peer.send(&[0x30, 8, 0, 1, b'a', 3, 35, 0, 1, b'x']).await;
    assert_eq!(seat.loss().await, None);
    let mut peer = Peer::new(&listener).await;
    peer.suback(1).await;
    assert_eq!((seat.stats().nonsense.get(), seat.stats().up.get()), (1, 1));
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_and_what_is_no_filter_it_is_not_asked_for() {
    let (mut seat, mut peer, _listener) = pair(|it| it).await;
    seat.want(0, "a/#/b", Some(1));
    seat.want(0, &"a/".repeat(200), Some(1));
    seat.want(0, "secret", Some(1));
    assert_eq!(peer.suback(0x87).await, subscribed("secret", 1, 1, 0));
    for code in [0x8f, 0x8f, 0x87] {
        let state = seat.told().await.2;
        assert!(matches!(state, TopicState::Refused(it, _) if it == code), "{state:?}");
    }
    seat.want(0, "secret", Some(1));
    assert!(matches!(seat.told().await.2, TopicState::Refused(0x87, _)), "it is remembered for a while");
    assert_eq!((seat.stats().refused(Refused::Broker), seat.stats().wanted.get()), (3, 0));
}

#[tokio::test]
async fn a_filter_for_which_the_broker_ends_the_session_is_found_out() {
    let (mut seat, mut peer, listener) = pair(|it| it).await;
    seat.want(0, "good", Some(1));
    peer.suback(1).await;
    seat.is_subscribed("good", 1).await;
    seat.want(0, "evil", Some(1));
    peer.said().await;
    seat.want(0, "other", Some(1));
    peer.said().await;
    for _ in 0..2 {
        drop(peer);
        assert_eq!(seat.loss().await, None);
        peer = Peer::new(&listener).await;
        assert_eq!(peer.suback(1).await, subscribed("good", 1, 1, 0));
        // One after the other, now.
        let Said::Subscribe(filter, ..) = peer.said().await else { panic!() };
        if filter == "other" {
            break;
        }
    }
    let told = seat.told().await;
    assert!(told.1 == "evil" && matches!(told.2, TopicState::Refused(0x80, _)), "{told:?}");
}

#[tokio::test]
async fn a_broker_that_answers_no_ping_is_given_up() {
    let (mut seat, mut peer, listener) = pair(|it| BrokerSettings { heart_beat: Duration::from_secs(1), ..it }).await;
    let begun = Instant::now();
    assert_eq!(peer.said().await, Said::Ping);
    let mut pong = Vec::new();
    write_pong(&mut pong);
    peer.send(&pong).await;
    assert_eq!(peer.said().await, Said::Ping);
    assert_eq!(seat.loss().await, None);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    Peer::new(&listener).await;
}

/// A broker of MQTT 3.1.1, as RabbitMQ 3.10 is: it has refused version 5.
async fn older() -> (Seat, Peer, TcpListener) {
    let (listener, address) = listener().await;
    let seat = Seat::new(settings(Protocol::Mqtt, &[address]));
    drop(Peer::accept(&listener, Said::Connect(Version::V5, true), &[0, 1]).await);
    let peer = Peer::accept(&listener, Said::Connect(Version::V311, true), &[0, 0]).await;
    (seat, peer, listener)
}

#[tokio::test]
async fn an_older_broker_is_asked_for_no_two_filters_that_overlap() {
    let (mut seat, mut peer, _listener) = older().await;
    let plain = |filter: &str, quality| (filter.to_owned(), None, quality, 0);
    seat.want(0, "a/#", Some(0));
    assert_eq!(peer.suback(0).await, plain("a/#", 0));
    seat.is_subscribed("a/#", 0).await;
    seat.want(0, "a/b", Some(0));
    seat.is_subscribed("a/b", 0).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "one").await;
    assert_eq!(seat.payloads(1).await, ["one"]);
    seat.want(0, "+/b", Some(0));
    let (_, _, state) = seat.told().await;
    assert!(matches!(state, TopicState::Refused(0x80, _)) && seat.stats().refused(Refused::Overlap) == 1);
    // What covers all takes the place of the others; when it ends, they are made again first.
    seat.want(0, "#", Some(1));
    assert_eq!(peer.suback(1).await, plain("#", 1));
    seat.is_subscribed("#", 1).await;
    let Said::Unsubscribe(filter, id) = peer.said().await else { panic!() };
    assert_eq!(filter, "a/#");
    peer.unsuback(id).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "still").await;
    assert_eq!(seat.payloads(1).await, ["still"]);
    seat.want(0, "#", None);
    assert_eq!(seat.told().await.2, TopicState::Ended);
    assert_eq!(peer.suback(0).await.0, "a/#");
    let Said::Unsubscribe(filter, id) = peer.said().await else { panic!() };
    assert_eq!(filter, "#");
    peer.unsuback(id).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "again").await;
    assert_eq!(seat.payloads(1).await, ["again"]);
}

#[tokio::test]
async fn a_covered_filter_raises_the_quality_of_the_other() {
    let (mut seat, mut peer, _listener) = older().await;
    seat.want(0, "a/#", Some(0));
    peer.suback(0).await;
    seat.is_subscribed("a/#", 0).await;
    seat.want(0, "a/b", Some(1));
    assert_eq!(peer.suback(1).await, ("a/#".into(), None, 1, 0));
    seat.is_subscribed("a/b", 1).await;
    seat.want(0, "c", Some(1));
    peer.suback(0x80).await;
    assert!(matches!(seat.told().await.2, TopicState::Refused(0x80, _)));
}
