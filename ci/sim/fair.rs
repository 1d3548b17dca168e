//! Fairness: while a broadcast never ends, an echo waits for a turn or two, whatever stood in the queue before.

use edgehold::engine::script::{FarEnd, Script, Temper};
use edgehold::mesh::{Bell, Body, Draft, Message, Sender, ToShard, letter_box};
use edgehold::service::broadcast::{Broadcast, FeedSettings, Keep, Policy, Slow};
use edgehold::service::{Route, Services, Target, broadcast, echo};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::door::{Deflate, Limits, Settings};
use edgehold_wire::http1;
use std::sync::Arc;
use std::time::Duration;

const SUBSCRIBERS: usize = 100;
/// Few, so that a backlog is many turns long.
const TURN_EVENTS: u32 = 8;

const KIND: Temper = Temper {
    delay: 0,
    end_multishot: 0,
    reset: 0,
    accept_error: 0,
    buffers: (256, 4096),
    buffer_with_error: 0,
    completions: 1000,
    window: 1 << 20,
};

struct Stage {
    shard: Shard<Script, Services>,
    letters: Sender<ToShard>,
    said: u64,
    now: Duration,
}

impl Stage {
    fn new() -> Stage {
        let bell = || Arc::new(Bell::new().expect("an eventfd"));
        let (letters, inbox) = letter_box(bell());
        let (to_control, _) = letter_box(bell());
        let shard = Shard::new(Script::new(1, KIND), services(), &settings(), inbox, to_control);
        Stage { shard, letters, said: 0, now: Duration::ZERO }
    }

    /// A turn in which one more message has come from a feed.
    fn turn(&mut self, listeners: &[FarEnd]) {
        self.said += 1;
        let draft = Draft { channel: "a".into(), text: true, payload: b"tick".into(), ..Draft::default() };
        let message = Arc::new(Message::new(draft, 1, self.said));
        self.letters.post(ToShard::Publish(Arc::from([message]))).expect("the shard reads its letters");
        self.now += Duration::from_millis(1);
        self.shard.ring().set_time(self.now);
        self.shard.turn(Now { since_start: self.now, unix: 0 }).expect("the scripted ring never fails");
        for &listener in listeners {
            self.shard.ring().read(listener, usize::MAX);
        }
    }

    fn opened(&mut self, path: &str) -> FarEnd {
        let end = self.shard.ring().arrive(0);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.shard.ring().say(end, head.as_bytes());
        end
    }

    /// Turns until the echo of a frame has come.
    fn echo(&mut self, client: FarEnd, listeners: &[FarEnd]) -> usize {
        self.shard.ring().say(client, b"\x82\x82\0\0\0\0hi");
        let mut heard = Vec::new();
        let waited = (1..1000).find(|_| {
            self.turn(listeners);
            heard.extend(self.shard.ring().read(client, usize::MAX));
            heard == b"\x82\x02hi"
        });
        waited.expect("the echo comes")
    }
}

#[test]
fn an_echo_waits_for_a_turn_or_two_while_a_broadcast_goes_on() {
    let mut stage = Stage::new();
    let client = stage.opened("/echo");
    let listeners: Vec<FarEnd> = (0..SUBSCRIBERS).map(|_| stage.opened("/feed/a")).collect();
    // All of them come at once, and the feed speaks all the while: the queue is full before the first is served.
    for _ in 0..200 {
        stage.turn(&listeners);
    }
    let opening = stage.shard.ring().read(client, usize::MAX);
    assert!(
        opening.starts_with(b"HTTP/1.1 101"),
        "{:?}: {:?}",
        String::from_utf8_lossy(&opening),
        stage.shard.report().tally
    );
    let mut waited: Vec<usize> = (0..21).map(|_| stage.echo(client, &listeners)).collect();
    waited.sort_unstable();
    // The scripted kernel cuts frames, so that some need several turns; behind the queue each would need a dozen.
    assert!(waited[10] <= 4, "turns waited: {waited:?}");
}

fn services() -> Services {
    let route = |path: &str, target| Route { path: path.into(), below: true, host: None, limits: 0, target };
    let routes = [route("/echo", Target::Echo(echo::Settings::default())), route("/feed/", Target::Broadcast(0))];
    let keep = Keep { messages: 0, bytes: 0, age_ticks: 0, backlog: 1 << 20, values: false };
    let feeds = [FeedSettings { channel: None, keep }];
    let broadcast = Broadcast::new(Arc::from([feed_route()]), &feeds, 1);
    Services::new(Arc::from(routes), Vec::new(), broadcast)
}

fn feed_route() -> broadcast::Settings {
    broadcast::Settings {
        feeds: vec![0],
        channel_in_path: true,
        channels: Vec::new(),
        subscribe: false,
        subscriptions_max: 1,
        snapshot: false,
        body: Body::Plain,
        poll_ticks: 100,
        poll_gone: true,
        retry_millis: 3000,
        allow_origin: Vec::new(),
        slow: Slow { policy: Policy::Close, max_pending: 1 << 20, max_age_ticks: 1000 },
    }
}

fn settings() -> Settings {
    let limits = Limits {
        head: http1::Limits { head_bytes: 4096, head_count: 32, target_bytes: 1024 },
        message_bytes: 1 << 20,
        head_ticks: 4000,
        idle_ticks: 100_000,
        keep_alive_ticks: 100_000,
        close_ticks: 4000,
        max_pending: 1 << 20,
        connection_bytes: 64 << 20,
        deflate: Deflate::default(),
    };
    Settings {
        shard: 0,
        slots: 256,
        spare_slots: 2,
        accepts_in_flight: 128,
        listeners: 1,
        upstreams: 0,
        limits: vec![limits],
        outbox_bytes: 1 << 30,
        deflate_window_bytes: 0,
        turn_events: TURN_EVENTS,
        park_after: Duration::from_secs(1000),
    }
}
