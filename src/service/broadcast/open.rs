//! How a client begins: its request is checked and answered by transport, and its first subscriptions are made.

use super::patterns::Leave;
use super::requests::{self, SubscribeRequest, Transport};
use super::settings::BroadcastPlan;
use super::transport::{stream_form, write};
use super::{Broadcast, Template};
use crate::mesh::{Frame, Identity};
use crate::service::fanout::Traits;
use crate::service::{Request, gate};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::sse;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;

/// Bytes of an id, at most.
pub(super) const ID_BYTES: usize = 255;

/// Spaces that fill the buffers of proxies on the way, which may hold small pieces back until there are more.
const PADDING: usize = 2048;

/// Fields of every stream: nothing on the way is to keep it, or to hold it back (`X-Accel-Buffering`: nginx).
const STREAM: [(&str, &str); 2] = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];

impl Broadcast {
    /// Answers a request for the broadcast route of this number.
    pub(super) fn answer_request(&mut self, desk: &mut Desk<'_>, asked: &Request<'_, '_>, route: u16) {
        let Request { who, head, path, .. } = *asked;
        let allow = [("Allow", "GET, HEAD, OPTIONS")];
        match head.method {
            "GET" | "HEAD" => {}
            "OPTIONS" => {
                desk.begin_answer(who, Status::NO_CONTENT, &allow, None);
                return desk.finish_answer(who);
            }
            _ => return desk.refuse(who, Status::METHOD_NOT_ALLOWED, &allow, "a feed can only be read"),
        }
        let identity = desk.identity(who).cloned();
        let request = match self.check(head, (route, path), identity.as_deref()) {
            Ok(request) => request,
            Err((status, words)) => return desk.refuse(who, status, &[], words),
        };
        match request.transport {
            Transport::WebSocket => self.open_socket(desk, asked, route, &request),
            Transport::Poll => self.open_poll(desk, who, route, &request),
            _ if desk.is_head_only(who) => {
                desk.begin_answer(who, Status::OK, &stream_fields(&request), None);
                desk.finish_answer(who);
            }
            _ => self.open_stream(desk, who, route, &request),
        }
    }

    /// Reads a request, and checks it against what the route allows.
    ///
    /// # Errors
    /// The status of the refusal, and its words.
    fn check(
        &self,
        head: &Head<'_, '_>,
        (route, path): (u16, &str),
        identity: Option<&Identity>,
    ) -> Result<SubscribeRequest, (Status, &'static str)> {
        let plan = &self.route(route).plan;
        let mut request = requests::read(head, plan, path).map_err(|words| (Status::BAD_REQUEST, words))?;
        if request.last.as_ref().is_some_and(|last| last.len() > ID_BYTES) {
            return Err((Status::BAD_REQUEST, "an id is 255 bytes at most"));
        }
        if request.channels.is_empty() {
            let by_command = plan.subscribe && request.transport == Transport::WebSocket;
            match self.only_channel(plan, route, identity) {
                Some(only) => request.channels = only,
                None if by_command => {}
                None => return Err((Status::BAD_REQUEST, "name a channel: ?channel=…")),
            }
        }
        request.channels.sort_unstable();
        request.channels.dedup();
        if request.channels.len() > plan.subscriptions_max as usize {
            return Err((Status::BAD_REQUEST, "more channels than subscriptions_max"));
        }
        match request.channels.iter().find_map(|channel| self.forbids(route, channel, identity)) {
            Some(words) => Err((Status::FORBIDDEN, words)),
            None => Ok(request),
        }
    }

    /// The channel of a route that has but one; it need not be named.
    fn only_channel(&self, plan: &BroadcastPlan, route: u16, identity: Option<&Identity>) -> Option<Vec<String>> {
        let of_client = |pattern: &String| {
            if Template::is_one(pattern) { Template::new(pattern).of(identity?) } else { Some(pattern.clone()) }
        };
        let mut channels = if plan.channels.is_empty() {
            self.fanout.own_channels(route)?
        } else {
            plan.channels.iter().filter_map(of_client).collect()
        };
        channels.sort_unstable();
        channels.dedup();
        Some(channels).filter(|channels| channels.len() == 1 && !channels[0].ends_with('*'))
    }

    /// Why a client may not subscribe to a channel; `None`: it may.
    pub(super) fn forbids(&self, route: u16, channel: &str, identity: Option<&Identity>) -> Option<&'static str> {
        match self.route(route).patterns.leave(channel, identity) {
            Leave::NotOfRoute => Some("this route does not let clients have this channel"),
            Leave::NeedsRole => Some("this channel needs a role that you do not have"),
            Leave::Given if self.fanout.carriers(route, channel) == 0 => Some("no feed of this route has this channel"),
            Leave::Given => None,
        }
    }

    /// Subscribes a new client to all that it asked for; returns the channels of which messages are lost for it.
    pub(super) fn subscribe_first(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        request: &SubscribeRequest,
    ) -> Vec<String> {
        self.fanout.subscribe(desk, token, &request.channels, request.last.as_deref()).lost
    }

    fn open_socket(&mut self, desk: &mut Desk<'_>, asked: &Request<'_, '_>, route: u16, request: &SubscribeRequest) {
        let (who, head, stand_in) = (asked.who, asked.head, asked.protocol(&[]));
        let Ok(mut opening) = upgrade::check(head) else { return gate::refuse_opening(desk, who, head) };
        // A message is deflated once for all, so it refers to nothing that one client was sent before.
        opening.deflate.iter_mut().for_each(|deflate| deflate.server_takeover = false);
        let mut form = self.route(route).plan.form(Frame::WebSocket);
        let token = self.fanout.add_client(desk, who, route, form, Traits::empty());
        desk.take(who, token);
        desk.prepare_upgrade(who, &opening, stand_in);
        desk.upgrade(who);
        if desk.takes_deflated(who).is_some() {
            form.frame = Frame::Deflated;
        }
        if let Some(client) = self.fanout.client_mut(token) {
            client.form = form;
        }
        self.subscribe_first(desk, token, request);
        desk.follow(who);
    }

    fn open_stream(&mut self, desk: &mut Desk<'_>, who: Handle, route: u16, request: &SubscribeRequest) {
        let its = self.route(route).clone();
        let plan = &its.plan;
        let token = self.fanout.add_client(desk, who, route, plan.form(Frame::Piece), Traits::empty());
        desk.take(who, token);
        let lost = self.subscribe_first(desk, token, request);
        let mut fields = stream_fields(request);
        if !lost.is_empty() {
            // Where only payloads are sent there is no other way to tell.
            fields.push(("Edgehold-Gap", "yes"));
        }
        let chunked = desk.begin_stream(who, &fields);
        if let Some(client) = self.fanout.client_mut(token) {
            client.form = stream_form(request.transport, plan.body, chunked);
            write(desk, client, &preamble(request, plan));
        }
        desk.follow(who);
    }
}

/// What the body of a stream begins with; may be empty.
fn preamble(request: &SubscribeRequest, plan: &BroadcastPlan) -> Vec<u8> {
    let mut bytes = Vec::new();
    let spaces = if request.buffered { " ".repeat(PADDING) } else { String::new() };
    match request.transport {
        Transport::Events => {
            if request.buffered {
                bytes.extend_from_slice(format!(":{spaces}\n").as_bytes());
            }
            sse::retry(&mut bytes, plan.retry_millis);
        }
        Transport::Lines if request.buffered => bytes.extend_from_slice(format!("{spaces}\n").as_bytes()),
        _ => {}
    }
    bytes
}

fn stream_fields(request: &SubscribeRequest) -> Vec<(&'static str, &'static str)> {
    let media = match request.transport {
        Transport::Events => sse::MEDIA_TYPE,
        Transport::Lines => "application/x-ndjson",
        _ => "application/octet-stream",
    };
    [&STREAM[..], &[("Content-Type", media)]].concat()
}
