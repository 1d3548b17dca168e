//! Brokers that speak MQTT.

use super::*;
use edgehold_wire::mqtt::shared::{self, KEPT, read_shared};
use edgehold_wire::mqtt::{
    self as wire, Ack, AckKind, Limits, Packet, Properties, Property, Publish, QoS, Read, Role, SubAck, UnsubAck,
    Version, write_ack, write_pong, write_publish, write_suback, write_unsuback,
};
use std::sync::Mutex;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

/// The broker: a listener. Sessions that ask for what it keeps are answered by tasks of their own ([`answer_kept`]).
struct Door {
    peers: UnboundedReceiver<Peer>,
    kept: Arc<Mutex<Kept>>,
}

/// What the broker keeps, and how it answers who asks for it.
#[derive(Clone, Default)]
struct Kept {
    /// Topic, payload, quality of service.
    messages: Vec<(&'static str, &'static str, QoS)>,
    /// What was asked for, round by round.
    rounds: Vec<Vec<String>>,
    /// Who asks is let in, and not answered.
    is_mute: bool,
    /// Nobody is let in.
    is_shut: bool,
    /// The last of them comes a moment behind SUBACK and PINGRESP.
    is_late: bool,
    /// Sessions that there were, and that are there.
    sessions: (usize, usize),
}

/// A connection of the edge, as the broker sees it. What comes is read by a task, which answers PINGREQ where the test
/// does not.
struct Peer {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    said: UnboundedReceiver<Said>,
    reader: JoinHandle<()>,
    version: Version,
    answers_pings: Arc<Mutex<bool>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
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
    Disconnect,
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
                assert!(
                    options.retain_as_published || it.properties.raw().is_empty(),
                    "live ones say if they are kept"
                );
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
            Packet::Disconnect(_) => Said::Disconnect,
            other => panic!("{other:?}"),
        }
    }
}

const LIMITS: Limits = Limits { packet_bytes: 1 << 20 };

impl Door {
    async fn new() -> (Door, SocketAddr) {
        let (listener, address) = listener().await;
        let (sender, peers) = unbounded_channel();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let its = kept.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, sender.clone(), its.clone()));
            }
        });
        (Door { peers, kept }, address)
    }

    fn keeps(&self, messages: &[(&'static str, &'static str, QoS)]) {
        self.kept.lock().unwrap().messages = messages.to_vec();
    }

    fn rounds(&self) -> Vec<Vec<String>> {
        self.kept.lock().unwrap().rounds.clone()
    }
}

/// Hears CONNECT: a session for shared topics is the test's, others are answered.
async fn receive(stream: TcpStream, peers: UnboundedSender<Peer>, kept: Arc<Mutex<Kept>>) {
    let ((mut reader, writer), mut received) = (stream.into_split(), Vec::new());
    let (version, is_main, first, used) = loop {
        if reader.read_buf(&mut received).await.unwrap() == 0 {
            return;
        }
        if let Read::Packet { packet, used } = wire::read(&received, &LIMITS, None, Role::Server).unwrap() {
            let Packet::Connect(it) = packet else { panic!("{packet:?}") };
            let is_main = it.client_id != "edge-1-kept";
            break (it.version, is_main, is_main.then(|| Said::of(&packet)), used);
        }
    };
    received.drain(..used);
    if !is_main {
        return answer_kept(reader, writer, received, version, kept).await;
    }
    let (sender, said) = unbounded_channel();
    first.into_iter().for_each(|it| sender.send(it).unwrap());
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let (answers_pings, its) = (Arc::new(Mutex::new(true)), writer.clone());
    let answers = answers_pings.clone();
    let reader = tokio::spawn(hear(reader, received, version, sender, (its, answers)));
    peers.send(Peer { writer, said, reader, version, answers_pings }).ok();
}

/// Hears packets, and answers PINGREQ for as long as it is to.
async fn hear(
    mut reader: OwnedReadHalf,
    mut received: Vec<u8>,
    version: Version,
    sender: UnboundedSender<Said>,
    (writer, answers): (Arc<tokio::sync::Mutex<OwnedWriteHalf>>, Arc<Mutex<bool>>),
) {
    loop {
        while let Read::Packet { packet, used } = wire::read(&received, &LIMITS, Some(version), Role::Server).unwrap() {
            if packet == Packet::PingReq && *answers.lock().unwrap() {
                writer.lock().await.write_all(&[0xd0, 0]).await.ok();
            } else {
                sender.send(Said::of(&packet)).ok();
            }
            received.drain(..used);
        }
        if !matches!(reader.read_buf(&mut received).await, Ok(1..)) {
            return;
        }
    }
}

/// A session that asks for what is kept. Of QoS 1 and 2 no more than one message is under way.
async fn answer_kept(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    mut received: Vec<u8>,
    version: Version,
    kept: Arc<Mutex<Kept>>,
) {
    if kept.lock().unwrap().is_shut {
        return;
    }
    let connack: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
    writer.write_all(connack).await.unwrap();
    kept.lock().unwrap().sessions.0 += 1;
    kept.lock().unwrap().sessions.1 += 1;
    let mut waiting = Vec::new();
    loop {
        let (mut out, mut late) = (Vec::new(), Vec::new());
        while let Read::Packet { packet, used } = wire::read(&received, &LIMITS, Some(version), Role::Server).unwrap() {
            if !kept.lock().unwrap().is_mute {
                heed_kept(&packet, version, &kept, (&mut out, &mut waiting, &mut late));
            }
            received.drain(..used);
        }
        writer.write_all(&out).await.ok();
        if !late.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            writer.write_all(&late).await.ok();
        }
        if !matches!(reader.read_buf(&mut received).await, Ok(1..)) {
            break;
        }
    }
    kept.lock().unwrap().sessions.1 -= 1;
}

/// Answers a packet; what waits for its turn is for later, and so is what is late.
fn heed_kept(
    packet: &Packet<'_>,
    version: Version,
    kept: &Mutex<Kept>,
    (out, waiting, late): (&mut Vec<u8>, &mut Vec<Vec<u8>>, &mut Vec<u8>),
) {
    let mut kept = kept.lock().unwrap();
    match packet {
        Packet::Subscribe(it) => heed_subscribe(it, version, &mut kept, (out, waiting, late)),
        Packet::Unsubscribe(it) => {
            let codes = vec![0; it.filters.iter().count()];
            let unsuback = UnsubAck { packet_id: it.packet_id, properties: Properties::default(), codes: &codes };
            write_unsuback(out, version, &unsuback);
        }
        Packet::PubRec(it) => {
            let ack = Ack { packet_id: it.packet_id, reason: 0, properties: Properties::default() };
            write_ack(out, version, AckKind::PubRel, &ack);
        }
        Packet::PubAck(_) | Packet::PubComp(_) => out.extend(waiting.pop().into_iter().flatten()),
        Packet::PingReq => write_pong(out),
        Packet::Disconnect(_) => {}
        other => panic!("{other:?}"),
    }
}

/// What is kept comes one after the other.
fn heed_subscribe(
    it: &wire::Subscribe<'_>,
    version: Version,
    kept: &mut Kept,
    (out, waiting, late): (&mut Vec<u8>, &mut Vec<Vec<u8>>, &mut Vec<u8>),
) {
    let options = |it: wire::Options| (it.qos.level(), it.retain_handling, it.retain_as_published);
    assert!(it.filters.iter().all(|it| options(it.1) == (2, 0, false)));
    let names: Vec<String> = it.filters.iter().map(|it| it.0.into()).collect();
    let codes = vec![2; names.len()];
    let suback = SubAck { packet_id: it.packet_id, properties: Properties::default(), codes: &codes };
    for (place, (topic, payload, qos)) in kept.messages.iter().enumerate() {
        if names.iter().any(|name| wire::topic::matches(name, topic)) {
            waiting.push(message(version, &[], (*qos, true, false), (topic, payload), place as u16 + 1));
        }
    }
    kept.rounds.push(names);
    waiting.reverse();
    write_suback(out, version, &suback);
    let next = waiting.pop();
    if kept.is_late { late } else { out }.extend(next.into_iter().flatten());
}

fn message(
    version: Version,
    ids: &[u32],
    (qos, retain, dup): (QoS, bool, bool),
    (topic, payload): (&str, &str),
    id: u16,
) -> Vec<u8> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    ids.iter().for_each(|id| Property::SubscriptionId(*id).write(&mut raw));
    let packet_id = (qos != QoS::AtMostOnce).then_some(id);
    let (properties, payload) = (Properties::written(&raw), payload.as_bytes());
    write_publish(&mut out, version, &Publish { dup, qos, retain, topic, packet_id, properties, payload });
    out
}

impl Peer {
    /// Accepts a connection, which begins as it is to, and lets the edge in. `connack`: flags, reason, properties.
    async fn accept(door: &mut Door, begins: Said, connack: &[u8]) -> Peer {
        let mut peer = timeout(PATIENCE, door.peers.recv()).await.expect("a connection").unwrap();
        assert_eq!(peer.said().await, begins);
        peer.send(&[&[0x20, connack.len() as u8], connack].concat()).await;
        peer
    }

    async fn new(door: &mut Door) -> Peer {
        Peer::accept(door, Said::Connect(Version::V5, true), &[0, 0, 0]).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.writer.lock().await.write_all(bytes).await.unwrap();
    }

    async fn said(&mut self) -> Said {
        timeout(PATIENCE, self.said.recv()).await.expect("a packet").expect("the edge has hung up")
    }

    /// The test answers PINGREQ from now on.
    fn answers_no_ping(&self) {
        *self.answers_pings.lock().unwrap() = false;
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
        let out = message(self.version, ids, how, (topic, payload), 9);
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

    /// A subscription is confirmed to all shards. Returns the sequence beyond which the broker keeps what it keeps.
    async fn is_subscribed(&mut self, topic: &str, quality: u8) -> u64 {
        let (shard, name, state) = self.told().await;
        let TopicState::Subscribed(granted) = state else { panic!("{name}: {state:?}") };
        assert_eq!((shard, &*name, granted.quality), (None, topic, quality));
        granted.kept_since
    }
}

async fn pair(change: impl Fn(BrokerSettings) -> BrokerSettings) -> (Seat, Peer, Door) {
    let (mut door, address) = Door::new().await;
    let seat = Seat::new(change(settings(Protocol::Mqtt, &[address])));
    let peer = Peer::new(&mut door).await;
    (seat, peer, door)
}

/// Always with QoS 2, and to what is live.
fn subscribed(filter: &str, id: u32) -> (String, Option<u32>, u8, u8) {
    (filter.into(), Some(id), 2, 2)
}

#[tokio::test]
async fn a_message_is_published_and_then_acknowledged() {
    let (mut seat, mut peer, _door) = pair(|it| it).await;
    seat.want(0, "a/+", true);
    assert_eq!(peer.suback(1).await, subscribed("a/+", 1));
    seat.is_subscribed("a/+", 1).await;
    peer.publish_as(&[1], (QoS::AtLeastOnce, true, false), "a/b", "to be kept").await;
    let message = seat.messages(1).await.remove(0);
    let mark = shared::mark(QoS::AtLeastOnce, true);
    assert_eq!((&*message.channel, message.mark, message.feed, message.text), ("a/b", mark, FEED, false));
    assert_eq!(peer.said().await, Said::Ack("PUBACK", 9));
    // What nobody has asked for is for nobody.
    peer.publish(&[], QoS::AtMostOnce, "other", "x").await;
    peer.publish(&[1], QoS::AtMostOnce, "a/c", "live").await;
    assert_eq!(seat.payloads(1).await, ["live"]);
    seat.want(0, "a/+", false);
    assert_eq!(seat.told().await, (None, "a/+".into(), TopicState::Ended));
    assert!(matches!(peer.said().await, Said::Unsubscribe(filter, _) if filter == "a/+"));
}

#[tokio::test]
async fn of_a_message_for_several_filters_one_copy_is_published() {
    let (mut seat, mut peer, _door) = pair(|it| it).await;
    for (number, filter) in [(1, "a/+"), (2, "a/#")] {
        seat.want(0, filter, true);
        assert_eq!(peer.suback(0).await, subscribed(filter, number));
        seat.is_subscribed(filter, 0).await;
    }
    for ids in [&[2][..], &[1], &[2, 1]] {
        peer.publish(ids, QoS::AtMostOnce, "a/b", &format!("{ids:?}")).await;
    }
    peer.publish(&[2], QoS::AtMostOnce, "a/b/c", "deep").await;
    assert_eq!(seat.payloads(3).await, ["[1]", "[2, 1]", "deep"]);
    // The older one ends: its copies are taken for as long as there are some.
    seat.want(0, "a/+", false);
    seat.told().await;
    let Said::Unsubscribe(_, id) = peer.said().await else { panic!() };
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "two").await;
    peer.publish(&[1], QoS::AtMostOnce, "a/b", "one").await;
    // It is wanted again meanwhile.
    seat.want(0, "a/+", true);
    assert_eq!(seat.payloads(1).await, ["one"]);
    peer.unsuback(id).await;
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "alone").await;
    assert_eq!(seat.payloads(1).await, ["alone"]);
    assert_eq!(peer.suback(0).await, subscribed("a/+", 3));
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "old").await;
    peer.publish(&[3], QoS::AtMostOnce, "a/b", "new").await;
    peer.publish(&[2], QoS::AtMostOnce, "a/b", "end").await;
    assert_eq!(seat.payloads(2).await, ["old", "end"]);
    assert_eq!(seat.stats().duplicates.get(), 3);
}

#[tokio::test]
async fn what_comes_exactly_once_is_published_once() {
    let (mut seat, mut peer, _door) = pair(|it| it).await;
    seat.want(0, "a", true);
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
    let (mut seat, mut peer, mut door) = pair(|it| BrokerSettings { persistent: true, ..it }).await;
    // It is begun anew, and then gone on with.
    assert_eq!(peer.said().await, Said::Disconnect);
    drop(peer);
    let mut peer = Peer::accept(&mut door, Said::Connect(Version::V5, false), &[1, 0, 0]).await;
    seat.want(0, "a", true);
    seat.want(0, "b", true);
    peer.suback(1).await;
    seat.is_subscribed("a", 1).await;
    peer.said().await;
    drop(peer);
    let mut peer = Peer::accept(&mut door, Said::Connect(Version::V5, false), &[1, 0, 0]).await;
    peer.publish(&[1], QoS::AtLeastOnce, "a", "kept").await;
    assert_eq!(seat.payloads(1).await, ["kept"], "and no loss in front of it");
    assert_eq!(peer.said().await, Said::Ack("PUBACK", 9));
    // Of what there is the broker is asked what it keeps: it tells a session that is away of no QoS 0.
    assert!(seat.is_subscribed("a", 1).await > 0);
    assert_eq!(peer.suback(1).await, subscribed("b", 2));
    seat.is_subscribed("b", 1).await;
    drop(peer);
    let mut peer = Peer::accept(&mut door, Said::Connect(Version::V5, false), &[0, 0, 0]).await;
    assert_eq!(seat.loss().await, None);
    assert_eq!(peer.suback(1).await, subscribed("a", 1));
    assert_eq!(peer.suback(1).await, subscribed("b", 2));
    assert_eq!((seat.stats().lost.get(), seat.stats().reconnects.get()), (2, 2));
}

#[tokio::test]
async fn a_session_that_is_not_kept_is_told_when_it_is_lost() {
    let (mut seat, mut peer, mut door) = pair(|it| it).await;
    seat.want(0, "a", true);
    peer.suback(1).await;
    seat.is_subscribed("a", 1).await;
    // A topic alias, where the edge has offered none.
    peer.send(&[0x30, 8, 0, 1, b'a', 3, 35, 0, 1, b'x']).await;
    assert_eq!(seat.loss().await, None);
    let mut peer = Peer::new(&mut door).await;
    peer.suback(1).await;
    assert_eq!((seat.stats().nonsense.get(), seat.stats().up.get()), (1, 1));
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_and_what_is_no_filter_it_is_not_asked_for() {
    let (mut seat, mut peer, _door) = pair(|it| it).await;
    seat.want(0, "a/#/b", true);
    seat.want(0, &"a/".repeat(200), true);
    seat.want(0, "secret", true);
    assert_eq!(peer.suback(0x87).await, subscribed("secret", 1));
    for code in [0x8f, 0x8f, 0x87] {
        let state = seat.told().await.2;
        assert!(matches!(state, TopicState::Refused(it, _) if it == code), "{state:?}");
    }
    seat.want(0, "secret", true);
    assert!(matches!(seat.told().await.2, TopicState::Refused(0x87, _)), "it is remembered for a while");
    assert_eq!((seat.stats().refused(Refused::Broker), seat.stats().wanted.get()), (3, 0));
}

#[tokio::test]
async fn a_filter_for_which_the_broker_ends_the_session_is_found_out() {
    let (mut seat, mut peer, mut door) = pair(|it| it).await;
    seat.want(0, "good", true);
    peer.suback(1).await;
    seat.is_subscribed("good", 1).await;
    seat.want(0, "evil", true);
    peer.said().await;
    seat.want(0, "other", true);
    peer.said().await;
    for _ in 0..2 {
        drop(peer);
        assert_eq!(seat.loss().await, None);
        peer = Peer::new(&mut door).await;
        assert_eq!(peer.suback(1).await, subscribed("good", 1));
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
    let (mut seat, mut peer, mut door) = pair(|it| BrokerSettings { heart_beat: Duration::from_secs(1), ..it }).await;
    peer.answers_no_ping();
    let begun = Instant::now();
    assert_eq!(peer.said().await, Said::Ping);
    let mut pong = Vec::new();
    write_pong(&mut pong);
    peer.send(&pong).await;
    assert_eq!(peer.said().await, Said::Ping);
    assert_eq!(seat.loss().await, None);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    Peer::new(&mut door).await;
}

/// A broker of MQTT 3.1.1, as RabbitMQ 3.10 is: it has refused version 5.
async fn older() -> (Seat, Peer, Door) {
    let (mut door, address) = Door::new().await;
    let seat = Seat::new(settings(Protocol::Mqtt, &[address]));
    drop(Peer::accept(&mut door, Said::Connect(Version::V5, true), &[0, 1]).await);
    let peer = Peer::accept(&mut door, Said::Connect(Version::V311, true), &[0, 0]).await;
    (seat, peer, door)
}

#[tokio::test]
async fn an_older_broker_is_asked_for_no_two_filters_that_overlap() {
    let (mut seat, mut peer, _door) = older().await;
    seat.want(0, "a/#", true);
    assert_eq!(peer.suback(0).await, ("a/#".into(), None, 2, 0));
    seat.is_subscribed("a/#", 0).await;
    seat.want(0, "a/b", true);
    seat.is_subscribed("a/b", 0).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "one").await;
    assert_eq!(seat.payloads(1).await, ["one"]);
    seat.want(0, "+/b", true);
    let (_, _, state) = seat.told().await;
    assert!(matches!(state, TopicState::Refused(0x80, _)) && seat.stats().refused(Refused::Overlap) == 1);
    // What covers all takes the place of the others; when it ends, they are made again first.
    seat.want(0, "#", true);
    assert_eq!(peer.suback(1).await, ("#".into(), None, 2, 0));
    // What it covers is confirmed anew, and asked for what is kept of it.
    let mut told = vec![seat.told().await.1, seat.told().await.1, seat.told().await.1];
    told.sort_unstable();
    assert_eq!(told, ["#", "a/#", "a/b"]);
    let Said::Unsubscribe(filter, id) = peer.said().await else { panic!() };
    assert_eq!(filter, "a/#");
    peer.unsuback(id).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "still").await;
    assert_eq!(seat.payloads(1).await, ["still"]);
    seat.want(0, "#", false);
    assert_eq!(seat.told().await.2, TopicState::Ended);
    assert_eq!(peer.suback(0).await.0, "a/#");
    let Said::Unsubscribe(filter, id) = peer.said().await else { panic!() };
    assert_eq!(filter, "#");
    peer.unsuback(id).await;
    peer.publish(&[], QoS::AtMostOnce, "a/b", "again").await;
    assert_eq!(seat.payloads(1).await, ["again"]);
}

/// The payloads and marks of the next messages.
async fn kept_and_live(seat: &mut Seat, count: usize) -> Vec<(String, bool)> {
    let messages = seat.messages(count).await;
    let text = |it: &Arc<Message>| String::from_utf8(read_shared(it.payload()).unwrap().payload.to_vec()).unwrap();
    messages.iter().map(|it| (text(it), it.mark & KEPT != 0)).collect()
}

#[tokio::test]
async fn what_the_broker_keeps_is_published_before_the_subscription_is_confirmed() {
    for is_late in [false, true] {
        let (mut seat, mut peer, door) = pair(|it| it).await;
        door.kept.lock().unwrap().is_late = is_late;
        door.keeps(&[
            ("a/1", "0", QoS::AtMostOnce),
            ("a/2", "1", QoS::AtLeastOnce),
            ("a/3", "2", QoS::ExactlyOnce),
            ("a/4", "3", QoS::ExactlyOnce),
            ("b", "not this", QoS::AtMostOnce),
        ]);
        // Of QoS 1 and 2 one at a time comes; QoS 0 has no acknowledgement to wait for.
        let kept = if is_late {
            &[("a/2", "1", QoS::AtLeastOnce)][..]
        } else {
            &door.kept.lock().unwrap().messages[1..].to_vec()
        };
        door.keeps(kept);
        seat.want(0, "a/+", true);
        peer.suback(2).await;
        let expected = ["1", "2", "3"].iter().take(if is_late { 1 } else { 3 });
        let messages = seat.messages(expected.len()).await;
        let text = |it: &Arc<Message>| String::from_utf8(read_shared(it.payload()).unwrap().payload.to_vec()).unwrap();
        assert!(messages.iter().map(text).eq(expected.map(ToString::to_string)), "{messages:?}");
        assert!(messages.iter().all(|it| it.mark & KEPT != 0 && it.mark & 4 != 0));
        let since = seat.is_subscribed("a/+", 2).await;
        assert!(since < messages[0].sequence, "{since}");
        assert_eq!(door.rounds(), [["a/+"]]);
        // Whoever comes later has it already.
        seat.want(1, "a/+", true);
        assert_eq!(seat.told().await.0, Some(1));
        assert_eq!(door.kept.lock().unwrap().sessions, (1, 1));
    }
}

#[tokio::test]
async fn what_is_heard_live_meanwhile_is_not_heard_again_as_kept() {
    let (mut seat, mut peer, door) = pair(|it| it).await;
    door.keeps(&[("a/1", "kept", QoS::AtLeastOnce), ("a/2", "untouched", QoS::AtLeastOnce)]);
    peer.answers_no_ping();
    seat.want(0, "a/+", true);
    peer.suback(2).await;
    // The broker has heeded the other session; what it has sent to this one stands in front of PINGRESP.
    assert_eq!(peer.said().await, Said::Ping);
    peer.publish_as(&[1], (QoS::AtMostOnce, true, false), "a/1", "kept").await;
    peer.send(&[0xd0, 0]).await;
    let heard = kept_and_live(&mut seat, 2).await;
    assert_eq!(heard, [("kept".into(), false), ("untouched".into(), true)]);
    seat.is_subscribed("a/+", 2).await;
}

#[tokio::test]
async fn a_broker_that_holds_back_is_asked_again_whether_all_has_come() {
    let (mut seat, mut peer, door) = pair(|it| it).await;
    door.keeps(&[("a/1", "last", QoS::AtLeastOnce)]);
    peer.answers_no_ping();
    seat.want(0, "a/+", true);
    peer.suback(2).await;
    assert_eq!(peer.said().await, Said::Ping);
    for payload in ["first", "last"] {
        peer.publish_as(&[1], (QoS::AtLeastOnce, true, false), "a/1", payload).await;
        assert_eq!(peer.said().await, Said::Ack("PUBACK", 9));
        peer.send(&[0xd0, 0]).await;
        // It waits for acknowledgements before it sends more.
        assert_eq!(peer.said().await, Said::Ping);
    }
    peer.send(&[0xd0, 0]).await;
    seat.is_subscribed("a/+", 2).await;
    assert_eq!(kept_and_live(&mut seat, 2).await, [("first".into(), false), ("last".into(), false)]);
}

#[tokio::test]
async fn a_broker_that_does_not_say_what_it_keeps_holds_up_nobody() {
    for is_shut in [true, false] {
        let (mut seat, mut peer, door) =
            pair(|it| BrokerSettings { connect_timeout: Duration::from_millis(100), ..it }).await;
        door.kept.lock().unwrap().is_mute = true;
        door.kept.lock().unwrap().is_shut = is_shut;
        seat.want(0, "a/+", true);
        peer.suback(2).await;
        assert_eq!(seat.is_subscribed("a/+", 2).await, 0);
        peer.publish(&[1], QoS::AtMostOnce, "a/b", "live").await;
        assert_eq!(seat.payloads(1).await, ["live"]);
        assert_eq!((seat.stats().kept_unknown.get(), seat.stats().up.get()), (1, 1));
        // For a while nobody waits any more.
        seat.want(0, "b", true);
        peer.suback(2).await;
        assert_eq!(seat.is_subscribed("b", 2).await, 0);
    }
}

#[tokio::test]
async fn what_ends_while_the_broker_is_asked_is_told_behind_what_is_kept() {
    let (mut seat, mut peer, door) = pair(|it| it).await;
    seat.want(0, "a/#", true);
    peer.suback(2).await;
    seat.is_subscribed("a/#", 2).await;
    peer.answers_no_ping();
    seat.want(0, "a/+", true);
    peer.suback(2).await;
    assert_eq!(peer.said().await, Said::Ping);
    seat.want(0, "a/#", false);
    assert!(matches!(peer.said().await, Said::Unsubscribe(..)));
    peer.send(&[0xd0, 0]).await;
    seat.is_subscribed("a/+", 2).await;
    assert_eq!(seat.told().await.2, TopicState::Ended);
    assert_eq!(door.rounds(), [["a/#"], ["a/+"]]);
}

#[tokio::test]
async fn an_older_broker_is_asked_what_it_keeps_for_whoever_comes_late() {
    let (mut seat, mut peer, door) = older().await;
    door.keeps(&[("a", "one", QoS::AtLeastOnce)]);
    seat.want(0, "a", true);
    peer.suback(1).await;
    // It sends here as well what it keeps.
    peer.publish_as(&[], (QoS::AtMostOnce, true, false), "a", "one").await;
    seat.is_subscribed("a", 1).await;
    assert_eq!(kept_and_live(&mut seat, 1).await, [("one".into(), true)]);
    peer.publish(&[], QoS::AtMostOnce, "a", "two").await;
    assert_eq!(kept_and_live(&mut seat, 1).await, [("two".into(), false)]);
    door.keeps(&[("a", "two", QoS::AtLeastOnce)]);
    for shard in [1, 1, 0] {
        seat.want(shard, "a", true);
        seat.is_subscribed("a", 1).await;
        assert_eq!(kept_and_live(&mut seat, 1).await, [("two".into(), true)]);
    }
    assert_eq!(door.rounds().len(), 4);
}
