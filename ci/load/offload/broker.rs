//! A broker as far as attacks need one: STOMP with topics and queues, MQTT 5 with filters; one thread a connection.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use edgehold_wire::mqtt::{
    self, Ack, AckKind, ConnAck, Packet, Properties, Property, Publish, QoS, Role, SubAck, topic,
};
use edgehold_wire::stomp::{self, Command, Frame, Version};

/// What the broker ends a session for.
pub(super) const NOPE: &str = "/exchange/nope";
/// What begins the name of a queue.
const QUEUE: &str = "/queue/";
/// It does not acknowledge what is published below it.
pub(super) const HOLD: &str = "hold/";

const STOMP: stomp::Limits = stomp::Limits { frame_bytes: 4 << 20, header_bytes: 1 << 20, header_count: 1000 };
const MQTT: mqtt::Limits = mqtt::Limits { packet_bytes: 4 << 20 };

/// The broker.
#[derive(Clone)]
pub(super) struct Broker {
    pub(super) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    subscribers: Vec<Subscriber>,
    /// Messages of queues that nobody has, by their numbers.
    backlog: HashMap<String, BTreeMap<u64, Vec<u8>>>,
    last: u64,
    most_unacknowledged: usize,
    published: HashMap<String, usize>,
    calls: u64,
}

struct Subscriber {
    connection: u64,
    id: String,
    name: String,
    mouth: TcpStream,
    prefetch: usize,
    waiting: BTreeMap<u64, Vec<u8>>,
    unacknowledged: BTreeMap<u64, Vec<u8>>,
}

/// A connection, as its thread knows it.
struct Session {
    shared: Arc<Mutex<Shared>>,
    connection: u64,
    mouth: TcpStream,
}

impl Broker {
    pub(super) fn stomp() -> Broker {
        Broker::start(Session::speak_stomp)
    }

    pub(super) fn mqtt() -> Broker {
        Broker::start(Session::speak_mqtt)
    }

    fn start(speak: fn(&Session, TcpStream)) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let all = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = {
                    let mut shared = lock(&all);
                    shared.calls += 1;
                    shared.calls
                };
                let mouth = stream.try_clone().expect("a descriptor");
                let session = Session { shared: all.clone(), connection, mouth };
                thread::spawn(move || {
                    speak(&session, stream);
                    session.shared().leave(|it| it.connection == session.connection);
                });
            }
        });
        Broker { address, shared }
    }

    /// The most that one queue subscription has had and not acknowledged.
    pub(super) fn most_unacknowledged(&self) -> usize {
        lock(&self.shared).most_unacknowledged
    }

    /// Messages that were published to a destination or topic.
    pub(super) fn published(&self, name: &str) -> usize {
        lock(&self.shared).published.get(name).copied().unwrap_or(0)
    }

    /// Connections that there were.
    pub(super) fn calls(&self) -> u64 {
        lock(&self.shared).calls
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    fn say(&self, bytes: &[u8]) {
        let _ = (&self.mouth).write_all(bytes);
    }

    fn enter(&self, (id, name): (&str, &str), prefetch: usize) {
        let mouth = self.mouth.try_clone().expect("a descriptor");
        let mut shared = self.shared();
        let (waiting, unacknowledged) = (shared.backlog.remove(name).unwrap_or_default(), BTreeMap::new());
        let name = String::from(name);
        let (connection, id) = (self.connection, id.into());
        let mut it = Subscriber { connection, id, name, mouth, prefetch, waiting, unacknowledged };
        it.pump(&mut shared.most_unacknowledged);
        shared.subscribers.push(it);
    }

    // ---- STOMP ----

    fn speak_stomp(&self, mut stream: TcpStream) {
        let (mut came, mut chunk) = (Vec::new(), [0; 16 << 10]);
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            came.extend_from_slice(&chunk[..len]);
            let mut at = 0;
            loop {
                match stomp::read(&came[at..], &STOMP, Version::V12) {
                    Ok(stomp::Read::Frame { frame, used }) => {
                        at += used;
                        if !self.frame(&frame) {
                            let _ = stream.shutdown(Shutdown::Both);
                            return;
                        }
                    }
                    Ok(stomp::Read::Beat { used }) => at += used,
                    Ok(stomp::Read::More { .. }) => break,
                    Err(fault) => panic!("the edge has sent what is no STOMP: {fault:?}"),
                }
            }
            came.drain(..at);
        }
    }

    fn tell(&self, command: Command, headers: &[(&str, &str)]) {
        let mut out = Vec::new();
        stomp::write(&mut out, Version::V12, command, headers, b"");
        self.say(&out);
    }

    /// `false`: that was the last.
    fn frame(&self, frame: &Frame<'_>) -> bool {
        let get = |name: &str| frame.get(name).unwrap_or_default().into_owned();
        let (id, destination) = (get("id"), get("destination"));
        match frame.command {
            Command::Connect => self.tell(Command::Connected, &[("version", "1.2"), ("server", "ActiveMQ/5")]),
            Command::Send if destination == NOPE => {
                // Whoever hears it finds all messages of queues given back.
                self.shared().leave(|it| it.connection == self.connection);
                self.tell(Command::Error, &[("message", "there is no such exchange")]);
                return false;
            }
            Command::Send => self.shared().send(&destination, frame.body),
            Command::Subscribe => {
                let prefetch = get("prefetch-count").parse().unwrap_or(usize::MAX);
                self.enter((&id, &destination), prefetch);
            }
            Command::Unsubscribe => {
                self.shared().leave(|it| it.connection == self.connection && it.id == id);
            }
            Command::Ack => self.shared().acknowledge(&id),
            _ => {}
        }
        if frame.get("receipt").is_some() {
            self.tell(Command::Receipt, &[("receipt-id", &get("receipt"))]);
        }
        frame.command != Command::Disconnect
    }

    // ---- MQTT ----

    fn speak_mqtt(&self, mut stream: TcpStream) {
        let (mut came, mut chunk, mut version) = (Vec::new(), [0; 16 << 10], None);
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            came.extend_from_slice(&chunk[..len]);
            let mut at = 0;
            loop {
                match mqtt::read(&came[at..], &MQTT, version, Role::Server) {
                    Ok(mqtt::Read::Packet { packet, used }) => {
                        at += used;
                        if let Packet::Connect(connect) = packet {
                            version = Some(connect.version);
                        }
                        self.packet(&packet);
                    }
                    Ok(mqtt::Read::More { .. }) => break,
                    Err(fault) => panic!("the edge has sent what is no MQTT: {fault:?}"),
                }
            }
            came.drain(..at);
        }
    }

    fn packet(&self, packet: &Packet<'_>) {
        let (version, properties) = (mqtt::Version::V5, Properties::default());
        let mut out = Vec::new();
        match packet {
            Packet::Connect(_) => {
                let connack = ConnAck { session_present: false, reason: 0, properties };
                mqtt::write_connack(&mut out, version, &connack);
            }
            Packet::Subscribe(it) => {
                let id = it.properties.iter().find_map(|it| match it {
                    Property::SubscriptionId(id) => Some(id.to_string()),
                    _ => None,
                });
                for (filter, _) in it.filters.iter() {
                    self.enter((id.as_deref().unwrap_or(""), filter), usize::MAX);
                }
                let codes: Vec<u8> = it.filters.iter().map(|it| it.1.qos.level()).collect();
                mqtt::write_suback(&mut out, version, &SubAck { packet_id: it.packet_id, properties, codes: &codes });
            }
            Packet::Unsubscribe(it) => {
                let codes: Vec<u8> = it.filters.iter().map(|_| 0).collect();
                for (filter, _) in it.filters.iter() {
                    self.shared().leave(|it| it.connection == self.connection && it.name == filter);
                }
                let unsuback = mqtt::UnsubAck { packet_id: it.packet_id, properties, codes: &codes };
                mqtt::write_unsuback(&mut out, version, &unsuback);
            }
            Packet::Publish(it) => self.published(it, &mut out),
            Packet::PubRel(it) => {
                let ack = Ack { packet_id: it.packet_id, reason: 0, properties };
                mqtt::write_ack(&mut out, version, AckKind::PubComp, &ack);
            }
            Packet::PingReq => mqtt::write_pong(&mut out),
            _ => {}
        }
        self.say(&out);
    }

    fn published(&self, publish: &Publish<'_>, out: &mut Vec<u8>) {
        self.shared().route(publish);
        let kind = if publish.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        if let Some(packet_id) = publish.packet_id.filter(|_| !publish.topic.starts_with(HOLD)) {
            let ack = Ack { packet_id, reason: 0, properties: Properties::default() };
            mqtt::write_ack(out, mqtt::Version::V5, kind, &ack);
        }
    }
}

impl Shared {
    fn count(&mut self, name: &str) {
        *self.published.entry(name.into()).or_default() += 1;
    }

    /// To all subscribers of a topic, to the first one of a queue.
    fn send(&mut self, destination: &str, body: &[u8]) {
        self.count(destination);
        self.last += 1;
        let Shared { subscribers, backlog, last, most_unacknowledged, .. } = self;
        let is_queue = destination.starts_with(QUEUE);
        let mut its = subscribers.iter_mut().filter(|it| it.name == destination).peekable();
        if is_queue && its.peek().is_none() {
            backlog.entry(destination.into()).or_default().insert(*last, body.to_vec());
        }
        for it in its.take(if is_queue { 1 } else { usize::MAX }) {
            it.waiting.insert(*last, body.to_vec());
            it.pump(most_unacknowledged);
        }
    }

    /// Subscriptions end; what their clients have of queues is for others.
    fn leave(&mut self, is_it: impl Fn(&Subscriber) -> bool) {
        for mut it in self.subscribers.extract_if(.., |it| is_it(it)) {
            if it.name.starts_with(QUEUE) {
                it.waiting.append(&mut it.unacknowledged);
                self.backlog.entry(it.name).or_default().append(&mut it.waiting);
            }
        }
    }

    fn acknowledge(&mut self, id: &str) {
        let Some(number) = id.strip_prefix('m').and_then(|it| it.parse().ok()) else { return };
        let Shared { subscribers, most_unacknowledged, .. } = self;
        for it in subscribers.iter_mut() {
            if it.unacknowledged.remove(&number).is_some() {
                it.pump(most_unacknowledged);
            }
        }
    }

    /// To each connection once, with the identifiers of all filters that match.
    fn route(&mut self, publish: &Publish<'_>) {
        self.count(publish.topic);
        let mut ids: HashMap<u64, (Vec<u8>, &TcpStream)> = HashMap::new();
        for it in self.subscribers.iter().filter(|it| topic::matches(&it.name, publish.topic)) {
            let entry = ids.entry(it.connection).or_insert_with(|| (Vec::new(), &it.mouth));
            if let Ok(id) = it.id.parse() {
                Property::SubscriptionId(id).write(&mut entry.0);
            }
        }
        for (raw, mut mouth) in ids.into_values() {
            let (qos, properties) = (QoS::AtMostOnce, Properties::written(&raw));
            let own = Publish { dup: false, qos, retain: false, packet_id: None, properties, ..*publish };
            let mut out = Vec::new();
            mqtt::write_publish(&mut out, mqtt::Version::V5, &own);
            let _ = mouth.write_all(&out);
        }
    }
}

impl Subscriber {
    /// Sends what waits, as far as the prefetch goes.
    fn pump(&mut self, most: &mut usize) {
        while self.unacknowledged.len() < self.prefetch {
            let Some((number, body)) = self.waiting.pop_first() else { return };
            let id = format!("m{number}");
            let headers = [("subscription", &*self.id), ("message-id", &id), ("destination", &self.name), ("ack", &id)];
            let mut out = Vec::new();
            stomp::write(&mut out, Version::V12, Command::Message, &headers, &body);
            let _ = self.mouth.write_all(&out);
            if self.name.starts_with(QUEUE) {
                self.unacknowledged.insert(number, body);
                *most = self.unacknowledged.len().max(*most);
            }
        }
    }
}
