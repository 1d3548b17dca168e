//! One ticket for a whole crowd.
//!
//! A client of TLS 1.3 uses a ticket once, so that nobody who listens can tell that it came back; a server that keeps
//! its state in tickets takes one as often as it comes. So the first connection keeps the ticket that the server sent
//! it, as bytes, and each client that connects later is given a session that is made of it anew.

use edgehold_wire::tls::Session;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The session of the first connection.
#[derive(Default)]
pub struct Tickets {
    /// TLS 1.3: what makes sessions of a ticket, and the ticket.
    source: Mutex<Option<(Session, Vec<u8>)>>,
    /// The session that was made last and not taken.
    made: Mutex<Option<Tls13ClientSessionValue>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tickets {
    /// Keeps a ticket, where it is one.
    pub fn keep(&self, mut session: Session, ticket: &[u8]) {
        if session.ticket(ticket).is_ok() {
            *lock(&self.source) = Some((session, ticket.to_vec()));
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        lock(&self.tls12).get_or_insert(value);
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        lock(&self.tls12).clone()
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        *lock(&self.made) = Some(value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut source = lock(&self.source);
        let (session, ticket) = source.as_mut()?;
        session.ticket(ticket).ok()?;
        lock(&self.made).take()
    }
}
