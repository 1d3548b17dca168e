//! What one client's requests and commands cost the others: prefixes over many channels, clients that do not read,
//! polls of several routes, and messages that come faster than a shard can deliver them.

use crate::stage::{KIND, settings};
use edgehold::engine::script::{FarEnd, Script, Temper};
use edgehold::mesh::{Body, Counters, Message, Missed, NewMessage, PlainFrame, Sender, ToShard, Waker, mailbox};
use edgehold::service::broadcast::{self, BroadcastSettings, FeedSettings, Keep, Policy, Slow};
use edgehold::service::{Route, Services, Settings, Target};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold_wire::mask;
use edgehold_wire::ws::{self, Opcode};
use std::sync::Arc;
use std::time::Duration;

const CHANNELS: usize = 1000;
const KEPT: usize = 200;

struct Stage {
    shard: Shard<Script, Services>,
    letters: Sender<ToShard>,
    published: u64,
    now: Duration,
}

impl Stage {
    fn new(temper: Temper, keep: Keep, routes: Vec<broadcast::BroadcastPlan>) -> Stage {
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (letters, inbox) = mailbox(1024, waker());
        let (to_control, _) = mailbox(1024, waker());
        let services = services(keep, routes);
        let shard = Shard::new(Script::new(1, temper), services, &settings(), inbox, to_control);
        Stage { shard, letters, published: 0, now: Duration::ZERO }
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        self.shard.ring().set_time(self.now);
        self.shard.turn(Now { since_start: self.now, unix: 0 }).expect("the scripted ring never fails");
    }

    /// Forty turns; returns what a client was sent in them.
    fn receive(&mut self, client: FarEnd) -> String {
        let mut received = Vec::new();
        for _ in 0..40 {
            self.turn();
            received.extend(self.shard.ring().read(client, usize::MAX));
        }
        String::from_utf8_lossy(&received).into_owned()
    }

    fn publish(&mut self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let message = |(channel, payload): (String, Vec<u8>)| {
            self.published += 1;
            let payload = PlainFrame::text_or_binary(&payload);
            let draft = NewMessage { channel, payload, ..NewMessage::default() };
            Arc::new(Message::new(draft, 1, self.published))
        };
        let letter: Vec<_> = messages.into_iter().map(message).collect();
        self.letters.post(ToShard::Publish(letter.into())).expect("the shard reads its letters");
    }

    fn request(&mut self, path: &str, fields: &str) -> FarEnd {
        let end = self.shard.ring().arrive(0);
        self.shard.ring().say(end, format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        end
    }

    fn open_socket(&mut self, path: &str) -> FarEnd {
        let end = self.request(
            path,
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        );
        assert!(self.receive(end).starts_with("HTTP/1.1 101"));
        end
    }

    fn send_command(&mut self, client: FarEnd, command: &str) {
        let key = [1, 2, 3, 4];
        let mut frame = ws::head(Opcode::Text, true, command.len() as u64, Some(key)).as_bytes().to_vec();
        let from = frame.len();
        frame.extend_from_slice(command.as_bytes());
        mask::apply(&mut frame[from..], key);
        self.shard.ring().say(client, &frame);
    }

    fn counters(&mut self) -> Counters {
        self.shard.report().counters
    }
}

fn numbered(number: usize) -> String {
    format!("c.{number}")
}

/// A stage on which a feed has published much on many channels, and an innocent is subscribed to one.
fn many_channels() -> (Stage, FarEnd) {
    let keep = Keep { messages: KEPT as u32, bytes: 1 << 30, age_ticks: 1 << 30, backlog: 1 << 20, ..Keep::NOTHING };
    let mut stage = Stage::new(KIND, keep, vec![route(Policy::Close)]);
    let innocent = stage.open_socket("/0?channel=c.0");
    for _ in 0..KEPT {
        stage.publish((0..CHANNELS).map(|number| (numbered(number), b"x".to_vec())));
        stage.turn();
        stage.shard.ring().read(innocent, usize::MAX);
    }
    stage.receive(innocent);
    (stage, innocent)
}

#[test]
fn a_prefix_costs_what_its_client_is_sent() {
    let (mut stage, innocent) = many_channels();
    let guest = stage.open_socket("/0");
    for _ in 0..100 {
        stage.send_command(guest, r#"{"subscribe":["c.*"]}"#);
        stage.send_command(guest, r#"{"unsubscribe":["c.*"]}"#);
    }
    let answers = stage.receive(guest);
    assert_eq!(answers.matches("\"subscribed\"").count(), 100);
    assert_eq!(stage.counters().prefix_steps, 0, "a client that begins with what comes needs nothing of what is kept");
    stage.publish([(numbered(0), b"still here".to_vec())]);
    stage.turn();
    assert!(stage.receive(innocent).contains("still here"));
}

#[test]
fn who_resumes_at_a_prefix_pays_once_for_a_look_at_its_channels() {
    let (mut stage, _) = many_channels();
    let guest = stage.open_socket("/0");
    let last = stage.published - 3;
    for _ in 0..20 {
        stage.send_command(guest, &format!(r#"{{"subscribe":["c.*"],"after":"00000001-{last}"}}"#));
        stage.send_command(guest, r#"{"unsubscribe":["c.*"]}"#);
    }
    assert_eq!(stage.receive(guest).matches("\"subscribed\"").count(), 20);
    // Of 200 000 messages that are kept.
    assert_eq!(stage.counters().prefix_steps, CHANNELS as u64 + 3);
}

#[test]
fn changes_of_subscriptions_are_bounded() {
    let (mut stage, _) = many_channels();
    let guest = stage.open_socket("/0");
    for _ in 0..200 {
        stage.send_command(guest, r#"{"subscribe":["c.1"],"unsubscribe":["c.1"]}"#);
    }
    let answers = stage.receive(guest);
    let refusals = answers.matches("subscription_changes").count();
    assert_eq!(refusals, 2, "one answer, and the reason of the close: {answers}");
    assert!(stage.shard.ring().is_ended(guest) || answers.contains('\u{3}'), "{answers}");
    assert!(stage.counters().changes_refused > 0);
}

#[test]
fn notices_do_not_pile_up_for_one_who_does_not_read() {
    let keep = Keep { backlog: 4096, ..Keep::NOTHING };
    let mut stage = Stage::new(Temper { window: 2000, ..KIND }, keep, vec![route(Policy::Gap)]);
    let guest = stage.open_socket("/0?channel=c.0&channel=c.1");
    let mut most = 0;
    for _ in 0..500 {
        stage.publish((0..2).map(|number| (numbered(number), vec![b'x'; 1000])));
        stage.turn();
        most = most.max(stage.counters().pending_bytes);
    }
    let counters = stage.counters();
    assert!(counters.slow_dropped > 900 && counters.gaps_told <= 2, "{counters:?}");
    assert!(most <= 4096, "{most} bytes waited");
    let received = stage.receive(guest);
    stage.publish([(numbered(0), b"back".to_vec())]);
    let received = received + &stage.receive(guest);
    assert!(received.contains(r#"{"gap":{"after":null,"channel":"c.1""#) && received.contains("back"), "{received}");
}

#[test]
fn who_has_taken_all_is_never_found_slow() {
    let keep = Keep { backlog: 64 << 10, ..Keep::NOTHING };
    let mut stage = Stage::new(KIND, keep, vec![route(Policy::Close)]);
    let prompt = stage.open_socket("/0?channel=c.0");
    // In one letter, before the shard has offered the first of them.
    stage.publish((0..200).map(|_| (numbered(0), vec![b'x'; 1000])));
    let received = stage.receive(prompt);
    assert!(received.contains(r#"{"gap":{"after":null,"channel":"c.0","next":"00000001-"#), "{}", &received[..200]);
    let counters = stage.counters();
    assert_eq!((counters.slow_closed, counters.gaps_late, counters.gaps_told), (0, 1, 1));
    stage.publish([(numbered(0), b"and on".to_vec())]);
    assert!(stage.receive(prompt).contains("and on"));
}

#[test]
fn nothing_is_lost_of_a_channel_that_was_quiet() {
    let keep = Keep { messages: 10, bytes: 1 << 20, age_ticks: 8, backlog: 1 << 20, ..Keep::NOTHING };
    let mut stage = Stage::new(KIND, keep, vec![route(Policy::Close)]);
    let own = NewMessage { channel: "c.0".into(), id: Some("mine".into()), ..NewMessage::default() };
    stage.published = 1;
    stage.letters.post(ToShard::Publish(Arc::from([Arc::new(Message::new(own, 1, 1))]))).expect("room for a letter");
    // Another goes on for longer, and both are given up.
    for _ in 0..40 {
        stage.publish([(numbered(1), b"x".to_vec())]);
        stage.now += Duration::from_millis(250);
        stage.turn();
    }
    stage.now += Duration::from_secs(10);
    (0..5).for_each(|_| stage.turn());
    assert_eq!(stage.counters().channels, 0);
    for last in ["mine", "00000001-1"] {
        let back = stage.request(&format!("/0?channel=c.0&transport=sse&lastEventId={last}"), "");
        let received = stage.receive(back);
        assert!(received.starts_with("HTTP/1.1 200") && !received.contains("gap"), "{last}: {received}");
        let missed = stage.request(&format!("/0?channel=c.1&transport=sse&lastEventId={last}"), "");
        assert!(stage.receive(missed).contains("event: gap"), "a notice of what is lost");
    }
}

#[test]
fn a_loss_of_all_channels_costs_its_turn_as_much_and_frees_what_was_kept() {
    let (mut stage, _) = many_channels();
    let missed = |stage: &mut Stage, channel: Option<String>| {
        let missed = Missed { feed: None, channel: channel.map(Into::into), sequence: stage.published };
        stage.letters.post(ToShard::Missed(Box::new(missed))).expect("the shard reads its letters");
    };
    let message = |number: usize| (numbered(number), b"y".to_vec());
    // Of one channel: what comes behind it is read in the same turn.
    let kept = stage.counters().replay_bytes;
    missed(&mut stage, Some(numbered(1)));
    stage.publish([message(1)]);
    stage.turn();
    let draft = NewMessage { channel: numbered(1), payload: PlainFrame::binary(b"x"), ..NewMessage::default() };
    let one = Message::new(draft, 1, 1).cost();
    assert_eq!(stage.counters().replay_bytes, kept - (KEPT as u64 - 1) * one);
    // Of all of them: what comes behind it waits for the next.
    missed(&mut stage, None);
    stage.publish([message(2)]);
    stage.turn();
    assert_eq!(stage.counters().replay_bytes, 0);
    stage.turn();
    assert_eq!(stage.counters().replay_bytes, one);
}

#[test]
fn a_client_at_last_values_is_sent_one_notice_of_a_loss() {
    let keep = Keep { values: true, backlog: 1 << 20, ..Keep::NOTHING };
    let plan = broadcast::BroadcastPlan { snapshot: true, ..route(Policy::Close) };
    let mut stage = Stage::new(Temper { window: 2000, ..KIND }, keep, vec![plan]);
    stage.publish((0..200).map(|number| (numbered(number), vec![b'x'; 1000])));
    (0..5).for_each(|_| stage.turn());
    // More than one batch, of which the network takes little at a time.
    let guest = stage.request("/0?channel=c.*&transport=sse", "");
    (0..5).for_each(|_| stage.turn());
    for _ in 0..2 {
        stage.published += 1;
        let missed = Missed { feed: None, channel: None, sequence: stage.published };
        stage.letters.post(ToShard::Missed(Box::new(missed))).expect("the shard reads its letters");
    }
    let received: String = (0..10).map(|_| stage.receive(guest)).collect();
    assert_eq!((received.matches("event: gap").count(), received.matches("xxx\"}").count()), (1, 200), "{received}");
    let newcomer = stage.request("/0?channel=c.*&transport=sse", "");
    let received: String = (0..10).map(|_| stage.receive(newcomer)).collect();
    assert_eq!((received.matches("event: gap").count(), received.matches("xxx\"}").count()), (0, 200), "{received}");
}

#[test]
fn an_id_that_is_still_on_its_way_is_no_gap() {
    let mut stage = Stage::new(KIND, Keep::NOTHING, vec![route(Policy::Close)]);
    let early = stage.request("/0?channel=c.0&transport=sse&lastEventId=00000001-2", "");
    let received = stage.receive(early);
    assert!(received.starts_with("HTTP/1.1 200") && !received.contains("gap"), "{received}");
    stage.publish(["one", "two", "three"].map(|it| (numbered(0), it.into())));
    let received = stage.receive(early);
    assert!(received.contains("three") && !received.contains("two"), "{received}");
}

#[test]
fn a_short_poll_does_not_wait_behind_a_long_one() {
    let long = broadcast::BroadcastPlan { poll_ticks: 100, ..route(Policy::Close) };
    let short = broadcast::BroadcastPlan { poll_ticks: 4, ..route(Policy::Close) };
    let mut stage = Stage::new(KIND, Keep::NOTHING, vec![long, short]);
    let patient = stage.request("/0?channel=c.0&after=", "");
    stage.receive(patient);
    let hasty = stage.request("/1?channel=c.0&after=", "");
    stage.receive(hasty);
    stage.now += Duration::from_millis(1250);
    assert!(stage.receive(hasty).starts_with("HTTP/1.1 204"));
    assert_eq!(stage.receive(patient), "");
}

#[test]
fn an_answer_to_a_command_is_short() {
    let mut stage = Stage::new(KIND, Keep::NOTHING, vec![route(Policy::Close)]);
    let guest = stage.open_socket("/0");
    let many = vec![r#""""#; 150].join(",");
    stage.send_command(guest, &format!(r#"{{"subscribe":[{many},"c.0"]}}"#));
    let answers = stage.receive(guest);
    assert_eq!(answers.matches("this cannot be a channel").count(), 8, "{answers}");
    assert!(answers.contains(r#""more":142"#) && answers.contains(r#""subscribed":["c.0"]"#), "{answers}");
}

#[test]
fn a_client_may_have_more_subscriptions_than_fit_in_two_bytes() {
    let most = 70_000;
    let wide = broadcast::BroadcastPlan {
        subscriptions_max: most,
        changes_max: most,
        order_bytes: 1 << 20,
        ..route(Policy::Close)
    };
    let mut stage = Stage::new(KIND, Keep { backlog: 1 << 20, ..Keep::NOTHING }, vec![wide]);
    let guest = stage.open_socket("/0");
    let all: Vec<String> = (0..most).map(|number| format!(r#""{number}""#)).collect();
    for part in all.chunks(10_000) {
        stage.send_command(guest, &format!(r#"{{"subscribe":[{}]}}"#, part.join(",")));
        stage.receive(guest);
        // The next second.
        stage.now += Duration::from_secs(2);
    }
    assert_eq!(stage.counters().subscriptions, u64::from(most));
    stage.publish([("69999".into(), b"received".to_vec())]);
    assert!(stage.receive(guest).contains("received"));
}

fn services(keep: Keep, settings: Vec<broadcast::BroadcastPlan>) -> Services {
    let route = |number: usize| Route {
        path: format!("/{number}"),
        below: false,
        host: None,
        limits: 0,
        gate: Arc::default(),
        target: Target::Broadcast(number as u16),
    };
    let routes = Arc::new((0..settings.len()).map(route).collect());
    let feeds = vec![Some(FeedSettings::new(None, keep))];
    let broadcast = BroadcastSettings { plans: settings.into_iter().map(Some).collect(), feeds, epoch: 1 };
    Services::new(&Settings { routes, broadcast, ..Settings::default() })
}

fn route(policy: Policy) -> broadcast::BroadcastPlan {
    let max_pending = if policy == Policy::Gap { 4096 } else { 1 << 20 };
    broadcast::BroadcastPlan {
        feeds: vec![0],
        channel_in_path: false,
        channels: Vec::new(),
        roles: Box::default(),
        subscribe: true,
        subscriptions_max: 64,
        changes_max: 256,
        order_bytes: 64 << 10,
        snapshot: false,
        body: Body::Json,
        poll_ticks: 100,
        poll_gone: true,
        retry_millis: 3000,
        gap_event: "gap".into(),
        slow: Slow { policy, max_pending, max_age_ticks: 1000 },
    }
}
