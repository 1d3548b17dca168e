//! One party of a story is played: what is its own is said, what is the other's is heard and held against the script.
//!
//! The same player plays the client and the upstream against edgehold, and against a player of edgehold's own part.
//! Neighbouring acts of one speaker on one connection are one flight: one write, or the pieces of a cutting.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::cut::{Cutting, Gauge};
use crate::feed::{Feed, own_channel, sample_id};
use crate::peer::patience;
use crate::script::{Channel, Step, Story};
use crate::voice::{Act, Heard, Party, hear, say};
use crate::words::Variables;

/// Seconds until something that is expected must have come.
const LIMIT: u64 = 10;

/// One connection, seen from one end.
pub(crate) struct Line {
    socket: Socket,
    came: Vec<u8>,
    ended: Option<Ending>,
}

/// How the other end has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Fin,
    Reset,
}

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line of the script.
    pub(crate) line: usize,
    /// What it says.
    pub(crate) source: String,
    /// What is wrong.
    pub(crate) problem: String,
    /// What has come and was not expected before.
    pub(crate) came: Vec<u8>,
}

/// What was heard, act by act, without what may differ from one playing to the next.
pub(crate) type Transcript = Vec<Vec<u8>>;

/// A party and its connections.
pub(crate) struct Player<'s> {
    story: &'s Story,
    me: Party,
    front: Option<Line>,
    back: Option<Line>,
    /// What publishes; `None` in memory.
    feed: Option<Feed>,
    /// Variables whose values are of this playing alone.
    own: BTreeSet<String>,
    /// Where edgehold calls; `None` in memory, where both connections are there from the beginning.
    door: Option<&'s TcpListener>,
    cutting: Cutting,
    gauge: Option<Gauge>,
    variables: Variables,
    /// When the last flight was begun. What is heard late counts for nothing: a busy machine delays our ears too.
    spoke: Instant,
    /// What is heard next must not be heard sooner.
    earliest: Option<Instant>,
    transcript: Transcript,
}

impl<'s> Player<'s> {
    /// The client and the upstream of `story`, connected to edgehold.
    pub(crate) fn of_peers(story: &'s Story, front: Socket, door: &'s TcpListener, cutting: Cutting) -> Player<'s> {
        let gauge = Some(Gauge::new().expect("sock_diag of this kernel"));
        Player { door: Some(door), cutting, gauge, ..Player::new(story, Party::Peer, front) }
    }

    /// A feed may speak, to this playing alone.
    pub(crate) fn hearing(mut self, feed: Feed) -> Player<'s> {
        let (name, channel) = own_channel();
        self.own.insert(name.clone());
        self.variables.insert(name, channel);
        self.feed = Some(feed);
        self
    }

    /// A party of `story` in memory.
    pub(crate) fn in_memory(story: &'s Story, me: Party, front: Socket, back: Socket) -> Player<'s> {
        Player { back: Some(Line::new(back)), ..Player::new(story, me, front) }
    }

    fn new(story: &'s Story, me: Party, front: Socket) -> Player<'s> {
        Player {
            story,
            me,
            front: Some(Line::new(front)),
            back: None,
            feed: None,
            own: BTreeSet::new(),
            door: None,
            cutting: Cutting::Whole,
            gauge: None,
            variables: story.variables(),
            spoke: Instant::now(),
            earliest: None,
            transcript: Vec::new(),
        }
    }

    /// These variables have values from the beginning.
    pub(crate) fn knowing(mut self, variables: Variables) -> Player<'s> {
        self.variables.extend(variables);
        self
    }

    /// Plays to the end.
    pub(crate) fn play(mut self) -> Result<Transcript, Failure> {
        let mut rest = &self.story.steps[..];
        while let Some(step) = rest.first() {
            let count = if step.by == self.me { self.act(rest) } else { self.expect(step).map(|()| 1) };
            let count = count.map_err(|problem| self.failure(step, problem))?;
            rest = &rest[count..];
        }
        Ok(self.transcript)
    }

    fn failure(&mut self, step: &Step, problem: String) -> Failure {
        let came = self.line(step.channel).map(|line| line.came.clone()).unwrap_or_default();
        Failure { line: step.line, source: step.source.clone(), problem, came }
    }

    fn line(&mut self, channel: Channel) -> Result<&mut Line, String> {
        let line = if channel == Channel::Front { &mut self.front } else { &mut self.back };
        line.as_mut().ok_or_else(|| "there is no such connection".into())
    }

    // ---- what is our own ----

    /// Does what comes next; says how many steps that were.
    fn act(&mut self, rest: &[Step]) -> Result<usize, String> {
        let (first, channel) = (&rest[0], rest[0].channel);
        match first.act {
            Act::End => self.line(channel)?.end()?,
            Act::Reset => self.reset(channel)?,
            Act::Connects | Act::Waits(_) => {}
            Act::Published(_) | Act::Listeners(_) => self.publish(&rest[0].act)?,
            _ => return self.say(rest),
        }
        Ok(1)
    }

    fn reset(&mut self, channel: Channel) -> Result<(), String> {
        // Without lingering, close(2) sends RST.
        let _ = self.line(channel)?.socket.set_linger(Some(Duration::ZERO));
        match channel {
            Channel::Front => self.front = None,
            Channel::Back => self.back = None,
        }
        Ok(())
    }

    fn say(&mut self, rest: &[Step]) -> Result<usize, String> {
        let goes_on = |step: &&Step| step.by == self.me && step.channel == rest[0].channel && step.act.is_speech();
        let steps: Vec<&Step> = rest.iter().take_while(goes_on).collect();
        let mut flight = Vec::new();
        for step in &steps {
            flight.extend(say(&step.act, self.me, &self.variables)?);
        }
        self.send(rest[0].channel, &flight)?;
        Ok(steps.len())
    }

    fn send(&mut self, channel: Channel, flight: &[u8]) -> Result<(), String> {
        self.spoke = Instant::now();
        let places = self.cutting.places(flight.len());
        let mut from = 0;
        for to in places.into_iter().chain([flight.len()]) {
            self.line(channel)?.write(&flight[from..to])?;
            if to < flight.len() {
                self.wait_until_read(channel)?;
            }
            from = to;
        }
        Ok(())
    }

    fn wait_until_read(&mut self, channel: Channel) -> Result<(), String> {
        let Some((there, here)) = self.line(channel)?.addresses() else { return Ok(()) };
        let Some(gauge) = &mut self.gauge else { return Ok(()) };
        let is_read = gauge.wait_until_read(there, here, patience(LIMIT));
        if is_read { Ok(()) } else { Err("what was said is not read".into()) }
    }

    // ---- what a feed says ----

    fn publish(&mut self, act: &Act) -> Result<(), String> {
        match (act, self.feed) {
            (Act::Published(saying), Some(feed)) => {
                self.own.insert(saying.variable.clone());
                feed.say(saying, &mut self.variables)
            }
            (Act::Published(saying), None) => {
                self.variables.insert(saying.variable.clone(), sample_id(&saying.variable));
                Ok(())
            }
            (Act::Listeners(count), Some(feed)) => feed.wait_for(*count, &self.variables),
            _ => Ok(()),
        }
    }

    /// What was heard, with names for what is of this playing alone, and without the fields that follow from it or from
    /// what others say meanwhile.
    fn without_own(&self, voice: Vec<u8>) -> Vec<u8> {
        let mut own: Vec<_> = self.own.iter().filter_map(|name| Some((name, self.variables.get(name)?))).collect();
        if own.is_empty() {
            return voice;
        }
        // An id may be the beginning of another one.
        own.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let text = own.iter().fold(latin1(&voice), |text, (name, value)| text.replace(&latin1(value), name));
        ["Content-Length: ", "Last-Event-ID: "]
            .iter()
            .fold(text, |text, field| without_value(&text, field))
            .into_bytes()
    }

    // ---- what is the other's ----

    fn expect(&mut self, step: &Step) -> Result<(), String> {
        match &step.act {
            // In memory nobody waits.
            Act::Waits(_) if self.door.is_none() => {}
            Act::Waits(time) => self.earliest = Some(self.spoke + *time),
            Act::Connects => self.answer_call()?,
            act @ (Act::Published(_) | Act::Listeners(_)) => self.publish(act)?,
            Act::End => self.expect_end(step.channel, Ending::Fin)?,
            Act::Reset => self.expect_end(step.channel, Ending::Reset)?,
            act => self.listen(step.channel, act)?,
        }
        Ok(())
    }

    fn answer_call(&mut self) -> Result<(), String> {
        let Some(door) = self.door else { return Ok(()) };
        SockRef::from(door).set_read_timeout(Some(patience(LIMIT))).map_err(|error| error.to_string())?;
        let (caller, _) = door.accept().map_err(|error| format!("edgehold does not call: {error}"))?;
        self.back = Some(Line::new(caller.into()));
        Ok(())
    }

    fn listen(&mut self, channel: Channel, act: &Act) -> Result<(), String> {
        let deadline = Instant::now() + patience(LIMIT);
        let (used, voice) = loop {
            let by = if self.me == Party::Peer { Party::Edge } else { Party::Peer };
            // Not through `line`, which would borrow the variables too.
            let line = if channel == Channel::Front { &mut self.front } else { &mut self.back };
            let line = line.as_mut().ok_or("there is no such connection")?;
            match hear(act, by, &line.came, &mut self.variables) {
                Heard::Whole(used, voice) => break (used, voice),
                Heard::Wrong(problem) => return Err(problem),
                Heard::More => line.hear_more(deadline)?,
            }
        };
        self.line(channel)?.came.drain(..used);
        let voice = self.without_own(voice);
        self.transcript.push(voice);
        self.not_too_soon()
    }

    fn expect_end(&mut self, channel: Channel, expected: Ending) -> Result<(), String> {
        let in_memory = self.door.is_none();
        let line = self.line(channel)?;
        let deadline = Instant::now() + patience(LIMIT);
        while line.ended.is_none() && line.came.is_empty() {
            line.hear_more(deadline)?;
        }
        if !line.came.is_empty() {
            return Err("it goes on instead of ending".into());
        }
        // A socket pair knows no RST.
        if line.ended != Some(expected) && !(in_memory && expected == Ending::Reset) {
            return Err(format!("it ends with {:?}", line.ended));
        }
        self.not_too_soon()
    }

    fn not_too_soon(&mut self) -> Result<(), String> {
        match self.earliest.take() {
            Some(earliest) if Instant::now() < earliest => Err("it comes too soon".into()),
            _ => Ok(()),
        }
    }
}

impl Act {
    fn is_speech(&self) -> bool {
        use Act::{Connects, End, Listeners, Published, Reset, Waits};
        !matches!(self, Connects | Waits(_) | End | Reset | Published(_) | Listeners(_))
    }
}

/// The text without what stands behind the first `field`.
fn without_value(text: &str, field: &str) -> String {
    let Some((before, rest)) = text.split_once(field) else { return text.into() };
    format!("{before}{field}{}", rest.find('\r').map_or("", |end| &rest[end..]))
}

/// Each byte as a character.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl Line {
    fn new(socket: Socket) -> Line {
        let limit = Some(patience(LIMIT));
        socket.set_write_timeout(limit).expect("a socket takes a timeout");
        // Fails for a socket pair, which does not wait to gather bytes.
        let _ = socket.set_tcp_nodelay(true);
        Line { socket, came: Vec::new(), ended: None }
    }

    /// Of the other end and of this one, where they have any.
    fn addresses(&self) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let there = self.socket.peer_addr().ok()?.as_socket_ipv4()?;
        Some((there, self.socket.local_addr().ok()?.as_socket_ipv4()?))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.socket.write_all(bytes).map_err(|error| format!("it cannot be said: {error}"))
    }

    fn end(&mut self) -> Result<(), String> {
        self.socket.shutdown(Shutdown::Write).map_err(|error| format!("it cannot be ended: {error}"))
    }

    /// Waits for more bytes or the end.
    fn hear_more(&mut self, deadline: Instant) -> Result<(), String> {
        if let Some(ended) = self.ended {
            return Err(format!("it has ended with {ended:?}"));
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut bytes = [0; 16 << 10];
        match self.socket.set_read_timeout(Some(left)).and_then(|()| self.socket.read(&mut bytes)) {
            Ok(0) => self.ended = Some(Ending::Fin),
            Ok(len) => self.came.extend_from_slice(&bytes[..len]),
            Err(error) => self.failed(&error)?,
        }
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) -> Result<(), String> {
        match error.kind() {
            ErrorKind::ConnectionReset => self.ended = Some(Ending::Reset),
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err("nothing more comes".into()),
            _ => return Err(error.to_string()),
        }
        Ok(())
    }
}
