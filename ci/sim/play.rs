//! One play: a shard, its far ends, and the steps between them.

use crate::exchange::Exchanges;
use crate::far_ends::{Client, Upstream};
use crate::line::Lines;
use edgehold::engine::script::{Dice, Script, Temper};
use edgehold::mesh::{Counters, Receiver, Sender, ToControl, ToShard, Waker, mailbox};
use edgehold::service::proxy::{self, Frames};
use edgehold::service::upstreams::Place;
use edgehold::service::{Route, Routes, Services, Settings, Target, echo};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Deflate, RouteLimits, ShardSettings, Shares};
use edgehold_wire::http1;
use edgehold_wire::ws::CloseCode;
use std::sync::Arc;
use std::time::Duration;

/// Steps after which a play that has not ended is stuck.
const MOST_STEPS: u64 = 200_000;

/// What came of it.
pub struct Verdict {
    pub steps: u64,
    pub fault: Option<String>,
}

pub struct Play {
    seed: u64,
    dice: Dice,
    shard: Shard<Script, Services>,
    to_shard: Sender<ToShard>,
    from_shard: Receiver<ToControl>,
    clients: Vec<Client>,
    upstreams: Vec<Upstream>,
    to_come: usize,
    now: Duration,
    forge: bool,
    tell: bool,
    pace: Pace,
    exchanges: Exchanges,
    lines: Lines,
}

/// How fast time goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Timeouts hardly ever strike.
    Calm,
    /// Connections are parked and pinged all the time.
    Sleepy,
}

impl Play {
    pub fn new(seed: u64, tell: bool) -> Play {
        Play::with(seed, tell, Lines::clear())
    }

    /// The same with TLS.
    pub fn over_tls(seed: u64, tell: bool) -> Play {
        Play::with(seed, tell, Lines::over_tls())
    }

    fn with(seed: u64, tell: bool, lines: Lines) -> Play {
        let mut dice = Dice::new(seed ^ 0x00ed_9e01d);
        let temper = temper(&mut dice);
        let pace = if dice.chance(50) { Pace::Calm } else { Pace::Sleepy };
        let settings = ShardSettings { tls: lines.listeners(), ..settings(&mut dice) };
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (mut to_shard, letters) = mailbox(1024, waker());
        let (to_control, from_shard) = mailbox(1024, waker());
        let addresses = Arc::from([([127, 0, 0, 1], 7).into()]);
        to_shard.post(ToShard::Addresses { upstream: 0, addresses }).expect("room for a letter");
        // Nobody here listens to a feed.
        let services =
            Settings { routes: routes(), proxy: [Place::Named].into_iter().collect(), ..Settings::default() };
        let shard = Shard::new(Script::new(seed, temper), Services::new(&services), &settings, letters, to_control);
        let exchanges = Exchanges::new(seed, &settings, services);
        let to_come = 1 + dice.below(24);
        if tell {
            println!("seed {seed}: {temper:?}, {to_come} clients, slots {}", settings.slots);
        }
        let (clients, upstreams) = (Vec::new(), Vec::new());
        let now = Duration::ZERO;
        let forge = false;
        Play {
            seed,
            dice,
            shard,
            to_shard,
            from_shard,
            clients,
            upstreams,
            to_come,
            now,
            forge,
            tell,
            pace,
            exchanges,
            lines,
        }
    }

    /// A play in which upstreams lie.
    pub fn forged(seed: u64) -> Play {
        Play { forge: true, ..Play::new(seed, false) }
    }

    pub fn run(mut self) -> Verdict {
        let mut steps = 0;
        while !self.is_over() {
            steps += 1;
            if steps > MOST_STEPS {
                return Verdict { steps, fault: Some(self.stuck()) };
            }
            self.step();
        }
        let fault = self.judge().or_else(|| self.stop());
        if self.tell {
            let closes = self.shard.report().counters.closes;
            println!("seed {}: {steps} steps, closes by cause {closes:?}, {fault:?}", self.seed);
        }
        Verdict { steps, fault }
    }

    fn is_over(&self) -> bool {
        self.to_come == 0 && self.clients.iter().all(Client::is_finished)
    }

    fn step(&mut self) {
        self.let_time_pass();
        self.let_someone_come();
        self.answer_calls();
        self.exchanges.step(&mut self.to_shard);
        let ring = self.shard.ring();
        for client in &mut self.clients {
            client.step(ring, &mut self.dice);
        }
        for upstream in &mut self.upstreams {
            upstream.step(ring, &mut self.dice);
        }
        self.turn();
    }

    fn let_time_pass(&mut self) {
        let most = match self.pace {
            Pace::Calm => 3,
            Pace::Sleepy => 120,
        };
        self.now += Duration::from_millis(self.dice.below(most) as u64);
        let now = self.now;
        self.shard.ring().set_time(now);
    }

    fn let_someone_come(&mut self) {
        if self.to_come > 0 && self.dice.chance(20) {
            self.to_come -= 1;
            let end = self.shard.ring().arrive(0);
            let line = self.lines.connect(end, &mut self.dice);
            self.clients.push(Client::new(end, line, &mut self.dice));
        }
    }

    fn answer_calls(&mut self) {
        while let Some(call) = self.shard.ring().next_call() {
            let accept = !self.dice.chance(5);
            if let Some(end) = self.shard.ring().answer(&call, accept) {
                self.upstreams.push(Upstream::new(end, self.forge));
            }
        }
    }

    fn turn(&mut self) {
        self.shard.turn(Now { since_start: self.now, unix: 1_700_000_000 }).expect("the scripted ring never fails");
    }

    fn judge(&mut self) -> Option<String> {
        let ring = self.shard.ring();
        self.clients.iter().find_map(|client| client.fault(ring))
    }

    fn stuck(&mut self) -> String {
        let waiting: Vec<_> = self.clients.iter().filter(|it| !it.is_finished()).map(Client::story).collect();
        format!("stuck: {waiting:#?}; {:?}", self.shard.report().counters)
    }

    // ---- the end ----

    /// The shard is told to stop; everyone goes, and nothing is left behind.
    fn stop(&mut self) -> Option<String> {
        self.to_shard.post(ToShard::Drain).expect("room for a letter");
        for _ in 0..MOST_STEPS {
            if self.shard.is_done() {
                return self.left_behind();
            }
            // Whoever does not go by itself is cut off when its time is up.
            self.now += Duration::from_millis(20);
            self.step();
        }
        Some(format!("did not stop: {:?}", self.shard.report().counters))
    }

    fn left_behind(&mut self) -> Option<String> {
        if let Some(fault) = self.judge() {
            return Some(fault);
        }
        while self.from_shard.take().is_some() {}
        let counters = self.shard.report().counters;
        let stages: u32 = counters.stages.iter().flatten().flatten().sum();
        let left = [
            u64::from(stages),
            counters.used,
            counters.pending_bytes,
            counters.outbox_bytes,
            counters.late_completions,
        ];
        let ends: u64 = counters.closes.iter().sum();
        if !self.shard.ring().is_at_rest() || left != [0; 5] {
            return Some(format!("left behind: {counters:?}"));
        }
        let lost = (ends != counters.accepts[0]).then(|| unaccounted(&counters));
        let cut = self.clients.iter().filter(|client| client.is_cut()).count();
        lost.or_else(|| Lines::fault(&counters, cut))
    }
}

fn unaccounted(counters: &Counters) -> String {
    format!("{} clients came and {:?} went", counters.accepts[0], counters.closes)
}

fn temper(dice: &mut Dice) -> Temper {
    Temper {
        delay: [0, 10, 50, 90][dice.below(4)],
        end_multishot: [0, 0, 10, 50][dice.below(4)],
        reset: [0, 0, 0, 5][dice.below(4)],
        accept_error: [0, 0, 20][dice.below(3)],
        buffers: ([1, 2, 16][dice.below(3)], [64, 256, 4096][dice.below(3)]),
        buffer_with_error: [0, 0, 50, 100][dice.below(4)],
        completions: [4, 16, 1000][dice.below(3)],
        window: [300, 5000, 1 << 20][dice.below(3)],
    }
}

fn settings(dice: &mut Dice) -> ShardSettings {
    let max_pending = [64, 8192][dice.below(2)];
    let deflate = Deflate { on: dice.chance(50), takeover: dice.chance(50), min_bytes: [0, 200][dice.below(2)] };
    let limits = |idle_ticks| RouteLimits {
        head: http1::HeadLimits { head_bytes: 4096, head_count: 32, target_bytes: 1024 },
        message_bytes: 1 << 20,
        head_ticks: 4000,
        idle_ticks,
        auth_ticks: 40,
        shares: Shares::default(),
        expired_code: CloseCode::POLICY_VIOLATION,
        keep_alive_ticks: 100,
        close_ticks: 4000,
        max_pending,
        connection_bytes: 64 << 20,
        deflate,
    };
    let idle_ticks = [40, 100_000][dice.below(2)];
    ShardSettings {
        shard: 0,
        slots: [3, 64][dice.below(2)],
        spare_slots: 2,
        accepts_in_flight: 1 + dice.below(4) as u32,
        listeners: 1,
        addresses: Vec::new(),
        bare: Vec::new(),
        tls: Vec::new(),
        upstreams: 1,
        limits: (0..4).map(|_| limits(idle_ticks)).collect(),
        outbox_bytes: 1 << 30,
        // Room for all, for some, for none.
        deflate_window_bytes: [1 << 30, 100_000, 0][dice.below(3)],
        tls_handshake_bytes: 64 << 20,
        tls_handshake_timeout: Duration::from_secs(1000),
        turn_events: [4, 16, 256][dice.below(3)],
        park_after: Duration::from_millis([250, 1000][dice.below(2)]),
    }
}

fn routes() -> Arc<Routes> {
    let route = |path: &str, limits, target| Route {
        path: path.into(),
        below: false,
        host: None,
        limits,
        gate: Arc::default(),
        target,
    };
    let proxy = proxy::ProxyPlan {
        upstreams: vec![0],
        frames: Frames::Binary,
        subprotocols: vec![],
        connect_ticks: 100_000,
        end_code: CloseCode::SERVICE_RESTART,
        proxy_protocol: None,
    };
    let routes = [
        route("/echo", 1, Target::Echo(echo::EchoPlan::default())),
        route("/proxy", 2, Target::Proxy(Arc::new(proxy))),
        route("/", 3, Target::Page(())),
    ];
    Arc::new(routes.into_iter().collect())
}
