//! How a client comes in, how it is spoken to, and how it is sent away: by transport.

use super::Broadcast;
use super::commands::{ID_BYTES, tell};
use super::requests::{self, SubscribeRequest, Transport};
use super::settings::BroadcastPlan;
use super::subscribers::{Client, Traits};
use super::words::{self, Gap};
use crate::mesh::{self, Body, Cause, Form, Frame};
use crate::shard::service::{Desk, Payload};
use crate::shard::slab::Handle;
use edgehold_wire::http1::{self, Head};
use edgehold_wire::sse;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;
use edgehold_wire::ws::CloseCode;

/// Spaces that fill the buffers on the way of a client whose proxy waits for more.
const PADDING: usize = 2048;

/// Fields of every stream: nothing on the way is to keep it, or to keep it back (`X-Accel-Buffering`: nginx).
const STREAM: [(&str, &str); 2] = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];

/// Fields of an answer that depend on who asks.
type Fields = Vec<(&'static str, String)>;

impl Broadcast {
    /// A request for a broadcast route. `path`: the route's.
    pub fn open(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, route: u16, path: &str) {
        let settings = self.settings.clone();
        let settings = &settings[usize::from(route)];
        let cors = cors(head, settings);
        let allow = [("Allow", "GET, HEAD, OPTIONS")];
        match head.method {
            "GET" | "HEAD" => {}
            "OPTIONS" => return preflight(desk, who, &cors),
            _ => return desk.refuse(who, Status::METHOD_NOT_ALLOWED, &allow, "a feed can only be read"),
        }
        let fields: Vec<(&'static str, &str)> = cors.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = match self.request(head, settings, path) {
            Ok(request) => request,
            Err((status, words)) => return desk.refuse(who, status, &fields, words),
        };
        match request.transport {
            Transport::WebSocket => self.open_socket(desk, who, head, route, &request),
            Transport::Poll => self.open_poll(desk, who, route, &request, &fields),
            _ if desk.is_head_only(who) => {
                desk.begin_answer(who, Status::OK, &stream_fields(&request, &fields), None);
                desk.finish_answer(who);
            }
            _ => self.open_stream(desk, who, route, &request, &fields),
        }
    }

    /// What is asked, if it is allowed.
    fn request(
        &self,
        head: &Head<'_, '_>,
        settings: &BroadcastPlan,
        path: &str,
    ) -> Result<SubscribeRequest, (Status, &'static str)> {
        let mut request = requests::read(head, settings, path).map_err(|words| (Status::BAD_REQUEST, words))?;
        if request.last.as_ref().is_some_and(|last| last.len() > ID_BYTES) {
            return Err((Status::BAD_REQUEST, "an id is 255 bytes at most"));
        }
        if request.channels.is_empty() {
            let may_ask = settings.subscribe && request.transport == Transport::WebSocket;
            match self.only_channel(settings) {
                Some(only) => request.channels = only,
                None if may_ask => {}
                None => return Err((Status::BAD_REQUEST, "name a channel: ?channel=…")),
            }
        }
        request.channels.sort_unstable();
        request.channels.dedup();
        if request.channels.len() > settings.subscriptions_max as usize {
            return Err((Status::BAD_REQUEST, "more channels than subscriptions_max"));
        }
        match request.channels.iter().find_map(|channel| self.forbids(settings, channel)) {
            Some(words) => Err((Status::FORBIDDEN, words)),
            None => Ok(request),
        }
    }

    /// Where there is but one channel it need not be named.
    fn only_channel(&self, settings: &BroadcastPlan) -> Option<Vec<String>> {
        let own = |feed: &u16| self.feeds[usize::from(*feed)].settings.channel.clone();
        let mut channels = match settings.channels.is_empty() {
            true => settings.feeds.iter().map(own).collect::<Option<Vec<_>>>()?,
            false => settings.channels.clone(),
        };
        channels.sort_unstable();
        channels.dedup();
        Some(channels).filter(|channels| channels.len() == 1 && !channels[0].ends_with('*'))
    }

    /// Why a client may not have a channel.
    pub(super) fn forbids(&self, settings: &BroadcastPlan, channel: &str) -> Option<&'static str> {
        let carried = settings.feeds.iter().any(|&feed| self.feeds[usize::from(feed)].settings.may_carry(channel));
        match (settings.allows(channel), carried) {
            (false, _) => Some("this route does not let clients have this channel"),
            (true, false) => Some("no feed of this route has this channel"),
            (true, true) => None,
        }
    }

    pub(super) fn add_client(&mut self, desk: &Desk<'_>, who: Handle, route: u16, form: Form, traits: Traits) -> u32 {
        self.subscribers.reserve(desk.slots());
        self.subscribers.clients.insert(Client::new(who, route, form, traits)) as u32
    }

    /// Subscribes a new client to all that it asked for; the channels of which it has lost something.
    pub(super) fn begin(&mut self, desk: &mut Desk<'_>, token: u32, request: &SubscribeRequest) -> Vec<String> {
        self.subscribe(desk, token, &request.channels, request.last.as_deref()).0
    }

    // ---- WebSocket ----

    fn open_socket(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        head: &Head<'_, '_>,
        route: u16,
        request: &SubscribeRequest,
    ) {
        let Ok(mut opening) = upgrade::check(head) else { return super::super::gate::refuse_opening(desk, who, head) };
        // A message is deflated once for all, so it refers to nothing that one client was sent before.
        opening.deflate.iter_mut().for_each(|agreed| agreed.server_takeover = false);
        let form = self.settings[usize::from(route)].form(Frame::WebSocket);
        let token = self.add_client(desk, who, route, form, Traits::empty());
        desk.take(who, token);
        desk.prepare_upgrade(who, &opening, None);
        desk.upgrade(who);
        if desk.takes_deflated(who).is_some() {
            self.subscribers.clients[token as usize].form.frame = Frame::Deflated;
        }
        self.begin(desk, token, request);
        desk.follow(who);
    }

    // ---- streams ----

    fn open_stream(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        route: u16,
        request: &SubscribeRequest,
        fields: &[(&str, &str)],
    ) {
        let settings = self.settings.clone();
        let settings = &settings[usize::from(route)];
        let token = self.add_client(desk, who, route, settings.form(Frame::Piece), Traits::empty());
        desk.take(who, token);
        let lost = self.begin(desk, token, request);
        let mut fields = stream_fields(request, fields);
        if !lost.is_empty() {
            // The one way to tell it where only payloads are sent.
            fields.push(("Edgehold-Gap", "yes"));
        }
        let chunked = desk.begin_stream(who, &fields);
        self.subscribers.clients[token as usize].form = form(request.transport, settings.body, chunked);
        let said = preamble(request, settings);
        self.say(desk, token, &said);
        desk.follow(who);
    }

    /// Bytes of the body of a stream.
    fn say(&self, desk: &mut Desk<'_>, token: u32, bytes: &[u8]) {
        let Client { who, form, .. } = self.subscribers.clients[token as usize];
        match form.frame {
            Frame::EventChunk | Frame::PieceChunk => desk.write(who, &http1::chunk(bytes)),
            _ => desk.write(who, bytes),
        };
    }

    /// A stream was quiet.
    pub fn quiet(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some(client) = self.subscribers.clients.get(token as usize) else { return };
        match (client.form.frame, client.form.body) {
            _ if client.traits.contains(Traits::POLLS) => {}
            // What waits for it keeps the road open, if it takes anything.
            _ if desk.pending(client.who) > 0 => {}
            (Frame::Event | Frame::EventChunk, _) => self.say(desk, token, sse::COMMENT),
            (Frame::Piece | Frame::PieceChunk, Body::Json) => self.say(desk, token, b"\n"),
            // Nothing can be said between payloads that would not be taken for one.
            _ => {}
        }
    }

    /// Something that the client wanted to hear is gone.
    pub(super) fn tell_gap(&self, desk: &mut Desk<'_>, token: u32, gap: &Gap) {
        desk.counters().gaps_told += 1;
        let Client { who, form, route, .. } = self.subscribers.clients[token as usize];
        let (json, event) = (gap.json(), &self.settings[usize::from(route)].gap_event);
        match (form.frame, form.body) {
            (Frame::WebSocket | Frame::Deflated, _) => drop(tell(desk, who, &json)),
            (Frame::Event | Frame::EventChunk, _) => self.say(desk, token, &words::event(event, &json)),
            (Frame::Piece | Frame::PieceChunk, Body::Json) => self.say(desk, token, format!("{json}\n").as_bytes()),
            (Frame::Piece | Frame::PieceChunk, Body::Plain) => {}
        }
    }

    // ---- ends ----

    /// Sends a client away.
    pub(super) fn close(&self, desk: &mut Desk<'_>, token: u32, code: CloseCode, words: &str, cause: Cause) {
        let Client { who, form, .. } = self.subscribers.clients[token as usize];
        match form.frame {
            Frame::WebSocket | Frame::Deflated => desk.close_because(who, code, words, cause),
            // The body has no other way to say that it is not whole.
            _ => desk.cut(who, cause),
        }
    }

    /// The server is stopping.
    pub fn drain(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.subscribers.clients.get(token as usize) else { return };
        if client.traits.contains(Traits::POLLS) {
            return self.finish_poll(desk, token, &[]);
        }
        let tail = match client.form.frame {
            Frame::WebSocket | Frame::Deflated => {
                return desk.close(who, CloseCode::GOING_AWAY, "the server is stopping");
            }
            Frame::EventChunk | Frame::PieceChunk => http1::LAST_CHUNK,
            Frame::Event | Frame::Piece => b"",
        };
        self.closed(desk, token);
        desk.end_stream(who, tail);
    }

    /// The id of the last message that has come, of any channel.
    pub(super) fn last_id(&self) -> String {
        mesh::id(self.epoch, self.heard)
    }
}

/// How a message is laid out for a client: small ones are not deflated.
pub(super) fn form_of(desk: &Desk<'_>, client: &Client, payload: &Payload) -> Form {
    let small =
        client.form.frame == Frame::Deflated && payload.payload().len() < desk.limits(client.who).deflate.min_bytes;
    if small { Form { frame: Frame::WebSocket, ..client.form } } else { client.form }
}

fn form(transport: Transport, body: Body, chunked: bool) -> Form {
    let frame = match (transport, chunked) {
        (Transport::Events, true) => Frame::EventChunk,
        (Transport::Events, false) => Frame::Event,
        (_, true) => Frame::PieceChunk,
        (_, false) => Frame::Piece,
    };
    let body = match transport {
        Transport::Lines => Body::Json,
        Transport::Raw => Body::Plain,
        _ => body,
    };
    Form { body, frame }
}

/// What a stream begins with.
fn preamble(request: &SubscribeRequest, settings: &BroadcastPlan) -> Vec<u8> {
    let mut said = Vec::new();
    let spaces = if request.buffered { " ".repeat(PADDING) } else { String::new() };
    match request.transport {
        Transport::Events => {
            if request.buffered {
                said.extend_from_slice(format!(":{spaces}\n").as_bytes());
            }
            sse::retry(&mut said, settings.retry_millis);
        }
        Transport::Lines if request.buffered => said.extend_from_slice(format!("{spaces}\n").as_bytes()),
        _ => {}
    }
    said
}

fn stream_fields<'f>(request: &SubscribeRequest, fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let media = match request.transport {
        Transport::Events => sse::MEDIA_TYPE,
        Transport::Lines => "application/x-ndjson",
        _ => "application/octet-stream",
    };
    [&STREAM[..], &[("Content-Type", media)], fields].concat()
}

/// Who may read the answer from a page of another origin (the Fetch standard's CORS check).
fn cors(head: &Head<'_, '_>, settings: &BroadcastPlan) -> Fields {
    let mut fields = Fields::new();
    if settings.allow_origin.is_empty() {
        return fields;
    }
    fields.push(("Vary", "Origin".into()));
    let Some(origin) = head.get("Origin").and_then(|it| str::from_utf8(it).ok()) else { return fields };
    let named = settings.allow_origin.iter().any(|it| it.eq_ignore_ascii_case(origin));
    if named || settings.allow_origin.iter().any(|it| it == "*") {
        fields.push(("Access-Control-Allow-Origin", origin.into()));
        fields.push(("Access-Control-Expose-Headers", "Last-Event-ID, Edgehold-Gap".into()));
        if named && settings.allow_credentials {
            fields.push(("Access-Control-Allow-Credentials", "true".into()));
        }
    }
    fields
}

fn preflight(desk: &mut Desk<'_>, who: Handle, cors: &Fields) {
    let mut fields: Vec<(&str, &str)> = cors.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.extend([
        ("Allow", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Headers", "Last-Event-ID, Cache-Control"),
        ("Access-Control-Max-Age", "600"),
    ]);
    desk.begin_answer(who, Status::NO_CONTENT, &fields, None);
    desk.finish_answer(who);
}
