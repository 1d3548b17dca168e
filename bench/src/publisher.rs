//! The voice of `fanout`: publishes messages at even times through the server's own way, on a thread of its own.
//!
//! An open loop: a message goes out at its time, whether the one before it has been answered or not (requests of HTTP
//! are pipelined). Only a server that takes no more bytes holds the voice up, and then it says how late it was.

use crate::crowd::pace::Clock;
use crate::crowd::words::{framed, marks};
use crate::failure::{Failure, failed, mistaken};
use crate::interrupt;
use crate::session::opening;
use crate::target::{Speech, Target};
use crate::tls::{Flags, Stream};
use edgehold_wire::{upgrade, ws};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// Room for messages that a busy server has not read yet, so that they are no burden of the next one's time; the kernel
/// gives at most net.core.wmem_max.
const SEND_BYTES: usize = 1 << 20;
/// Of an answer to a POST, or to an opening.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection on which messages are published.
pub struct Publisher {
    stream: Stream,
    target: Target,
    form: String,
    /// Bytes of answers that have come and were not read yet.
    rest: Vec<u8>,
    /// Requests whose answers have not come.
    unanswered: u32,
}

/// When messages are published, and what they are.
pub struct Schedule {
    /// The crew's clock.
    pub clock: Clock,
    /// When message 0 is due.
    pub start: u64,
    /// How many are due in a second.
    pub per_second: f64,
    /// Bytes of each.
    pub size: usize,
    /// The core to publish from, so that it is not the server's.
    pub core: Option<usize>,
}

impl Schedule {
    /// When a message is due; nanoseconds on the clock.
    pub fn due(&self, number: u32) -> u64 {
        self.start + (f64::from(number) / self.per_second * 1e9) as u64
    }

    /// The first that is due so many seconds from now, or later.
    pub fn number_after(&self, seconds: f64) -> u32 {
        let since = self.clock.now().saturating_sub(self.start) as f64 / 1e9 + seconds;
        (since * self.per_second).ceil() as u32
    }
}

/// What came of publishing.
pub struct Said {
    /// Messages that went out.
    pub published: u32,
    /// The rate that this was.
    pub per_second: f64,
    /// The latest hand-over of a message to the kernel after its time; nanoseconds.
    pub late: u64,
    /// Why no more went out.
    pub failure: Option<Failure>,
}

impl Said {
    /// Of a publisher that is no more.
    pub fn broken() -> Said {
        Said { failure: Some(Failure::Failed("the publisher failed".into())), ..Said::nothing() }
    }

    /// Of one that has not begun.
    pub fn nothing() -> Said {
        Said { published: 0, per_second: 0.0, late: 0, failure: None }
    }
}

impl Publisher {
    /// Connects, and opens where the way is a WebSocket.
    ///
    /// # Errors
    /// The URL is none that can publish, or the server does not take it.
    pub fn open(url: &str, form: &str, flags: &Flags) -> Result<Publisher, Failure> {
        let target = Target::read(url, flags)?;
        if !form.contains("{}") {
            return mistaken(format!("--publish-as {form}: {{}} stands for the message, and is missing"));
        }
        let connected = Stream::connect(&target, PATIENCE);
        let stream = connected.or_else(|error| mistaken(format!("--publish {url}: {error}")))?;
        let mut publisher = Publisher { stream, target, form: unescaped(form), rest: Vec::new(), unanswered: 0 };
        match publisher.greet() {
            Ok(()) => Ok(publisher),
            Err(error) => mistaken(format!("--publish {url}: {error}")),
        }
    }

    fn greet(&mut self) -> io::Result<()> {
        self.stream.set_send_buffer_size(SEND_BYTES)?;
        if self.target.speech != Speech::WebSocket {
            return self.stream.set_nonblocking(true);
        }
        let opening = opening(&self.target, &[], false, None);
        self.stream.write_all(&opening.request)?;
        loop {
            match upgrade::confirm(&self.rest, opening.key, opening.offer()) {
                Ok(Some(confirmed)) => {
                    self.rest.drain(..confirmed.len);
                    return self.stream.set_nonblocking(true);
                }
                Ok(None) => self.more()?,
                Err(refused) => return Err(io::Error::other(format!("{refused:?}"))),
            }
        }
    }

    /// Reads some more of an answer.
    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let len = match self.stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        if len == 0 || self.rest.len() > ANSWER_BYTES {
            return Err(io::Error::other("the server ended the connection"));
        }
        self.rest.extend_from_slice(&bytes[..len]);
        Ok(())
    }

    /// Publishes the messages with these numbers, each when it is due, and waits for what is still to be answered.
    pub fn run(&mut self, schedule: &Schedule, numbers: Range<u32>) -> Said {
        if let Some(id) = schedule.core {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let (mut said, first) = (Said::nothing(), schedule.due(numbers.start));
        for number in numbers {
            wait_until(schedule.clock, schedule.due(number));
            if interrupt::asked() {
                return said;
            }
            let message = self.form.replace("{}", &marks::message(number, schedule.size));
            if let Err(error) = self.say(&message) {
                return Said { failure: failure(number, &error), ..said };
            }
            let now = schedule.clock.now();
            said.published += 1;
            said.late = said.late.max(now.saturating_sub(schedule.due(number)));
            // The last message has its share of time too: what is in time is at the rate, and not above it.
            let span = now.saturating_sub(first) as f64 / 1e9 + 1.0 / schedule.per_second;
            said.per_second = f64::from(said.published) / span;
        }
        said.failure = self.settle().err().and_then(|error| failure(said.published, &error));
        said
    }

    fn say(&mut self, message: &str) -> io::Result<()> {
        match self.target.speech {
            Speech::WebSocket => self.say_framed(message),
            Speech::Stream => self.post(message),
            Speech::Bytes => self.write(message.as_bytes()),
        }
    }

    /// What the server answers on this WebSocket is read and let go.
    fn say_framed(&mut self, message: &str) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        while self.read_some(&mut bytes)?.is_some() {}
        self.write(&framed(ws::Opcode::Text, message.as_bytes(), 0))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        let written = self.stream.write_all(bytes);
        self.stream.set_nonblocking(true)?;
        written
    }

    /// Bytes that have come, if any have.
    fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(bytes) {
            Ok(0) => Err(io::Error::other("the server ended the connection")),
            Ok(len) => Ok(Some(len)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn post(&mut self, message: &str) -> io::Result<()> {
        let Target { path, host, .. } = &self.target;
        let len = message.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n");
        let text = format!("{head}Content-Type: text/x-message\r\n\r\n{message}");
        self.write(text.as_bytes())?;
        self.unanswered += 1;
        self.take_answers()
    }

    /// Reads the answers that have come.
    fn take_answers(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        while let Some(len) = self.read_some(&mut bytes)? {
            self.rest.extend_from_slice(&bytes[..len]);
        }
        while self.answered()? {}
        Ok(())
    }

    /// Takes one answer, if it is there whole; it must be of the 2xx kind and tell its length.
    fn answered(&mut self) -> io::Result<bool> {
        let Some((status, len)) = whole_answer(&self.rest)? else { return Ok(false) };
        self.rest.drain(..len);
        self.unanswered = self.unanswered.saturating_sub(1);
        match status {
            200..=299 => Ok(true),
            other => Err(io::Error::other(format!("the server answered {other}"))),
        }
    }

    /// Waits for the answers that are still to come.
    fn settle(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        while self.unanswered > 0 {
            if !self.answered()? {
                self.more()?;
            }
        }
        self.stream.set_nonblocking(true)
    }
}

fn failure(number: u32, error: &io::Error) -> Option<Failure> {
    failed::<()>(format!("publishing message {number}: {error}")).err()
}

/// Status and length of the answer at the front, if it is whole.
fn whole_answer(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut store = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut store);
    let len = match head.parse(bytes).map_err(|error| io::Error::other(error.to_string()))? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return Ok(None),
    };
    let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("Content-Length"));
    let value = field.and_then(|field| str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok());
    let status = head.code.unwrap_or(0);
    match value {
        Some(body) => Ok((bytes.len() >= len + body).then_some((status, len + body))),
        None if status == 204 || status == 304 => Ok(Some((status, len))),
        None => Err(io::Error::other(format!("the server answered {status} without a Content-Length"))),
    }
}

/// Sleeps while it is far, looks again and again when it is near.
pub fn wait_until(clock: Clock, time: u64) {
    const NEAR: u64 = 200_000;
    while clock.now() < time && !interrupt::asked() {
        let left = time - clock.now().min(time);
        if left > NEAR {
            thread::sleep(Duration::from_nanos((left - NEAR).min(50_000_000)));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// `\r` and `\n` as they are typed.
pub fn unescaped(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many requests before it answers any of them, all with this status.
    fn server(requests: usize, status: &'static str) -> (String, thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let url = format!("http://{}/publish", listener.local_addr().expect("its address"));
        let serve = move || {
            let (mut stream, _) = listener.accept().expect("a publisher");
            let (mut bytes, mut text) = ([0; 4096], String::new());
            while text.matches("EB#").count() < requests {
                let len = stream.read(&mut bytes).expect("a request");
                text.push_str(str::from_utf8(&bytes[..len]).expect("text"));
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.repeat(requests).as_bytes()).expect("the answers");
            // The publisher ends first, so that no answer is lost by a reset.
            let _ = stream.read(&mut bytes);
        };
        (url, thread::spawn(serve))
    }

    fn published(requests: u32, status: &'static str) -> Said {
        let (url, serving) = server(requests as usize, status);
        let mut publisher = Publisher::open(&url, "{}", &Flags::default()).expect("a publisher");
        let schedule = Schedule { clock: Clock::start(), start: 0, per_second: 1000.0, size: 64, core: None };
        let first = schedule.number_after(0.01);
        let said = publisher.run(&schedule, first..first + requests);
        drop(publisher);
        serving.join().expect("the server");
        said
    }

    #[test]
    fn a_message_goes_out_before_the_last_one_is_answered() {
        let said = published(5, "202 Accepted");
        assert!((said.published, said.failure.is_none()) == (5, true));
        assert!(said.per_second > 0.0 && said.per_second <= 1000.0, "{}", said.per_second);
    }

    #[test]
    fn a_refusal_is_a_failure() {
        let said = published(3, "413 Content Too Large");
        assert!(matches!(said.failure, Some(Failure::Failed(words)) if words.contains("the server answered 413")));
    }

    #[test]
    fn an_answer_is_taken_whole_and_no_more() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1";
        let len = text.len() - "HTTP/1.1".len();
        assert_eq!(whole_answer(text).expect("an answer"), Some((201, len)));
        assert_eq!(whole_answer(&text[..len - 1]).expect("a part"), None);
        assert_eq!(whole_answer(b"HTTP/1.1 204 No Content\r\n\r\n").expect("an answer"), Some((204, 27)));
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
