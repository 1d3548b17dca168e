//! Subscribers: the clients of a shard, and what each of them is subscribed to.
//!
//! A client is a connection and the form in which it is sent messages; a subscription is a client's cursor in a channel
//! log. Both are small, since there may be a million of them: together, and with an entry in the log's list, they are
//! what a subscriber costs beyond an idle connection.

use super::cursor::Cursor;
use super::log::ChannelLog;
use crate::mesh::Form;
use crate::shard::slab::Handle;
use bitflags::bitflags;
use slab::Slab;

/// In place of a number: no subscription, no log, no tick.
pub const NONE: u32 = u32::MAX;

bitflags! {
    /// What else is true of a client.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Traits: u8 {
        /// It resumed, and has not caught up since: its backlog is not held against it.
        const RESUMES = 1;
        /// It is not sent messages as they come: the layer above is told that there are some, and pulls them.
        const PULLS = 1 << 1;
        /// Nothing that it is due may be left out: where a message would be, it is closed.
        const RELIABLE = 1 << 2;
    }
}

/// A connection with subscriptions.
pub struct Client {
    /// The connection.
    pub who: Handle,
    /// The number of its first subscription; the others are linked behind it. [`NONE`]: it has none.
    pub first: u32,
    /// How many it has.
    pub count: u32,
    /// The tick in which it was first found with bytes queued that it had not taken, since it last had none; [`NONE`]:
    /// it was not found so. Of a client that pulls, the layer above keeps a tick of its own here.
    pub waits: u32,
    /// Kept for the layer above: changes of subscriptions in the second that began in the tick `second`.
    pub changes: u32,
    /// A tick modulo 2¹⁶.
    pub second: u16,
    /// The number of its route.
    pub route: u16,
    /// The form in which it is sent messages.
    pub form: Form,
    /// What else is true of it.
    pub traits: Traits,
}

/// A client's cursor in a channel log.
#[derive(Clone, Copy)]
pub struct Subscription {
    /// The client's token.
    pub client: u32,
    /// The log's number; [`NONE`]: the subscription has ended.
    pub log: u32,
    /// What was sent to the client of this log.
    pub cursor: Cursor,
    /// The next subscription of this client, or the next free one.
    pub next: u32,
    /// Index in the log's list of subscribers.
    pub index: u32,
}

/// In the slab a client takes a multiple of eight bytes.
const _: () = assert!(size_of::<Client>().next_multiple_of(8) + size_of::<Subscription>() + size_of::<u32>() <= 60);

/// All clients and subscriptions of a shard.
pub struct Subscribers {
    /// Clients by their tokens.
    pub clients: Slab<Client>,
    subscriptions: Vec<Subscription>,
    /// The tags of subscriptions by their numbers; of none where nobody has any.
    tags: Vec<u32>,
    free: u32,
    count: u32,
}

impl Client {
    /// A client without subscriptions.
    pub fn new(who: Handle, route: u16, form: Form, traits: Traits) -> Client {
        Client { who, first: NONE, count: 0, waits: NONE, second: 0, changes: 0, route, form, traits }
    }
}

impl Subscribers {
    /// No clients.
    pub fn new() -> Subscribers {
        Subscribers { clients: Slab::new(), subscriptions: Vec::new(), tags: Vec::new(), free: NONE, count: 0 }
    }

    /// Reserves address space for so many clients with one subscription each, once: growing would move them, and leave
    /// holes behind.
    pub fn reserve(&mut self, clients: u32) {
        if self.clients.capacity() == 0 {
            self.clients.reserve(clients as usize);
            self.subscriptions.reserve(clients as usize);
        }
    }

    /// Subscriptions of all clients.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A subscription by its number, also one that has ended.
    ///
    /// # Panics
    /// There never was a subscription of this number.
    pub fn get(&self, number: u32) -> Subscription {
        self.subscriptions[number as usize]
    }

    /// What the layer above keeps of a subscription, and gets with each message; zero where it has said nothing.
    pub fn tag(&self, number: u32) -> u32 {
        self.tags.get(number as usize).copied().unwrap_or(0)
    }

    /// Sets the tag of a subscription.
    pub fn set_tag(&mut self, number: u32, tag: u32) {
        if self.tags.capacity() == 0 {
            self.tags.reserve(self.subscriptions.capacity());
        }
        self.tags.resize(self.tags.len().max(number as usize + 1), 0);
        self.tags[number as usize] = tag;
    }

    /// Sets the cursor of a subscription.
    pub fn set(&mut self, number: u32, cursor: Cursor) {
        self.subscriptions[number as usize].cursor = cursor;
    }

    /// Subscribes the client to the log from a cursor on.
    pub fn add(&mut self, client: u32, log_number: u32, log: &mut ChannelLog, cursor: Cursor) {
        let owner = &mut self.clients[client as usize];
        let index = log.subscribers.len() as u32;
        let entry = Subscription { client, log: log_number, cursor, next: owner.first, index };
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
        // A delivery pass goes around the list, which is longer by one.
        log.pass.remaining += u32::from(log.pass.remaining > 0);
        log.pass.after_loss += u32::from(log.pass.after_loss > 0);
    }

    /// Ends a subscription. The last one of the log's list takes its index; that one is returned if a delivery pass is
    /// active, which may miss it now.
    pub fn remove(&mut self, number: u32, log: &mut ChannelLog) -> Option<u32> {
        let ended = self.get(number);
        self.unlink(number, ended);
        self.subscriptions[number as usize] = Subscription { next: self.free, log: NONE, ..ended };
        self.free = number;
        self.count -= 1;
        log.subscribers.swap_remove(ended.index as usize);
        let moved = log.subscribers.get(ended.index as usize).copied();
        if let Some(moved) = moved {
            self.subscriptions[moved as usize].index = ended.index;
        }
        moved.filter(|_| log.pass.remaining > 0)
    }

    fn unlink(&mut self, number: u32, ended: Subscription) {
        let owner = &mut self.clients[ended.client as usize];
        owner.count -= 1;
        if owner.first == number {
            owner.first = ended.next;
            return;
        }
        let mut at = owner.first;
        while self.get(at).next != number {
            at = self.get(at).next;
        }
        self.subscriptions[at as usize].next = ended.next;
    }

    /// The numbers of a client's subscriptions, the latest first.
    pub fn of(&self, client: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.clients.get(client as usize).map_or(NONE, |it| it.first);
        let step = |&number: &u32| Some(self.get(number).next).filter(|&next| next != NONE);
        std::iter::successors(Some(first).filter(|&it| it != NONE), step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Covers, Keep};
    use super::*;
    use crate::mesh::{Body, Frame};

    fn add_client(subscribers: &mut Subscribers) -> u32 {
        let form = Form { body: Body::Plain, frame: Frame::WebSocket };
        let who = Handle { slot: 0, generation: 0 };
        subscribers.clients.insert(Client::new(who, 0, form, Traits::empty())) as u32
    }

    fn log(name: &str) -> ChannelLog {
        ChannelLog::new(0, (name, Covers::Itself), 0, &Keep::NOTHING)
    }

    #[test]
    fn a_client_has_its_subscriptions_and_their_numbers_are_used_again() {
        let (mut subscribers, mut logs) = (Subscribers::new(), [log("a"), log("b")]);
        let (one, other) = (add_client(&mut subscribers), add_client(&mut subscribers));
        for (client, log) in [(one, 0), (one, 1), (other, 0)] {
            subscribers.add(client, log as u32, &mut logs[log], Cursor::at(0));
        }
        assert_eq!((subscribers.of(one).count(), subscribers.of(other).count(), subscribers.count()), (2, 1, 3));
        let first = subscribers.of(one).last().unwrap();
        subscribers.remove(first, &mut logs[0]);
        assert_eq!(
            (logs[0].subscribers.as_slice(), subscribers.get(logs[0].subscribers[0]).index),
            ([2].as_slice(), 0)
        );
        assert_eq!(subscribers.of(one).map(|it| subscribers.get(it).log).collect::<Vec<_>>(), [1]);
        subscribers.add(other, 1, &mut logs[1], Cursor::at(0));
        assert_eq!((subscribers.of(other).next(), subscribers.count()), (Some(first), 3));
    }

    #[test]
    fn a_delivery_pass_learns_whom_it_may_have_missed() {
        let (mut subscribers, mut log) = (Subscribers::new(), log("a"));
        for _ in 0..4 {
            let client = add_client(&mut subscribers);
            subscribers.add(client, 0, &mut log, Cursor::at(0));
        }
        assert_eq!(subscribers.remove(0, &mut log), None, "no pass is active");
        log.pass.remaining = 2;
        assert_eq!(subscribers.remove(1, &mut log), Some(2));
        assert_eq!(subscribers.remove(2, &mut log), None, "the last of the list moves nobody");
    }
}
