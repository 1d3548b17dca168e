//! One connection, plain or over TLS, that is read and written as a file is: for the first client and the publisher.

use super::{Secure, in_words};
use crate::target::Target;
use edgehold_wire::tls::{Awake, Fault, MAX_CONTROL, Opened, Plain, Session, data_offset, sealed_len};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;
/// The type of a handshake message that has a ticket.
const NEW_SESSION_TICKET: u8 = 4;

/// A connection.
pub struct Stream {
    socket: TcpStream,
    layer: Option<Layer>,
}

/// TLS on it.
struct Layer {
    tls: Secure,
    awake: Awake,
    /// Takes tickets, until one has come.
    session: Option<Session>,
    /// Records that have come, the last one perhaps not whole.
    sealed: Vec<u8>,
    /// What was in them and was not read yet.
    plain: Vec<u8>,
    /// The server sends no more.
    has_ended: bool,
}

impl Stream {
    /// Connects to the first address, and shakes hands where TLS is spoken; no step may take longer than `patience`.
    ///
    /// # Errors
    /// Nobody is there, or the handshake fails.
    pub fn connect(target: &Target, patience: Duration) -> io::Result<Stream> {
        let mut socket = TcpStream::connect_timeout(&target.addresses[0], patience)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        let layer = target.tls.as_ref().map(|tls| Layer::shake(tls, &mut socket)).transpose()?;
        Ok(Stream { socket, layer })
    }

    /// As [`TcpStream::set_nonblocking`].
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Room for what the server has not read yet.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        SockRef::from(&self.socket).set_send_buffer_size(bytes)
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            None => self.socket.read(into),
            Some(layer) => layer.read(&mut self.socket, into),
        }
    }
}

impl Write for Stream {
    /// Over TLS the socket must block: a record that went out in part cannot be taken back.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            None => self.socket.write(bytes),
            Some(layer) => layer.write(&mut self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Layer {
    fn shake(tls: &Secure, socket: &mut TcpStream) -> io::Result<Layer> {
        let mut handshake = tls.handshake().map_err(io::Error::other)?;
        let (mut out, mut bytes, mut len) = (Vec::new(), [0; READ_BYTES], 0);
        loop {
            let step = handshake.feed(&bytes[..len], &mut out).map_err(|failure| io::Error::other(in_words(&failure)));
            socket.write_all(&out)?;
            out.clear();
            if let Some(done) = step? {
                let session = handshake.take_session().filter(|_| tls.tickets.is_some());
                let (tls, awake, sealed) = (tls.clone(), done.parked.wake(), done.leftover);
                return Ok(Layer { tls, awake, session, sealed, plain: Vec::new(), has_ended: false });
            }
            len = some(socket, &mut bytes)?;
            if len == 0 {
                return Err(io::Error::other("the server ended the connection in the TLS handshake"));
            }
        }
    }

    fn read(&mut self, socket: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        while self.plain.is_empty() && !self.has_ended {
            self.open()?;
            if !self.plain.is_empty() || self.has_ended {
                break;
            }
            let mut bytes = [0; READ_BYTES];
            let len = some(socket, &mut bytes)?;
            self.has_ended = len == 0;
            self.sealed.extend_from_slice(&bytes[..len]);
        }
        let len = self.plain.len().min(into.len());
        into[..len].copy_from_slice(&self.plain[..len]);
        self.plain.drain(..len);
        Ok(len)
    }

    /// Opens the records that are whole.
    fn open(&mut self) -> io::Result<()> {
        let broke = |fault: Fault| io::Error::other(format!("server broke TLS: {}", fault.word()));
        let mut at = 0;
        while let Some(len) = self.awake.lend().record_len(&self.sealed[at..]).map_err(broke)? {
            let Some(record) = self.sealed.get_mut(at..at + len) else { break };
            at += len;
            match self.awake.read().open(record).map_err(broke)? {
                Opened::Data(data) => self.plain.extend_from_slice(data),
                Opened::CloseNotify => self.has_ended = true,
                Opened::Nothing => self.keep_ticket(at - len..at),
                Opened::Warning(_) => {}
            }
        }
        self.sealed.drain(..at);
        Ok(())
    }

    /// A record was opened in place that has no data: perhaps a ticket.
    fn keep_ticket(&mut self, record: std::ops::Range<usize>) {
        let message = &self.sealed[record][data_offset(self.awake.suite())..];
        let Some((&[NEW_SESSION_TICKET, high, middle, low], rest)) = message.split_first_chunk::<4>() else { return };
        let body = rest.get(..u32::from_be_bytes([0, high, middle, low]) as usize);
        if let (Some(tickets), Some(body), Some(session)) = (&self.tls.tickets, body, self.session.take()) {
            tickets.keep(session, body);
        }
    }

    fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let parts = [bytes];
        let mut plain = Plain::new(&parts);
        let mut out = vec![0; sealed_len(self.awake.suite(), bytes.len()) + 3 * MAX_CONTROL];
        let sealed = self.awake.write().seal(&mut plain, &mut out);
        let len = sealed.map_err(|refused| io::Error::other(format!("TLS: {refused:?}")))?;
        socket.write_all(&out[..len])?;
        Ok(bytes.len() - plain.len())
    }
}

/// Work that a ring of this thread left behind may interrupt a read.
fn some(socket: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
