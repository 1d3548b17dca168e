//! How a client comes in, how it is spoken to, and how it is sent away: by transport.

use super::requests::{self, Transport, Wish};
use super::roll::{Client, NONE, Traits};
use super::settings::Settings;
use super::words::{self, Gap, Order};
use super::{Broadcast, Poll};
use crate::mesh::{self, Body, Cause, Form, Frame};
use crate::shard::door::{self, Desk, Payload, Room};
use crate::shard::slab::Handle;
use edgehold_wire::http1::{self, Head};
use edgehold_wire::sse;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;
use edgehold_wire::ws::{CloseCode, Opcode};

/// What a client may say in one message.
const ORDER_BYTES: usize = 64 << 10;

/// Spaces that fill the buffers on the way of a client whose proxy waits for more.
const PADDING: usize = 2048;

/// Fields of every stream: nothing on the way is to keep it, or to keep it back (`X-Accel-Buffering`: nginx).
const STREAM: [(&str, &str); 2] = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];

/// Fields of an answer that depend on who asks.
type Fields = Vec<(&'static str, String)>;

impl Broadcast {
    /// A request for a broadcast route. `path`: the route's.
    pub fn open(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>, route: u16, path: &str) {
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
        let wish = match self.wish(head, settings, path) {
            Ok(wish) => wish,
            Err((status, words)) => return desk.refuse(who, status, &fields, words),
        };
        match wish.transport {
            Transport::WebSocket => self.open_socket(desk, who, head, route, &wish),
            Transport::Poll => self.open_poll(desk, who, route, &wish, &fields),
            _ if desk.is_head_only(who) => {
                desk.begin_answer(who, Status::OK, &stream_fields(&wish, &fields), None);
                desk.finish_answer(who);
            }
            _ => self.open_stream(desk, who, route, &wish, &fields),
        }
    }

    /// What is asked, if it is allowed.
    fn wish(&self, head: &Head<'_, '_>, settings: &Settings, path: &str) -> Result<Wish, (Status, &'static str)> {
        let mut wish = requests::read(head, settings, path).map_err(|words| (Status::BAD_REQUEST, words))?;
        if wish.channels.is_empty() && !(settings.subscribe && wish.transport == Transport::WebSocket) {
            wish.channels = self.only_channel(settings).ok_or((Status::BAD_REQUEST, "name a channel: ?channel=…"))?;
        }
        wish.channels.sort_unstable();
        wish.channels.dedup();
        if wish.channels.len() > settings.subscriptions_max as usize {
            return Err((Status::BAD_REQUEST, "more channels than subscriptions_max"));
        }
        match wish.channels.iter().find_map(|channel| self.forbids(settings, channel)) {
            Some(words) => Err((Status::FORBIDDEN, words)),
            None => Ok(wish),
        }
    }

    /// Where there is but one channel it need not be named.
    fn only_channel(&self, settings: &Settings) -> Option<Vec<String>> {
        let own = |feed: &u16| self.feeds[usize::from(*feed)].settings.channel.clone();
        let channels = match settings.channels.is_empty() {
            true => settings.feeds.iter().map(own).collect::<Option<Vec<_>>>()?,
            false => settings.channels.clone(),
        };
        Some(channels).filter(|channels| channels.iter().all(|channel| !channel.ends_with('*')))
    }

    /// Why a client may not have a channel.
    fn forbids(&self, settings: &Settings, channel: &str) -> Option<&'static str> {
        let carried = settings.feeds.iter().any(|&feed| self.feeds[usize::from(feed)].settings.may_carry(channel));
        match (settings.allows(channel), carried) {
            (false, _) => Some("this route does not let clients have this channel"),
            (true, false) => Some("no feed of this route has this channel"),
            (true, true) => None,
        }
    }

    fn enroll(&mut self, desk: &Desk, who: Handle, route: u16, form: Form, traits: Traits) -> u32 {
        self.roll.reserve(desk.slots());
        let client = Client { who, first: NONE, count: 0, route, form, traits };
        self.roll.clients.insert(client) as u32
    }

    /// Subscribes a new client to all that it asked for; what it has lost.
    fn begin(&mut self, desk: &mut Desk, token: u32, wish: &Wish) -> Vec<Gap> {
        let last = wish.last.as_deref();
        wish.channels.iter().filter_map(|channel| self.subscribe(desk, token, channel, last)).collect()
    }

    // ---- WebSocket ----

    fn open_socket(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>, route: u16, wish: &Wish) {
        let Ok(opening) = upgrade::check(head) else { return super::super::gate::refuse_opening(desk, who, head) };
        let form = self.settings[usize::from(route)].form(Frame::WebSocket);
        let token = self.enroll(desk, who, route, form, Traits::empty());
        desk.take(who, token);
        desk.prepare_upgrade(who, &opening, None);
        desk.upgrade(who);
        if desk.takes_deflated(who).is_some() {
            self.roll.clients[token as usize].form.frame = Frame::Deflated;
        }
        let gaps = self.begin(desk, token, wish);
        gaps.iter().for_each(|gap| self.tell_gap(desk, token, gap));
        desk.follow(who);
    }

    /// A client says something: it wants to hear more, or less.
    pub fn frame(&mut self, desk: &mut Desk, who: Handle, token: u32, frame: door::Frame<'_>) {
        match frame {
            door::Frame::Piece { first: true, last: true, payload, .. } => self.ordered(desk, who, token, payload),
            door::Frame::Piece { last, payload, .. } => {
                let said = self.partial.entry(token).or_default();
                if said.len() <= ORDER_BYTES {
                    said.extend_from_slice(payload);
                }
                if let Some(said) = last.then(|| self.partial.remove(&token)).flatten() {
                    self.ordered(desk, who, token, &said);
                }
            }
            door::Frame::End(code) => desk.close(who, code.unwrap_or(CloseCode::NORMAL), ""),
            door::Frame::Bytes(_) => {}
        }
    }

    fn ordered(&mut self, desk: &mut Desk, who: Handle, token: u32, said: &[u8]) {
        let Some(client) = self.roll.clients.get(token as usize) else { return };
        let settings = self.settings.clone();
        let settings = &settings[usize::from(client.route)];
        let room = match words::order(said) {
            _ if !settings.subscribe => tell(desk, who, &words::error("this route takes no messages", None)),
            _ if said.len() > ORDER_BYTES => tell(desk, who, &words::error("this message is too long", None)),
            Ok(order) => self.obey(desk, who, token, settings, &order),
            Err(words) => tell(desk, who, &words::error(words, None)),
        };
        if room == Room::Full {
            desk.pause(who);
        }
        // What it was offered has to wait behind the answer.
        self.note_rest(token);
        desk.follow(who);
    }

    fn obey(&mut self, desk: &mut Desk, who: Handle, token: u32, settings: &Settings, order: &Order) -> Room {
        let mut done = Vec::new();
        for channel in &order.unsubscribe {
            match self.unsubscribe(desk, token, channel) {
                true => done.push(channel.clone()),
                false => drop(tell(desk, who, &words::error("this was not subscribed to", Some(channel)))),
            }
        }
        if !done.is_empty() {
            tell(desk, who, &words::unsubscribed(&done));
        }
        let (mut done, mut gaps) = (Vec::new(), Vec::new());
        for channel in &order.subscribe {
            match self.refusal(settings, token, channel) {
                Some(words) => drop(tell(desk, who, &words::error(words, Some(channel)))),
                None => {
                    gaps.extend(self.subscribe(desk, token, channel, order.after.as_deref()));
                    done.push(channel.clone());
                }
            }
        }
        let room = match done.is_empty() {
            true if order.subscribe.is_empty() && order.unsubscribe.is_empty() => {
                tell(desk, who, &words::error("nothing is asked for", None))
            }
            true => desk.room_of(who),
            false => tell(desk, who, &words::subscribed(&done, &self.last_id())),
        };
        gaps.iter().for_each(|gap| self.tell_gap(desk, token, gap));
        room
    }

    /// Why a subscription is refused.
    fn refusal(&self, settings: &Settings, token: u32, channel: &str) -> Option<&'static str> {
        let named = |number: u32| *self.rows[self.roll.get(number).row as usize].name == *channel;
        let count = u32::from(self.roll.clients[token as usize].count);
        match () {
            () if !super::settings::is_channel(channel) => Some("this cannot be a channel"),
            () if self.roll.of(token).any(named) => Some("this is subscribed to already"),
            () if count >= settings.subscriptions_max => Some("more channels than subscriptions_max"),
            () => self.forbids(settings, channel),
        }
    }

    // ---- streams ----

    fn open_stream(&mut self, desk: &mut Desk, who: Handle, route: u16, wish: &Wish, fields: &[(&str, &str)]) {
        let settings = self.settings.clone();
        let settings = &settings[usize::from(route)];
        let token = self.enroll(desk, who, route, settings.form(Frame::Piece), Traits::empty());
        desk.take(who, token);
        let gaps = self.begin(desk, token, wish);
        let mut fields = stream_fields(wish, fields);
        if !gaps.is_empty() {
            // The one way to tell it where only payloads are sent.
            fields.push(("Edgehold-Gap", "yes"));
        }
        let chunked = desk.begin_stream(who, &fields);
        self.roll.clients[token as usize].form = form(wish.transport, settings.body, chunked);
        let said = preamble(wish, settings);
        self.say(desk, token, &said);
        gaps.iter().for_each(|gap| self.tell_gap(desk, token, gap));
        desk.follow(who);
    }

    /// Bytes of the body of a stream.
    fn say(&self, desk: &mut Desk, token: u32, bytes: &[u8]) {
        let Client { who, form, .. } = self.roll.clients[token as usize];
        match form.frame {
            Frame::EventChunk | Frame::PieceChunk => desk.write(who, &http1::chunk(bytes)),
            _ => desk.write(who, bytes),
        };
    }

    /// A stream was quiet.
    pub fn quiet(&mut self, desk: &mut Desk, token: u32) {
        let Some(client) = self.roll.clients.get(token as usize) else { return };
        match (client.form.frame, client.form.body) {
            _ if client.traits.contains(Traits::POLLS) => {}
            (Frame::Event | Frame::EventChunk, _) => self.say(desk, token, sse::COMMENT),
            (Frame::Piece | Frame::PieceChunk, Body::Json) => self.say(desk, token, b"\n"),
            // Nothing can be said between payloads that would not be taken for one.
            _ => {}
        }
    }

    /// Something that the client wanted to hear is gone.
    pub(super) fn tell_gap(&self, desk: &mut Desk, token: u32, gap: &Gap) {
        desk.tally().gaps_told += 1;
        let Client { who, form, .. } = self.roll.clients[token as usize];
        let json = gap.json();
        match (form.frame, form.body) {
            (Frame::WebSocket | Frame::Deflated, _) => drop(tell(desk, who, &json)),
            (Frame::Event | Frame::EventChunk, _) => self.say(desk, token, &words::event("gap", &json)),
            (Frame::Piece | Frame::PieceChunk, Body::Json) => self.say(desk, token, format!("{json}\n").as_bytes()),
            (Frame::Piece | Frame::PieceChunk, Body::Plain) => {}
        }
    }

    // ---- long polls ----

    fn open_poll(&mut self, desk: &mut Desk, who: Handle, route: u16, wish: &Wish, fields: &[(&'static str, &str)]) {
        let settings = self.settings.clone();
        let settings = &settings[usize::from(route)];
        let form = Form { body: Body::Json, frame: Frame::Piece };
        let token = self.enroll(desk, who, route, form, Traits::POLLS);
        let gaps = self.begin(desk, token, wish);
        let told: Vec<String> = gaps.iter().map(Gap::json).collect();
        if !gaps.is_empty() {
            desk.tally().gaps_told += gaps.len() as u64;
        }
        if !gaps.is_empty() && settings.poll_gone {
            let (from, body) = self.pass_gaps(token, wish);
            self.closed(desk, token);
            let fields = [fields, &[("Content-Type", "application/json"), ("Last-Event-ID", &from)]].concat();
            desk.count_refusal(Status::GONE);
            return desk.answer(who, Status::GONE, &fields, body.as_bytes());
        }
        desk.take(who, token);
        if !fields.is_empty() {
            self.origins.insert(token, fields.iter().map(|(name, value)| (*name, (*value).into())).collect());
        }
        if self.has_something(token) || desk.is_head_only(who) || !gaps.is_empty() {
            return self.finish_poll(desk, token, &told);
        }
        desk.follow(who);
        let until = desk.now() + settings.poll_ticks;
        self.polls.push_back(Poll { until, client: token, who });
    }

    /// The id from which nothing is missing any more, and what is missing up to there: a poll from the oldest message
    /// of one channel would be told again of what is gone of another.
    fn pass_gaps(&mut self, token: u32, wish: &Wish) -> (String, String) {
        let numbers: Vec<u32> = self.roll.of(token).collect();
        let row = |number: &u32| &self.rows[self.roll.get(*number).row as usize];
        let oldest = numbers.iter().filter_map(|it| row(it).sequence_before(self.roll.get(*it).cursor)).min();
        let gone = numbers.iter().map(|it| row(it).gone()).max().unwrap_or(0);
        let from = oldest.unwrap_or(self.heard).max(gone);
        for number in numbers {
            let behind = self.rows[self.roll.get(number).row as usize].behind(from);
            self.roll.set(number, behind.unwrap_or_else(|oldest| oldest));
        }
        let gap = |channel: &String| self.gap(token, channel, wish.last.as_deref()).json() + "\n";
        (mesh::id(self.epoch, from), wish.channels.iter().map(gap).collect())
    }

    fn has_something(&self, token: u32) -> bool {
        let behind = |number: u32| {
            let subscription = self.roll.get(number);
            subscription.cursor.place() < self.rows[subscription.row as usize].end()
        };
        self.roll.of(token).any(behind)
    }

    /// Something has come for a poll.
    pub(super) fn answer_poll(&mut self, desk: &mut Desk, token: u32) {
        self.finish_poll(desk, token, &[]);
    }

    /// All that has come until now, as far as it goes into one answer.
    fn finish_poll(&mut self, desk: &mut Desk, token: u32, gaps: &[String]) {
        let (messages, last) = self.collect(desk, token);
        let nothing = messages.is_empty() && gaps.is_empty();
        let last = last.unwrap_or_else(|| self.last_seen(token));
        let who = self.roll.clients[token as usize].who;
        let own = self.origins.remove(&token).unwrap_or_default();
        let mut fields: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fields.extend([("Cache-Control", "no-store"), ("Last-Event-ID", &last)]);
        self.closed(desk, token);
        desk.unfollow(who);
        desk.let_go(who);
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
    fn collect(&mut self, desk: &mut Desk, token: u32) -> (Vec<String>, Option<String>) {
        let most = desk.limits(self.roll.clients[token as usize].who).max_pending;
        let (mut messages, mut last, mut bytes) = (Vec::new(), None, 0);
        let numbers: Vec<u32> = self.roll.of(token).collect();
        while bytes < most {
            let Some(payload) = self.take_next(&numbers) else { break };
            let form = Form { body: Body::Json, frame: Frame::Piece };
            let line = payload.form(form, |_, _| {});
            bytes += line.len();
            messages.push(String::from_utf8_lossy(line).trim_end().into());
            last = Some(payload.id());
        }
        desk.tally().messages_out[mesh::ServiceKind::Broadcast as usize] += messages.len() as u64;
        (messages, last)
    }

    /// Polls that have waited long enough.
    pub(super) fn end_polls(&mut self, desk: &mut Desk) {
        while self.polls.front().is_some_and(|poll| poll.until <= desk.now()) {
            let Some(poll) = self.polls.pop_front() else { return };
            let is_there = self.roll.clients.get(poll.client as usize).is_some_and(|it| it.who == poll.who);
            if is_there && self.roll.clients[poll.client as usize].traits.contains(Traits::POLLS) {
                self.finish_poll(desk, poll.client, &[]);
            }
        }
    }

    // ---- ends ----

    /// Sends a client away.
    pub(super) fn close(&self, desk: &mut Desk, token: u32, code: CloseCode, words: &str, cause: Cause) {
        let Client { who, form, .. } = self.roll.clients[token as usize];
        match form.frame {
            Frame::WebSocket | Frame::Deflated => desk.close_because(who, code, words, cause),
            // The body has no other way to say that it is not whole.
            _ => desk.cut(who, cause),
        }
    }

    /// The server is stopping.
    pub fn quiesce(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        let Some(client) = self.roll.clients.get(token as usize) else { return };
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
    fn last_id(&self) -> String {
        mesh::id(self.epoch, self.heard)
    }
}

/// How a message is laid out for a client: small ones are not deflated.
pub(super) fn form_of(desk: &Desk, client: &Client, payload: &Payload) -> Form {
    let small =
        client.form.frame == Frame::Deflated && payload.payload().len() < desk.limits(client.who).deflate.min_bytes;
    if small { Form { frame: Frame::WebSocket, ..client.form } } else { client.form }
}

/// A word to one WebSocket client.
fn tell(desk: &mut Desk, who: Handle, json: &str) -> Room {
    desk.send(who, Opcode::Text, json.as_bytes())
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
fn preamble(wish: &Wish, settings: &Settings) -> Vec<u8> {
    let mut said = Vec::new();
    let spaces = if wish.buffered { " ".repeat(PADDING) } else { String::new() };
    match wish.transport {
        Transport::Events => {
            if wish.buffered {
                said.extend_from_slice(format!(":{spaces}\n").as_bytes());
            }
            sse::retry(&mut said, settings.retry_millis);
        }
        Transport::Lines if wish.buffered => said.extend_from_slice(format!("{spaces}\n").as_bytes()),
        _ => {}
    }
    said
}

fn stream_fields<'f>(wish: &Wish, fields: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let media = match wish.transport {
        Transport::Events => sse::MEDIA_TYPE,
        Transport::Lines => "application/x-ndjson",
        _ => "application/octet-stream",
    };
    [&STREAM[..], &[("Content-Type", media)], fields].concat()
}

/// Who may read the answer from a page of another origin (the Fetch standard's CORS check).
fn cors(head: &Head<'_, '_>, settings: &Settings) -> Fields {
    let mut fields = Fields::new();
    if settings.allow_origin.is_empty() {
        return fields;
    }
    fields.push(("Vary", "Origin".into()));
    let Some(origin) = head.get("Origin").and_then(|it| str::from_utf8(it).ok()) else { return fields };
    if settings.allow_origin.iter().any(|it| it == "*" || it.eq_ignore_ascii_case(origin)) {
        fields.push(("Access-Control-Allow-Origin", origin.into()));
        fields.push(("Access-Control-Expose-Headers", "Last-Event-ID, Edgehold-Gap".into()));
    }
    fields
}

fn preflight(desk: &mut Desk, who: Handle, cors: &Fields) {
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
