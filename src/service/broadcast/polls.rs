//! Long polls: one response with the messages behind an id, or with those that come next.

use super::requests::SubscribeRequest;
use super::transport::gap_json;
use super::{Broadcast, protocol};
use crate::mesh::{Body, Form, Frame, ServiceKind};
use crate::service::fanout::{Client, Traits};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::status::Status;
use std::collections::{BTreeMap, VecDeque};

/// The form of messages in the response: the envelope.
const FORM: Form = Form { body: Body::Json, frame: Frame::Piece };

/// The long polls that wait.
#[derive(Default)]
pub(super) struct Polls {
    /// By the ticks for which they wait: the first of each list ends first.
    waiting: BTreeMap<u32, VecDeque<Poll>>,
    /// The tick in which expired ones were last looked for.
    ticked: u32,
}

struct Poll {
    /// The tick in which it is answered at the latest; [`Client::waits`] holds it, too.
    until: u32,
    client: u32,
    who: Handle,
}

impl Polls {
    /// Takes the polls whose time is over, and forgets lists that are empty.
    fn take_expired(&mut self, now: u32) -> Vec<Poll> {
        let mut expired = Vec::new();
        for waiting in self.waiting.values_mut() {
            let count = waiting.partition_point(|poll| poll.until <= now);
            expired.extend(waiting.drain(..count));
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        expired
    }
}

impl Broadcast {
    /// Answers a long poll if there is something behind its id, else lets it wait.
    pub(super) fn open_poll(&mut self, desk: &mut Desk<'_>, who: Handle, route: u16, request: &SubscribeRequest) {
        let token = self.fanout.add_client(desk, who, route, FORM, Traits::PULLS);
        let lost = self.subscribe_first(desk, token, request);
        desk.counters().gaps_told += lost.len() as u64;
        let gone = self.route(route).plan.poll_gone;
        if !lost.is_empty() && gone {
            return self.refuse_poll(desk, who, token, request);
        }
        let gaps = self.poll_gaps(token, &lost, request);
        desk.take(who, token);
        if self.fanout.is_behind(token) || desk.is_head_only(who) || !gaps.is_empty() {
            return self.answer_poll(desk, token, &gaps);
        }
        self.wait(desk, who, token, route);
    }

    fn wait(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, route: u16) {
        desk.follow(who);
        let ticks = self.route(route).plan.poll_ticks;
        let until = desk.now() + ticks;
        if let Some(client) = self.fanout.client_mut(token) {
            client.waits = until;
        }
        self.polls.waiting.entry(ticks).or_default().push_back(Poll { until, client: token, who });
    }

    /// Answers 410: messages behind the poll's id are lost. `Last-Event-ID` is the id behind which nothing is.
    fn refuse_poll(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, request: &SubscribeRequest) {
        let from = self.fanout.skip_lost(token);
        let body: String =
            self.poll_gaps(token, &request.channels, request).iter().map(|gap| gap.clone() + "\n").collect();
        self.closed(desk, token);
        let fields = [("Content-Type", "application/json"), ("Last-Event-ID", &*from)];
        desk.count_refusal(Status::GONE);
        desk.answer(who, Status::GONE, &fields, body.as_bytes());
    }

    /// The notices of gaps in these channels behind the poll's id.
    fn poll_gaps(&self, token: u32, channels: &[String], request: &SubscribeRequest) -> Vec<String> {
        let gap = |channel: &String| gap_json(&self.fanout.gap(token, channel, request.last.clone()));
        channels.iter().map(gap).collect()
    }

    /// Answers a poll with all that has come until now, as far as it goes into one response; with 204 where that is
    /// nothing. `gaps`: notices that go with it.
    pub(super) fn answer_poll(&mut self, desk: &mut Desk<'_>, token: u32, gaps: &[String]) {
        let Some(client) = self.fanout.client(token) else { return };
        let who = client.who;
        let (messages, last) = self.collect(desk, who, token);
        let last = last.unwrap_or_else(|| self.fanout.resume_id(token));
        let fields = [("Cache-Control", "no-store"), ("Last-Event-ID", &*last), ("Content-Type", "application/json")];
        self.closed(desk, token);
        desk.unfollow(who);
        desk.release(who);
        if messages.is_empty() && gaps.is_empty() && !desk.is_head_only(who) {
            desk.begin_answer(who, Status::NO_CONTENT, &fields[..2], None);
            return desk.finish_answer(who);
        }
        desk.answer(who, Status::OK, &fields, protocol::poll(&last, &messages, gaps).as_bytes());
    }

    /// Messages for one response, of about `max_pending` bytes, and the id of the last of them.
    fn collect(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) -> (Vec<String>, Option<String>) {
        let most = desk.limits(who).max_pending;
        let (mut messages, mut last, mut bytes) = (Vec::new(), None, 0);
        self.fanout.pull(token, |payload| {
            let line = payload.form_once(FORM);
            bytes += line.len();
            messages.push(String::from_utf8_lossy(&line).trim_end().into());
            last = Some(payload.id());
            bytes < most
        });
        desk.counters().messages_out[ServiceKind::Broadcast as usize] += messages.len() as u64;
        (messages, last)
    }

    /// Answers polls that have waited for as long as their routes say; looks for them once a tick.
    pub(super) fn end_polls(&mut self, desk: &mut Desk<'_>) {
        if std::mem::replace(&mut self.polls.ticked, desk.now()) == desk.now() {
            return;
        }
        for poll in self.polls.take_expired(desk.now()) {
            // The connection may have been answered since, and wait again.
            let waits = |it: &Client| it.who == poll.who && it.waits == poll.until;
            let client = self.fanout.client(poll.client).filter(|it| waits(it));
            if client.is_some_and(|it| it.traits.contains(Traits::PULLS)) {
                self.answer_poll(desk, poll.client, &[]);
            }
        }
    }
}
