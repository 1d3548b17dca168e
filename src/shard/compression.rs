//! permessage-deflate on the shard: one deflater, one inflater, and the windows of those who keep a context.
//!
//! What was agreed with a client is one flag of its connection (`Flags::DEFLATE`) where nothing is kept from message
//! to message and the windows are of the usual size, which is what nearly all have. Everything else is a [`Kept`] in
//! the side. Windows are lent out of `deflate_window_bytes`; when that is used up, further clients are agreed with
//! without context takeover, and nobody is refused for it.

use super::conn::Flags;
use super::core::{Chain, Core};
use super::limits::Deflate;
use super::side_table::Cold;
use super::slab::Handle;
use crate::mesh::Counters;
use edgehold_wire::deflate::{Deflater, InflateFault, Inflater, MAX_WINDOW_BITS, Parameters, Window};
use edgehold_wire::utf8;
use edgehold_wire::ws::Fault;
use std::cell::Cell;
use std::rc::Rc;

/// The largest buffer that is kept between messages, in bytes.
const SCRATCH: usize = 256 << 10;

/// Deflating a byte takes as long as inflating so many.
const DEFLATING: usize = 8;

/// Buffers in use at once: the pieces of a message, its inflated form, and the deflated form of the answer.
const BUFFERS: usize = 3;

/// A shard's one deflater and one inflater, and where their results lie for a moment.
pub struct Compression {
    deflater: Deflater,
    inflater: Inflater,
    windows: Windows,
    scratch: Vec<Vec<u8>>,
}

impl Compression {
    /// Windows may take `window_bytes` in all.
    pub fn new(window_bytes: u64) -> Compression {
        Compression {
            deflater: Deflater::default(),
            inflater: Inflater::default(),
            windows: Windows { limit: window_bytes, lent: Rc::default() },
            scratch: Vec::with_capacity(BUFFERS),
        }
    }

    /// Bytes of windows that are lent out.
    pub fn window_bytes(&self) -> u64 {
        self.windows.lent.get()
    }

    /// The most that windows may take.
    pub fn window_limit(&self) -> u64 {
        self.windows.limit
    }

    /// An empty buffer; [`Compression::put_back`] when it is done with.
    pub fn scratch(&mut self) -> Vec<u8> {
        self.scratch.pop().unwrap_or_default()
    }

    /// The buffer again.
    pub fn put_back(&mut self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH && self.scratch.len() < BUFFERS {
            scratch.clear();
            self.scratch.push(scratch);
        }
    }
}

/// The windows of a shard. Each is taken when it is lent, and its memory goes back when it is dropped.
struct Windows {
    limit: u64,
    lent: Rc<Cell<u64>>,
}

impl Windows {
    fn lend(&self, bits: u8) -> Option<Lent> {
        let bytes = self.lent.get() + Window::size(bits) as u64;
        (bytes <= self.limit).then(|| {
            self.lent.set(bytes);
            Lent { window: Window::new(bits), bytes: Window::size(bits) as u64, total: self.lent.clone() }
        })
    }
}

/// A window of one direction of a connection.
struct Lent {
    window: Window,
    bytes: u64,
    /// Bytes of all windows that are lent.
    total: Rc<Cell<u64>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

/// What a connection has that keeps a context, or whose client wants short windows.
pub struct Kept {
    /// The window size of messages to the client.
    server_bits: u8,
    /// What the client remembers of messages to it.
    to_client: Option<Lent>,
    /// What messages from the client may refer to.
    from_client: Option<Lent>,
}

impl Kept {
    /// Lends the windows that the agreement needs, and takes takeover out of it where there is none.
    fn new(agreed: &mut Parameters, windows: &Windows) -> Kept {
        let to_client = agreed.server_takeover.then(|| windows.lend(agreed.server_bits)).flatten();
        let from_client = agreed.client_takeover.then(|| windows.lend(agreed.client_bits)).flatten();
        (agreed.server_takeover, agreed.client_takeover) = (to_client.is_some(), from_client.is_some());
        Kept { server_bits: agreed.server_bits, to_client, from_client }
    }

    /// Nothing that a flag could not say as well.
    fn is_plain(&self) -> bool {
        self.server_bits == MAX_WINDOW_BITS && self.to_client.is_none() && self.from_client.is_none()
    }
}

fn window(lent: &mut Option<Lent>) -> Option<&mut Window> {
    lent.as_mut().map(|lent| &mut lent.window)
}

impl Core {
    /// What is agreed with a client whose offer allows this much. Remembered until the connection ends or opens again.
    pub(super) fn agree(&mut self, who: Handle, offered: Option<Parameters>) -> Option<Parameters> {
        let Deflate { on, takeover, .. } = self.limits_of(who).deflate;
        let conn = self.slab.get_mut(who)?;
        conn.flags.remove(Flags::DEFLATE);
        if let Some(cold) = self.side.get_mut(conn.side) {
            cold.deflate = None;
        }
        let mut agreed = offered.filter(|_| on)?;
        agreed.server_takeover &= takeover;
        agreed.client_takeover &= takeover;
        let kept = Kept::new(&mut agreed, &self.compression.windows);
        conn.flags.insert(Flags::DEFLATE);
        if !kept.is_plain() {
            self.side.make(&mut conn.side).deflate = Some(Box::new(kept));
        }
        Some(agreed)
    }

    /// From how many bytes on a deflated message that refers to nothing may go to this client as it is; `None`: it
    /// takes none. For messages that are deflated once for many ([`Desk::deflate`]).
    pub(super) fn takes_deflated(&self, who: Handle) -> Option<usize> {
        let conn = self.slab.get(who).filter(|conn| conn.flags.contains(Flags::DEFLATE))?;
        let kept = self.side.get(conn.side).and_then(|cold| cold.deflate.as_ref());
        let suits = kept.is_none_or(|kept| kept.server_bits == MAX_WINDOW_BITS && kept.to_client.is_none());
        suits.then(|| self.limits[conn.limits].deflate.min_bytes)
    }

    /// Deflates a message that is to go to many, behind what is in `out`.
    pub(super) fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        self.work.add_deflated(DEFLATING * message.len());
        self.compression.deflater.message(message, None, MAX_WINDOW_BITS, out);
        count_out(&mut self.counters, message.len(), out.len() - before);
    }

    /// The deflated form of a message to this client, where that was agreed on and is worth it. The buffer is the
    /// shard's scratch.
    pub(super) fn deflated(&mut self, who: Handle, message: &[u8]) -> Option<Vec<u8>> {
        let conn = self.slab.get(who).filter(|conn| conn.flags.contains(Flags::DEFLATE))?;
        if message.len() < self.limits[conn.limits].deflate.min_bytes {
            return None;
        }
        self.work.add_deflated(DEFLATING * message.len());
        let mut out = self.compression.scratch();
        let kept = self.side.get_mut(conn.side).and_then(|cold| cold.deflate.as_deref_mut());
        let (bits, window) =
            kept.map_or((MAX_WINDOW_BITS, None), |kept| (kept.server_bits, window(&mut kept.to_client)));
        if self.compression.deflater.shorter(message, window, bits, &mut out) {
            count_out(&mut self.counters, message.len(), out.len());
            return Some(out);
        }
        self.compression.put_back(out);
        None
    }

    /// The deflated form of the message that is being drafted for this client, as [`Desk::deflated`].
    pub(super) fn deflated_draft(&mut self, who: Handle) -> Option<Vec<u8>> {
        let conn = self.slab.get(who).filter(|conn| conn.flags.contains(Flags::DEFLATE))?;
        if conn.out.draft() < self.limits[conn.limits].deflate.min_bytes {
            return None;
        }
        let mut message = self.compression.scratch();
        self.pool.read_draft(&conn.out, &mut message);
        let out = self.deflated(who, &message);
        self.compression.put_back(message);
        out
    }

    /// Keeps a piece of a deflated message until the message is whole. `false`: there is no memory for it.
    pub(super) fn gather(&mut self, who: Handle, piece: &[u8]) -> bool {
        self.put(who, Chain::Gathered, [piece, b""]).is_ok()
    }

    /// What was gathered, in the shard's scratch.
    pub(super) fn gathered(&mut self, who: Handle) -> Vec<u8> {
        let mut message = self.compression.scratch();
        let conn = &mut self.slab[who.slot];
        if let Some(Cold { gathered, .. }) = self.side.get_mut(conn.side) {
            self.pool.read_draft(gathered, &mut message);
            self.pool.clear(gathered);
        }
        self.side.tidy(&mut conn.side);
        message
    }

    /// A whole deflated message of this client, inflated, in the shard's scratch.
    ///
    /// # Errors
    /// It is corrupt, above `message_bytes`, or text that is not UTF-8.
    pub(super) fn inflated(&mut self, who: Handle, text: bool, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let limit = self.limits_of(who).message_bytes;
        let kept = self.side.get_mut(self.slab[who.slot].side).and_then(|cold| cold.deflate.as_deref_mut());
        let window = kept.and_then(|kept| window(&mut kept.from_client));
        let mut out = self.compression.scratch();
        let read = self.compression.inflater.message(message, window, limit, &mut out);
        // What it has cost, though it may be refused and `out` be empty again.
        self.work.add_deflated(self.compression.inflater.work() as usize);
        let checked = read.map_err(fault).and_then(|()| if text { check_text(&out) } else { Ok(()) });
        match checked {
            Ok(()) => {
                self.counters.deflated_in += 1;
                self.counters.deflate_saved_in += out.len().saturating_sub(message.len()) as u64;
                Ok(out)
            }
            Err(fault) => {
                self.counters.inflate_refusals += 1;
                self.compression.put_back(out);
                Err(fault)
            }
        }
    }
}

fn fault(fault: InflateFault) -> Fault {
    match fault {
        InflateFault::TooBig => Fault::TooBig,
        InflateFault::Corrupt => Fault::Corrupt,
    }
}

/// RFC 6455 section 8.1.
fn check_text(message: &[u8]) -> Result<(), Fault> {
    if utf8::whole(message) == Ok(message.len()) { Ok(()) } else { Err(Fault::Text) }
}

fn count_out(counters: &mut Counters, plain: usize, deflated: usize) {
    counters.deflated_out += 1;
    counters.deflate_saved_out += plain.saturating_sub(deflated) as u64;
}
