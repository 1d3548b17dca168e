//! TLS between the table and the ring of one worker: handshakes, and afterwards records, opened and sealed from the
//! state that the server's own record layer keeps of a connection. Nothing of rustls outlives a handshake.
//!
//! Records are sealed in the order in which they go out, and each is handed to the kernel: while a flight is under way,
//! only what TLS itself has to say (an alert, the answer to a KeyUpdate) is sealed behind it.

use super::client::State;
use super::table::Table;
use crate::tls::Secure;
use edgehold_wire::tls::{
    Awake, ClientHandshake, Established, Fault, MAX_CONTROL, Opened, Parked, Plain, Refused, overhead, sealed_len,
};
use std::collections::HashMap;

/// Bytes of one flight at most: what does not fit is sealed for the next.
const FLIGHT_BYTES: usize = 256 << 10;
/// Buffers that are kept for the next flights, and the longest of them.
const SPARE: usize = 64;
const SPARE_BYTES: usize = 32 << 10;

/// The TLS connections of a worker, by slot.
pub struct Secured {
    tls: Secure,
    /// Keys stay expanded: about 1.2 kB a client, for crowds that are busy.
    stays_awake: bool,
    ends: Vec<End>,
    /// Cut records.
    cut: HashMap<u32, Vec<u8>>,
    flights: HashMap<u32, Flight>,
    spare: Vec<Vec<u8>>,
}

/// One end.
enum End {
    None,
    Handshake(Box<ClientHandshake>),
    Parked(Parked),
    Awake(Box<Awake>),
}

/// What is on its way to the server.
#[derive(Default)]
struct Flight {
    /// What the kernel is given. It is not touched before it went out whole.
    bytes: Vec<u8>,
    /// How many of them went out.
    sent: usize,
    /// Bytes of the client's own words in them.
    plain: u32,
    /// What was sealed meanwhile.
    next: Vec<u8>,
}

/// Why a client has to go.
type Gone = String;

impl End {
    /// How long the record at the front is, where it is there as a whole.
    fn whole_record(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let len = match self {
            End::Parked(parked) => parked.lend().record_len(bytes),
            End::Awake(awake) => awake.lend().record_len(bytes),
            End::None | End::Handshake(_) => Ok(None),
        }?;
        Ok(len.filter(|&len| len <= bytes.len()))
    }

    fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        match self {
            End::Parked(parked) => parked.wake_read().open(record),
            End::Awake(awake) => awake.read().open(record),
            End::None | End::Handshake(_) => Ok(Opened::Nothing),
        }
    }

    /// Appends what the server is owed.
    fn answer(&mut self, out: &mut Vec<u8>) {
        let mut bytes = [0; 2 * MAX_CONTROL];
        let len = match self {
            End::Parked(parked) => {
                if parked.lend().owes() {
                    parked.wake_write().answer(&mut bytes)
                } else {
                    0
                }
            }
            End::Awake(awake) => awake.write().answer(&mut bytes),
            End::None | End::Handshake(_) => 0,
        };
        out.extend_from_slice(&bytes[..len]);
    }

    /// Fills `out` with as many records as it takes of `plain`.
    fn seal(&mut self, plain: &mut Plain<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        let suite = match self {
            End::Parked(parked) => parked.suite(),
            End::Awake(awake) => awake.suite(),
            End::None | End::Handshake(_) => return Ok(()),
        };
        let room = sealed_len(suite, plain.len()) + 3 * (MAX_CONTROL + overhead(suite));
        out.resize(room.min(FLIGHT_BYTES), 0);
        let sealed = match self {
            End::Parked(parked) => parked.wake_write().seal(plain, out),
            End::Awake(awake) => awake.write().seal(plain, out),
            End::None | End::Handshake(_) => Ok(0),
        };
        out.truncate(sealed.unwrap_or(0));
        sealed.map(drop)
    }
}

impl Secured {
    /// For so many slots; `stays_awake` where they will be busy.
    pub fn new(tls: &Secure, slots: u32, stays_awake: bool) -> Secured {
        Secured {
            tls: tls.clone(),
            stays_awake,
            ends: (0..slots).map(|_| End::None).collect(),
            cut: HashMap::new(),
            flights: HashMap::new(),
            spare: Vec::new(),
        }
    }

    /// The TCP connection stands: the hello.
    pub fn begin(&mut self, slot: u32, table: &mut Table) {
        table.clients[slot as usize].state = State::Securing;
        match self.tls.handshake() {
            Ok(handshake) => self.ends[slot as usize] = End::Handshake(Box::new(handshake)),
            Err(words) => return table.lose(slot, &words),
        }
        if let Err(words) = self.shake(slot, &[]) {
            table.lose(slot, &words);
        }
        table.touch(slot);
    }

    /// Bytes from the server. They are opened in place.
    pub fn hear(&mut self, slot: u32, bytes: &mut [u8], table: &mut Table, now: u64) {
        let cut = if self.cut.is_empty() { None } else { self.cut.remove(&slot) };
        let heard = match cut {
            None => self.take(slot, bytes, table, now),
            Some(mut cut) => {
                cut.extend_from_slice(bytes);
                self.take(slot, &mut cut, table, now)
            }
        };
        if let Err(words) = heard {
            table.lose(slot, &words);
        }
        table.touch(slot);
    }

    fn take(&mut self, slot: u32, bytes: &mut [u8], table: &mut Table, now: u64) -> Result<(), Gone> {
        if table.clients[slot as usize].state != State::Securing {
            return self.records(slot, bytes, table, now);
        }
        let Some(mut done) = self.shake(slot, bytes)? else { return Ok(()) };
        let findings = &mut table.findings;
        findings.full += u64::from(!done.resumed);
        findings.resumed += u64::from(done.resumed);
        findings.suite = Some((done.parked.suite().version.name(), done.cipher_suite));
        self.ends[slot as usize] =
            if self.stays_awake { End::Awake(Box::new(done.parked.wake())) } else { End::Parked(done.parked) };
        table.connected(slot, now);
        self.records(slot, &mut done.leftover, table, now)
    }

    /// A step of the handshake; something when it is over.
    fn shake(&mut self, slot: u32, bytes: &[u8]) -> Result<Option<Established>, Gone> {
        let End::Handshake(handshake) = &mut self.ends[slot as usize] else { return Ok(None) };
        let out = &mut self.flights.entry(slot).or_default().next;
        handshake.feed(bytes, out).map_err(|failure| crate::tls::in_words(&failure))
    }

    fn records(&mut self, slot: u32, bytes: &mut [u8], table: &mut Table, now: u64) -> Result<(), Gone> {
        let end = &mut self.ends[slot as usize];
        let broke = |fault: Fault| format!("server broke TLS: {}", fault.word());
        let mut rest = bytes;
        while let Some(len) = end.whole_record(rest).map_err(broke)? {
            let (record, after) = rest.split_at_mut(len);
            rest = after;
            match end.open(record).map_err(broke)? {
                Opened::Data(data) => table.hear(slot, data, now),
                Opened::CloseNotify => return Err("closed by the server (close_notify)".into()),
                Opened::Nothing => end.answer(&mut self.flights.entry(slot).or_default().next),
                Opened::Warning(_) => {}
            }
            if !matches!(table.clients[slot as usize].state, State::Opening | State::Open) {
                return Ok(());
            }
        }
        if !rest.is_empty() {
            self.cut.insert(slot, rest.to_vec());
        }
        Ok(())
    }

    /// Whether something sealed has not gone out.
    pub fn has_unsent(&self, slot: u32) -> bool {
        self.flights.get(&slot).is_some_and(|it| it.sent < it.bytes.len() || !it.next.is_empty())
    }

    /// What is to be handed to the kernel; it stays where it is until [`sent`](Self::sent) has counted all of it, or
    /// the client is forgotten.
    pub fn unsent(&mut self, slot: u32) -> Option<&[u8]> {
        let flight = self.flights.get_mut(&slot)?;
        if flight.sent == flight.bytes.len() {
            flight.bytes.clear();
            std::mem::swap(&mut flight.bytes, &mut flight.next);
            flight.sent = 0;
        }
        if flight.bytes.is_empty() {
            self.land(slot);
            return None;
        }
        self.flights.get(&slot).map(|flight| &flight.bytes[flight.sent..])
    }

    /// Nothing is on its way any more: the buffers are for others.
    fn land(&mut self, slot: u32) {
        let Some(flight) = self.flights.remove(&slot) else { return };
        for mut buffer in [flight.bytes, flight.next] {
            if (1..=SPARE_BYTES).contains(&buffer.capacity()) && self.spare.len() < SPARE {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }

    /// Seals these words as the next flight. Only when nothing is unsent.
    ///
    /// # Errors
    /// No more can be sealed.
    pub fn seal(&mut self, slot: u32, parts: &[&[u8]]) -> Result<(), Gone> {
        let mut plain = Plain::new(parts);
        if plain.is_empty() {
            return Ok(());
        }
        let all = plain.len();
        let mut bytes = self.spare.pop().unwrap_or_default();
        let sealed = self.ends[slot as usize].seal(&mut plain, &mut bytes);
        let flight = self.flights.entry(slot).or_default();
        (flight.bytes, flight.sent, flight.plain) = (bytes, 0, (all - plain.len()) as u32);
        sealed.map_err(|refused| format!("TLS: {refused:?}"))
    }

    /// So many bytes of the flight went out. Returns how many bytes of the client's words they were: all of them, once
    /// the whole flight went out.
    pub fn sent(&mut self, slot: u32, len: u32) -> u32 {
        let Some(flight) = self.flights.get_mut(&slot) else { return 0 };
        flight.sent += len as usize;
        let is_whole = flight.sent >= flight.bytes.len();
        if is_whole { std::mem::take(&mut flight.plain) } else { 0 }
    }

    /// The descriptor is closed.
    pub fn forget(&mut self, slot: u32) {
        self.ends[slot as usize] = End::None;
        self.cut.remove(&slot);
        self.land(slot);
    }
}
