//! Those who publish to a broker: each has some of the topics, and publishes to them at even times.

use super::{Dialect, Heard};
use crate::crowd::words::{framed, marks};
use crate::failure::{Failure, failed, mistaken};
use crate::interrupt;
use crate::publisher::{Said, Schedule, wait_until};
use crate::session::opening;
use crate::target::{Speech, Target};
use crate::tls::Stream;
use edgehold_wire::{upgrade, ws};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Room for messages that a busy broker has not read yet.
const SEND_BYTES: usize = 1 << 20;

/// One who publishes.
pub struct Voice {
    stream: Stream,
    speech: Speech,
    dialect: Arc<Dialect>,
    parser: ws::Parser,
    /// Bytes that have come and were not read yet, as they were sent.
    raw: Vec<u8>,
    /// The same without frames of a WebSocket.
    rest: Vec<u8>,
    /// Messages that are to be acknowledged.
    asked: u32,
    /// Those that were.
    acknowledged: u32,
}

impl Voice {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The broker does not take it.
    pub fn open(target: &Target, dialect: &Arc<Dialect>, number: u32) -> Result<Voice, Failure> {
        let opened = Voice::try_open(target, dialect, number);
        opened.or_else(|error| mistaken(format!("publisher {number} at {}: {error}", target.url)))
    }

    fn try_open(target: &Target, dialect: &Arc<Dialect>, number: u32) -> io::Result<Voice> {
        let stream = Stream::connect(target, PATIENCE)?;
        stream.set_send_buffer_size(SEND_BYTES)?;
        let mut voice = Voice {
            stream,
            speech: target.speech,
            dialect: dialect.clone(),
            parser: ws::Parser::new(),
            raw: Vec::new(),
            rest: Vec::new(),
            asked: 0,
            acknowledged: 0,
        };
        if voice.speech == Speech::WebSocket {
            voice.upgrade(target)?;
        }
        voice.say(&dialect.connect(&format!("edgehold-bench-{}-publisher-{number}", std::process::id())))?;
        voice.until(|heard| heard == Heard::Welcome)?;
        voice.stream.set_nonblocking(true)?;
        Ok(voice)
    }

    fn upgrade(&mut self, target: &Target) -> io::Result<()> {
        let opening = opening(target, &[], false, Some(&self.dialect));
        self.stream.write_all(&opening.request)?;
        loop {
            match upgrade::confirm(&self.raw, opening.key, opening.offer()) {
                Ok(Some(confirmed)) => {
                    let len = confirmed.len;
                    self.raw.drain(..len);
                    return Ok(());
                }
                Ok(None) => _ = self.read()?,
                Err(refused) => return Err(io::Error::other(format!("{refused:?}"))),
            }
        }
    }

    /// Reads until this was heard.
    fn until(&mut self, mut it: impl FnMut(Heard<'_>) -> bool) -> io::Result<()> {
        loop {
            if self.hear(&mut it)? {
                return Ok(());
            }
            self.read()?;
        }
    }

    /// Publishes those messages that are its own, each when it is due, and waits for what is still to be acknowledged.
    pub fn run(&mut self, schedule: &Schedule, numbers: Range<u32>, is_own: impl Fn(u32) -> bool) -> Said {
        if let Some(id) = schedule.core {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let mut said = Said::nothing();
        for number in numbers.filter(|number| is_own(*number)) {
            wait_until(schedule.clock, schedule.due(number));
            if interrupt::asked() {
                return said;
            }
            if let Err(error) = self.publish(number, schedule.size) {
                said.failure = failed::<()>(format!("publishing message {number}: {error}")).err();
                return said;
            }
            said.published += 1;
            said.late = said.late.max(schedule.clock.now().saturating_sub(schedule.due(number)));
        }
        said.failure = self.settle().err().and_then(|error| failed::<()>(format!("publishing: {error}")).err());
        said
    }

    fn publish(&mut self, number: u32, size: usize) -> io::Result<()> {
        let message = marks::message(number, size);
        let bytes = self.dialect.publish(number % self.dialect.topics, self.asked, &message);
        self.asked += u32::from(self.dialect.acknowledged);
        self.read_all()?;
        self.count()?;
        self.stream.set_nonblocking(false)?;
        let written = self.say(&bytes);
        self.stream.set_nonblocking(true)?;
        written
    }

    /// Counts what was acknowledged of late.
    fn count(&mut self) -> io::Result<()> {
        let mut count = 0;
        self.hear(|heard| {
            count += u32::from(heard == Heard::Done);
            false
        })?;
        self.acknowledged += count;
        Ok(())
    }

    /// Waits for what is still to be acknowledged.
    fn settle(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.count()?;
        while self.acknowledged < self.asked {
            self.read()?;
            self.count()?;
        }
        self.stream.set_nonblocking(true)
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.speech {
            Speech::WebSocket => self.stream.write_all(&framed(self.dialect.opcode(), bytes, 0)),
            _ => self.stream.write_all(bytes),
        }
    }

    /// Reads some more; returns how many bytes.
    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::Error::other("the broker ended the connection")),
            Ok(len) => {
                self.raw.extend_from_slice(&bytes[..len]);
                Ok(len)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Reads what has come, where nothing is waited for.
    fn read_all(&mut self) -> io::Result<()> {
        loop {
            match self.read() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => _ = other?,
            }
        }
    }

    /// Tells what has come, until `it` has what it wants. Whether it has.
    fn hear(&mut self, mut it: impl FnMut(Heard<'_>) -> bool) -> io::Result<bool> {
        self.unframe()?;
        let mut at = 0;
        let mut found = false;
        while !found && let Some((heard, used)) = self.dialect.hear(&self.rest[at..]).map_err(io::Error::other)? {
            at += used;
            found = it(heard);
        }
        self.rest.drain(..at);
        Ok(found)
    }

    fn unframe(&mut self) -> io::Result<()> {
        if self.speech != Speech::WebSocket {
            self.rest.append(&mut self.raw);
            return Ok(());
        }
        let config = ws::ParserConfig { role: ws::Role::Client, message_bytes: 64 << 20, deflate: false };
        let mut raw = self.raw.as_mut_slice();
        loop {
            match self.parser.next(&mut raw, &config) {
                Ok(Some(ws::FrameEvent::Data { payload, .. })) => self.rest.extend_from_slice(payload),
                Ok(Some(ws::FrameEvent::Close(_))) => return Err(io::Error::other("closed by the broker")),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(fault) => return Err(io::Error::other(fault.words())),
            }
        }
        let left = raw.len();
        self.raw.drain(..self.raw.len() - left);
        Ok(())
    }
}
