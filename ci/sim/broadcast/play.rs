//! One play: a shard with broadcast routes, what its feeds publish, and its subscribers.

use super::feeds::History;
use super::setup::{FEEDS, Setup};
use super::subscriber::{Subscriber, World};
use crate::exchange::Exchanges;
use crate::line::Lines;
use crate::play::Verdict;
use edgehold::engine::script::{Dice, Script, Temper};
use edgehold::mesh::{ChannelState, Receiver, Sender, SubscribersQuery, ToControl, ToShard, Waker, Wanted, mailbox};
use edgehold::service::Services;
use edgehold::shard::Shard;
use edgehold::shard::clock::{Now, TICK};
use edgehold::shard::service::{Deflate, RouteLimits, ShardSettings, Shares};
use edgehold_wire::http1;
use edgehold_wire::ws::CloseCode;
use std::sync::Arc;
use std::time::Duration;

/// Steps after which a play that waits for something is stuck.
const MOST_STEPS: u64 = 60_000;
/// Steps behind a rest, in which nothing more may come.
const QUIET_STEPS: usize = 40;

/// Steps in which a letter is read and answered.
const LETTER_STEPS: usize = 4;

pub struct Play {
    seed: u64,
    dice: Dice,
    setup: Setup,
    history: History,
    shard: Shard<Script, Services>,
    to_shard: Sender<ToShard>,
    from_shard: Receiver<ToControl>,
    subscribers: Vec<Subscriber>,
    /// Messages that are still to be published.
    to_publish: usize,
    now: Duration,
    /// Milliseconds that a step takes, at most.
    pace: usize,
    breaks: bool,
    rest: bool,
    no_more_connections: bool,
    stopping: bool,
    verbose: bool,
    steps: u64,
    exchanges: Exchanges,
    lines: Lines,
}

type Fault = Option<String>;

impl Play {
    pub fn new(seed: u64, verbose: bool) -> Play {
        Play::with(seed, verbose, false, Lines::clear())
    }

    /// The same with TLS.
    pub fn over_tls(seed: u64, verbose: bool) -> Play {
        Play::with(seed, verbose, false, Lines::over_tls())
    }

    /// A play in which subscribers forget messages.
    pub fn forgetful(seed: u64) -> Play {
        Play::with(seed, false, true, Lines::clear())
    }

    fn with(seed: u64, verbose: bool, forgets: bool, lines: Lines) -> Play {
        let mut dice = Dice::new(seed ^ 0xfeed);
        let temper = temper(&mut dice);
        let setup = Setup::new(&mut dice, temper.window < 5000 || temper.delay > 50);
        let settings = ShardSettings { tls: lines.listeners(), ..settings(&mut dice) };
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (to_shard, letters) = mailbox(1024, waker());
        let (to_control, from_shard) = mailbox(1024, waker());
        let services = setup.services();
        let shard = Shard::new(Script::new(seed, temper), Services::new(&services), &settings, letters, to_control);
        let exchanges = Exchanges::new(seed, &settings, services);
        let subscribers: Vec<Subscriber> =
            (0..3 + dice.below(12)).map(|_| Subscriber::new(&mut dice, &setup, forgets)).collect();
        if verbose {
            println!(
                "seed {seed}: {temper:?}, {} subscribers, {:#?} {:#?}",
                subscribers.len(),
                setup.routes,
                setup.feeds
            );
        }
        Play {
            seed,
            setup,
            history: History::default(),
            shard,
            to_shard,
            from_shard,
            subscribers,
            to_publish: 50 + dice.below(250),
            now: Duration::ZERO,
            pace: [20, 60, 150][dice.below(3)],
            breaks: temper.reset > 0,
            rest: false,
            no_more_connections: false,
            stopping: false,
            verbose,
            steps: 0,
            dice,
            exchanges,
            lines,
        }
    }

    pub fn run(mut self) -> Verdict {
        let fault = self.play().err();
        if self.verbose {
            let counters = self.shard.report().counters;
            let slow = [
                counters.slow_dropped,
                counters.slow_conflated,
                counters.slow_closed,
                counters.gaps_told,
                counters.gaps_late,
            ];
            let published = self.history.len();
            println!(
                "seed {}: {} steps, {published} published, slow and gaps {slow:?}, {fault:?}",
                self.seed, self.steps
            );
        }
        Verdict { steps: self.steps, fault }
    }

    fn play(&mut self) -> Result<(), String> {
        while self.to_publish > 0 {
            for _ in 0..100 + self.dice.below(400) {
                self.publish();
                self.step()?;
            }
            self.take_a_rest(self.to_publish == 0)?;
        }
        self.check_kept(false)?;
        if self.dice.chance(50) {
            self.all_leave()?;
        }
        self.stop()
    }

    // ---- a step ----

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.let_time_pass();
        self.exchanges.step(&mut self.to_shard);
        for subscriber in &mut self.subscribers {
            let mut world = World {
                ring: self.shard.ring(),
                dice: &mut self.dice,
                setup: &self.setup,
                history: &self.history,
                lines: &self.lines,
                rest: self.rest,
                no_more_connections: self.no_more_connections,
                breaks: self.breaks,
                verbose: self.verbose,
                stopping: self.stopping,
            };
            subscriber.step(&mut world)?;
        }
        let now = Now { since_start: self.now, unix: 1_700_000_000 };
        self.shard.turn(now).expect("the scripted ring never fails");
        Ok(())
    }

    fn tick(&self) -> u32 {
        (self.now.as_nanos() / TICK.as_nanos()) as u32
    }

    /// Time waits for those who never stall: the script may hold their messages up for as long as it likes.
    fn let_time_pass(&mut self) {
        let (_, oldest) = self.behind();
        if oldest.is_none_or(|oldest| self.tick() - oldest < self.setup.slack.1) {
            self.now += Duration::from_millis(self.dice.below(self.pace) as u64);
            let now = self.now;
            self.shard.ring().set_time(now);
        }
    }

    /// The most bytes that are due to anybody who never stalled, and the tick of the oldest message.
    fn behind(&mut self) -> (u64, Option<u32>) {
        let history = &self.history;
        let behind: Vec<_> = self.subscribers.iter_mut().map(|it| it.behind(history)).collect();
        (behind.iter().map(|it| it.0).max().unwrap_or(0), behind.iter().filter_map(|it| it.1).min())
    }

    /// One message or a burst of them, in one letter, while everybody who never stalls keeps up.
    fn publish(&mut self) {
        if self.to_publish == 0 || !self.dice.chance(20) {
            return;
        }
        let (mut due, _) = self.behind();
        let count = if self.dice.chance(20) { 1 + self.dice.below(20) } else { 1 };
        let mut letter = Vec::new();
        for _ in 0..count.min(self.to_publish) {
            let len = [0, 1, 40, 300, self.setup.largest][self.dice.below(5)];
            due += len as u64 * 2 + 500;
            if due > self.setup.slack.0 {
                break;
            }
            let feed = self.dice.below(usize::from(FEEDS)) as u16;
            let tick = self.tick();
            letter.push(self.history.publish(&mut self.dice, feed, len, tick));
        }
        self.to_publish -= letter.len();
        if !letter.is_empty() {
            self.to_shard.post(ToShard::Publish(letter.into())).expect("room for a letter");
        }
    }

    // ---- rests ----

    /// Nothing is published until everybody has what is due; at the last rest those who stalled read as well. Behind it
    /// nothing more may come.
    fn take_a_rest(&mut self, last: bool) -> Result<(), String> {
        (self.rest, self.no_more_connections) = (last, last);
        let begun = self.steps;
        while !self.all_have_all(last) {
            if self.steps > begun + MOST_STEPS {
                return Err(self.stuck());
            }
            self.step()?;
        }
        if last {
            let history = &self.history;
            self.subscribers.iter_mut().for_each(|it| it.settled(history));
            (0..QUIET_STEPS).try_for_each(|_| self.step())?;
        } else {
            let history = &self.history;
            self.subscribers.iter_mut().filter(|it| it.keeps_up()).for_each(|it| it.settled(history));
        }
        self.rest = false;
        Ok(())
    }

    fn all_have_all(&mut self, last: bool) -> bool {
        let history = &self.history;
        self.subscribers.iter_mut().filter(|it| last || it.keeps_up()).all(|it| it.has_all(history))
    }

    fn stuck(&mut self) -> String {
        let history = &self.history;
        let stories: Vec<_> = self.subscribers.iter_mut().filter_map(|it| it.story(history)).collect();
        format!("stuck: {stories:#?}; {:?}", self.shard.report().counters)
    }

    // ---- what is kept ----

    fn channels(&mut self) -> Result<Vec<ChannelState>, String> {
        while self.from_shard.take().is_some() {}
        self.to_shard.post(ToShard::SubscriberCounts(Box::new(everything()))).expect("room for a letter");
        let mut answer = None;
        // Behind other letters the question may wait for a turn.
        for _ in 0..LETTER_STEPS {
            self.step()?;
            answer = answer.or(self.from_shard.take());
        }
        match answer {
            Some(ToControl::SubscriberCounts(subscribers)) if subscribers.question == 7 => Ok(subscribers.channels),
            other => Err(format!("asked for subscribers, got {other:?}")),
        }
    }

    /// Without laggards no more is kept than the feed keeps, and the last values. `alone`: nor are there subscribers.
    fn check_kept(&mut self, alone: bool) -> Result<(), String> {
        // A subscriber that stalls again may lag behind what its commands ask for.
        self.rest = true;
        let mut faults = Vec::new();
        for _ in 0..MOST_STEPS / 100 {
            // What is beyond its limit goes within a tick or two.
            self.now += TICK;
            let channels = self.channels()?;
            faults = channels.iter().filter_map(|it| self.too_much(it, alone)).collect();
            faults.extend(self.miscounted(channels.len() as u64));
            if faults.is_empty() {
                self.rest = false;
                return Ok(());
            }
        }
        let stories = self.stuck();
        Err(format!("too much is kept: {faults:?}; {:?}; {stories}", self.setup.feeds))
    }

    fn too_much(&self, state: &ChannelState, alone: bool) -> Fault {
        let keep = &self.setup.feeds[usize::from(state.feed)].keep;
        let values = if keep.values { 4 * super::feeds::CHANNELS.len() as u32 } else { 0 };
        let most = keep.messages + values;
        let received = state.subscribers > 0;
        let prefix = state.channel.ends_with('*');
        let idle = !received && (prefix || state.kept == 0);
        let bad = state.kept > most || state.kept_bytes > keep.bytes || alone && received || idle;
        bad.then(|| format!("{state:?}"))
    }

    fn miscounted(&mut self, rows: u64) -> Fault {
        let gauge = self.shard.report().counters.channels;
        (gauge != rows).then(|| format!("{rows} rows, and a gauge of {gauge}"))
    }

    // ---- the end ----

    fn all_leave(&mut self) -> Result<(), String> {
        self.no_more_connections = true;
        self.subscribers.iter_mut().for_each(Subscriber::dismiss);
        let begun = self.steps;
        while self.subscribers.iter().any(Subscriber::is_here) || self.shard.report().counters.used > 0 {
            if self.steps > begun + MOST_STEPS {
                return Err(self.stuck());
            }
            self.step()?;
        }
        self.check_kept(true)?;
        let counters = self.shard.report().counters;
        let left =
            [counters.subscriptions, counters.pending_bytes, counters.outbox_bytes, counters.deflate_window_bytes];
        if left == [0; 4] { Ok(()) } else { Err(format!("all have left, and {left:?} are left behind")) }
    }

    /// The shard drains; every connection is ended in order, and nothing is left behind.
    fn stop(&mut self) -> Result<(), String> {
        (self.stopping, self.no_more_connections) = (true, true);
        self.to_shard.post(ToShard::Drain).expect("room for a letter");
        for _ in 0..MOST_STEPS {
            if self.shard.is_done() && !self.subscribers.iter().any(Subscriber::is_here) {
                return self.left_behind();
            }
            self.now += Duration::from_millis(20);
            self.step()?;
        }
        Err(format!("did not stop: {}", self.stuck()))
    }

    fn left_behind(&mut self) -> Result<(), String> {
        let counters = self.shard.report().counters;
        let stages: u32 = counters.stages.iter().flatten().flatten().sum();
        let left =
            [u64::from(stages), counters.used, counters.pending_bytes, counters.outbox_bytes, counters.subscriptions];
        if !self.shard.ring().is_at_rest() || left != [0; 5] {
            return Err(format!("left behind: {counters:?}"));
        }
        let cuts = self.subscribers.iter().map(|it| it.cuts).sum();
        Lines::fault(&counters, cuts).map_or(Ok(()), Err)
    }
}

fn temper(dice: &mut Dice) -> Temper {
    Temper {
        delay: [0, 10, 50, 80][dice.below(4)],
        end_multishot: [0, 10][dice.below(2)],
        reset: [0, 0, 0, 2][dice.below(4)],
        accept_error: [0, 20][dice.below(2)],
        buffers: ([1, 16][dice.below(2)], [256, 4096][dice.below(2)]),
        buffer_with_error: 0,
        completions: [16, 1000][dice.below(2)],
        window: [1000, 5000, 30_000, 1 << 20][dice.below(4)],
    }
}

/// `max_pending` of a subscriber alone bounds what is queued for it besides the messages of all.
fn settings(dice: &mut Dice) -> ShardSettings {
    let deflate = Deflate { on: dice.chance(60), takeover: dice.chance(50), min_bytes: [0, 200][dice.below(2)] };
    let limits = RouteLimits {
        head: http1::HeadLimits { head_bytes: 4096, head_count: 32, target_bytes: 1024 },
        message_bytes: 1 << 20,
        head_ticks: 100_000,
        idle_ticks: 1_000_000,
        auth_ticks: 40,
        shares: Shares::default(),
        expired_code: CloseCode::POLICY_VIOLATION,
        keep_alive_ticks: [8, 100][dice.below(2)],
        close_ticks: 4000,
        max_pending: [2000, 60_000][dice.below(2)],
        connection_bytes: 64 << 20,
        deflate,
    };
    ShardSettings {
        shard: 0,
        slots: 64,
        spare_slots: 2,
        accepts_in_flight: 1 + dice.below(4) as u32,
        listeners: 1,
        addresses: Vec::new(),
        bare: Vec::new(),
        tls: Vec::new(),
        upstreams: 0,
        limits: vec![limits],
        outbox_bytes: 1 << 30,
        deflate_window_bytes: 1 << 30,
        tls_handshake_bytes: 64 << 20,
        tls_handshake_timeout: Duration::from_secs(1000),
        turn_events: [4, 16, 256][dice.below(3)],
        park_after: Duration::from_millis([250, 1000][dice.below(2)]),
    }
}

/// Asks for all channels.
fn everything() -> SubscribersQuery {
    SubscribersQuery { question: 7, wanted: Wanted::Page { after: None, most: usize::MAX } }
}
