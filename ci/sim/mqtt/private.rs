//! Clients that have a session of their own: what the broker hears of them, and what they hear of it.

use super::login::{asking, shown};
use super::*;
use edgehold::mesh::OffloadKind;
use edgehold::service::offload::Rule;

/// What CONNECT may want.
#[derive(Clone, Copy, PartialEq)]
enum Wants {
    /// Nothing that lasts.
    Clean,
    /// A session that lasts.
    State,
    /// What there is of a session, and none that lasts; MQTT 5.
    Rest,
}

impl Peer {
    /// CONNECT, with a will.
    fn enters(&mut self, hall: &mut Hall, id: &str, wants: Wants) {
        let mut raw = Vec::new();
        if wants == Wants::State && self.version == Version::V5 {
            Property::SessionExpiry(60).write(&mut raw);
        }
        let (clean_start, properties) = (wants == Wants::Clean, Properties::written(&raw));
        let packet = Connect { clean_start, properties, will: Some(will("a/will")), ..connect(id, self.version) };
        self.says(hall, |out| mqtt::write_connect(out, &packet));
    }

    fn allows(&mut self, hall: &mut Hall, session_present: bool, raw: &[u8]) {
        let connack = ConnAck { session_present, reason: 0, properties: Properties::written(raw) };
        let version = self.version;
        self.says(hall, |out| mqtt::write_connack(out, version, &connack));
    }

    fn refuses(&mut self, hall: &mut Hall, reason: u8) {
        let connack = ConnAck { session_present: false, reason, properties: Properties::default() };
        let version = self.version;
        self.says(hall, |out| mqtt::write_connack(out, version, &connack));
    }

    fn aliased(&mut self, hall: &mut Hall, topic: &str, payload: &[u8]) {
        let mut raw = Vec::new();
        Property::TopicAlias(3).write(&mut raw);
        Property::User("a", "b").write(&mut raw);
        let properties = Properties::written(&raw);
        let qos = QoS::AtMostOnce;
        let publish = Publish { dup: false, qos, retain: true, topic, packet_id: None, properties, payload };
        self.says(hall, |out| mqtt::write_publish(out, Version::V5, &publish));
    }

    fn leaves(&mut self, hall: &mut Hall) {
        let version = self.version;
        let disconnect = Disconnect { reason: 0, properties: Properties::default() };
        self.says(hall, |out| mqtt::write_disconnect(out, version, &disconnect));
    }
}

impl Hall {
    /// The next call to the broker, which is answered or refused.
    fn called(&mut self, version: Version, accept: bool) -> Option<Peer> {
        for _ in 0..TURNS {
            self.turn();
            if let Some(call) = self.stage.shard.ring().next_call() {
                let end = self.stage.shard.ring().answer(&call, accept)?;
                let (rest, bytes) = (Vec::new(), Vec::new());
                return Some(Peer { end, version, role: Role::Server, web: false, rest, bytes, closed: false });
            }
        }
        panic!("no call")
    }

    /// The broker hears the CONNECT of a client's own session, and says yes.
    fn own(&mut self, version: Version, session_present: bool, raw: &[u8]) -> (Peer, String) {
        let mut broker = self.called(version, true).expect("a connection");
        let words = broker.hears_first(self);
        broker.allows(self, session_present, raw);
        (broker, words)
    }

    /// A client that has a session of its own, and the broker's end of that.
    fn carried(&mut self, id: &str, version: Version, web: bool) -> (Peer, Peer) {
        let mut client = self.peer(version, web);
        client.enters(self, id, Wants::State);
        let (broker, _) = self.own(version, false, b"");
        let connack = client.hears(self);
        assert!(connack.contains("reason: 0"), "{connack}");
        (client, broker)
    }

    fn private(&mut self) -> u64 {
        self.stage.counters().offload_private[OffloadKind::Mqtt as usize]
    }
}

fn rule(filter: &str, publish: bool, subscribe: bool) -> Rule {
    let patterns = Box::new([Pattern::new(Syntax::Mqtt, filter)]);
    Rule { patterns, roles: Box::default(), publish, subscribe }
}

/// CONNECT of who wants state goes to the broker with the edge's credentials; packets go there and back as they are;
/// DISCONNECT goes there, too.
#[test]
fn a_client_that_wants_state_is_carried() {
    for seed in 0..8 {
        for (version, web) in VERSIONS {
            let mut hall = Hall::new(plan(), seed);
            let mut client = hall.peer(version, web);
            client.enters(&mut hall, "one", Wants::State);
            // It need not wait for CONNACK.
            client.says(&mut hall, mqtt::write_ping);
            let (mut broker, asked) = hall.own(version, version != Version::V31, b"");
            assert!(asked.contains("clean_start: false, keep_alive: 0, client_id: \"one\""), "{asked}");
            assert!(asked.contains("topic: \"a/will\"") && asked.contains("user: Some(\"edge\")"), "{asked}");
            assert_eq!(asked.contains("SessionExpiry(60)"), version == Version::V5, "{asked}");
            let connack = client.hears(&mut hall);
            assert!(connack.contains(&format!("session_present: {}, reason: 0", version != Version::V31)), "{connack}");
            let own = connack.contains("MaximumPacketSize(65536), TopicAliasMaximum(16)");
            assert_eq!(own, version == Version::V5, "{connack}");
            assert_eq!((broker.hears(&mut hall), hall.private()), ("PingReq".into(), 1));
            broker.says(&mut hall, |out| out.extend(b"\xd0\x00"));
            broker.publishes(&mut hall, ("q", &vec![b'x'; 40_000]), QoS::AtLeastOnce, 9);
            assert_eq!(client.hears(&mut hall), "PingResp");
            let (topic, payload, qos, _, id, _) = client.message(&mut hall);
            assert_eq!((&*topic, payload.len(), qos, id), ("q", 40_000, 1, Some(9)), "seed {seed}");
            client.acknowledges(&mut hall, AckKind::PubAck, 9, 0);
            assert_eq!(broker.hears(&mut hall), format!("PubAck({})", ack(9, 0)));
            client.leaves(&mut hall);
            assert!(broker.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 0"));
            broker.is_ended(&mut hall);
            client.is_ended(&mut hall);
            hall.stage.shard.ring().end(broker.end);
            hall.turns(100);
            assert_eq!(hall.private(), 0);
        }
    }
}

/// Aliases are the edge's: the broker hears topics, whatever it takes of aliases.
#[test]
fn aliases_of_a_carried_client_are_followed() {
    let mut hall = Hall::new(plan(), 1);
    let (mut client, mut broker) = hall.carried("one", Version::V5, true);
    client.aliased(&mut hall, "a/b", b"first");
    client.aliased(&mut hall, "", b"second");
    for expected in ["first", "second"] {
        let (topic, payload, qos, retain, _, properties) = broker.message(&mut hall);
        assert_eq!((&*topic, &*payload, qos, retain), ("a/b", expected, 0, true));
        assert!(properties.contains("User(\"a\", \"b\")") && !properties.contains("Alias"), "{properties}");
    }
}

/// Who is lost is lost to the broker, which publishes the will; the innocent one beside it is not.
#[test]
fn the_broker_sees_that_a_client_is_lost() {
    let mut hall = Hall::new(plan(), 2);
    let (mut innocent, mut its) = hall.carried("innocent", Version::V311, false);
    let (lost, mut broker) = hall.carried("lost", Version::V5, true);
    hall.stage.shard.ring().break_off(lost.end);
    broker.is_ended(&mut hall);
    broker.take(&mut hall);
    assert_eq!(broker.next(Some(Version::V5)), None, "no DISCONNECT");
    innocent.says(&mut hall, mqtt::write_ping);
    assert_eq!(its.hears(&mut hall), "PingReq");
}

/// What a client may not do is answered by the edge, never within a packet of the broker.
#[test]
fn permissions_hold_for_carried_clients() {
    for seed in 0..6 {
        let rules = vec![rule("a/#", true, false), rule("s/#", false, true)];
        let mut hall = Hall::new(OffloadPlan { rules, ..plan() }, seed);
        let (mut client, mut broker) = hall.carried("one", Version::V5, seed % 2 == 0);
        client.publishes(&mut hall, ("b", b"no"), QoS::AtMostOnce, 0);
        client.publishes(&mut hall, ("b", b"no"), QoS::AtLeastOnce, 4);
        client.publishes(&mut hall, ("b", b"no"), QoS::ExactlyOnce, 5);
        client.publishes(&mut hall, ("a/b", b"yes"), QoS::AtLeastOnce, 6);
        assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(4, 0x87)));
        assert_eq!(client.hears(&mut hall), format!("PubRec({})", ack(5, 0x87)));
        assert_eq!(broker.message(&mut hall).1, "yes");
        assert_eq!(client.subscribe(&mut hall, 7, ("$share/g/b", options(QoS::AtMostOnce)), 0), suback(7, &[0x87]));
        let both = [("s/x", options(QoS::AtMostOnce)), ("b", options(QoS::AtMostOnce))];
        let answer = client.ask(&mut hall, |out| {
            mqtt::write_subscribe(out, Version::V5, 8, Properties::default(), both.into_iter());
        });
        assert_eq!(answer, suback(8, &[0x80, 0x87]));
        let mut packet = Vec::new();
        let properties = Properties::default();
        let (qos, topic, payload) = (QoS::AtMostOnce, "s/x", &[b'y'; 500][..]);
        let publish = Publish { dup: false, qos, retain: false, topic, packet_id: None, properties, payload };
        mqtt::write_publish(&mut packet, Version::V5, &publish);
        broker.says_raw(&mut hall, &packet[..100]);
        hall.turns(100);
        client.publishes(&mut hall, ("b", b"no"), QoS::AtLeastOnce, 9);
        hall.turns(100);
        broker.says_raw(&mut hall, &packet[100..]);
        assert_eq!(client.message(&mut hall).1.len(), 500);
        assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(9, 0x87)), "seed {seed}");
        client.subscribe_only(&mut hall, 10, "s/#");
        assert!(broker.hears(&mut hall).starts_with("Subscribe(Subscribe { packet_id: 10"));
        let (mut old, _its) = hall.carried("old", Version::V311, false);
        old.publishes(&mut hall, ("b", b"no"), QoS::AtLeastOnce, 4);
        old.is_ended(&mut hall);
    }
}

/// A will that is not allowed: nobody calls the broker.
#[test]
fn a_will_that_is_not_allowed_is_refused_before_the_call() {
    let mut hall = Hall::new(OffloadPlan { rules: vec![rule("b", true, true)], ..plan() }, 1);
    let mut client = hall.peer(Version::V5, false);
    client.enters(&mut hall, "one", Wants::State);
    assert!(client.hears(&mut hall).contains("reason: 135"));
    hall.turns(100);
    assert!(hall.stage.shard.ring().next_call().is_none() && hall.private() == 0);
}

impl Peer {
    fn subscribe_only(&mut self, hall: &mut Hall, id: u16, filter: &str) {
        let (version, filters) = (self.version, [(filter, options(QoS::AtMostOnce))]);
        self.says(hall, |out| mqtt::write_subscribe(out, version, id, Properties::default(), filters.into_iter()));
    }
}

/// A clean client whose first SUBSCRIBE cannot be shared moves to a session of its own, with its will; what it was told
/// of its window holds, whatever the broker's is.
#[test]
fn the_first_subscribe_may_move_a_client() {
    for seed in 0..8 {
        let mut hall = Hall::new(plan(), seed);
        let mut client = hall.peer(Version::V5, seed % 2 == 0);
        client.enters(&mut hall, "one", Wants::Clean);
        assert!(client.hears(&mut hall).contains("ReceiveMaximum(256)"));
        assert_eq!(client.ask(&mut hall, mqtt::write_ping), "PingResp");
        let filters = [("a", Options { no_local: true, ..options(QoS::AtLeastOnce) })];
        client.says(&mut hall, |out| {
            mqtt::write_subscribe(out, Version::V5, 7, Properties::default(), filters.into_iter());
        });
        for id in 1..5 {
            client.publishes(&mut hall, ("t", format!("{id}").as_bytes()), QoS::AtLeastOnce, id);
        }
        let mut raw = Vec::new();
        Property::ReceiveMaximum(2).write(&mut raw);
        let (mut broker, asked) = hall.own(Version::V5, false, &raw);
        assert!(asked.contains("clean_start: true") && asked.contains("topic: \"a/will\""), "{asked}");
        let subscribe = broker.hears(&mut hall);
        assert!(subscribe.starts_with("Subscribe(Subscribe { packet_id: 7"), "{subscribe}");
        let granted = SubAck { packet_id: 7, properties: Properties::default(), codes: &[1] };
        broker.says(&mut hall, |out| mqtt::write_suback(out, Version::V5, &granted));
        assert_eq!(client.hears(&mut hall), suback(7, &[1]));
        assert_eq!([broker.message(&mut hall).1, broker.message(&mut hall).1], ["1", "2"]);
        broker.is_quiet(&mut hall);
        for id in 1..3 {
            broker.acknowledges(&mut hall, AckKind::PubAck, id, 0);
            assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(id, 0)));
            assert_eq!(broker.message(&mut hall).1, format!("{}", id + 2), "seed {seed}");
        }
        hall.stage.shard.ring().break_off(client.end);
        broker.is_ended(&mut hall);
        assert_eq!(hall.wanted, [], "nothing of it was shared");
    }
}

/// Later, behind anything else, or where the broker refuses, it stays what it was: the filter is refused.
#[test]
fn what_comes_later_is_refused_and_costs_nothing() {
    let mut hall = Hall::new(plan(), 3);
    let mut first = hall.client("first", Version::V5, true);
    assert_eq!(first.subscribe(&mut hall, 1, ("a", options(QoS::AtMostOnce)), 0), suback(1, &[0]));
    assert_eq!(first.subscribe(&mut hall, 2, ("own/x", options(QoS::AtMostOnce)), 0), suback(2, &[0x83]));
    let mut refused = hall.client("refused", Version::V5, false);
    refused.subscribe_only(&mut hall, 3, "own/x");
    let mut broker = hall.called(Version::V5, true).expect("a connection");
    broker.hears_first(&mut hall);
    broker.refuses(&mut hall, 0x87);
    assert_eq!(refused.hears(&mut hall), suback(3, &[0x83]));
    broker.is_ended(&mut hall);
    assert_eq!(refused.subscribe(&mut hall, 4, ("a", options(QoS::AtMostOnce)), 0), suback(4, &[0]));
    hall.comes("a", b"both", (QoS::AtMostOnce, b"", 0));
    assert_eq!([first.message(&mut hall).1, refused.message(&mut hall).1], ["both", "both"]);
    let mut idle = hall.client("idle", Version::V311, false);
    hall.stage = hall.stage.at_pace(Duration::from_millis(20));
    hall.turns(300);
    assert_eq!(idle.subscribe(&mut hall, 5, ("own/x", options(QoS::AtMostOnce)), 0), suback(5, &[0x80]));
    assert!(hall.stage.shard.ring().next_call().is_none());
}

/// As many as may have one: the next is told so, one that does without gets none, and room that is made is had.
#[test]
fn private_max_is_told() {
    let mut hall = Hall::new(OffloadPlan { private_max: 1, ..plan() }, 4);
    let (mut first, broker) = hall.carried("first", Version::V5, false);
    for (version, reason) in [(Version::V5, 0x97), (Version::V311, 3)] {
        let mut next = hall.peer(version, true);
        next.enters(&mut hall, "next", Wants::State);
        let told = next.hears(&mut hall);
        assert!(told.contains(&format!("session_present: false, reason: {reason},")), "{told}");
        next.is_ended(&mut hall);
    }
    let mut content = hall.peer(Version::V5, false);
    content.enters(&mut hall, "content", Wants::Rest);
    assert!(content.hears(&mut hall).starts_with("ConnAck(ConnAck { session_present: false, reason: 0"));
    first.leaves(&mut hall);
    first.is_ended(&mut hall);
    hall.stage.shard.ring().end(first.end);
    hall.stage.shard.ring().end(broker.end);
    hall.turns(200);
    hall.carried("next", Version::V311, true);
}

/// The broker is lost, says no, or is not there.
#[test]
fn a_client_whose_broker_is_lost_is_told_and_ended() {
    for (version, web) in VERSIONS {
        let mut hall = Hall::new(plan(), 5);
        let (mut client, broker) = hall.carried("one", version, web);
        let (mut mid, mut its) = hall.carried("mid", version, web);
        its.says_raw(&mut hall, b"\x30\x10\x00\x01t");
        hall.turns(100);
        hall.stage.shard.ring().break_off(broker.end);
        hall.stage.shard.ring().end(its.end);
        if version == Version::V5 {
            assert!(client.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 137"));
        }
        client.is_ended(&mut hall);
        hall.turns(300);
        mid.take(&mut hall);
        mid.is_ended(&mut hall);
        assert_eq!(mid.rest, b"\x30\x10\x00\x01t", "nothing stands within a packet");
        let (no, away) = if version == Version::V5 { (0x87, 0x88) } else { (5, 3) };
        let mut refused = hall.peer(version, web);
        refused.enters(&mut hall, "refused", Wants::State);
        let mut broker = hall.called(version, true).expect("a connection");
        broker.hears_first(&mut hall);
        broker.refuses(&mut hall, no);
        assert!(refused.hears(&mut hall).contains(&format!("reason: {no},")));
        refused.is_ended(&mut hall);
        let mut early = hall.peer(version, web);
        early.enters(&mut hall, "early", Wants::State);
        assert!(hall.called(version, false).is_none());
        assert!(early.hears(&mut hall).contains(&format!("reason: {away},")));
        early.is_ended(&mut hall);
    }
}

/// A broker that says nothing, and one that says something else.
#[test]
fn a_broker_that_does_not_answer_connect_is_given_up() {
    for says in [&b""[..], b"\xd0\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let mut hall = Hall::new(plan(), 6);
        hall.stage = hall.stage.at_pace(Duration::from_millis(20));
        let mut client = hall.peer(Version::V5, true);
        client.enters(&mut hall, "one", Wants::State);
        let mut broker = hall.called(Version::V5, true).expect("a connection");
        broker.hears_first(&mut hall);
        broker.says_raw(&mut hall, says);
        assert!(client.hears(&mut hall).contains("reason: 136,"), "{says:?}");
        client.is_ended(&mut hall);
        broker.is_ended(&mut hall);
    }
}

/// A client that does not read has its own session held back, and nobody else's; so has one whose broker does not.
#[test]
fn a_client_that_does_not_read_holds_back_itself() {
    for seed in 0..2 {
        let mut hall = Hall::with_buffers(plan(), Arc::default(), seed, (256, 4096));
        let (mut slow, mut broker) = hall.carried("slow", Version::V311, false);
        let (mut innocent, mut its) = hall.carried("innocent", Version::V5, true);
        let many = 200;
        for _ in 0..many {
            broker.publishes(&mut hall, ("t", &vec![b'z'; 60_000]), QoS::AtMostOnce, 0);
        }
        for n in 0..50 {
            its.publishes(&mut hall, ("t", format!("{n}").as_bytes()), QoS::AtMostOnce, 0);
            assert_eq!(innocent.message(&mut hall).1, format!("{n}"), "seed {seed}");
            slow.publishes(&mut hall, ("u", &vec![b'u'; 60_000]), QoS::AtMostOnce, 0);
            slow.publishes(&mut hall, ("u", &vec![b'u'; 60_000]), QoS::AtMostOnce, 0);
        }
        hall.turns(2000);
        let ring = hall.stage.shard.ring();
        let unread = [ring.unread(broker.end), ring.unread(slow.end)];
        assert!(unread[0] > 9 << 20 && unread[1] > 3 << 20, "seed {seed}: {unread:?}");
        for _ in 0..many {
            assert_eq!(slow.message(&mut hall).1.len(), 60_000);
        }
        for _ in 0..100 {
            assert_eq!(broker.message(&mut hall).1.len(), 60_000);
        }
    }
}

/// All private sessions log in as the edge: the identifier of a user's session has the user in it, and nobody may say
/// one that the edge has made.
#[test]
fn users_do_not_share_sessions() {
    let mut hall = asking(7);
    for (user, expected) in [("alice", "edgehold:5:alice:phone"), ("bob", "edgehold:3:bob:phone")] {
        let mut client = hall.peer(Version::V311, false);
        let packet = Connect { clean_start: false, ..shown("phone", Version::V311, user, b"secret") };
        client.says(&mut hall, |out| mqtt::write_connect(out, &packet));
        hall.answers((user, "secret"), Ok(user), 60);
        let (_, asked) = hall.own(Version::V311, false, b"");
        assert!(asked.contains(&format!("client_id: \"{expected}\"")), "{asked}");
        assert!(asked.contains("user: Some(\"edge\"), password: None"), "{asked}");
        assert!(client.hears(&mut hall).contains("reason: 0"));
    }
    for (id, as_client) in [("edgehold:5:alice:phone", false), ("edge-0", false), ("edgehold-00000001-0-0-0", true)] {
        let mut hall = Hall::new(OffloadPlan { private_as_client: as_client, ..plan() }, 7);
        let mut thief = hall.peer(Version::V5, true);
        thief.enters(&mut hall, id, Wants::State);
        assert!(thief.hears(&mut hall).contains("reason: 133"), "{id}");
        thief.is_ended(&mut hall);
    }
}

/// What is said of who has published something is the edge's to say, in wills and in messages.
#[test]
fn carried_clients_are_stamped() {
    let mut forged = Vec::new();
    [Property::User("X-User", "root"), Property::User("k", "v")].iter().for_each(|it| it.write(&mut forged));
    let properties = Properties::written(&forged);
    let packet = Connect {
        clean_start: false,
        will: Some(Will { properties, ..will("w/ann") }),
        ..shown("a", Version::V5, "ann", b"secret")
    };
    let mut hall = asking(3);
    let mut ann = hall.peer(Version::V5, true);
    ann.says(&mut hall, |out| mqtt::write_connect(out, &packet));
    hall.answers(("ann", "secret"), Ok("ann"), 60);
    let (mut broker, asked) = hall.own(Version::V5, false, b"");
    let stamped = "[User(\"k\", \"v\"), User(\"x-user\", \"ann\")]";
    assert!(asked.contains(stamped) && !asked.contains("root"), "{asked}");
    let (qos, topic) = (QoS::AtLeastOnce, "t");
    let publish = Publish { dup: true, qos, retain: true, topic, packet_id: Some(5), properties, payload: b"x" };
    ann.says(&mut hall, |out| mqtt::write_publish(out, Version::V5, &publish));
    let (.., retain, id, properties) = broker.message(&mut hall);
    assert_eq!((retain, id, &*properties), (true, Some(5), stamped));
}

/// As the client has said, where the route says so.
#[test]
fn a_session_may_be_made_as_the_client() {
    let mut hall = Hall::new(OffloadPlan { private_as_client: true, ..plan() }, 8);
    let mut client = hall.peer(Version::V5, false);
    let packet = Connect { clean_start: false, user: Some("u"), password: Some(b"p"), ..connect("phone", Version::V5) };
    client.says(&mut hall, |out| mqtt::write_connect(out, &packet));
    let (_, asked) = hall.own(Version::V5, false, b"");
    assert!(asked.contains("client_id: \"phone\"") && asked.contains("user: Some(\"u\"), password: Some([112])"));
}

/// An identifier that the edge has chosen is told, and is the client's at the broker.
#[test]
fn an_identifier_that_is_assigned_is_told() {
    let mut hall = Hall::new(plan(), 9);
    let mut client = hall.peer(Version::V5, false);
    client.enters(&mut hall, "", Wants::State);
    let (_, asked) = hall.own(Version::V5, false, b"");
    let id = asked.split("client_id: \"").nth(1).and_then(|it| it.split('"').next()).expect("an identifier").to_owned();
    assert!(id.starts_with("auto-") && id.len() == 37, "{id}");
    let connack = client.hears(&mut hall);
    assert!(connack.contains(&format!("AssignedClientId(\"{id}\")")), "{connack}");
}

/// Enhanced authentication is between the client and the broker; until it is over nothing else is said.
#[test]
fn enhanced_authentication_is_carried() {
    let mut raw = Vec::new();
    Property::AuthMethod("SCRAM").write(&mut raw);
    Property::AuthData(b"one").write(&mut raw);
    let packet = Connect { properties: Properties::written(&raw), ..connect("one", Version::V5) };
    let auth = |data: &'static [u8], out: &mut Vec<u8>| {
        let mut raw = Vec::new();
        Property::AuthMethod("SCRAM").write(&mut raw);
        Property::AuthData(data).write(&mut raw);
        mqtt::write_auth(out, &mqtt::Auth { reason: 0x18, properties: Properties::written(&raw) });
    };
    let mut hall = Hall::new(plan(), 10);
    let mut client = hall.peer(Version::V5, true);
    client.says(&mut hall, |out| mqtt::write_connect(out, &packet));
    let mut broker = hall.called(Version::V5, true).expect("a connection");
    assert!(broker.hears_first(&mut hall).contains("AuthMethod(\"SCRAM\")"));
    broker.says(&mut hall, |out| auth(b"two", out));
    assert!(client.hears(&mut hall).starts_with("Auth(Auth { reason: 24"));
    client.says(&mut hall, |out| auth(b"three", out));
    assert!(broker.hears(&mut hall).starts_with("Auth(Auth { reason: 24"));
    broker.allows(&mut hall, false, &raw);
    let connack = client.hears(&mut hall);
    assert!(connack.contains("reason: 0") && connack.contains("AuthMethod(\"SCRAM\")"), "{connack}");
    let mut hasty = hall.peer(Version::V5, false);
    hasty.says(&mut hall, |out| mqtt::write_connect(out, &packet));
    hasty.says(&mut hall, mqtt::write_ping);
    hasty.is_ended(&mut hall);
    let mut hall = Hall::new(OffloadPlan { private_when: PrivateWhen::Never, ..plan() }, 10);
    let mut client = hall.peer(Version::V5, true);
    client.says(&mut hall, |out| mqtt::write_connect(out, &packet));
    assert!(client.hears(&mut hall).contains("reason: 140"));
}

/// A route says that all have one, or nobody.
#[test]
fn a_route_may_give_all_clients_a_session_or_none() {
    let mut hall = Hall::new(OffloadPlan { private_when: PrivateWhen::Always, ..plan() }, 11);
    let mut client = hall.peer(Version::V311, true);
    client.enters(&mut hall, "one", Wants::Clean);
    assert!(hall.own(Version::V311, false, b"").1.contains("clean_start: true"));
    assert!(client.hears(&mut hall).contains("reason: 0"));
    let mut hall = Hall::new(OffloadPlan { private_when: PrivateWhen::Never, ..plan() }, 11);
    let mut client = hall.peer(Version::V5, true);
    client.enters(&mut hall, "one", Wants::State);
    let connack = client.hears(&mut hall);
    assert!(connack.contains("session_present: false, reason: 0") && connack.contains("SessionExpiry(0)"), "{connack}");
    assert_eq!(client.subscribe(&mut hall, 2, ("own/x", options(QoS::AtMostOnce)), 0), suback(2, &[0x83]));
}

/// The broker takes a session over, and says so; on the same shard a client that is shared goes, too.
#[test]
fn a_session_that_is_taken_over_ends_its_client_once() {
    let mut hall = Hall::new(plan(), 12);
    let mut shared = hall.client("same", Version::V5, true);
    let (mut old, mut its) = hall.carried("same", Version::V5, false);
    assert!(shared.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 142"));
    let disconnect = Disconnect { reason: 0x8e, properties: Properties::default() };
    its.says(&mut hall, |out| mqtt::write_disconnect(out, Version::V5, &disconnect));
    hall.stage.shard.ring().end(its.end);
    assert!(old.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 142"));
    old.is_ended(&mut hall);
    assert_eq!(old.next(Some(Version::V5)), None, "it is told once");
}

/// A server that stops sends them away, and the broker has their wills.
#[test]
fn a_server_that_stops_ends_carried_clients() {
    let mut hall = Hall::new(plan(), 13);
    let (mut client, mut broker) = hall.carried("one", Version::V5, true);
    hall.stage.letters.post(ToShard::Drain).expect("room for a letter");
    assert!(client.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 139"));
    client.is_ended(&mut hall);
    hall.stage.shard.ring().end(client.end);
    broker.is_ended(&mut hall);
    broker.take(&mut hall);
    assert_eq!(broker.next(Some(Version::V5)), None);
}
