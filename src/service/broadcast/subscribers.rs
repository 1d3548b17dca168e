//! Who listens: clients, and what each of them is subscribed to.
//!
//! A client is a connection with a form; a subscription is a client's place in a row. Both are small, since there may
//! be a million of them: together, and with their place in the row's list, they are what a subscriber costs beyond an
//! idle connection.

use super::channel_log::{ChannelLog, Cursor};
use crate::mesh::Form;
use crate::shard::slab::Handle;
use bitflags::bitflags;
use slab::Slab;

/// No subscription.
pub const NONE: u32 = u32::MAX;

bitflags! {
    /// What is true of a client.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Traits: u8 {
        /// It catches up after a reconnect: its backlog is not held against it until it has.
        const REPLAYS = 1;
        /// It waits for the answer to a long poll.
        const POLLS = 1 << 1;
    }
}

/// A connection that listens.
pub struct Client {
    /// Which.
    pub who: Handle,
    /// Its first subscription; the others hang on it.
    pub first: u32,
    /// How many it has.
    pub count: u32,
    /// The tick in which it was first found to have something on its way, since it last had nothing; of a long poll,
    /// the one in which it is answered at the latest. [`NONE`]: it was not found so.
    pub waits: u32,
    /// Changes of subscriptions in the second that began in the tick `second`.
    pub changes: u32,
    /// A tick modulo 2¹⁶.
    pub second: u16,
    /// The number of its route.
    pub route: u16,
    /// How messages are laid out for it.
    pub form: Form,
    /// What else is true of it.
    pub traits: Traits,
}

/// A client's place in a row.
#[derive(Clone, Copy)]
pub struct Subscription {
    /// Whose.
    pub client: u32,
    /// Where.
    pub log: u32,
    /// What it hears next.
    pub cursor: Cursor,
    /// The next one of this client, or of the free ones.
    pub next: u32,
    /// Its place in the row's list.
    pub place: u32,
}

/// In the slab a client takes a multiple of eight bytes.
const _: () = assert!(size_of::<Client>().next_multiple_of(8) + size_of::<Subscription>() + size_of::<u32>() <= 60);

/// All clients and subscriptions of a shard.
pub struct Subscribers {
    pub clients: Slab<Client>,
    subscriptions: Vec<Subscription>,
    free: u32,
    count: u32,
}

impl Client {
    /// Somebody who hears nothing yet.
    pub fn new(who: Handle, route: u16, form: Form, traits: Traits) -> Client {
        Client { who, first: NONE, count: 0, waits: NONE, second: 0, changes: 0, route, form, traits }
    }
}

impl Subscribers {
    /// Nobody.
    pub fn new() -> Subscribers {
        Subscribers { clients: Slab::new(), subscriptions: Vec::new(), free: NONE, count: 0 }
    }

    /// Sets address space aside for so many clients, once: growing would leave holes behind it.
    pub fn reserve(&mut self, clients: u32) {
        if self.clients.capacity() == 0 {
            self.clients.reserve(clients as usize);
            self.subscriptions.reserve(clients as usize);
        }
    }

    /// Subscriptions that there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A subscription by its number.
    pub fn get(&self, number: u32) -> Subscription {
        self.subscriptions[number as usize]
    }

    /// Moves a subscription on.
    pub fn set(&mut self, number: u32, cursor: Cursor) {
        self.subscriptions[number as usize].cursor = cursor;
    }

    /// Subscribes the client to the row, from there.
    pub fn add(&mut self, client: u32, log_number: u32, log: &mut ChannelLog, cursor: Cursor) {
        let owner = &mut self.clients[client as usize];
        let place = log.subscribers.len() as u32;
        let entry = Subscription { client, log: log_number, cursor, next: owner.first, place };
        let number = self.free;
        if number == NONE {
            owner.first = self.subscriptions.len() as u32;
            self.subscriptions.push(entry);
        } else {
            owner.first = number;
            self.free = std::mem::replace(&mut self.subscriptions[number as usize], entry).next;
        }
        owner.count += 1;
        self.count += 1;
        log.subscribers.push(owner.first);
        // The round goes around the list: one more is in its way.
        log.pass.remaining += u32::from(log.pass.remaining > 0);
    }

    /// Ends a subscription. The last one of the row's list takes its place; `Some`: that one, if a round is under way,
    /// which might pass it by now.
    pub fn remove(&mut self, number: u32, log: &mut ChannelLog) -> Option<u32> {
        let gone = self.get(number);
        self.unlink(number, gone);
        self.subscriptions[number as usize] = Subscription { next: self.free, log: NONE, ..gone };
        self.free = number;
        self.count -= 1;
        log.subscribers.swap_remove(gone.place as usize);
        let moved = log.subscribers.get(gone.place as usize).copied();
        if let Some(moved) = moved {
            self.subscriptions[moved as usize].place = gone.place;
        }
        moved.filter(|_| log.pass.remaining > 0)
    }

    fn unlink(&mut self, number: u32, gone: Subscription) {
        let owner = &mut self.clients[gone.client as usize];
        owner.count -= 1;
        if owner.first == number {
            owner.first = gone.next;
            return;
        }
        let mut at = owner.first;
        while self.get(at).next != number {
            at = self.get(at).next;
        }
        self.subscriptions[at as usize].next = gone.next;
    }

    /// The subscriptions of a client, by number.
    pub fn of(&self, client: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.clients.get(client as usize).map_or(NONE, |it| it.first);
        let step = |&number: &u32| Some(self.get(number).next).filter(|&next| next != NONE);
        std::iter::successors(Some(first).filter(|&it| it != NONE), step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Keep;
    use super::*;
    use crate::mesh::{Body, Frame};

    fn add_client(subscribers: &mut Subscribers) -> u32 {
        let form = Form { body: Body::Plain, frame: Frame::WebSocket };
        let who = Handle { slot: 0, generation: 0 };
        subscribers.clients.insert(Client::new(who, 0, form, Traits::empty())) as u32
    }

    fn log(name: &str) -> ChannelLog {
        ChannelLog::new(0, name, 0, &Keep::NOTHING)
    }

    #[test]
    fn a_client_has_its_places_and_they_are_used_again() {
        let (mut subscribers, mut logs) = (Subscribers::new(), [log("a"), log("b")]);
        let (one, other) = (add_client(&mut subscribers), add_client(&mut subscribers));
        for (client, log) in [(one, 0), (one, 1), (other, 0)] {
            subscribers.add(client, log as u32, &mut logs[log], Cursor::at(0));
        }
        assert_eq!((subscribers.of(one).count(), subscribers.of(other).count(), subscribers.count()), (2, 1, 3));
        let first = subscribers.of(one).last().unwrap();
        subscribers.remove(first, &mut logs[0]);
        assert_eq!(
            (logs[0].subscribers.as_slice(), subscribers.get(logs[0].subscribers[0]).place),
            ([2].as_slice(), 0)
        );
        assert_eq!(subscribers.of(one).map(|it| subscribers.get(it).log).collect::<Vec<_>>(), [1]);
        subscribers.add(other, 1, &mut logs[1], Cursor::at(0));
        assert_eq!((subscribers.of(other).next(), subscribers.count()), (Some(first), 3));
    }

    #[test]
    fn a_round_learns_whom_it_may_have_passed() {
        let (mut subscribers, mut log) = (Subscribers::new(), log("a"));
        for _ in 0..4 {
            let client = add_client(&mut subscribers);
            subscribers.add(client, 0, &mut log, Cursor::at(0));
        }
        assert_eq!(subscribers.remove(0, &mut log), None, "no round is under way");
        log.pass.remaining = 2;
        assert_eq!(subscribers.remove(1, &mut log), Some(2));
        assert_eq!(subscribers.remove(2, &mut log), None, "the last of the list moves nobody");
    }
}
