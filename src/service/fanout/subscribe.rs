//! Subscribing: which logs a client gets a cursor in, and where each cursor begins.

use super::cursor::Cursor;
use super::feed::Feed;
use super::log::{ChannelLog, Covered};
use super::settings::Covers;
use super::subscribers::{Client, Traits};
use super::{Fanout, Keep, matches};
use crate::mesh::{self, Form};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use std::collections::HashMap;

/// How far an id of this run may be ahead of what this shard was sent: as many messages as may be on their way to it.
/// The publisher counts at least 256 bytes for each, and holds back what is above 32 MiB.
const AHEAD: u64 = (32 << 20) / 256;

/// Where a client wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartPosition {
    /// With what is published next, or with a snapshot.
    Latest,
    /// Behind this sequence.
    After(u64),
    /// With all that is kept: its id may be true, but which messages it has been sent is not known.
    Earliest,
}

/// What came of a subscription.
pub struct Subscribed {
    /// The channels of which messages are lost that the client was to be sent.
    pub lost: Vec<String>,
    /// How many logs and messages were looked at.
    pub steps: u64,
}

impl Fanout {
    // ---- clients ----

    /// Adds a client without subscriptions; returns its token.
    pub fn add_client(&mut self, desk: &Desk<'_>, who: Handle, route: u16, form: Form, traits: Traits) -> u32 {
        self.subscribers.reserve(desk.slots());
        self.subscribers.clients.insert(Client::new(who, route, form, traits)) as u32
    }

    /// A client by its token.
    pub fn client(&self, token: u32) -> Option<&Client> {
        self.subscribers.clients.get(token as usize)
    }

    /// A client by its token.
    pub fn client_mut(&mut self, token: u32) -> Option<&mut Client> {
        self.subscribers.clients.get_mut(token as usize)
    }

    /// Ends all subscriptions of a client and removes it; its token means nothing from now on. `false`: there is none.
    pub fn remove_client(&mut self, desk: &mut Desk<'_>, token: u32) -> bool {
        if self.client(token).is_none() {
            return false;
        }
        self.unsubscribe_all(desk, token);
        self.subscribers.clients.remove(token as usize);
        self.resumed_from.remove(&token);
        true
    }

    // ---- subscriptions ----

    /// Subscribes a client to channels and prefixes, of all feeds of its route that may carry them. `last`: the id of
    /// the last message that it was sent, of any of them.
    ///
    /// # Panics
    /// There is no such client.
    pub fn subscribe(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        channels: &[String],
        last: Option<&str>,
    ) -> Subscribed {
        let logs: Vec<Vec<u32>> = channels.iter().map(|channel| self.logs_for_subscriber(token, channel)).collect();
        let (start, known_lost) = self.start_position(token, channels, last, &logs);
        let mut done = Subscribed { lost: Vec::new(), steps: 0 };
        for (channel, logs) in channels.iter().zip(logs) {
            let mut owes = false;
            for log in logs {
                let (cursor, lost, steps) = self.first_cursor(desk, token, log, start);
                // One notice for a channel, of whichever feeds it is.
                let first = (lost || known_lost) && !owes;
                self.add_subscription(token, log, if first { cursor.owing(true) } else { cursor });
                (owes, done.steps) = (owes || first, done.steps + steps);
            }
            done.lost.extend(Some(channel.clone()).filter(|_| owes));
        }
        if start != StartPosition::Latest {
            self.subscribers.clients[token as usize].traits.insert(Traits::RESUMES);
        }
        if let Some(last) = last.filter(|_| !done.lost.is_empty()) {
            self.resumed_from.insert(token, last.into());
        }
        desk.counters().prefix_steps += done.steps;
        self.gauge(desk);
        done
    }

    fn logs_for_subscriber(&mut self, token: u32, channel: &str) -> Vec<u32> {
        let route = self.subscribers.clients[token as usize].route;
        let feeds: Vec<u16> = self.feeds_of(route, channel).collect();
        feeds.into_iter().map(|feed| self.log_for_subscriber(feed, channel)).collect()
    }

    /// Subscribes a client to one channel or filter from now on, or, where its route has snapshots, from the last
    /// values on; once more if it is subscribed already. Returns the number of the subscription; `None`: no feed of its
    /// route has such a channel.
    ///
    /// # Panics
    /// There is no such client.
    pub fn subscribe_tagged(&mut self, desk: &mut Desk<'_>, token: u32, channel: &str, tag: u32) -> Option<u32> {
        let log = *self.logs_for_subscriber(token, channel).first()?;
        let (cursor, ..) = self.first_cursor(desk, token, log, StartPosition::Latest);
        self.add_subscription(token, log, cursor);
        self.gauge(desk);
        let number = self.subscribers.clients[token as usize].first;
        self.subscribers.set_tag(number, tag);
        Some(number)
    }

    /// A subscription has another tag from now on.
    pub fn retag(&mut self, number: u32, tag: u32) {
        self.subscribers.set_tag(number, tag);
    }

    /// The subscriptions of a client: the number, the tag and the log's name of each, the latest first.
    pub fn tagged(&self, token: u32) -> impl Iterator<Item = (u32, u32, &str)> {
        self.subscribers.of(token).map(|number| {
            let subscription = self.subscribers.get(number);
            (number, self.subscribers.tag(number), &*self.logs[subscription.log as usize].name)
        })
    }

    fn add_subscription(&mut self, token: u32, number: u32, cursor: Cursor) {
        // A client that pulls is told of gaps by the layer above.
        let pulls = self.subscribers.clients[token as usize].traits.contains(Traits::PULLS);
        let cursor = if pulls { cursor.notified() } else { cursor };
        self.subscribers.add(token, number, &mut self.logs[number as usize], cursor);
        if self.logs[number as usize].is_behind(cursor) {
            self.mark_lagging(self.subscribers.clients[token as usize].first);
        }
    }

    /// Ends a subscription by its number.
    pub fn unsubscribe(&mut self, desk: &mut Desk<'_>, number: u32) {
        let log_number = self.subscribers.get(number).log;
        let log = &mut self.logs[log_number as usize];
        let moved = self.subscribers.remove(number, log);
        let after_loss = log.pass.after_loss > 0;
        if log.is_prefix() && log.subscribers.is_empty() {
            self.linger(desk, log_number);
        }
        if let Some(moved) = moved {
            if after_loss {
                // Sooner twice than not at all.
                self.mark_loss(moved);
            }
            self.deliver_later(moved);
        }
        self.drop_if_unused(log_number);
        self.gauge(desk);
    }

    pub(super) fn unsubscribe_all(&mut self, desk: &mut Desk<'_>, token: u32) {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        numbers.into_iter().for_each(|number| self.unsubscribe(desk, number));
    }

    /// The subscriptions of a client: their numbers by those of their logs.
    pub fn subscriptions(&self, token: u32) -> HashMap<u32, u32> {
        self.subscribers.of(token).map(|number| (self.subscribers.get(number).log, number)).collect()
    }

    /// The logs that there are of a channel or prefix, of the feeds of a route.
    pub fn logs_of<'s>(&'s self, route: u16, channel: &'s str) -> impl Iterator<Item = u32> + 's {
        self.feeds_of(route, channel).filter_map(|feed| self.feeds[usize::from(feed)].find(channel))
    }

    // ---- where to begin ----

    /// The cursor of a new subscription, whether messages behind it are lost, and how many logs and messages were
    /// looked at.
    fn first_cursor(&mut self, desk: &Desk<'_>, token: u32, number: u32, start: StartPosition) -> (Cursor, bool, u64) {
        let snapshot = self.routes[usize::from(self.subscribers.clients[token as usize].route)].snapshot;
        let sequence = match start {
            StartPosition::Latest if snapshot => {
                let steps = self.backfill(number, |log, covered, _| log.backfill_values(covered));
                return (Cursor::conflating(0), false, steps);
            }
            StartPosition::Latest => return (Cursor::at(self.sequence), false, 0),
            StartPosition::Earliest => 0,
            StartPosition::After(sequence) => sequence,
        };
        let steps = self.backfill(number, |log, covered, feed| {
            let gone = feed.low_watermark_below(log.name.trim_end_matches('*'));
            log.backfill(sequence, gone, covered, desk.now(), &feed.settings.keep)
        });
        match self.logs[number as usize].seek(sequence) {
            Ok(cursor) => (cursor, false, steps),
            Err(cursor) => (cursor, true, steps),
        }
    }

    /// Lets the log of a prefix copy messages from the logs of the channels that it covers.
    fn backfill(&mut self, number: u32, backfill: impl FnOnce(&mut ChannelLog, Covered<'_>, &Feed) -> u64) -> u64 {
        if self.logs[number as usize].covers() != Covers::Prefix {
            return 0;
        }
        let empty = ChannelLog::new(0, ("", Covers::Itself), 0, &Keep::NOTHING);
        let mut log = std::mem::replace(&mut self.logs[number as usize], empty);
        let (feed, name) = (&self.feeds[usize::from(log.feed)], log.name.clone());
        let covered = || feed.covered(name.trim_end_matches('*')).map(|log| &self.logs[log as usize]).collect();
        let steps = backfill(&mut log, &covered, feed);
        self.logs[number as usize] = log;
        steps
    }

    /// Where a client begins that names the last message that it was sent, and whether messages are known to be lost.
    /// `channels`: those that it subscribes to now, with their `logs`.
    fn start_position(
        &self,
        token: u32,
        channels: &[String],
        last: Option<&str>,
        logs: &[Vec<u32>],
    ) -> (StartPosition, bool) {
        let Some(last) = last else { return (StartPosition::Latest, false) };
        let route = usize::from(self.subscribers.clients[token as usize].route);
        let is_subscribed = |name: &str| {
            self.subscribers.of(token).any(|it| matches(&self.logs[self.subscribers.get(it).log as usize].name, name))
        };
        let is_wanted = |name: &str| channels.iter().any(|asked| matches(asked, name)) || is_subscribed(name);
        // Of whichever channel the message was, its id tells what was sent of all.
        let feeds = self.routes[route].feeds.iter().map(|&feed| &self.feeds[usize::from(feed)]);
        let own = || feeds.filter_map(|feed| feed.ids.earliest(last, is_wanted)).min();
        match mesh::sequence_of(last, self.epoch).filter(|&it| it <= self.sequence + AHEAD).or_else(own) {
            Some(sequence) => (StartPosition::After(sequence), false),
            None if self.may_be_former(last, logs) => (StartPosition::Earliest, true),
            None => (StartPosition::Latest, true),
        }
    }

    /// Whether an unknown id may be that of a message: of a former run of the server, or the feed's own and evicted.
    fn may_be_former(&self, last: &str, logs: &[Vec<u32>]) -> bool {
        let other_epoch = last.split_once('-').is_some_and(|(epoch, sequence)| {
            mesh::epoch_of(epoch).is_some_and(|it| it != self.epoch) && sequence.parse::<u64>().is_ok()
        });
        other_epoch || logs.iter().flatten().any(|&log| self.logs[log as usize].has_own_ids())
    }
}
