//! The voice of `fanout`: publishes messages at even times through the server's own way, on a thread of its own.

use crate::crowd::pace::Clock;
use crate::crowd::words::{framed, marks};
use crate::failure::{Failure, failed, mistaken};
use crate::interrupt;
use crate::session::opening;
use crate::target::{Speech, Target};
use edgehold_wire::{upgrade, ws};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer to a POST, or to an opening.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection on which messages are published.
pub struct Publisher {
    stream: TcpStream,
    target: Target,
    form: String,
    /// Bytes of answers that have come and were not read yet.
    rest: Vec<u8>,
}

impl Publisher {
    /// Connects, and opens where the way is a WebSocket.
    ///
    /// # Errors
    /// The URL is none that can publish, or the server does not take it.
    pub fn open(url: &str, form: &str) -> Result<Publisher, Failure> {
        let target = Target::read(url)?;
        if !form.contains("{}") {
            return mistaken(format!("--publish-as {form}: {{}} stands for the message, and is missing"));
        }
        let connected = TcpStream::connect_timeout(&target.addresses[0], PATIENCE);
        let stream = connected.or_else(|error| mistaken(format!("--publish {url}: {error}")))?;
        let mut publisher = Publisher { stream, target, form: unescaped(form), rest: Vec::new() };
        match publisher.greet() {
            Ok(()) => Ok(publisher),
            Err(error) => mistaken(format!("--publish {url}: {error}")),
        }
    }

    fn greet(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        if self.target.speech != Speech::WebSocket {
            return Ok(());
        }
        let opening = opening(&self.target, &[]);
        self.stream.write_all(&opening.request)?;
        loop {
            match upgrade::confirm(&self.rest, opening.key, &[]) {
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

    /// Publishes `count` messages, the first at `start` on this clock, then so many per second. How many went out, and
    /// why no more.
    pub fn run(mut self, clock: Clock, start: u64, per_second: f64, count: u32, size: usize) -> (u32, Option<Failure>) {
        for number in 0..count {
            wait_until(clock, start + (f64::from(number) / per_second * 1e9) as u64);
            if interrupt::asked() {
                return (number, None);
            }
            let message = self.form.replace("{}", &marks::message(number, size));
            if let Err(error) = self.say(&message) {
                return (number, failed::<()>(format!("publishing message {number}: {error}")).err());
            }
        }
        (count, None)
    }

    fn say(&mut self, message: &str) -> io::Result<()> {
        match self.target.speech {
            Speech::WebSocket => self.say_framed(message),
            Speech::Stream => self.post(message),
            Speech::Bytes => self.stream.write_all(message.as_bytes()),
        }
    }

    /// What the server answers on this WebSocket is read and let go.
    fn say_framed(&mut self, message: &str) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        while self.read_some(&mut bytes)? {}
        let frame = framed(ws::Opcode::Text, message.as_bytes(), 0);
        self.stream.set_nonblocking(false)?;
        let said = self.stream.write_all(&frame);
        self.stream.set_nonblocking(true)?;
        said
    }

    fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.stream.read(bytes) {
            Ok(0) => Err(io::Error::other("the server ended the connection")),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn post(&mut self, message: &str) -> io::Result<()> {
        let Target { path, host, .. } = &self.target;
        let len = message.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n");
        let text = format!("{head}Content-Type: text/plain\r\n\r\n{message}");
        self.stream.write_all(text.as_bytes())?;
        self.answer()
    }

    /// Reads one answer whole; it must be of the 2xx kind and tell its length.
    fn answer(&mut self) -> io::Result<()> {
        loop {
            if let Some((status, len)) = whole_answer(&self.rest)? {
                self.rest.drain(..len);
                return match status {
                    200..=299 => Ok(()),
                    other => Err(io::Error::other(format!("the server answered {other}"))),
                };
            }
            self.more()?;
        }
    }
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
fn wait_until(clock: Clock, time: u64) {
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
