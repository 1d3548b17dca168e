//! Cold state beside the slab: what few connections have, and those not for long.

use super::addresses::Told;
use super::compression::Kept;
use super::conn::NO_SIDE;
use super::outbox::{Outbox, Pool};
use crate::engine::Address;
use crate::mesh::x509::ClientCertificate;
use edgehold_wire::http1::BodyReader;
use edgehold_wire::tls::Alert;
use slab::Slab;

/// What a connection has only while it needs it.
#[derive(Default)]
pub struct Cold {
    /// Bytes that could not be read yet, as a draft: a cut head, a cut frame head, what follows a request that is not
    /// answered yet, what came while the other side took nothing or the turn's work was done.
    pub spill: Outbox,
    /// The rest of a request's body, which nobody wants, and how many bytes of it may still come.
    pub body: Option<(BodyReader, u64)>,
    /// The payload of a ping that came while the peer did not read.
    pub owed_pong: Option<Box<[u8]>>,
    /// What permessage-deflate keeps, where a flag does not suffice.
    pub deflate: Option<Box<Kept>>,
    /// The pieces of a deflated message that is not whole, as a draft.
    pub gathered: Outbox,
    /// The beginning of a TLS record, as a draft.
    pub cut_record: Outbox,
    /// The fatal alert that is the last thing sent (TLS).
    pub alert: Option<Alert>,
    /// The certificate that the client has shown, for as long as the connection is there (TLS).
    pub certificate: Option<Box<ClientCertificate>>,
    /// Field lines that the head of the next response has.
    pub fields: Option<Box<[u8]>>,
    /// Where its client is known from, where that is elsewhere than the other end of the socket.
    pub told: Option<Box<Told>>,
    /// Where an upstream is that is to be called.
    pub dial: Option<Address>,
}

/// All cold state of a shard, by the number in `Conn::side`.
#[derive(Default)]
pub struct SideTable(Slab<Cold>);

impl SideTable {
    /// The cold state, if there is any.
    pub fn get(&self, side: u32) -> Option<&Cold> {
        self.0.get(side as usize)
    }

    /// As [`SideTable::get`], to be changed.
    pub fn get_mut(&mut self, side: u32) -> Option<&mut Cold> {
        self.0.get_mut(side as usize)
    }

    /// The cold state, made where there was none.
    pub fn make(&mut self, side: &mut u32) -> &mut Cold {
        if *side == NO_SIDE {
            *side = self.0.insert(Cold::default()) as u32;
        }
        &mut self.0[*side as usize]
    }

    /// The certificate that the client has shown.
    pub fn certificate(&self, side: u32) -> Option<&ClientCertificate> {
        self.get(side)?.certificate.as_deref()
    }

    /// The field lines that the head of the next response has; its cold state goes with them if it holds nothing else.
    pub fn take_fields(&mut self, side: &mut u32) -> Option<Box<[u8]>> {
        let lines = self.get_mut(*side)?.fields.take()?;
        self.tidy(side);
        Some(lines)
    }

    /// Where the client is known from.
    pub fn told(&self, side: u32) -> Option<&Told> {
        self.get(side)?.told.as_deref()
    }

    /// Spilled bytes.
    pub fn spilled(&self, side: u32) -> usize {
        self.0.get(side as usize).map_or(0, |cold| cold.spill.draft())
    }

    /// Bytes of a TLS record that was cut.
    pub fn cut_record(&self, side: u32) -> usize {
        self.0.get(side as usize).map_or(0, |cold| cold.cut_record.draft())
    }

    /// Bytes of the pool that are held here.
    pub fn held(&self, side: u32) -> usize {
        self.0.get(side as usize).map_or(0, |cold| cold.spill.held() + cold.gathered.held() + cold.cut_record.held())
    }

    /// Gives what is held here back to the pool.
    pub fn clear(&mut self, side: u32, pool: &mut Pool) {
        if let Some(cold) = self.get_mut(side) {
            pool.clear(&mut cold.spill);
            pool.clear(&mut cold.gathered);
            pool.clear(&mut cold.cut_record);
        }
    }

    /// Gives the cold state back when it holds nothing.
    pub fn tidy(&mut self, side: &mut u32) {
        let empty = |cold: &Cold| {
            let reads = cold.spill != Outbox::EMPTY || cold.body.is_some() || cold.gathered != Outbox::EMPTY;
            let tls = cold.cut_record != Outbox::EMPTY || cold.alert.is_some() || cold.certificate.is_some();
            !reads
                && !tls
                && cold.fields.is_none()
                && cold.told.is_none()
                && cold.owed_pong.is_none()
                && cold.deflate.is_none()
                && cold.dial.is_none()
        };
        if self.get(*side).is_some_and(empty) {
            self.drop(side);
        }
    }

    /// Gives the cold state back, whatever it holds.
    pub fn drop(&mut self, side: &mut u32) {
        let number = std::mem::replace(side, NO_SIDE);
        if number != NO_SIDE {
            self.0.remove(number as usize);
        }
    }
}
