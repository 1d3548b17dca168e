//! The service `stomp` between clients and a broker that is moved by hand: what is shared, what goes over sessions of
//! the shard, and what becomes of it when these are lost.

mod hostile;
mod login;

use crate::stage::{KIND, Stage, limits, settings};
use edgehold::engine::script::{Dice, FarEnd, Temper};
use edgehold::mesh::{
    Granted, Message, NewMessage, PlainFrame, Secret, ToControl, ToShard, TopicNews, TopicRequest, TopicState,
};
use edgehold::service::broadcast::{FeedSettings, Keep, Naming, Policy, Slow};
use edgehold::service::gate::GatePlan;
use edgehold::service::offload::{
    Bounds, BrokerCredentials, OffloadPlan, OffloadSettings, Pattern, PrivateWhen, Rule, Syntax, WhileDown,
};
use edgehold::service::upstreams::{Backoff, Place, Places};
use edgehold::service::{Route, Settings, Target};
use edgehold::shard::service::ShardSettings;
use edgehold_wire::stomp::{self, Command, Limits, Read, Version};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const FEED: u16 = 1;
const TURNS: usize = 20_000;
const ROOM: Limits = Limits { frame_bytes: 1 << 20, header_bytes: 1 << 16, header_count: 64 };

fn plan() -> OffloadPlan {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(Syntax::Stomp, text)).collect();
    OffloadPlan {
        number: 0,
        limits: 0,
        feed: FEED,
        upstreams: vec![0],
        connect_ticks: 1000,
        connections: 1,
        credentials: BrokerCredentials {
            user: Some("edge".into()),
            password: Some(Secret::new("secret")),
            host: "/".into(),
        },
        auth: false,
        share: patterns(&["/topic/#"]),
        private: patterns(&["/temp-queue/#"]),
        rules: Vec::new(),
        snapshot: false,
        tell_gaps: false,
        slow: Slow { policy: Policy::Close, max_pending: 1 << 18, max_age_ticks: 1000 },
        subscriptions_max: 8,
        frame_bytes: 1 << 16,
        header_bytes: 4096,
        header_count: 32,
        prefetch: 4,
        unconfirmed_bytes: 1 << 20,
        while_down: WhileDown::Queue,
        missed: edgehold::service::offload::Missed::default(),
        missed_rate: 1000,
        heart_beat_millis: 0,
        keep_alive_millis: 0,
        private_as_client: false,
        client_id: "edge".into(),
        private_when: PrivateWhen::Needed,
        private_max: 2,
        stamp: None,
        bounds: Bounds::default(),
    }
}

fn services(plan: OffloadPlan, gate: Arc<GatePlan>) -> Settings {
    let plan = Arc::new(plan);
    let route =
        Route { path: "/stomp".into(), below: false, host: None, limits: 0, gate, target: Target::Stomp(plan.clone()) };
    let keep = Keep { backlog: 1 << 18, ..Keep::NOTHING };
    let feed = FeedSettings { naming: Naming::Exact, ..FeedSettings::new(None, keep) };
    let places: Places = [Place::Known(([127, 0, 0, 1], 61613).into())].into_iter().collect();
    let backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_millis(250) };
    Settings {
        routes: Arc::new([route].into_iter().collect()),
        bare: vec![Some((None, "/stomp".into()))],
        stomp: OffloadSettings {
            plans: vec![Some(plan)],
            feeds: vec![None, Some(feed)],
            places: Places { backoff, ..places },
            epoch: 1,
        },
        ..Settings::default()
    }
}

fn stage(plan: OffloadPlan, seed: u64, temper: Temper) -> Stage {
    gated(plan, Arc::default(), seed, temper)
}

fn gated(plan: OffloadPlan, gate: Arc<GatePlan>, seed: u64, temper: Temper) -> Stage {
    let limits = limits();
    let settings = ShardSettings { bare: vec![true], limits: vec![limits], ..settings() };
    Stage::of(&services(plan, gate), seed, temper, &settings).at_pace(Duration::from_millis(50))
}

/// A frame, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    command: Command,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Heard {
    fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|it| it.0 == name).map_or("", |it| &it.1)
    }
}

/// One end of a conversation, and what it has heard.
struct End {
    at: FarEnd,
    rest: Vec<u8>,
    heard: Vec<Heard>,
}

impl End {
    fn new(end: FarEnd) -> End {
        End { at: end, rest: Vec::new(), heard: Vec::new() }
    }

    fn step(&mut self, stage: &mut Stage) {
        self.rest.extend(stage.shard.ring().read(self.at, usize::MAX));
        loop {
            let used = match stomp::read(&self.rest, &ROOM, Version::V12).expect("STOMP") {
                Read::Frame { frame, used } => {
                    let headers = frame.headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
                    self.heard.push(Heard { command: frame.command, headers, body: frame.body.into() });
                    used
                }
                Read::Beat { used } if used > 0 => used,
                _ => return,
            };
            self.rest.drain(..used);
        }
    }

    fn say(&self, stage: &mut Stage, command: Command, headers: &[(&str, &str)], body: &[u8]) {
        let mut frame = Vec::new();
        stomp::write(&mut frame, Version::V12, command, headers, body);
        stage.shard.ring().say(self.at, &frame);
    }

    fn commands(&self) -> Vec<Command> {
        self.heard.iter().map(|it| it.command).collect()
    }

    fn first(&self, command: Command) -> Option<&Heard> {
        self.heard.iter().find(|it| it.command == command)
    }
}

/// A broker: it lets everybody in, and confirms what it is asked to, if it is not told otherwise.
#[derive(Default)]
struct Broker {
    sessions: Vec<End>,
    /// How many frames of each session it has answered.
    answered: Vec<usize>,
    confirms: bool,
    /// It takes no calls; so many have come.
    is_away: bool,
    /// As above.
    turned_away: usize,
    /// It lets nobody in.
    is_silent: bool,
    /// What it ends a session for, and does not say so: a body.
    poison: Option<&'static [u8]>,
    /// What it says it is.
    server: &'static str,
    /// What it ends a session for, whatever it is about.
    ends_for: Option<Command>,
}

impl Broker {
    fn new() -> Broker {
        Broker { confirms: true, ..Broker::default() }
    }

    fn step(&mut self, stage: &mut Stage) {
        while let Some(call) = stage.shard.ring().next_call() {
            self.turned_away += usize::from(self.is_away);
            if let Some(end) = stage.shard.ring().answer(&call, !self.is_away) {
                self.sessions.push(End::new(end));
                self.answered.push(0);
            }
        }
        for (session, answered) in self.sessions.iter_mut().zip(&mut self.answered) {
            session.step(stage);
            let new = session.heard.split_at(*answered).1.to_owned();
            for heard in new {
                match heard.command {
                    Command::Connect if self.is_silent => {}
                    _ if self.poison.is_some_and(|body| body == heard.body) || self.ends_for == Some(heard.command) => {
                        session.say(stage, Command::Error, &[("message", "it is poison")], b"");
                        stage.shard.ring().end(session.at);
                        break;
                    }
                    Command::Connect => {
                        session.say(stage, Command::Connected, &[("version", "1.2"), ("server", self.server)], b"");
                    }
                    _ if self.confirms && !heard.get("receipt").is_empty() => {
                        session.say(stage, Command::Receipt, &[("receipt-id", heard.get("receipt"))], b"");
                    }
                    Command::Disconnect => stage.shard.ring().end(session.at),
                    _ => {}
                }
            }
            *answered = session.heard.len();
        }
    }

    fn heard(&self, command: Command) -> Vec<&Heard> {
        self.sessions.iter().flat_map(|it| &it.heard).filter(|it| it.command == command).collect()
    }
}

/// Turns until it is so.
fn until(
    stage: &mut Stage,
    broker: &mut Broker,
    clients: &mut [&mut End],
    mut is: impl FnMut(&[&mut End], &Broker) -> bool,
) {
    for _ in 0..TURNS {
        stage.turn();
        broker.step(stage);
        clients.iter_mut().for_each(|client| client.step(stage));
        if is(clients, broker) {
            return;
        }
    }
    let heard: Vec<_> = clients.iter().map(|it| &it.heard).collect();
    let said: Vec<_> = broker.sessions.iter().map(End::commands).collect();
    panic!("clients have heard {heard:#?}\nthe broker {said:?}");
}

/// A client that is connected.
fn client(stage: &mut Stage, broker: &mut Broker) -> End {
    let end = stage.shard.ring().arrive(0);
    let mut client = End::new(end);
    client.say(stage, Command::Connect, &[("accept-version", "1.2"), ("host", "/")], b"");
    until(stage, broker, &mut [&mut client], |clients, _| clients[0].first(Command::Connected).is_some());
    client.heard.clear();
    client
}

/// What the shard wants of topics, since this was asked last.
fn wishes(stage: &mut Stage) -> Vec<TopicRequest> {
    let mut wishes = Vec::new();
    while let Some(letter) = stage.to_control.take() {
        if let ToControl::Topic(request) = letter {
            wishes.push(*request);
        }
    }
    wishes
}

fn tell(stage: &mut Stage, topic: &str, state: TopicState) {
    let news = TopicNews { feed: FEED, topic: topic.into(), state, after: 0 };
    stage.letters.post(ToShard::Topic(Box::new(news))).expect("the shard reads its letters");
}

fn publish(stage: &mut Stage, topic: &str, sequence: u64, body: &str) {
    let tail = format!("destination:{topic}\nmessage-id:m{sequence}\n\n{body}\0");
    let payload = PlainFrame::text_or_binary(tail.as_bytes());
    let new = NewMessage { feed: FEED, channel: topic.into(), payload, ..NewMessage::default() };
    let message = Arc::new(Message::new(new, 1, sequence));
    stage.letters.post(ToShard::Publish(Arc::from([message]))).expect("the shard reads its letters");
}

fn subscribe(stage: &mut Stage, client: &End, id: &str, destination: &str, ack: &str) {
    let headers = [("id", id), ("destination", destination), ("ack", ack), ("receipt", id)];
    client.say(stage, Command::Subscribe, &headers, b"");
}

#[test]
fn one_wish_for_all_and_a_head_of_its_own_for_each() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    subscribe(&mut stage, &one, "first", "/topic/a", "auto");
    subscribe(&mut stage, &other, "second", "/topic/a", "auto");
    (0..50).for_each(|_| stage.turn());
    let wish = TopicRequest { shard: 0, feed: FEED, topic: "/topic/a".into(), is_wanted: true };
    assert_eq!(wishes(&mut stage), std::slice::from_ref(&wish));
    one.step(&mut stage);
    assert_eq!(one.heard, [], "its receipt waits for the broker's");
    tell(&mut stage, "/topic/a", TopicState::Subscribed(Granted { quality: 1, kept_since: 0, is_followed: true }));
    publish(&mut stage, "/topic/a", 7, "hello");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| {
        clients.iter().all(|it| it.commands() == [Command::Receipt, Command::Message])
    });
    for (end, id) in [(&one, "first"), (&other, "second")] {
        let message = end.first(Command::Message).expect("a message");
        assert_eq!((message.get("subscription"), message.get("message-id")), (id, "m7"));
        assert_eq!(message.body, b"hello");
    }
    one.say(&mut stage, Command::Unsubscribe, &[("id", "first")], b"");
    (0..50).for_each(|_| stage.turn());
    assert_eq!(wishes(&mut stage), [], "somebody is left");
    stage.shard.ring().break_off(other.at);
    (0..50).for_each(|_| stage.turn());
    assert_eq!(wishes(&mut stage), [TopicRequest { is_wanted: false, ..wish }]);
    assert_eq!(broker.sessions.len(), 0, "shared topics need no session of the shard");
}

#[test]
fn what_the_broker_refuses_is_refused_to_who_has_asked() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    subscribe(&mut stage, &one, "s", "/topic/secret", "auto");
    (0..20).for_each(|_| stage.turn());
    tell(&mut stage, "/topic/secret", TopicState::Refused(0x87, "access refused".into()));
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| {
        clients[0].first(Command::Error).is_some()
    });
    let error = one.first(Command::Error).expect("an error");
    assert_eq!((error.get("message"), error.get("receipt-id")), ("access refused", "s"));
    assert_eq!(other.heard, []);
}

#[test]
fn a_receipt_comes_when_the_broker_has_confirmed_and_not_before() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let mut one = client(&mut stage, &mut broker);
    broker.confirms = false;
    one.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
    until(&mut stage, &mut broker, &mut [&mut one], |_, broker| broker.heard(Command::Send).len() == 1);
    (0..100).for_each(|_| stage.turn());
    one.step(&mut stage);
    assert_eq!(one.heard, []);
    // The session is lost: it is said again, and confirmed this time.
    broker.confirms = true;
    stage.shard.ring().break_off(broker.sessions[0].at);
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].first(Command::Receipt).is_some());
    assert_eq!((one.commands(), broker.heard(Command::Send).len()), (vec![Command::Receipt], 2));
    assert_eq!(one.heard[0].get("receipt-id"), "r");
}

#[test]
fn an_error_of_the_broker_ends_who_has_caused_it_and_nobody_else() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    other.say(&mut stage, Command::Send, &[("destination", "/queue/good"), ("receipt", "1")], b"x");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[1].heard.len() == 1);
    broker.confirms = false;
    one.say(&mut stage, Command::Send, &[("destination", "/bad"), ("receipt", "2")], b"x");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |_, broker| broker.heard(Command::Send).len() == 2);
    let trial = broker.sessions.iter().find(|it| it.heard.iter().any(|it| it.get("destination") == "/bad"));
    trial.expect("a trial").say(&mut stage, Command::Error, &[("message", "no such place")], b"");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| {
        clients[0].first(Command::Error).is_some()
    });
    assert_eq!(one.first(Command::Error).expect("an error").get("message"), "no such place");
    broker.confirms = true;
    other.say(&mut stage, Command::Send, &[("destination", "/queue/good"), ("receipt", "3")], b"y");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[1].heard.len() == 2);
    assert_eq!(other.commands(), [Command::Receipt; 2]);
}

/// Sends with a receipt, and has it.
fn proven(stage: &mut Stage, broker: &mut Broker, client: &mut End, destination: &str) {
    client.say(stage, Command::Send, &[("destination", destination), ("receipt", "proven")], b"x");
    until(stage, broker, &mut [&mut *client], |clients, _| clients[0].commands() == [Command::Receipt]);
    client.heard.clear();
}

#[test]
fn of_what_many_have_under_way_the_one_is_found_for_which_the_broker_ends_the_session() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let mut clients: Vec<End> = (0..5).map(|_| client(&mut stage, &mut broker)).collect();
    proven(&mut stage, &mut broker, &mut clients[0], "/queue/a");
    (broker.poison, broker.confirms) = (Some(&b"poison"[..]), false);
    for (place, client) in clients.iter().enumerate() {
        let body: &[u8] = if place == 3 { b"poison" } else { b"good" };
        client.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], body);
    }
    // All are under way before the broker reads any.
    (0..50).for_each(|_| stage.turn());
    broker.confirms = true;
    let mut clients: Vec<&mut End> = clients.iter_mut().collect();
    until(&mut stage, &mut broker, &mut clients, |clients, _| clients.iter().all(|it| !it.heard.is_empty()));
    for (place, client) in clients.iter().enumerate() {
        let due = if place == 3 { Command::Error } else { Command::Receipt };
        assert_eq!(client.commands(), [due], "client {place}");
    }
    assert_eq!(clients[3].heard[0].get("message"), "it is poison");
    assert!(broker.sessions.len() < 8, "{} sessions", broker.sessions.len());
}

/// Whoever asks for no receipt is found the second time.
#[test]
fn who_has_not_asked_for_a_receipt_is_found_all_the_same() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut bad, mut good) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    proven(&mut stage, &mut broker, &mut good, "/queue/a");
    broker.poison = Some(&b"poison"[..]);
    for round in 0..2 {
        bad.say(&mut stage, Command::Send, &[("destination", "/queue/a")], b"poison");
        let sessions = broker.sessions.len();
        let receipt = round.to_string();
        good.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", &receipt)], b"good");
        until(&mut stage, &mut broker, &mut [&mut bad, &mut good], |clients, broker| {
            broker.sessions.len() > sessions && clients[1].heard.len() == round + 1
        });
    }
    assert_eq!((bad.commands(), good.commands()), (vec![Command::Error], vec![Command::Receipt; 2]));
}

#[test]
fn a_broker_that_lets_nobody_in_is_given_up_and_called_again() {
    let plan = OffloadPlan { connect_ticks: 8, ..plan() };
    let (mut stage, mut broker) = (stage(plan, 1, KIND), Broker::new());
    let mut one = client(&mut stage, &mut broker);
    broker.is_silent = true;
    one.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
    until(&mut stage, &mut broker, &mut [&mut one], |_, broker| broker.sessions.len() == 3);
    broker.is_silent = false;
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].commands() == [Command::Receipt]);
}

/// What is refused while the broker is away is not waited for: the destination is as any other when it is back.
#[test]
fn who_publishes_while_the_broker_is_away_may_be_refused() {
    let plan = OffloadPlan { while_down: WhileDown::Refuse, ..plan() };
    let (mut stage, mut broker) = (stage(plan, 1, KIND), Broker { is_away: true, ..Broker::new() });
    let mut first = client(&mut stage, &mut broker);
    first.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
    until(&mut stage, &mut broker, &mut [&mut first], |_, broker| broker.turned_away > 0);
    for _ in 0..3 {
        let mut late = client(&mut stage, &mut broker);
        late.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
        until(&mut stage, &mut broker, &mut [&mut late], |clients, _| clients[0].commands() == [Command::Error]);
        assert_eq!(late.heard[0].get("message"), "the broker does not answer");
    }
    broker.is_away = false;
    until(&mut stage, &mut broker, &mut [&mut first], |clients, _| clients[0].commands() == [Command::Receipt]);
    assert_eq!(broker.sessions.len(), 1, "the trial");
    first.heard.clear();
    proven(&mut stage, &mut broker, &mut first, "/queue/a");
    assert_eq!(broker.sessions.len(), 2, "nothing is left under way on the trial");
}

/// Delivers a message to the subscription that a session has of a queue.
fn deliver(stage: &mut Stage, broker: &Broker, session: usize, number: &str) {
    let its = broker.sessions[session].first(Command::Subscribe).expect("a subscription").get("id").to_owned();
    let ack = format!("ack-{number}");
    let headers = [("subscription", its.as_str()), ("destination", "/queue/a"), ("message-id", number), ("ack", &ack)];
    broker.sessions[session].say(stage, Command::Message, &headers, number.as_bytes());
}

#[test]
fn what_a_client_has_not_acknowledged_is_given_back_when_it_leaves() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    subscribe(&mut stage, &one, "s", "/queue/a", "client-individual");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[0].heard.len() == 1);
    subscribe(&mut stage, &other, "t", "/queue/b", "client");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[1].heard.len() == 1);
    deliver(&mut stage, &broker, 0, "1");
    deliver(&mut stage, &broker, 0, "2");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[0].heard.len() == 3);
    let name = one.heard[1].get("ack").to_owned();
    one.say(&mut stage, Command::Ack, &[("id", &name)], b"");
    until(&mut stage, &mut broker, &mut [&mut one, &mut other], |_, broker| broker.heard(Command::Ack).len() == 1);
    assert_eq!(broker.heard(Command::Ack)[0].get("id"), "ack-1");
    stage.shard.ring().break_off(one.at);
    // The session ends, and with it what the broker counts as delivered; the other client's subscription goes on.
    until(&mut stage, &mut broker, &mut [&mut other], |_, broker| {
        let moved = broker.sessions.get(1).and_then(|it| it.first(Command::Subscribe));
        broker.sessions[0].first(Command::Disconnect).is_some()
            && moved.is_some_and(|it| it.get("destination") == "/queue/b")
    });
    assert_eq!(other.commands(), [Command::Receipt]);
}

#[test]
fn a_broker_has_messages_back_as_it_takes_them() {
    for (server, expected) in [
        ("ActiveMQ/5.17.2", &[Command::Unsubscribe][..]),
        (
            "RabbitMQ/3.10.8",
            &[Command::Unsubscribe, Command::Subscribe, Command::Nack, Command::Nack, Command::Unsubscribe],
        ),
    ] {
        let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker { server, ..Broker::new() });
        let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
        subscribe(&mut stage, &one, "s", "/queue/a", "client");
        until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[0].heard.len() == 1);
        deliver(&mut stage, &broker, 0, "1");
        until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| clients[0].heard.len() == 2);
        broker.confirms = false;
        let before = broker.sessions[0].heard.len();
        stage.shard.ring().break_off(one.at);
        until(&mut stage, &mut broker, &mut [&mut other], |_, broker| broker.sessions[0].heard.len() > before);
        // One more was on its way.
        deliver(&mut stage, &broker, 0, "2");
        let receipt = broker.sessions[0].heard[before].get("receipt").to_owned();
        broker.sessions[0].say(&mut stage, Command::Receipt, &[("receipt-id", &receipt)], b"");
        until(&mut stage, &mut broker, &mut [&mut other], |_, broker| {
            broker.sessions[0].commands()[before..] == *expected
        });
        (0..200).for_each(|_| stage.turn());
        broker.step(&mut stage);
        let said = &broker.sessions[0].heard[before..];
        assert_eq!(broker.sessions[0].commands()[before..], *expected, "{server}");
        let given: Vec<&str> = said.iter().filter(|it| it.command == Command::Nack).map(|it| it.get("id")).collect();
        let all = if expected.len() > 1 { vec!["ack-1", "ack-2"] } else { vec![] };
        assert_eq!((given, broker.sessions.len(), other.heard.len()), (all, 1, 0), "{server}");
    }
}

#[test]
fn a_client_has_its_own_session_where_nothing_can_be_shared() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let mut clients: Vec<End> = (0..3).map(|_| client(&mut stage, &mut broker)).collect();
    for client in &clients {
        let headers = [("destination", "/queue/ask"), ("reply-to", "/temp-queue/r"), ("receipt", "1")];
        client.say(&mut stage, Command::Send, &headers, b"?");
    }
    let [one, two, three] = &mut clients[..] else { unreachable!("three clients") };
    until(&mut stage, &mut broker, &mut [one, two, three], |clients, _| clients.iter().all(|it| !it.heard.is_empty()));
    let last: Vec<Command> = clients.iter().map(|it| it.heard[0].command).collect();
    assert_eq!(last.iter().filter(|it| **it == Command::Error).count(), 1, "two may have one: {last:?}");
    assert_eq!(broker.sessions.len(), 2);
    let at = last.iter().position(|it| *it == Command::Receipt).expect("one that has its own");
    stage.shard.ring().break_off(clients[at].at);
    let others = &mut clients[0];
    until(&mut stage, &mut broker, &mut [others], |_, broker| broker.heard(Command::Disconnect).len() == 1);
}

#[test]
fn who_may_not_is_told_so() {
    let only = |pattern: &str, publish, subscribe| Rule {
        patterns: [Pattern::new(Syntax::Stomp, pattern)].into(),
        roles: [].into(),
        publish,
        subscribe,
    };
    let rules = vec![only("/topic/read", false, true), only("/queue/#", true, false)];
    for (command, destination, allowed) in [
        (Command::Send, "/topic/read", false),
        (Command::Send, "/queue/x", true),
        (Command::Subscribe, "/queue/x", false),
        (Command::Subscribe, "/elsewhere", false),
    ] {
        let plan = OffloadPlan { rules: rules.clone(), ..plan() };
        let (mut stage, mut broker) = (stage(plan, 1, KIND), Broker::new());
        let mut one = client(&mut stage, &mut broker);
        one.say(&mut stage, command, &[("id", "1"), ("destination", destination), ("receipt", "r")], b"");
        until(&mut stage, &mut broker, &mut [&mut one], |clients, _| !clients[0].heard.is_empty());
        let expected = if allowed { Command::Receipt } else { Command::Error };
        assert_eq!((one.heard[0].command, one.heard[0].get("receipt-id")), (expected, "r"), "{destination}");
    }
}

#[test]
fn what_is_no_stomp_ends_its_client_with_an_error() {
    for (bytes, words) in [
        (&b"NONSENSE\n\n\0"[..], "no command"),
        (b"SEND\ndestination\n\n\0", "colon"),
        (b"SEND\na:\\t\n\n\0", "escape"),
        (b"SEND\ncontent-length:1\n\nab\0", "NUL"),
        (b"SEND\ncontent-length:99999999\n\n", "larger"),
        (b"MESSAGE\n\n\0", "a client does not send"),
        (b"CONNECT\n\n\0", "connected already"),
        (b"ACK\n\n\0", "does not name"),
        (b"BEGIN\n\n\0", "needs a transaction"),
        (b"COMMIT\ntransaction:t\n\n\0", "no transaction"),
        (b"SEND\ndestination:/queue/a\ntransaction:t\n\n\0", "no transaction"),
        (b"UNSUBSCRIBE\nid:9\n\n\0", "no subscription"),
        (b"SUBSCRIBE\ndestination:/topic/a\n\n\0", "needs an id"),
        (b"SUBSCRIBE\nid:1\ndestination:/topic/a\nack:never\n\n\0", "ack is"),
        (b"SEND\ndestination:/queue/a\nexpiration:soon\n\n\0", "milliseconds"),
    ] {
        let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
        let (mut one, mut other) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
        stage.shard.ring().say(one.at, bytes);
        until(&mut stage, &mut broker, &mut [&mut one, &mut other], |clients, _| !clients[0].heard.is_empty());
        let error = one.heard[0].clone();
        assert_eq!(error.command, Command::Error, "{words}");
        assert!(error.get("message").contains(words), "{words}: {error:?}");
        assert_eq!((other.heard.len(), broker.sessions.len()), (0, 0), "{words}");
        assert!(stage.until(TURNS, |stage| stage.shard.ring().is_ended(one.at)), "{words}");
    }
}

#[test]
fn before_connect_nothing_is_heard() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let mut one = End::new(stage.shard.ring().arrive(0));
    one.say(&mut stage, Command::Send, &[("destination", "/queue/a")], b"");
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| !clients[0].heard.is_empty());
    assert_eq!(one.heard[0].get("version"), "1.0,1.1,1.2");
    let mut silent = End::new(stage.shard.ring().arrive(0));
    silent.say(&mut stage, Command::Connect, &[("accept-version", "3.0")], b"");
    until(&mut stage, &mut broker, &mut [&mut silent], |clients, _| !clients[0].heard.is_empty());
    assert_eq!(silent.heard[0].command, Command::Error);
}

/// Seeds: clients publish numbered messages with receipts while the broker loses session after session, whatever the
/// kernel cuts. What was confirmed to a client has been read by the broker; of each client in order, but for what was
/// said again.
#[test]
fn nothing_confirmed_is_lost_whatever_is_cut() {
    let seed = std::env::var("EDGEHOLD_SEED").ok().and_then(|it| it.parse().ok());
    let seeds = seed.map_or(0..40, |seed: u64| seed..seed + 1);
    seeds.for_each(play);
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed ^ 0x5709);
    let temper = Temper {
        delay: [0, 20][dice.below(2)],
        end_multishot: [0, 10][dice.below(2)],
        buffers: ([4, 64, 256][dice.below(3)], [64, 512, 4096][dice.below(3)]),
        window: [400, 5000, 1 << 20][dice.below(3)],
        ..KIND
    };
    let plan = OffloadPlan { connections: [1_u32, 3][dice.below(2)], ..plan() };
    let (mut stage, mut broker) = (stage(plan, seed, temper), Broker::new());
    let mut clients: Vec<End> = (0..3).map(|_| client(&mut stage, &mut broker)).collect();
    let mut said = [0_u32; 3];
    for _ in 0..60 {
        let place = dice.below(3);
        said[place] += 1;
        let (destination, receipt) = (format!("/queue/{place}"), said[place].to_string());
        let body = vec![b'x'; [0, 10, 900][dice.below(3)]];
        let headers = [("destination", destination.as_str()), ("number", &receipt), ("receipt", &receipt)];
        clients[place].say(&mut stage, Command::Send, &headers, &body);
        for _ in 0..dice.below(30) {
            stage.turn();
            broker.step(&mut stage);
        }
        if dice.chance(15) && !broker.sessions.is_empty() {
            let which = dice.below(broker.sessions.len());
            stage.shard.ring().break_off(broker.sessions[which].at);
        }
    }
    let [one, two, three] = &mut clients[..] else { unreachable!("three clients") };
    until(&mut stage, &mut broker, &mut [one, two, three], |clients, _| {
        clients.iter().zip(said).all(|(it, said)| it.heard.len() == said as usize)
    });
    for (place, client) in clients.iter().enumerate() {
        let receipts: Vec<u32> = client.heard.iter().map(|it| it.get("receipt-id").parse().unwrap()).collect();
        let mut sorted = receipts.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=said[place]).collect::<Vec<_>>(), "seed {seed}: each once");
    }
    let mut read: HashMap<(String, String), usize> = HashMap::new();
    for heard in broker.heard(Command::Send) {
        *read.entry((heard.get("destination").into(), heard.get("number").into())).or_default() += 1;
    }
    for (place, said) in said.iter().enumerate() {
        let has = |number: u32| read.contains_key(&(format!("/queue/{place}"), number.to_string()));
        assert!((1..=*said).all(has), "seed {seed}: the broker has read all that was confirmed");
    }
}
