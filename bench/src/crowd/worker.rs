//! One thread of the tool: a ring, the clients on it, and the orders that it takes.
//!
//! A round: take orders; begin connects and messages that are due; hand everything to the kernel and wait for what
//! comes, or for the next due time; read what came (table.rs); then, for each client that something happened to, ask
//! the kernel for the difference between what the client wants and what the kernel holds.

use super::client::{Outgoing, State, held};
use super::findings::{Counters, Findings};
use super::pace::{Clock, Pace, nanos};
use super::secured::Secured;
use super::table::{Hearing, Opening, Stretch, Table};
use super::words::{Words, framed};
use edgehold::engine::sockets::bind_source;
use edgehold::engine::uring::{Setup, Uring};
use edgehold::engine::{Completion, GATHER, Lent, Operation, Piece, Ring, Tag};
use edgehold_wire::ws;
use socket2::{Domain, Protocol, Socket, Type};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

/// The longest sleep: an order is seen after at most this.
const NAP: Duration = Duration::from_millis(20);
/// A sleep shorter than this costs more than it brings; what falls due in between is due together.
const SHORTEST: u64 = 30_000;

/// Where clients connect from and to.
#[derive(Clone)]
pub struct Route {
    /// Source addresses, in turn; empty: the kernel's choice.
    pub from: Arc<[IpAddr]>,
    /// Destinations, in turn.
    pub to: Arc<[SocketAddr]>,
}

/// How a worker is made.
#[derive(Clone)]
pub struct Make {
    /// Which worker this is.
    pub number: u32,
    /// How many there are.
    pub workers: u32,
    /// Its clients at most.
    pub slots: u32,
    /// Provided buffers.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
    /// Clients listen by poll, which costs the kernel less than a recv kept armed, and more for each message.
    pub by_poll: bool,
    /// Clients listen at all; for calibration only.
    pub listens: bool,
    /// How they open.
    pub opening: Opening,
    /// From where to where.
    pub route: Route,
}

/// What a worker is told.
pub enum Order {
    /// So many more clients connect, when the pace says, at most `window` of them at a time.
    Join { count: u32, pace: Option<Pace>, window: u32 },
    /// Clients that do not stand yet have failed.
    GiveUp,
    /// The first `count` of those who stand talk.
    Talk { stretch: Stretch, count: usize },
    /// Each who stands says this once.
    Say(Arc<Words>),
    /// Published messages are counted from now on.
    Listen(Pace),
    /// Each who stands sends a ping, when the pace says.
    Ping(Pace),
    /// Those who did not listen begin to.
    Hear,
    /// So many of a hundred members read no more.
    Deafen(u8),
    /// All are cut, and come back.
    Cut(Return),
    /// What is due by now is still said, and nothing more is begun. The sender goes when that is done.
    Stop(Sender<()>),
    /// What was found is handed over.
    Tell(Sender<Findings>),
}

/// How clients that were cut come back.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// The first wait; it doubles with each failure.
    pub backoff: Duration,
    /// The longest.
    pub longest: Duration,
    /// Drawn from zero to that.
    pub jitter: bool,
}

/// A stream of something that each client does once.
struct Round {
    pace: Option<Pace>,
    /// The one that is due at the pace's start.
    first: u64,
    /// The next.
    begun: u64,
    /// The one behind the last.
    count: u64,
}

impl Round {
    const NONE: Round = Round { pace: None, first: 0, begun: 0, count: 0 };

    fn new(pace: Pace, count: u64) -> Round {
        Round { pace: Some(pace), first: 0, begun: 0, count }
    }

    /// The time of the next, if there is one; zero: as soon as it may.
    fn due(&self) -> Option<u64> {
        (self.begun < self.count).then(|| self.pace.map_or(0, |pace| pace.time(self.begun - self.first)))
    }
}

/// One thread's ring and clients.
pub struct Worker {
    ring: Uring,
    clock: Clock,
    make: Make,
    table: Table,
    /// TLS, where it is spoken.
    secured: Option<Box<Secured>>,
    orders: Receiver<Order>,
    joining: Round,
    window: u32,
    talking: Round,
    pinging: Round,
    returning: Option<Return>,
    /// Clients that come back: when, and who.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    /// All that was ever said: the kernel may still read it.
    said: Vec<Arc<Words>>,
    ping: Box<[u8]>,
    replying: HashMap<u32, Box<[u8]>>,
    random: u64,
}

impl Worker {
    /// A worker on the calling thread, which must be the one that runs it.
    ///
    /// # Errors
    /// The kernel refuses the ring.
    pub fn new(make: Make, clock: Clock, counters: Arc<Counters>, orders: Receiver<Order>) -> io::Result<Worker> {
        let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let Make { slots, buffers, buffer_bytes, .. } = make;
        let setup = Setup { table: slots, buffers, buffer_bytes, unsent_bytes: 0, silence: Duration::ZERO, files: 0 };
        let ring = Uring::new(setup, waker, Vec::new())?;
        counters.thread.store(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), Ordering::Release);
        let secured = make.opening.tls.as_ref().map(|tls| Box::new(Secured::new(tls, slots, !make.by_poll)));
        let mut table = Table::new(slots, make.opening.clone(), counters);
        table.dealt = (make.workers, make.number);
        Ok(Worker {
            ring,
            clock,
            table,
            secured,
            orders,
            joining: Round::NONE,
            window: 0,
            talking: Round::NONE,
            pinging: Round::NONE,
            returning: None,
            waiting: BinaryHeap::new(),
            said: Vec::new(),
            ping: framed(ws::Opcode::Ping, b"", 0),
            replying: HashMap::new(),
            random: 0x9e37_79b9_7f4a_7c15 ^ u64::from(make.number),
            make,
        })
    }

    /// Works until the conductor has gone.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(mut self) -> io::Result<()> {
        while self.take_orders() {
            let now = self.clock.now();
            self.begin_connects(now);
            self.begin_returns(now);
            self.begin_messages(now);
            self.begin_pings(now);
            self.settle_touched();
            self.ring.wait(Some(self.nap(now)))?;
            self.take_completions();
            self.settle_touched();
        }
        Ok(())
    }

    // ---- orders ----

    fn take_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Join { count, pace, window } => {
                let first = self.joining.begun;
                let count = (first + u64::from(count)).min(u64::from(self.make.slots));
                self.joining = Round { pace, first, begun: first, count };
                self.window = window;
            }
            Order::GiveUp => self.give_up(),
            Order::Talk { stretch, count } => self.talk(stretch, count),
            Order::Say(words) => self.say(words),
            Order::Listen(pace) => self.table.listen(pace),
            Order::Ping(pace) => self.pinging = Round::new(pace, self.make.slots.into()),
            Order::Hear => self.hear(),
            Order::Deafen(percent) => self.deafen(percent),
            Order::Cut(back) => self.cut(back),
            Order::Stop(_done) => self.stop(),
            Order::Tell(to) => drop(to.send(std::mem::take(&mut self.table.findings))),
        }
    }

    fn give_up(&mut self) {
        (self.joining.count, self.returning) = (self.joining.begun, None);
        self.waiting.clear();
        for slot in 0..self.make.slots {
            if matches!(self.state(slot), State::Connecting | State::Securing | State::Opening) {
                self.table.lose(slot, "no answer in time");
            }
        }
    }

    fn stop(&mut self) {
        // A thread that was late still owes what fell due while it was away: left out, it would be missed by nobody.
        self.begin_messages(self.clock.now());
        (self.talking.count, self.pinging.count) = (self.talking.begun, self.pinging.begun);
        (self.joining.count, self.returning) = (self.joining.begun, None);
        self.waiting.clear();
        self.table.stop(self.clock.now());
    }

    fn talk(&mut self, stretch: Stretch, count: usize) {
        let pace = stretch.pace;
        let (start, end) = (stretch.start, stretch.end);
        self.said.push(stretch.words.clone());
        self.table.begin(stretch, count);
        let members = self.table.members.len() as u64;
        let count = if members == 0 { 0 } else { pace.map_or(members, |pace| pace.count_before(end)) };
        self.talking = Round::new(pace.unwrap_or(together(start)), count);
    }

    fn say(&mut self, words: Arc<Words>) {
        let stretch = Stretch { words, start: 0, end: 0, pace: None };
        self.talk(stretch, usize::MAX);
        let members = self.table.members.clone();
        members.into_iter().for_each(|slot| self.table.fall_due(slot, 0));
        (self.talking, self.table.hearing) = (Round::NONE, Hearing::Nothing);
    }

    fn hear(&mut self) {
        self.make.listens = true;
        (0..self.make.slots).for_each(|slot| self.table.touch(slot));
    }

    fn deafen(&mut self, percent: u8) {
        let members = self.table.members.clone();
        let deaf = |place: u64| (place + 1) * u64::from(percent) / 100 > place * u64::from(percent) / 100;
        for (_, slot) in (0..).zip(members).filter(|(place, _)| deaf(*place)) {
            Counters::add(&self.table.counters.deaf, u64::from(!self.table.clients[slot as usize].is(held::DEAF)));
            self.table.clients[slot as usize].set(held::DEAF);
            self.table.touch(slot);
        }
    }

    fn cut(&mut self, back: Return) {
        self.returning = Some(back);
        let now = self.clock.now();
        for slot in 0..self.make.slots {
            if self.state(slot) == State::Open {
                let client = &mut self.table.clients[slot as usize];
                client.set(held::RETURNS);
                client.asked = now;
                self.table.cut(slot);
            }
        }
    }

    // ---- what is due ----

    fn state(&self, slot: u32) -> State {
        self.table.clients[slot as usize].state
    }

    /// Until the next due time, or until an order may have come.
    fn nap(&self, now: u64) -> Duration {
        let free = self.table.pending < self.window;
        let joining = self.joining.due().filter(|_| free);
        let back = self.waiting.peek().filter(|_| free).map(|Reverse((time, _))| *time);
        let due = [joining, back, self.talking.due(), self.pinging.due()].into_iter().flatten().min();
        let until = due.map_or(nanos(NAP), |due| due.saturating_sub(now).max(SHORTEST));
        Duration::from_nanos(until).min(NAP)
    }

    fn begin_connects(&mut self, now: u64) {
        while self.table.pending < self.window && self.joining.due().is_some_and(|due| due <= now) {
            let slot = self.joining.begun as u32;
            let intended = self.joining.due().filter(|&due| due > 0).unwrap_or(now);
            self.joining.begun += 1;
            self.table.clients[slot as usize].asked = intended;
            self.connect(slot);
        }
    }

    fn begin_returns(&mut self, now: u64) {
        while self.table.pending < self.window && self.waiting.peek().is_some_and(|Reverse((time, _))| *time <= now) {
            let Some(Reverse((_, slot))) = self.waiting.pop() else { return };
            self.connect(slot);
        }
    }

    fn begin_messages(&mut self, now: u64) {
        while let Some(due) = self.talking.due().filter(|due| *due <= now) {
            let members = self.table.members.len() as u64;
            let slot = self.table.members[(self.talking.begun % members) as usize];
            self.talking.begun += 1;
            self.table.findings.behind = self.table.findings.behind.max(now - due);
            self.table.fall_due(slot, now);
        }
    }

    fn begin_pings(&mut self, now: u64) {
        while let Some(due) = self.pinging.due().filter(|due| *due <= now) {
            let slot = self.pinging.begun as u32;
            self.pinging.begun += 1;
            if self.state(slot) == State::Open {
                let client = &mut self.table.clients[slot as usize];
                client.set(held::PING | held::PINGED);
                client.asked = due;
                self.table.count_due();
                self.table.touch(slot);
            }
        }
    }

    fn connect(&mut self, slot: u32) {
        self.table.findings.attempts += 1;
        let client = &mut self.table.clients[slot as usize];
        client.state = State::Connecting;
        client.set(held::CONNECT);
        self.table.pending += 1;
        if let Err(error) = self.try_connect(slot) {
            self.table.clients[slot as usize].unset(held::CONNECT);
            self.table.lose(slot, &in_words(error.raw_os_error().unwrap_or(0)));
        }
    }

    fn try_connect(&mut self, slot: u32) -> io::Result<()> {
        let Route { from, to } = &self.make.route;
        let place = self.make.number as usize * self.make.slots as usize + slot as usize;
        let to = to[place % to.len()];
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        // Whoever ends leaves by a reset, so that no port stays in TIME_WAIT behind a crowd.
        socket.set_linger(Some(Duration::ZERO))?;
        if !from.is_empty() {
            bind_source(&socket, from[place % from.len()])?;
        }
        self.ring.connect_socket(self.tag(slot, Operation::Connect), socket, to.into())
    }

    fn tag(&self, slot: u32, operation: Operation) -> Tag {
        Tag::new(slot, self.table.clients[slot as usize].generation, operation)
    }

    // ---- what came ----

    fn take_completions(&mut self) {
        while let Some(completion) = self.ring.next() {
            let slot = completion.tag.slot();
            let current = self.tag(slot, Operation::Close).generation() == completion.tag.generation();
            match completion.tag.operation() {
                Some(operation) if current => self.complete(slot, operation, completion),
                _ => {}
            }
        }
    }

    fn complete(&mut self, slot: u32, operation: Operation, completion: Completion) {
        self.table.touch(slot);
        match operation {
            Operation::Connect => self.connected(slot, completion.result),
            Operation::Recv => self.received(slot, completion, held::RECV),
            Operation::RecvOnce => self.received(slot, completion, held::ONCE),
            Operation::Poll => self.polled(slot, &completion),
            Operation::Send => self.sent(slot, completion.result),
            Operation::Close => self.closed(slot),
            _ => {}
        }
    }

    fn connected(&mut self, slot: u32, result: Result<u32, i32>) {
        self.table.clients[slot as usize].unset(held::CONNECT);
        match result {
            Ok(_) if self.state(slot) == State::Connecting => match &mut self.secured {
                Some(secured) => secured.begin(slot, &mut self.table),
                None => self.table.connected(slot, self.clock.now()),
            },
            Ok(_) => {}
            Err(errno) => self.table.lose(slot, &in_words(errno)),
        }
    }

    fn received(&mut self, slot: u32, completion: Completion, what: u16) {
        if !completion.more {
            self.table.clients[slot as usize].unset(what);
        }
        match (completion.result, completion.buffer) {
            (Ok(0), _) => self.table.lose(slot, "ended by the server"),
            (Ok(_), Some(bytes)) => self.heard(slot, bytes, what),
            (Err(libc::ENOBUFS), _) if what == held::ONCE => self.table.clients[slot as usize].set(held::READABLE),
            (Err(libc::EAGAIN | libc::ENOBUFS | libc::ECANCELED), _) | (Ok(_), None) => {}
            (Err(errno), _) => self.table.lose(slot, &in_words(errno)),
        }
    }

    fn heard(&mut self, slot: u32, mut bytes: Lent, what: u16) {
        let now = self.clock.now();
        if matches!(self.state(slot), State::Securing | State::Opening | State::Open) {
            match &mut self.secured {
                Some(secured) => secured.hear(slot, &mut bytes, &mut self.table, now),
                None => self.table.hear(slot, &mut bytes, now),
            }
        }
        if what == held::ONCE && bytes.is_full() {
            self.table.clients[slot as usize].set(held::READABLE);
        }
    }

    fn polled(&mut self, slot: u32, completion: &Completion) {
        let client = &mut self.table.clients[slot as usize];
        client.set(held::READABLE);
        if !completion.more {
            client.unset(held::POLL);
        }
    }

    fn sent(&mut self, slot: u32, result: Result<u32, i32>) {
        let client = &mut self.table.clients[slot as usize];
        client.unset(held::SEND);
        match result {
            Ok(len) => match &mut self.secured {
                Some(secured) => client.offset += secured.sent(slot, len),
                None => client.offset += len,
            },
            Err(libc::EINTR | libc::EAGAIN) => {}
            Err(errno) => return self.table.lose(slot, &in_words(errno)),
        }
        self.advance(slot);
    }

    /// Takes what went out off what is going out.
    fn advance(&mut self, slot: u32) {
        let client = &mut self.table.clients[slot as usize];
        let whole = match client.outgoing {
            Outgoing::Nothing => 0,
            Outgoing::Opening => self.make.opening.request.len(),
            Outgoing::Ping => self.ping.len(),
            Outgoing::Reply => self.replying.get(&slot).map_or(0, |bytes| bytes.len()),
            Outgoing::Words => return self.advance_words(slot),
        };
        if client.offset as usize >= whole {
            if client.outgoing == Outgoing::Reply {
                self.replying.remove(&slot);
            }
            (client.offset, client.outgoing) = (0, Outgoing::Nothing);
        }
    }

    fn advance_words(&mut self, slot: u32) {
        let Some(words) = self.said.last() else { return };
        let client = &mut self.table.clients[slot as usize];
        let mut whole = 0;
        while client.sent < client.due {
            let len = words.frame(slot, client.sent).len() as u32;
            if client.offset < len {
                break;
            }
            client.offset -= len;
            client.sent += 1;
            whole += 1;
        }
        if client.offset == 0 {
            client.outgoing = Outgoing::Nothing;
        }
        self.table.findings.sent += whole;
        Counters::add(&self.table.counters.sent, whole);
    }

    fn closed(&mut self, slot: u32) {
        let client = &mut self.table.clients[slot as usize];
        let returns = client.is(held::RETURNS);
        self.secured.iter_mut().for_each(|secured| secured.forget(slot));
        let failures = client.failures;
        client.leave();
        self.replying.remove(&slot);
        self.table.replies.remove(&slot);
        if let Some(back) = self.returning.filter(|_| returns) {
            let wait = self.wait_of(back, failures);
            self.waiting.push(Reverse((self.clock.now() + wait, slot)));
        }
    }

    /// Doubles with each failure, up to the longest; drawn from zero to that where waits are to be scattered.
    fn wait_of(&mut self, back: Return, failures: u8) -> u64 {
        let doubled = back.backoff.saturating_mul(1 << failures.min(20)).min(back.longest);
        let wait = nanos(doubled);
        if back.jitter { self.draw() % wait.max(1) } else { wait }
    }

    /// xorshift64*: scatter, no secret.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    // ---- what is wanted against what the kernel holds ----

    fn settle_touched(&mut self) {
        while let Some(slot) = self.table.touched.pop() {
            self.settle(slot);
        }
    }

    fn settle(&mut self, slot: u32) {
        match self.state(slot) {
            State::Securing | State::Opening | State::Open => {
                self.listen(slot);
                self.speak(slot);
            }
            State::Leaving => self.leave(slot),
            State::Away | State::Connecting => {}
        }
    }

    fn listen(&mut self, slot: u32) {
        let client = &mut self.table.clients[slot as usize];
        if client.is(held::DEAF) {
            return self.disarm(slot);
        }
        if !self.make.listens {
            return;
        }
        let (wanted, operation) =
            if self.make.by_poll { (held::POLL, Operation::Poll) } else { (held::RECV, Operation::Recv) };
        if !client.is(wanted) {
            client.set(wanted);
            let tag = self.tag(slot, operation);
            if self.make.by_poll { self.ring.poll(tag) } else { self.ring.recv(tag) }
        }
        let client = &mut self.table.clients[slot as usize];
        if client.is(held::READABLE) && !client.is(held::ONCE) {
            client.unset(held::READABLE);
            client.set(held::ONCE);
            self.ring.recv_once(self.tag(slot, Operation::RecvOnce));
        }
    }

    /// What is armed is to end.
    fn disarm(&mut self, slot: u32) {
        let client = &mut self.table.clients[slot as usize];
        if !client.is(held::ARMED) || client.is(held::CANCELLED) {
            return;
        }
        client.set(held::CANCELLED);
        let armed = client.held;
        let all = [(held::CONNECT, Operation::Connect), (held::RECV, Operation::Recv), (held::POLL, Operation::Poll)];
        for (_, operation) in all.into_iter().filter(|(bit, _)| armed & bit != 0) {
            self.ring.cancel(self.tag(slot, operation));
        }
    }

    fn leave(&mut self, slot: u32) {
        self.disarm(slot);
        let client = &mut self.table.clients[slot as usize];
        if client.is(held::SEND) && !client.is(held::CLOSE) {
            // A send that the peer does not take ends only by a cancel.
            self.ring.cancel(self.tag(slot, Operation::Send));
        }
        let client = &mut self.table.clients[slot as usize];
        if !client.is(held::ANY | held::CLOSE) {
            client.set(held::CLOSE);
            self.ring.close(self.tag(slot, Operation::Close));
        }
    }

    /// One send at a time: what was begun, then control frames, then what is due.
    fn speak(&mut self, slot: u32) {
        if self.table.clients[slot as usize].is(held::SEND) {
            return;
        }
        if let Some(secured) = self.secured.take() {
            self.speak_secured(slot, secured);
            return;
        }
        let (parts, count) = self.choose(slot);
        if count > 0 {
            let pieces = parts.map(piece);
            // SAFETY: the bytes are the request and the ping, which live as long as the worker; or words that are kept
            // in `said` as long; or a reply that is kept in `replying` until it went out, or the descriptor is closed.
            unsafe { self.send(slot, &pieces[..count]) };
        }
    }

    /// The same over TLS: it is sealed when everything that was sealed before has gone out.
    fn speak_secured(&mut self, slot: u32, mut secured: Box<Secured>) {
        if !secured.has_unsent(slot) && matches!(self.state(slot), State::Opening | State::Open) {
            let (parts, count) = self.choose(slot);
            if let Err(words) = secured.seal(slot, &parts[..count]) {
                self.table.lose(slot, &words);
            }
        }
        if let Some(piece) = secured.unsent(slot).map(piece) {
            // SAFETY: `secured` keeps the bytes until they went out whole, or the descriptor is closed.
            unsafe { self.send(slot, &[piece]) };
        }
        self.secured = Some(secured);
    }

    /// Chooses what is said next, where nothing was begun; what is going out then, as [`parts`](Self::parts) has it.
    fn choose(&mut self, slot: u32) -> ([&[u8]; GATHER], usize) {
        if self.table.clients[slot as usize].outgoing == Outgoing::Nothing {
            self.table.clients[slot as usize].outgoing = self.next_to_say(slot);
        }
        if self.parts(slot).1 == 0 {
            self.table.clients[slot as usize].outgoing = Outgoing::Nothing;
        }
        self.parts(slot)
    }

    fn next_to_say(&mut self, slot: u32) -> Outgoing {
        let client = &mut self.table.clients[slot as usize];
        let is_open = client.state == State::Open;
        if is_open && client.is(held::PING) {
            client.unset(held::PING);
            return Outgoing::Ping;
        }
        if let Some(bytes) = self.reply(slot) {
            self.replying.insert(slot, bytes);
            return Outgoing::Reply;
        }
        if is_open { Outgoing::Words } else { Outgoing::Nothing }
    }

    fn reply(&mut self, slot: u32) -> Option<Box<[u8]>> {
        if self.table.replies.is_empty() { None } else { self.table.replies.remove(&slot).map(Vec::into_boxed_slice) }
    }

    /// What is going out, from where the last send left it: the parts of it, and how many they are.
    fn parts(&self, slot: u32) -> ([&[u8]; GATHER], usize) {
        let client = &self.table.clients[slot as usize];
        let mut parts: [&[u8]; GATHER] = [&[]; GATHER];
        let whole: &[u8] = match client.outgoing {
            Outgoing::Nothing => return (parts, 0),
            Outgoing::Opening => &self.make.opening.request,
            Outgoing::Ping => &self.ping,
            Outgoing::Reply => self.replying.get(&slot).map_or(&[], |bytes| bytes),
            Outgoing::Words => return self.word_parts(slot, parts),
        };
        parts[0] = &whole[(client.offset as usize).min(whole.len())..];
        (parts, usize::from(!parts[0].is_empty()))
    }

    fn word_parts<'w>(&'w self, slot: u32, mut parts: [&'w [u8]; GATHER]) -> ([&'w [u8]; GATHER], usize) {
        let client = &self.table.clients[slot as usize];
        let Some(words) = self.said.last().filter(|_| client.state == State::Open) else { return (parts, 0) };
        let (mut skip, mut count) = (client.offset as usize, 0);
        for number in (client.sent..client.due).take(GATHER) {
            parts[count] = &words.frame(slot, number)[skip..];
            (skip, count) = (0, count + 1);
        }
        (parts, count)
    }

    /// Hands bytes to the kernel.
    ///
    /// # Safety
    /// They stay where they are until the send has completed.
    unsafe fn send(&mut self, slot: u32, pieces: &[Piece]) {
        self.table.clients[slot as usize].set(held::SEND);
        let tag = self.tag(slot, Operation::Send);
        // SAFETY: as the caller says.
        unsafe { self.ring.send(tag, pieces) };
    }
}

fn piece(bytes: &[u8]) -> Piece {
    Piece { start: bytes.as_ptr(), len: bytes.len() }
}

/// All at once.
fn together(start: u64) -> Pace {
    Pace { start, per_second: 1e12, worker: 0, workers: 1 }
}

/// An errno as a planner understands it.
fn in_words(errno: i32) -> String {
    match errno {
        libc::ECONNREFUSED => "connection refused".into(),
        libc::ECONNRESET => "reset by the server".into(),
        libc::EPIPE => "the server had gone".into(),
        libc::ETIMEDOUT => "timed out".into(),
        libc::EADDRNOTAVAIL => "no free port (EADDRNOTAVAIL)".into(),
        libc::EMFILE | libc::ENFILE => "no free descriptor".into(),
        libc::EHOSTUNREACH | libc::ENETUNREACH => "unreachable".into(),
        libc::ECANCELED => "no answer in time".into(),
        other => io::Error::from_raw_os_error(other).to_string(),
    }
}
