//! The service `mqtt` on the scripted ring: clients by WebSocket and without HTTP, a control thread that confirms what
//! is wanted, and a broker that is played by hand. The kernel cuts everything anywhere.

mod hostile;
mod login;
mod private;

use crate::stage::{KIND, PLAIN, Stage, services, settings};
use edgehold::engine::script::{Dice, FarEnd, Temper};
use edgehold::mesh::{
    Granted, Message, Missed, NewMessage, PlainFrame, Question, ToControl, ToShard, TopicNews, TopicState,
};
use edgehold::service::broadcast::{FeedSettings, Keep, Naming, Policy, Slow};
use edgehold::service::gate::GatePlan;
use edgehold::service::offload::{
    Bounds, BrokerCredentials, OffloadPlan, OffloadSettings, Pattern, PrivateWhen, Syntax, WhileDown,
};
use edgehold::service::upstreams::Place;
use edgehold::service::{Route, Routes, Settings, Target};
use edgehold::shard::service::ShardSettings;
use edgehold_wire::mqtt::shared::{KEPT, mark, write_shared};
use edgehold_wire::mqtt::{
    self, Ack, AckKind, ConnAck, Connect, Disconnect, Limits, Options, Packet, Properties, Property, Publish, QoS,
    Read, Role, SubAck, Version, Will,
};
use edgehold_wire::ws::{self, Opcode};
use std::sync::Arc;
use std::time::Duration;

/// Turns in which the scripted kernel brings a few bytes there and back.
const TURNS: usize = 2000;

const LIMITS: Limits = Limits { packet_bytes: 1 << 20 };

fn plan() -> OffloadPlan {
    OffloadPlan {
        number: 0,
        limits: 0,
        feed: 0,
        upstreams: vec![0],
        connect_ticks: 40,
        connections: 1,
        credentials: BrokerCredentials { user: Some("edge".into()), ..BrokerCredentials::default() },
        auth: false,
        share: vec![Pattern::new(Syntax::Mqtt, "#"), Pattern::new(Syntax::Mqtt, "$SYS/#")],
        private: vec![Pattern::new(Syntax::Mqtt, "own/#")],
        rules: Vec::new(),
        snapshot: false,
        tell_gaps: false,
        slow: Slow { policy: Policy::DropOldest, max_pending: 1 << 20, max_age_ticks: 1000 },
        subscriptions_max: 4,
        frame_bytes: 64 << 10,
        header_bytes: 0,
        header_count: 0,
        prefetch: 16,
        unconfirmed_bytes: 1 << 20,
        while_down: WhileDown::Queue,
        missed: edgehold::service::offload::Missed::default(),
        missed_rate: 8,
        heart_beat_millis: 0,
        keep_alive_millis: 0,
        private_as_client: false,
        client_id: "edge".into(),
        private_when: PrivateWhen::Needed,
        private_max: 16,
        stamp: None,
        bounds: Bounds::default(),
    }
}

fn hall(plan: OffloadPlan, gate: Arc<GatePlan>) -> Settings {
    let plan = Arc::new(plan);
    let target = Target::Mqtt(plan.clone());
    let route = Route { path: "/mqtt".into(), below: true, host: None, limits: 0, gate, target };
    let keep = Keep { backlog: 1 << 20, ..Keep::NOTHING };
    let feed = FeedSettings { naming: Naming::Filters, ..FeedSettings::new(None, keep) };
    let places = [Place::Known(([127, 0, 0, 1], 7).into())].into_iter().collect();
    let mqtt = OffloadSettings { plans: vec![Some(plan)], feeds: vec![Some(feed)], places, epoch: 1 };
    let routes: Routes = [route].into_iter().collect();
    let bare = vec![None, Some((None, "/mqtt".into()))];
    Settings { routes: Arc::new(routes), bare, mqtt, ..services() }
}

/// The play.
struct Hall {
    stage: Stage,
    /// What the control thread was asked for.
    wanted: Vec<(String, bool)>,
    /// What it was asked about clients.
    asked: Vec<Question>,
    said: u64,
    /// The control thread confirms nothing by itself.
    is_silent: bool,
    /// The broker tells when what it keeps changes.
    is_followed: bool,
}

/// One end of MQTT: a client, or the broker.
struct Peer {
    end: FarEnd,
    version: Version,
    role: Role,
    web: bool,
    rest: Vec<u8>,
    bytes: Vec<u8>,
    /// A Close frame has come.
    closed: bool,
}

impl Hall {
    fn new(plan: OffloadPlan, seed: u64) -> Hall {
        Hall::gated(plan, Arc::default(), seed)
    }

    fn gated(plan: OffloadPlan, gate: Arc<GatePlan>, seed: u64) -> Hall {
        let mut dice = Dice::new(seed);
        let buffers = ([2, 16, 256][dice.below(3)], [64, 256, 4096][dice.below(3)]);
        Hall::with_buffers(plan, gate, dice.roll(), buffers)
    }

    fn with_buffers(plan: OffloadPlan, gate: Arc<GatePlan>, seed: u64, buffers: (u16, u32)) -> Hall {
        let mut dice = Dice::new(seed);
        let (delay, end_multishot) = ([0, 10, 50][dice.below(3)], [0, 10][dice.below(2)]);
        let temper = Temper { delay, end_multishot, buffers, ..KIND };
        let settings = ShardSettings { listeners: 2, bare: vec![false, true], ..settings() };
        let stage = Stage::of(&hall(plan, gate), seed, temper, &settings);
        Hall { stage, wanted: Vec::new(), asked: Vec::new(), said: 0, is_silent: false, is_followed: true }
    }

    /// A turn; the control thread hears what is wanted, and confirms it with QoS 2.
    fn turn(&mut self) {
        self.stage.turn();
        while let Some(letter) = self.stage.to_control.take() {
            let request = match letter {
                ToControl::Topic(request) => request,
                ToControl::Question(question) => {
                    self.asked.push(*question);
                    continue;
                }
                _ => continue,
            };
            self.wanted.push((request.topic.to_string(), request.is_wanted));
            if request.is_wanted && !self.is_silent {
                self.confirms(&request.topic, 0);
            }
        }
    }

    /// The control thread says what has become of a filter; `kept_since` is what it says of kept messages.
    fn confirms(&mut self, topic: &str, kept_since: u64) {
        let refused = TopicState::Refused(0x87, "not here".into());
        let granted = Granted { quality: 2, kept_since, is_followed: self.is_followed };
        let state = if topic == "no" { refused } else { TopicState::Subscribed(granted) };
        let news = TopicNews { feed: 0, topic: topic.into(), state, after: self.said };
        self.stage.letters.post(ToShard::Topic(Box::new(news))).expect("room for a letter");
    }

    /// The broker's session was lost, with all that came meanwhile.
    fn loses(&mut self) {
        self.said += 1;
        let missed = Missed { feed: Some(0), channel: None, sequence: self.said };
        self.stage.letters.post(ToShard::Missed(Box::new(missed))).expect("room for a letter");
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// A message comes from the broker's session on the control thread.
    fn comes(&mut self, topic: &str, payload: &[u8], (qos, raw, bits): (QoS, &[u8], u8)) {
        self.said += 1;
        let properties = Properties::written(raw);
        let publish = Publish { dup: false, qos, retain: false, topic, packet_id: None, properties, payload };
        let mut shared = Vec::new();
        write_shared(&mut shared, &publish);
        let payload = PlainFrame::binary(&shared);
        let mark = mark(qos, false) | bits;
        let new = NewMessage { feed: 0, channel: topic.into(), mark, payload, ..NewMessage::default() };
        let message = Arc::new(Message::new(new, 1, self.said));
        self.stage.letters.post(ToShard::Publish(Arc::from([message]))).expect("room for a letter");
    }

    /// A client that is in.
    fn client(&mut self, id: &str, version: Version, web: bool) -> Peer {
        let mut peer = self.peer(version, web);
        let connack = peer.ask(self, |out| mqtt::write_connect(out, &connect(id, version)));
        assert!(connack.starts_with("ConnAck(ConnAck { session_present: false, reason: 0"), "{connack}");
        peer
    }

    fn peer(&mut self, version: Version, web: bool) -> Peer {
        let end = if web { self.stage.speaks("/mqtt", PLAIN) } else { self.stage.shard.ring().arrive(1) };
        Peer { end, version, role: Role::Client, web, rest: Vec::new(), bytes: Vec::new(), closed: false }
    }

    /// The shard's session with the broker, which is let in.
    fn broker(&mut self, session_present: bool) -> Peer {
        let mut end = None;
        for _ in 0..TURNS {
            self.turn();
            let call = self.stage.shard.ring().next_call();
            end = end.or_else(|| call.and_then(|call| self.stage.shard.ring().answer(&call, true)));
            if end.is_some() {
                break;
            }
        }
        let end = end.expect("a call");
        let mut broker = Peer {
            end,
            version: Version::V5,
            role: Role::Server,
            web: false,
            rest: Vec::new(),
            bytes: Vec::new(),
            closed: false,
        };
        let connect = broker.hears_first(self);
        assert!(connect.contains("user: Some(\"edge\")"), "{connect}");
        let connack = ConnAck { session_present, reason: 0, properties: Properties::default() };
        broker.says(self, |out| mqtt::write_connack(out, Version::V5, &connack));
        broker
    }
}

impl Peer {
    fn says(&mut self, hall: &mut Hall, write: impl FnOnce(&mut Vec<u8>)) {
        let mut packet = Vec::new();
        write(&mut packet);
        self.says_raw(hall, &packet);
    }

    fn says_raw(&mut self, hall: &mut Hall, bytes: &[u8]) {
        let framed = if self.web {
            let head = ws::head(Opcode::Binary, true, bytes.len() as u64, Some([0; 4]));
            [head.as_bytes(), bytes].concat()
        } else {
            bytes.to_vec()
        };
        hall.stage.shard.ring().say(self.end, &framed);
    }

    /// Takes what has come.
    fn take(&mut self, hall: &mut Hall) {
        self.bytes.extend(hall.stage.shard.ring().read(self.end, usize::MAX));
        if !self.web {
            self.rest.append(&mut self.bytes);
            return;
        }
        while let [first, short, behind @ ..] = &self.bytes[..] {
            let extended = if *short == 126 { 2 } else { 0 };
            let Some((long, behind)) = behind.split_at_checked(extended) else { return };
            let len = long.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let len = if extended == 0 { usize::from(*short) } else { len };
            let Some(payload) = behind.get(..len) else { return };
            match first & 0x0f {
                2 => self.rest.extend_from_slice(payload),
                opcode => self.closed |= opcode == 8,
            }
            self.bytes.drain(..2 + extended + len);
        }
    }

    /// The next packet in words; of a first one, the version is not known.
    fn next(&mut self, version: Option<Version>) -> Option<String> {
        match mqtt::read(&self.rest, &LIMITS, version, self.role).expect("a packet") {
            Read::More { .. } => None,
            Read::Packet { packet, used } => {
                let words = format!("{packet:?}");
                self.rest.drain(..used);
                Some(words)
            }
        }
    }

    fn until(&mut self, hall: &mut Hall, version: Option<Version>) -> String {
        for _ in 0..TURNS {
            self.take(hall);
            if let Some(words) = self.next(version) {
                return words;
            }
            hall.turn();
        }
        panic!("nothing has come")
    }

    fn hears(&mut self, hall: &mut Hall) -> String {
        self.until(hall, Some(self.version))
    }

    fn hears_first(&mut self, hall: &mut Hall) -> String {
        self.until(hall, None)
    }

    fn ask(&mut self, hall: &mut Hall, write: impl FnOnce(&mut Vec<u8>)) -> String {
        self.says(hall, write);
        self.hears(hall)
    }

    /// The next packet, a message: topic, payload, QoS, RETAIN, packet identifier, and its properties.
    fn message(&mut self, hall: &mut Hall) -> (String, String, u8, bool, Option<u16>, String) {
        for _ in 0..TURNS {
            self.take(hall);
            if let Ok(Read::Packet { packet, used }) = mqtt::read(&self.rest, &LIMITS, Some(self.version), self.role) {
                let Packet::Publish(it) = packet else { panic!("{packet:?}") };
                let payload = String::from_utf8_lossy(it.payload).into_owned();
                let properties = format!("{:?}", it.properties);
                let found = (it.topic.into(), payload, it.qos.level(), it.retain, it.packet_id, properties);
                self.rest.drain(..used);
                return found;
            }
            hall.turn();
        }
        panic!("no message has come")
    }

    /// Nothing comes.
    fn is_quiet(&mut self, hall: &mut Hall) {
        hall.turns(200);
        self.take(hall);
        assert_eq!(self.next(Some(self.version)), None);
    }

    fn is_ended(&mut self, hall: &mut Hall) {
        let end = self.end;
        if self.web {
            for _ in 0..TURNS {
                self.take(hall);
                if self.closed {
                    return;
                }
                hall.turn();
            }
            panic!("no Close frame");
        }
        assert!(hall.stage.until(TURNS, |stage| stage.shard.ring().is_ended(end)), "no FIN");
    }

    fn subscribe(&mut self, hall: &mut Hall, id: u16, (filter, options): (&str, Options), identifier: u32) -> String {
        let mut raw = Vec::new();
        if identifier > 0 {
            Property::SubscriptionId(identifier).write(&mut raw);
        }
        let version = self.version;
        let filters = [(filter, options)];
        self.ask(hall, |out| {
            mqtt::write_subscribe(out, version, id, Properties::written(&raw), filters.into_iter());
        })
    }

    fn publishes(&mut self, hall: &mut Hall, (topic, payload): (&str, &[u8]), qos: QoS, id: u16) {
        let packet_id = (qos != QoS::AtMostOnce).then_some(id);
        let properties = Properties::default();
        let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload };
        let version = self.version;
        self.says(hall, |out| mqtt::write_publish(out, version, &publish));
    }

    fn acknowledges(&mut self, hall: &mut Hall, kind: AckKind, packet_id: u16, reason: u8) {
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        let version = self.version;
        self.says(hall, |out| mqtt::write_ack(out, version, kind, &ack));
    }
}

fn subscribe(out: &mut Vec<u8>, version: Version, id: u16, filter: (&str, Options)) {
    mqtt::write_subscribe(out, version, id, Properties::default(), [filter].into_iter());
}

fn will(topic: &str) -> Will<'_> {
    Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, retain: true, properties: Properties::default() }
}

fn connect(client_id: &str, version: Version) -> Connect<'_> {
    let properties = Properties::default();
    Connect { version, clean_start: true, keep_alive: 0, client_id, will: None, user: None, password: None, properties }
}

fn options(qos: QoS) -> Options {
    Options { qos, ..Options::default() }
}

fn ack(packet_id: u16, reason: u8) -> String {
    format!("{:?}", Ack { packet_id, reason, properties: Properties::default() })
}

fn suback(packet_id: u16, codes: &[u8]) -> String {
    format!("SubAck(SubAck {{ packet_id: {packet_id}, properties: [], codes: {codes:?} }})")
}

const VERSIONS: [(Version, bool); 4] =
    [(Version::V5, true), (Version::V5, false), (Version::V311, true), (Version::V31, false)];

/// Every version, by either transport: what is published comes once, with the QoS that was granted.
#[test]
fn a_shared_filter_is_one_subscription_and_everybody_hears_it() {
    for seed in 0..12 {
        let mut hall = Hall::new(plan(), seed);
        let mut peers: Vec<Peer> =
            VERSIONS.iter().enumerate().map(|(n, it)| hall.client(&format!("c{n}"), it.0, it.1)).collect();
        for peer in &mut peers {
            assert_eq!(peer.subscribe(&mut hall, 7, ("a/+", options(QoS::AtLeastOnce)), 0), suback(7, &[1]));
        }
        assert_eq!(hall.wanted, [("a/+".into(), true)], "the control thread is asked once");
        for (payload, qos) in [("one", QoS::AtMostOnce), ("two", QoS::AtLeastOnce), ("three", QoS::ExactlyOnce)] {
            hall.comes("a/b", payload.as_bytes(), (qos, b"", 0));
            let granted = qos.level().min(1);
            for peer in &mut peers {
                let (topic, came, qos, retain, id, _) = peer.message(&mut hall);
                assert_eq!((&*topic, &*came, qos, retain), ("a/b", payload, granted, false), "seed {seed}");
                if let Some(id) = id {
                    peer.acknowledges(&mut hall, AckKind::PubAck, id, 0);
                }
            }
        }
        hall.comes("b", b"for nobody", (QoS::AtMostOnce, b"", 0));
        peers.iter_mut().for_each(|peer| peer.is_quiet(&mut hall));
        for peer in &mut peers {
            let version = peer.version;
            let names = ["a/+", "a"];
            let answer = peer.ask(&mut hall, |out| {
                mqtt::write_unsubscribe(out, version, 9, Properties::default(), names.into_iter());
            });
            assert!(answer.starts_with("UnsubAck(UnsubAck { packet_id: 9"), "{answer}");
            assert!(version != Version::V5 || answer.ends_with("codes: [0, 17] })"), "{answer}");
        }
        assert_eq!(hall.wanted.last(), Some(&("a/+".into(), false)), "the last one's leaving is told");
    }
}

/// MQTT 5: overlapping filters are one message with all identifiers, an expiry is less by what it has waited, and a
/// message that is longer than the client takes is left out.
#[test]
fn properties_of_a_client_stand_in_front_of_what_is_shared() {
    let mut hall = Hall::new(plan(), 1);
    let mut peer = hall.peer(Version::V5, true);
    let mut raw = Vec::new();
    Property::MaximumPacketSize(100).write(&mut raw);
    let small = Connect { properties: Properties::written(&raw), ..connect("c", Version::V5) };
    peer.ask(&mut hall, |out| mqtt::write_connect(out, &small));
    peer.subscribe(&mut hall, 1, ("a/#", options(QoS::AtMostOnce)), 5);
    peer.subscribe(&mut hall, 2, ("a/b", options(QoS::ExactlyOnce)), 300);
    let mut raw = Vec::new();
    Property::User("k", "v").write(&mut raw);
    Property::MessageExpiry(60).write(&mut raw);
    hall.comes("a/b", &[b'x'; 200], (QoS::ExactlyOnce, b"", 0));
    hall.comes("a/b", b"both", (QoS::AtLeastOnce, &raw, 0));
    let (_, payload, qos, _, _, properties) = peer.message(&mut hall);
    assert_eq!((&*payload, qos), ("both", 1));
    let both = "SubscriptionId(300), SubscriptionId(5), MessageExpiry(60), User(\"k\", \"v\")]";
    let other = "SubscriptionId(5), SubscriptionId(300), MessageExpiry(60), User(\"k\", \"v\")]";
    assert!(properties.ends_with(both) || properties.ends_with(other), "{properties}");
    peer.is_quiet(&mut hall);
}

/// A window of one: the next message waits for the acknowledgement; QoS 2 goes through its four steps.
#[test]
fn no_more_is_under_way_than_the_client_takes() {
    for seed in 0..6 {
        let mut hall = Hall::new(plan(), seed);
        let mut peer = hall.peer(Version::V5, seed % 2 == 0);
        let mut raw = Vec::new();
        Property::ReceiveMaximum(1).write(&mut raw);
        let narrow = Connect { properties: Properties::written(&raw), ..connect("c", Version::V5) };
        peer.ask(&mut hall, |out| mqtt::write_connect(out, &narrow));
        peer.subscribe(&mut hall, 1, ("q", options(QoS::ExactlyOnce)), 0);
        for n in 0..4 {
            hall.comes("q", format!("{n}").as_bytes(), (QoS::ExactlyOnce, b"", 0));
        }
        for n in 0..4 {
            let (_, payload, qos, _, id, _) = peer.message(&mut hall);
            assert_eq!((payload, qos), (n.to_string(), 2), "seed {seed}");
            let id = id.expect("an identifier");
            peer.is_quiet(&mut hall);
            peer.acknowledges(&mut hall, AckKind::PubRec, id, 0);
            assert_eq!(peer.hears(&mut hall), format!("PubRel({})", ack(id, 0)));
            peer.is_quiet(&mut hall);
            peer.acknowledges(&mut hall, AckKind::PubComp, id, 0);
        }
        peer.is_quiet(&mut hall);
    }
}

/// What clients publish goes over one session by identifiers of its own, and what the broker says comes back to whom it
/// is for, with its reason.
#[test]
fn publishes_of_many_clients_go_over_one_session() {
    for seed in 0..8 {
        let mut hall = Hall::new(plan(), seed);
        let mut clients = [hall.client("one", Version::V5, true), hall.client("other", Version::V311, false)];
        for client in &mut clients {
            client.publishes(&mut hall, ("t", b"none"), QoS::AtMostOnce, 0);
            client.publishes(&mut hall, ("t", b"once"), QoS::AtLeastOnce, 77);
            client.publishes(&mut hall, ("t", b"exactly"), QoS::ExactlyOnce, 78);
        }
        let mut broker = hall.broker(false);
        let mut ids = Vec::new();
        let mut heard: Vec<String> = Vec::new();
        for _ in 0..6 {
            let (_, payload, qos, _, id, _) = broker.message(&mut hall);
            heard.push(payload);
            ids.extend(id.map(|id| (id, qos)));
        }
        assert_eq!(heard.iter().filter(|it| *it == "exactly").count(), 2);
        let mut distinct: Vec<u16> = ids.iter().map(|it| it.0).collect();
        distinct.dedup();
        assert_eq!(distinct.len(), 4, "seed {seed}: {ids:?}");
        for (id, qos) in ids {
            if qos == 1 {
                broker.acknowledges(&mut hall, AckKind::PubAck, id, 0x10);
            } else {
                broker.acknowledges(&mut hall, AckKind::PubRec, id, 0);
                assert_eq!(broker.hears(&mut hall), format!("PubRel({})", ack(id, 0)));
                broker.acknowledges(&mut hall, AckKind::PubComp, id, 0);
            }
        }
        for (client, reason) in clients.iter_mut().zip([0x10, 0]) {
            assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(77, reason)), "seed {seed}");
            assert_eq!(client.hears(&mut hall), format!("PubRec({})", ack(78, 0)));
            client.acknowledges(&mut hall, AckKind::PubRel, 78, 0);
            assert_eq!(client.hears(&mut hall), format!("PubComp({})", ack(78, 0)));
        }
    }
}

/// The broker goes before it has acknowledged: what it may not have is published again, marked where it remembers the
/// session, and the client is told once.
#[test]
fn what_was_not_acknowledged_is_published_again() {
    for remembers in [true, false] {
        let mut hall = Hall::new(plan(), 3);
        let mut client = hall.client("one", Version::V311, false);
        client.publishes(&mut hall, ("t", b"once"), QoS::AtLeastOnce, 5);
        client.publishes(&mut hall, ("t", b"exactly"), QoS::ExactlyOnce, 6);
        let mut broker = hall.broker(false);
        broker.message(&mut hall);
        let (.., id, _) = broker.message(&mut hall);
        broker.acknowledges(&mut hall, AckKind::PubRec, id.expect("an identifier"), 0);
        assert!(broker.hears(&mut hall).starts_with("PubRel"));
        assert_eq!(client.hears(&mut hall), format!("PubRec({})", ack(6, 0)));
        hall.stage.shard.ring().break_off(broker.end);
        let mut broker = hall.broker(remembers);
        let again = broker.hears(&mut hall);
        assert!(again.starts_with(&format!("Publish(Publish {{ dup: {remembers}, qos: AtLeastOnce")), "{again}");
        if remembers {
            assert!(broker.hears(&mut hall).starts_with("PubRel"), "the broker has the second message");
        }
        broker.acknowledges(&mut hall, AckKind::PubAck, 1, 0);
        assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(5, 0)));
        broker.is_quiet(&mut hall);
    }
}

/// The server stops: what clients have left unacknowledged is waited for, then the broker is told that it may forget.
#[test]
fn a_server_that_stops_ends_its_sessions_behind_what_was_published() {
    let mut hall = Hall::new(plan(), 5);
    let mut client = hall.client("one", Version::V311, false);
    client.publishes(&mut hall, ("t", b"once"), QoS::AtLeastOnce, 5);
    let mut broker = hall.broker(false);
    broker.message(&mut hall);
    hall.stage.letters.post(ToShard::Drain).expect("room for a letter");
    client.is_ended(&mut hall);
    hall.stage.shard.ring().end(client.end);
    broker.is_quiet(&mut hall);
    broker.acknowledges(&mut hall, AckKind::PubAck, 1, 0);
    let told = broker.hears(&mut hall);
    assert!(told.starts_with("Disconnect(Disconnect { reason: 0") && told.contains("SessionExpiry(0)"), "{told}");
    broker.is_ended(&mut hall);
}

/// Who is lost has its will published; who says DISCONNECT has not; who is taken over has, and is told.
#[test]
fn wills_are_published_for_those_who_are_lost() {
    let mut hall = Hall::new(plan(), 2);
    let enter = |hall: &mut Hall, id: &str, topic: &str, web: bool| {
        let mut peer = hall.peer(Version::V5, web);
        let with_will = Connect { will: Some(will(topic)), ..connect(id, Version::V5) };
        assert!(peer.ask(hall, |out| mqtt::write_connect(out, &with_will)).starts_with("ConnAck"));
        peer
    };
    let mut kind = enter(&mut hall, "kind", "w/kind", false);
    let disconnect = Disconnect { reason: 0, properties: Properties::default() };
    kind.says(&mut hall, |out| mqtt::write_disconnect(out, Version::V5, &disconnect));
    kind.is_ended(&mut hall);
    let lost = enter(&mut hall, "lost", "w/lost", true);
    hall.stage.shard.ring().break_off(lost.end);
    let mut broker = hall.broker(false);
    let (topic, payload, qos, retain, ..) = broker.message(&mut hall);
    assert_eq!((&*topic, &*payload, qos, retain), ("w/lost", "gone", 1, true));
    let mut old = enter(&mut hall, "same", "w/old", false);
    let _new = enter(&mut hall, "same", "w/new", true);
    let told = old.hears(&mut hall);
    assert!(told.starts_with("Disconnect(Disconnect { reason: 142"), "{told}");
    old.is_ended(&mut hall);
    hall.stage.shard.ring().end(old.end);
    assert_eq!(broker.message(&mut hall).0, "w/old");
    broker.is_quiet(&mut hall);
}

/// Keep alive: one that says nothing for one and a half of it is ended, one that pings is not.
#[test]
fn silence_beyond_keep_alive_ends_a_client() {
    let mut hall = Hall::new(plan(), 4);
    hall.stage = hall.stage.at_pace(Duration::from_millis(10));
    let enter = |hall: &mut Hall, id: &str| {
        let mut peer = hall.peer(Version::V5, false);
        let alive = Connect { keep_alive: 2, ..connect(id, Version::V5) };
        peer.ask(hall, |out| mqtt::write_connect(out, &alive));
        peer
    };
    let (mut silent, mut alive) = (enter(&mut hall, "silent"), enter(&mut hall, "alive"));
    for _ in 0..4 {
        hall.turns(100);
        assert_eq!(alive.ask(&mut hall, mqtt::write_ping), "PingResp");
    }
    let told = silent.hears(&mut hall);
    assert!(told.starts_with("Disconnect(Disconnect { reason: 141"), "{told}");
    silent.is_ended(&mut hall);
    assert_eq!(alive.ask(&mut hall, mqtt::write_ping), "PingResp");
}

/// Retained messages: to those who subscribe, behind SUBACK; not to those who had them, and not when they were taken
/// away.
#[test]
fn who_subscribes_is_sent_what_is_kept() {
    let mut hall = Hall::new(plan(), 5);
    hall.is_silent = true;
    let mut first = hall.client("first", Version::V5, true);
    first.says(&mut hall, |out| subscribe(out, Version::V5, 1, ("k/#", options(QoS::AtLeastOnce))));
    hall.comes("k/a", b"old", (QoS::AtLeastOnce, b"", 4 | KEPT));
    first.is_quiet(&mut hall);
    hall.confirms("k/#", 0);
    assert_eq!(first.hears(&mut hall), suback(1, &[1]));
    let (topic, payload, _, retain, id, _) = first.message(&mut hall);
    assert_eq!((&*topic, &*payload, retain), ("k/a", "old", true));
    first.acknowledges(&mut hall, AckKind::PubAck, id.expect("an identifier"), 0);
    hall.comes("k/b", b"live", (QoS::AtMostOnce, b"", 4));
    assert!(!first.message(&mut hall).3, "who has subscribed before hears it without RETAIN");
    hall.comes("k/a", b"old", (QoS::AtLeastOnce, b"", 4 | KEPT));
    first.is_quiet(&mut hall);
    let mut late = hall.client("late", Version::V311, false);
    assert_eq!(late.subscribe(&mut hall, 3, ("k/#", options(QoS::AtMostOnce)), 0), suback(3, &[0]));
    let kept: Vec<(String, String, bool)> =
        (0..2).map(|_| late.message(&mut hall)).map(|it| (it.0, it.1, it.3)).collect();
    assert_eq!(kept, [("k/a".into(), "old".into(), true), ("k/b".into(), "live".into(), true)]);
    let never = Options { retain_handling: 2, ..options(QoS::AtMostOnce) };
    hall.is_silent = false;
    first.subscribe(&mut hall, 4, ("k/b", never), 0);
    first.is_quiet(&mut hall);
    hall.comes("k/b", b"", (QoS::AtMostOnce, b"", 4));
    first.message(&mut hall);
    assert_eq!(late.message(&mut hall).1, "");
    let mut last = hall.client("last", Version::V5, false);
    last.subscribe(&mut hall, 5, ("k/+", options(QoS::AtMostOnce)), 0);
    assert_eq!(last.message(&mut hall).0, "k/a");
    last.is_quiet(&mut hall);
}

/// What comes live while a filter waits is heard once, whatever the broker keeps of it. News that overtake messages
/// wait.
#[test]
fn nobody_hears_a_message_as_kept_and_as_live() {
    for seed in 0..6 {
        let mut hall = Hall::new(plan(), seed);
        hall.is_silent = true;
        let mut peer = hall.client("one", Version::V5, true);
        peer.says(&mut hall, |out| subscribe(out, Version::V5, 1, ("k/+", options(QoS::AtMostOnce))));
        peer.is_quiet(&mut hall);
        hall.comes("k/a", b"live", (QoS::AtMostOnce, b"", 4));
        assert_eq!(peer.message(&mut hall).1, "live", "seed {seed}");
        hall.comes("k/a", b"live", (QoS::AtMostOnce, b"", 4 | KEPT));
        // It holds for who has had one message more, which comes behind it.
        hall.said += 1;
        hall.confirms("k/+", 1);
        hall.said -= 1;
        peer.is_quiet(&mut hall);
        hall.comes("k/b", b"kept", (QoS::AtMostOnce, b"", 4 | KEPT));
        assert_eq!(peer.hears(&mut hall), suback(1, &[0]));
        let (topic, payload, _, retain, ..) = peer.message(&mut hall);
        assert_eq!((&*topic, &*payload, retain), ("k/b", "kept", true), "seed {seed}");
        peer.is_quiet(&mut hall);
    }
}

/// Of a broker that does not tell when what it keeps changes it is asked for each subscriber, once for all who wait.
#[test]
fn what_is_not_followed_is_asked_for_again() {
    let mut hall = Hall::new(plan(), 8);
    (hall.is_silent, hall.is_followed) = (true, false);
    for round in 0..3 {
        let mut peers: Vec<Peer> = (0..2).map(|n| hall.client(&format!("{round}{n}"), Version::V311, false)).collect();
        for peer in &mut peers {
            peer.says(&mut hall, |out| subscribe(out, Version::V311, 1, ("k", options(QoS::AtMostOnce))));
            peer.is_quiet(&mut hall);
        }
        assert_eq!(hall.wanted, [("k".into(), true)]);
        hall.wanted.clear();
        let (payload, since) = (format!("{round}"), hall.said);
        hall.comes("k", payload.as_bytes(), (QoS::AtMostOnce, b"", 4 | KEPT));
        hall.confirms("k", since);
        for peer in &mut peers {
            assert_eq!(peer.hears(&mut hall), suback(1, &[0]));
            assert_eq!(peer.message(&mut hall).1, payload);
            peer.is_quiet(&mut hall);
        }
    }
}

/// The broker's session is lost: who was promised that nothing is left out is told so, some of them at a time; nobody
/// else is, and whoever subscribes meanwhile waits for the broker.
#[test]
fn who_may_have_missed_a_message_is_told_and_closed() {
    let mut hall = Hall::new(plan(), 3);
    hall.stage = hall.stage.at_pace(Duration::from_millis(1));
    let enter = |hall: &mut Hall, id: &str, version, qos| {
        let mut peer = hall.client(id, version, id == "0");
        assert_eq!(peer.subscribe(hall, 1, ("a", options(qos)), 0), suback(1, &[qos.level()]));
        peer
    };
    let mut bold: Vec<Peer> = (0..5)
        .map(|n| enter(&mut hall, &n.to_string(), [Version::V5, Version::V311][n % 2], QoS::AtLeastOnce))
        .collect();
    let mut modest = enter(&mut hall, "modest", Version::V5, QoS::AtMostOnce);
    hall.is_silent = true;
    let mut waiting = hall.client("waiting", Version::V5, false);
    waiting.says(&mut hall, |out| subscribe(out, Version::V5, 2, ("b", options(QoS::AtLeastOnce))));
    waiting.is_quiet(&mut hall);
    hall.loses();
    hall.turns(20);
    assert_eq!(hall.stage.counters().offload_missed, 2, "eight in a second");
    for peer in &mut bold {
        if peer.version == Version::V5 {
            let told = peer.hears(&mut hall);
            assert!(told.starts_with("Disconnect(Disconnect { reason: 128") && told.contains("missed"), "{told}");
        }
        peer.is_ended(&mut hall);
    }
    // What was confirmed before the loss is not any more.
    let mut late = hall.client("late", Version::V311, false);
    late.says(&mut hall, |out| subscribe(out, Version::V311, 3, ("a", options(QoS::AtLeastOnce))));
    late.is_quiet(&mut hall);
    hall.confirms("a", 0);
    hall.confirms("b", 0);
    assert_eq!(late.hears(&mut hall), suback(3, &[1]));
    assert_eq!(waiting.hears(&mut hall), suback(2, &[1]));
    hall.comes("a", b"again", (QoS::AtMostOnce, b"", 0));
    assert_eq!([modest.message(&mut hall).1, late.message(&mut hall).1], ["again", "again"]);
    [&mut modest, &mut waiting, &mut late].into_iter().for_each(|peer| peer.is_quiet(&mut hall));
    assert_eq!(hall.stage.counters().offload_missed, 5);
}

/// `$share`: each message is for one of the members; who leaves without having acknowledged leaves it to the other, and
/// the last one leaves it to the broker.
#[test]
fn a_message_of_a_group_is_for_one_of_its_members() {
    for seed in 0..6 {
        let mut hall = Hall::new(plan(), seed);
        let mut members = [hall.client("one", Version::V5, true), hall.client("other", Version::V311, false)];
        for member in &mut members {
            let version = member.version;
            let filters = [("$share/g/a/+", options(QoS::ExactlyOnce))];
            member.says(&mut hall, |out| {
                mqtt::write_subscribe(out, version, 3, Properties::default(), filters.into_iter());
            });
        }
        let mut broker = hall.broker(false);
        let asked = broker.hears(&mut hall);
        assert!(asked.starts_with("Subscribe(Subscribe { packet_id: 1, properties: [SubscriptionId(1)]"), "{asked}");
        let granted = SubAck { packet_id: 1, properties: Properties::default(), codes: &[1] };
        broker.says(&mut hall, |out| mqtt::write_suback(out, Version::V5, &granted));
        members.iter_mut().for_each(|it| assert_eq!(it.hears(&mut hall), suback(3, &[1]), "seed {seed}"));
        for id in 1..5 {
            broker.publishes(&mut hall, ("a/b", format!("{id}").as_bytes()), QoS::AtLeastOnce, id);
        }
        let mut came: Vec<Vec<(String, u16)>> = Vec::new();
        for member in &mut members {
            came.push((0..2).map(|_| member.message(&mut hall)).map(|it| (it.1, it.4.expect("an id"))).collect());
        }
        let mut all: Vec<&str> = came.iter().flatten().map(|it| &*it.0).collect();
        all.sort_unstable();
        assert_eq!(all, ["1", "2", "3", "4"], "seed {seed}");
        let [mut one, other] = members;
        let first = &came[0][0];
        one.acknowledges(&mut hall, AckKind::PubAck, first.1, 0);
        assert_eq!(broker.hears(&mut hall), format!("PubAck({})", ack(first.0.parse().expect("a number"), 0)));
        hall.stage.shard.ring().break_off(other.end);
        let again: Vec<String> = (0..2).map(|_| one.message(&mut hall).1).collect();
        assert_eq!(again, came[1].iter().map(|it| it.0.clone()).collect::<Vec<_>>(), "seed {seed}");
        broker.is_quiet(&mut hall);
        hall.stage.shard.ring().break_off(one.end);
        let end = broker.end;
        assert!(hall.stage.until(TURNS, |stage| stage.shard.ring().is_ended(end) || stage.shard.ring().is_broken(end)));
    }
}

/// What is wrong is answered in the words of its version, and nobody else notices.
#[test]
fn bad_packets_end_their_client_alone() {
    let mut hall = Hall::new(plan(), 6);
    let mut innocent = hall.client("innocent", Version::V5, true);
    innocent.subscribe(&mut hall, 1, ("a", options(QoS::AtMostOnce)), 0);
    for (bytes, reason) in [
        (&b"\x36\x05\0\x01a\0\x01"[..], 0x81),
        (b"\x30\xff\xff\xff\xff\x7f", 0x81),
        (b"\x30\x80\x80\x08", 0x95),
        (b"\x10\0", 0x82),
        (b"\x30\x04\0\x01#\0", 0x90),
        (b"\x30\x06\0\0\x03\x23\0\x11", 0x94),
        (b"\x30\x06\0\0\x03\x23\0\x01", 0x82),
        (b"\xf0\0", 0x82),
    ] {
        for web in [true, false] {
            let mut peer = hall.client("bad", Version::V5, web);
            peer.says_raw(&mut hall, bytes);
            let told = peer.hears(&mut hall);
            assert!(told.starts_with(&format!("Disconnect(Disconnect {{ reason: {reason},")), "{bytes:x?}: {told}");
            peer.is_ended(&mut hall);
            let mut old = hall.client("bad", Version::V311, web);
            old.says_raw(&mut hall, if bytes[0] == 0xf0 { b"\xf0\0" } else { b"\x30\x03\0\x01#" });
            old.is_ended(&mut hall);
        }
    }
    let mut nobody = hall.peer(Version::V5, false);
    nobody.says_raw(&mut hall, b"GET / HTTP/1.1\r\n\r\n");
    nobody.is_ended(&mut hall);
    let mut newer = hall.peer(Version::V311, false);
    newer.says_raw(&mut hall, b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\x01a");
    assert!(newer.hears(&mut hall).starts_with("ConnAck(ConnAck { session_present: false, reason: 1"));
    hall.comes("a", b"still here", (QoS::AtMostOnce, b"", 0));
    assert_eq!(innocent.message(&mut hall).1, "still here");
}

/// What is not allowed, refused by the broker, or too much.
#[test]
fn a_filter_that_is_refused_has_its_code() {
    let mut hall = Hall::new(plan(), 7);
    let mut peer = hall.client("one", Version::V5, true);
    assert_eq!(peer.subscribe(&mut hall, 1, ("no", options(QoS::AtMostOnce)), 0), suback(1, &[0x87]));
    for id in 2..6 {
        assert_eq!(peer.subscribe(&mut hall, id, (&format!("t{id}"), options(QoS::ExactlyOnce)), 0), suback(id, &[2]));
    }
    assert_eq!(peer.subscribe(&mut hall, 6, ("t6", options(QoS::AtMostOnce)), 0), suback(6, &[0x97]));
    let mut old = hall.client("other", Version::V311, false);
    assert_eq!(old.subscribe(&mut hall, 9, ("no", options(QoS::AtMostOnce)), 0), suback(9, &[0x80]));
}
