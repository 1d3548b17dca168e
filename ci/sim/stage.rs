//! A shard with an echo, a feed and a proxy, and far ends that are moved by hand.

use crate::gate::BEGIN;
use edgehold::engine::script::{FarEnd, Script, Temper};
use edgehold::mesh::{
    Body, Counters, FeedNumber, Message, NewMessage, PlainFrame, Receiver, Sender, ToControl, ToShard, Waker, mailbox,
};
use edgehold::service::broadcast::{BroadcastSettings, FeedSettings, Keep, Policy, Slow};
use edgehold::service::files::{FilesPlan, FilesSettings, Site};
use edgehold::service::proxy::{self, Frames, Tells};
use edgehold::service::upstreams::Place;
use edgehold::service::{Route, Services, Settings, Target, broadcast, echo};
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Admission, Deflate, RouteLimits, ShardSettings, Shares};
use edgehold::shard::{Shard, Signer};
use edgehold_wire::http1;
use edgehold_wire::upgrade::{self, Offer};
use edgehold_wire::ws::CloseCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A kernel that takes no freedom but that of cutting what comes.
pub const KIND: Temper = Temper {
    delay: 0,
    end_multishot: 0,
    reset: 0,
    accept_error: 0,
    buffers: (256, 4096),
    buffer_with_error: 0,
    completions: 1000,
    window: 1 << 20,
};

/// The health path of the listener.
pub const HEALTH: &str = "/is-it-up";
/// Requests for files that may wait at one root, and how long.
pub const FILE_QUEUE: usize = 8;
pub const FILE_WAIT: Duration = Duration::from_secs(2);

/// How long another thread may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub shard: Shard<Script, Services>,
    pub letters: Sender<ToShard>,
    /// Letters to the control thread, which most plays do not read.
    pub to_control: Receiver<ToControl>,
    said: u64,
    now: Duration,
    pace: Duration,
}

impl Stage {
    pub fn new(seed: u64, temper: Temper, settings: &ShardSettings) -> Stage {
        Stage::of(&services(), seed, temper, settings)
    }

    /// With other services.
    pub fn of(services: &Settings, seed: u64, temper: Temper, settings: &ShardSettings) -> Stage {
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (letters, inbox) = mailbox(1024, waker());
        let (to_control, from_shard) = mailbox(1024, waker());
        let shard = Shard::new(Script::new(seed, temper), Services::new(services), settings, inbox, to_control);
        let pace = Duration::from_millis(1);
        Stage { shard, letters, to_control: from_shard, said: 0, now: Duration::ZERO, pace }
    }

    /// With a thread for slow signatures. It keeps its own time: wait with [`Stage::until_made`].
    pub fn with_signer(self) -> Stage {
        let signer = Signer::start(0, Arc::new(Waker::new().expect("an eventfd"))).expect("a thread");
        Stage { shard: self.shard.with_signer(Some(signer)), ..self }
    }

    /// With limits by address.
    pub fn with_admission(self, admission: Admission) -> Stage {
        Stage { shard: self.shard.with_admission(admission), ..self }
    }

    /// Turns until it is so, however many: another thread has a part in it.
    pub fn until_made(&mut self, mut is: impl FnMut(&mut Stage) -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.turn();
            if is(self) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// How much time passes in a turn.
    pub fn at_pace(self, pace: Duration) -> Stage {
        Stage { pace, ..self }
    }

    pub fn turn(&mut self) {
        self.now += self.pace;
        self.shard.ring().set_time(self.now);
        self.shard
            .turn(Now { since_start: self.now, unix: BEGIN + self.now.as_secs() })
            .expect("the scripted ring never fails");
    }

    /// Turns until it is so, at most `most`.
    pub fn until(&mut self, most: usize, mut is: impl FnMut(&mut Stage) -> bool) -> bool {
        (0..most).any(|_| {
            self.turn();
            is(self)
        })
    }

    /// A message of the feed, to channel `a`. Says its number.
    pub fn publish(&mut self, payload: &[u8]) -> u64 {
        self.publish_to(0, payload)
    }

    /// The same of another feed.
    pub fn publish_to(&mut self, feed: FeedNumber, payload: &[u8]) -> u64 {
        self.said += 1;
        let payload = PlainFrame::text_or_binary(payload);
        let new = NewMessage { feed, channel: "a".into(), payload, ..NewMessage::default() };
        let message = Arc::new(Message::new(new, 1, self.said));
        self.letters.post(ToShard::Publish(Arc::from([message]))).expect("the shard reads its letters");
        self.said
    }

    /// A client that has asked for a WebSocket.
    pub fn opened(&mut self, path: &str, offer: Offer<'_>) -> FarEnd {
        let mut head = Vec::new();
        upgrade::request(&mut head, "h", path, *b"a key of sixteen", offer);
        self.asked(&head)
    }

    /// A client that has said this.
    pub fn asked(&mut self, bytes: &[u8]) -> FarEnd {
        let end = self.shard.ring().arrive(0);
        self.shard.ring().say(end, bytes);
        end
    }

    /// A client whose opening was answered by 101.
    pub fn speaks(&mut self, path: &str, offer: Offer<'_>) -> FarEnd {
        let end = self.opened(path, offer);
        let mut heard = Vec::new();
        let opened = self.until(1000, |stage| {
            heard.extend(stage.shard.ring().read(end, usize::MAX));
            heard.ends_with(b"\r\n\r\n")
        });
        assert!(opened && heard.starts_with(b"HTTP/1.1 101"), "{:?}", String::from_utf8_lossy(&heard));
        end
    }

    pub fn counters(&mut self) -> Counters {
        self.shard.report().counters
    }
}

/// No offers.
pub const PLAIN: Offer<'static> = Offer { deflate: None, protocols: &[] };

pub fn services() -> Settings {
    services_that_tell(None)
}

/// Upstreams of `/proxy` are sent a PROXY header.
pub fn services_that_tell(proxy_protocol: Option<Tells>) -> Settings {
    let route = |path: &str, target| Route {
        path: path.into(),
        below: true,
        host: None,
        limits: 0,
        gate: Arc::default(),
        target,
    };
    let proxy = proxy::ProxyPlan {
        upstreams: vec![0],
        frames: Frames::Binary,
        subprotocols: vec![],
        connect_ticks: 100_000,
        end_code: CloseCode::SERVICE_RESTART,
        proxy_protocol,
    };
    let routes = [
        route("/echo", Target::Echo(echo::EchoPlan::default())),
        route("/feed/", Target::Broadcast(0)),
        route("/proxy", Target::Proxy(Arc::new(proxy))),
        route("/files/", site("/site", Some(1))),
        route("/hung/", site("/hung", Some(1))),
        route("/far/", site("/far", None)),
    ];
    let feeds = [FeedSettings::new(None, Keep { backlog: 1 << 20, ..Keep::NOTHING })];
    Settings {
        routes: Arc::new(routes.into_iter().collect()),
        health: vec![Some(HEALTH.into())],
        proxy: [Place::Known(([127, 0, 0, 1], 7).into())].into_iter().collect(),
        files: FilesSettings { queue: FILE_QUEUE, wait: FILE_WAIT, held_most: 1, ..FilesSettings::default() },
        broadcast: BroadcastSettings { plans: vec![Some(feed_route())], feeds: feeds.map(Some).into(), epoch: 1 },
        ..Settings::default()
    }
}

/// All files of the scripted ring are on file system 1.
fn site(root: &str, device: Option<u64>) -> Target {
    Target::Files(FilesPlan { site: Arc::new(Site { root: root.into(), device, ..Site::default() }) })
}

fn feed_route() -> broadcast::BroadcastPlan {
    broadcast::BroadcastPlan {
        feeds: vec![0],
        channel_in_path: true,
        channels: Vec::new(),
        roles: Box::default(),
        subscribe: true,
        subscriptions_max: 64,
        changes_max: 256,
        order_bytes: 64 << 10,
        snapshot: false,
        body: Body::Plain,
        poll_ticks: 100_000,
        poll_gone: true,
        retry_millis: 3000,
        gap_event: "gap".into(),
        slow: Slow { policy: Policy::Close, max_pending: 1 << 20, max_age_ticks: 1000 },
    }
}

pub fn limits() -> RouteLimits {
    RouteLimits {
        head: http1::HeadLimits { head_bytes: 4096, head_count: 32, target_bytes: 1024 },
        message_bytes: 1 << 20,
        head_ticks: 4000,
        idle_ticks: 100_000,
        auth_ticks: 40,
        shares: Shares::default(),
        expired_code: CloseCode::POLICY_VIOLATION,
        keep_alive_ticks: 100_000,
        close_ticks: 4000,
        max_pending: 1 << 20,
        connection_bytes: 64 << 20,
        deflate: Deflate { on: true, takeover: false, min_bytes: 1 << 20 },
    }
}

pub fn settings() -> ShardSettings {
    ShardSettings {
        shard: 0,
        slots: 256,
        spare_slots: 2,
        accepts_in_flight: 128,
        listeners: 1,
        addresses: Vec::new(),
        bare: Vec::new(),
        tls: Vec::new(),
        upstreams: 1,
        limits: vec![limits()],
        outbox_bytes: 1 << 30,
        deflate_window_bytes: 0,
        tls_handshake_bytes: 64 << 20,
        tls_handshake_timeout: Duration::from_secs(10),
        turn_events: 64,
        park_after: Duration::from_secs(1000),
    }
}
