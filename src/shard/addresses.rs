//! Where clients are: what is believed of what proxies tell about it, by listener, and what is kept of it beside a
//! connection.
//!
//! A connection begins with the address of its socket. A PROXY header (`preface.rs`) may name another for all of the
//! connection, and the fields of a request another for that request, and for what it opens: [`Core::set_peer`] is the
//! one place in which it changes.

use super::conn::Peer;
use super::core::Core;
use super::trouble::Trouble;
use crate::mesh::Networks;
use edgehold_wire::forwarded::{self, Field};
use edgehold_wire::http1::Head;
use edgehold_wire::proxy_protocol::Addresses;
use std::net::SocketAddr;

/// Whether connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Those of [`AddressRules::from`] may; of others it is not read.
    Optional,
    /// All must, and come from there.
    Required,
}

/// How a listener finds out where its clients are.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers are read. A unix socket has no address: there everybody's are.
    pub from: Networks,
    /// Ticks until a PROXY header must be whole, from the accept.
    pub header_ticks: u32,
    /// Whose requests tell by [`AddressRules::field`] where they come from; those of a unix socket do where there are
    /// any.
    pub trusted_proxies: Networks,
    /// Which field tells it.
    pub field: Field,
    /// Where clients connect to, as far as the listener itself knows.
    pub address: Option<SocketAddr>,
}

impl AddressRules {
    /// Whether the fields of requests are believed that come from there.
    fn trusts(&self, peer: Peer) -> bool {
        let is_unix = peer.is_unnamed() && !self.trusted_proxies.is_empty();
        is_unix || self.trusted_proxies.contains(peer.address().ip())
    }
}

/// What a connection has to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// TLS, or a request head.
    Plain,
    /// A PROXY header, or what is behind it where it may be missing.
    Header,
    /// A PROXY header that may not come from there.
    Stranger,
}

/// The rules of all listeners.
#[derive(Default)]
pub(super) struct AddressTable {
    /// By listener.
    rules: Vec<AddressRules>,
    /// Connections that are cut for what came in place of a PROXY header.
    pub(super) refused: Trouble,
}

impl AddressTable {
    pub(super) fn new(rules: &[AddressRules]) -> AddressTable {
        AddressTable { rules: rules.to_vec(), refused: Trouble::default() }
    }

    /// Of a listener; `None`: it believes nothing.
    pub(super) fn rules(&self, listener: u16) -> Option<&AddressRules> {
        self.rules.get(usize::from(listener))
    }

    /// What a connection from there has to begin with.
    pub(super) fn beginning(&self, listener: u16, peer: Peer) -> Beginning {
        let Some(rules) = self.rules(listener) else { return Beginning::Plain };
        let is_believed = peer.is_unnamed() || rules.from.contains(peer.address().ip());
        match rules.proxy_protocol {
            ProxyProtocol::Off => Beginning::Plain,
            _ if is_believed => Beginning::Header,
            ProxyProtocol::Optional => Beginning::Plain,
            ProxyProtocol::Required => Beginning::Stranger,
        }
    }

    /// Whether a connection from there is one of clients elsewhere, who are counted when they are known.
    pub(super) fn speaks_for_others(&self, listener: u16, peer: Peer) -> bool {
        self.beginning(listener, peer) == Beginning::Header || self.is_trusted(listener, peer)
    }

    /// Whether requests from there tell where they come from.
    pub(super) fn is_trusted(&self, listener: u16, peer: Peer) -> bool {
        self.rules(listener).is_some_and(|rules| rules.trusts(peer))
    }

    /// Ticks until a PROXY header must be whole.
    pub(super) fn header_ticks(&self, listener: u16) -> u32 {
        self.rules(listener).map_or(0, |it| it.header_ticks)
    }
}

/// What is kept beside a connection whose client is elsewhere than the other end of its socket.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The other end of the socket.
    pub(super) socket: Peer,
    /// Who sends its requests: whom the PROXY header names, else the other end of the socket.
    pub(super) sender: Peer,
    /// Where the client has connected to, as the PROXY header says.
    pub(super) destination: Option<SocketAddr>,
}

impl Core {
    /// The connection's client is there from now on. No address of a connection changes elsewhere behind its accept.
    fn set_peer(&mut self, slot: u32, peer: Peer) {
        self.slab[slot].peer = peer;
    }

    /// Takes what a PROXY header says.
    pub(super) fn take_addresses(&mut self, slot: u32, told: Addresses) {
        let conn = &mut self.slab[slot];
        let (socket, sender) = (conn.peer, Peer::new(Some(told.source)));
        let told = Told { socket, sender, destination: Some(told.destination) };
        self.side.make(&mut conn.side).told = Some(Box::new(told));
        self.set_peer(slot, sender);
    }

    /// Finds out where a request comes from: whoever sends it, or, where that is a trusted proxy, whom its fields name.
    /// Whether they name anybody.
    pub(super) fn locate(&mut self, slot: u32, head: &Head<'_, '_>) -> bool {
        let conn = &mut self.slab[slot];
        let Some(rules) = self.addresses.rules(conn.origin).filter(|it| !it.trusted_proxies.is_empty()) else {
            return false;
        };
        let sender = self.side.told(conn.side).map_or(conn.peer, |told| told.sender);
        if !rules.trusts(sender) {
            return false;
        }
        let client = forwarded::client(head.headers, rules.field, |ip| rules.trusted_proxies.contains(ip));
        let peer = client.map_or(sender, |client| Peer::new(Some(client)));
        if peer != conn.peer {
            let told = Told { socket: sender, sender, destination: None };
            self.side.make(&mut conn.side).told.get_or_insert_with(|| Box::new(told));
            self.set_peer(slot, peer);
            // Behind its accept, this is where its address is known: its count moves with it.
            self.admit_or_cut(self.slab.handle(slot), peer.address().ip());
        }
        client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Network;

    fn peer(address: &str) -> Peer {
        Peer::new(Some(address.parse().unwrap()))
    }

    fn rules(proxy_protocol: ProxyProtocol) -> AddressRules {
        let from = std::iter::once("192.0.2.0/24".parse::<Network>().unwrap()).collect();
        AddressRules { proxy_protocol, from, ..AddressRules::default() }
    }

    #[test]
    fn what_a_connection_begins_with_is_for_its_listener_and_its_address_to_say() {
        use Beginning::{Header, Plain, Stranger};
        let modes = [ProxyProtocol::Off, ProxyProtocol::Optional, ProxyProtocol::Required];
        let table = AddressTable::new(&modes.map(rules));
        for (address, expected) in [
            (peer("192.0.2.9:1"), [Plain, Header, Header]),
            (peer("[::ffff:192.0.2.9]:1"), [Plain, Header, Header]),
            (peer("192.0.3.1:1"), [Plain, Plain, Stranger]),
            (peer("[::1]:1"), [Plain, Plain, Stranger]),
            (Peer::default(), [Plain, Header, Header]),
        ] {
            assert_eq!([0, 1, 2].map(|listener| table.beginning(listener, address)), expected, "{address:?}");
            assert_eq!(table.beginning(3, address), Plain);
        }
    }

    #[test]
    fn a_unix_socket_is_trusted_where_anybody_is() {
        let trusted_proxies = std::iter::once("192.0.2.0/24".parse::<Network>().unwrap()).collect();
        let some = AddressRules { trusted_proxies, ..AddressRules::default() };
        assert!(some.trusts(Peer::default()) && some.trusts(peer("192.0.2.1:1")) && !some.trusts(peer("192.0.3.1:1")));
        assert!(!AddressRules::default().trusts(Peer::default()));
    }
}
