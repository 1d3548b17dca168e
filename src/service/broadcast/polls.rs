//! Long polls: one answer with what has come behind an id, or what comes next.

use super::Broadcast;
use super::requests::SubscribeRequest;
use super::subscribers::{Client, Traits};
use crate::mesh::{self, Body, Form, Frame};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::status::Status;

/// A long poll that waits.
pub(super) struct Poll {
    until: u32,
    client: u32,
    who: Handle,
}

impl Broadcast {
    /// A request for what comes behind an id.
    pub(super) fn open_poll(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        route: u16,
        request: &SubscribeRequest,
        fields: &[(&'static str, &str)],
    ) {
        let settings = self.settings.clone();
        let settings = &settings[usize::from(route)];
        let form = Form { body: Body::Json, frame: Frame::Piece };
        let token = self.add_client(desk, who, route, form, Traits::POLLS);
        let lost = self.begin(desk, token, request);
        let told = self.poll_gaps(token, &lost, request);
        desk.counters().gaps_told += lost.len() as u64;
        if !lost.is_empty() && settings.poll_gone {
            let (from, body) = self.pass_gaps(token, request);
            self.closed(desk, token);
            let fields = [fields, &[("Content-Type", "application/json"), ("Last-Event-ID", &from)]].concat();
            desk.count_refusal(Status::GONE);
            return desk.answer(who, Status::GONE, &fields, body.as_bytes());
        }
        desk.take(who, token);
        if !fields.is_empty() {
            self.origins.insert(token, fields.iter().map(|(name, value)| (*name, (*value).into())).collect());
        }
        if self.has_something(token) || desk.is_head_only(who) || !lost.is_empty() {
            return self.finish_poll(desk, token, &told);
        }
        desk.follow(who);
        let until = desk.now() + settings.poll_ticks;
        self.subscribers.clients[token as usize].waits = until;
        self.polls[usize::from(route)].push_back(Poll { until, client: token, who });
    }

    fn poll_gaps(&self, token: u32, lost: &[String], request: &SubscribeRequest) -> Vec<String> {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        lost.iter().map(|channel| self.gap(&numbers, channel, request.last.clone()).json()).collect()
    }

    /// The id from which nothing is missing any more, and what is missing up to there: a poll from the oldest message
    /// of one channel would be told again of what is gone of another.
    fn pass_gaps(&mut self, token: u32, request: &SubscribeRequest) -> (String, String) {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        let log = |number: &u32| &self.logs[self.subscribers.get(*number).log as usize];
        let oldest = numbers.iter().filter_map(|it| log(it).sequence_before(self.subscribers.get(*it).cursor)).min();
        let gone = numbers.iter().map(|it| log(it).gone()).max().unwrap_or(0);
        let from = oldest.unwrap_or(self.heard).max(gone);
        for &number in &numbers {
            let behind = self.logs[self.subscribers.get(number).log as usize].behind(from);
            self.subscribers.set(number, behind.unwrap_or_else(|oldest| oldest));
        }
        let gap = |channel: &String| self.gap(&numbers, channel, request.last.clone()).json() + "\n";
        (mesh::id(self.epoch, from), request.channels.iter().map(gap).collect())
    }

    fn has_something(&self, token: u32) -> bool {
        self.subscribers.of(token).any(|number| self.is_behind(number))
    }

    /// Something has come for a poll.
    pub(super) fn answer_poll(&mut self, desk: &mut Desk<'_>, token: u32) {
        self.finish_poll(desk, token, &[]);
    }

    /// All that has come until now, as far as it goes into one answer.
    pub(super) fn finish_poll(&mut self, desk: &mut Desk<'_>, token: u32, gaps: &[String]) {
        let (messages, last) = self.collect(desk, token);
        let nothing = messages.is_empty() && gaps.is_empty();
        let last = last.unwrap_or_else(|| self.last_seen(token));
        let who = self.subscribers.clients[token as usize].who;
        let own = self.origins.remove(&token).unwrap_or_default();
        let mut fields: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fields.extend([("Cache-Control", "no-store"), ("Last-Event-ID", &last)]);
        self.closed(desk, token);
        desk.unfollow(who);
        desk.release(who);
        if nothing && !desk.is_head_only(who) {
            desk.begin_answer(who, Status::NO_CONTENT, &fields, None);
            return desk.finish_answer(who);
        }
        fields.push(("Content-Type", "application/json"));
        let list = |parts: &[String]| parts.join(",");
        let gaps = if gaps.is_empty() { String::new() } else { format!(r#","gaps":[{}]"#, list(gaps)) };
        let last = serde_json::Value::from(last.as_str());
        let body = format!("{{\"last\":{last},\"messages\":[{}]{gaps}}}\n", list(&messages));
        desk.answer(who, Status::OK, &fields, body.as_bytes());
    }

    /// Messages for one answer, and the id of the last of them.
    fn collect(&mut self, desk: &mut Desk<'_>, token: u32) -> (Vec<String>, Option<String>) {
        let most = desk.limits(self.subscribers.clients[token as usize].who).max_pending;
        let (mut messages, mut last, mut bytes) = (Vec::new(), None, 0);
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        while bytes < most {
            let Some(payload) = self.take_next(&numbers) else { break };
            let form = Form { body: Body::Json, frame: Frame::Piece };
            let line = payload.form_once(form);
            bytes += line.len();
            messages.push(String::from_utf8_lossy(&line).trim_end().into());
            last = Some(payload.id());
        }
        desk.counters().messages_out[mesh::ServiceKind::Broadcast as usize] += messages.len() as u64;
        (messages, last)
    }

    /// Polls that have waited long enough.
    pub(super) fn end_polls(&mut self, desk: &mut Desk<'_>) {
        for route in 0..self.polls.len() {
            while self.polls[route].front().is_some_and(|poll| poll.until <= desk.now()) {
                let Some(poll) = self.polls[route].pop_front() else { break };
                // The connection may have been answered since, and ask again.
                let waits = |it: &Client| it.who == poll.who && it.waits == poll.until;
                let client = self.subscribers.clients.get(poll.client as usize).filter(|it| waits(it));
                if client.is_some_and(|it| it.traits.contains(Traits::POLLS)) {
                    self.finish_poll(desk, poll.client, &[]);
                }
            }
        }
    }
}
