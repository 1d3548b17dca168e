//! Subscribe requests: the transport, the channels and the start that a request for a broadcast route names.

use super::settings::{BroadcastPlan, is_channel};
use edgehold_wire::http1::{Head, Version};
use edgehold_wire::upgrade;

/// How a client is sent messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket (RFC 6455).
    WebSocket,
    /// An event stream (the HTML standard's server-sent events).
    Events,
    /// An HTTP response of JSON lines that does not end.
    Lines,
    /// An HTTP response of payloads as they are that does not end.
    Raw,
    /// One HTTP response with what has come, or with what comes next.
    Poll,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The transport.
    pub transport: Transport,
    /// The channels and prefixes; may be empty.
    pub channels: Vec<String>,
    /// The id of the last message that the client was sent; not empty.
    pub last: Option<String>,
    /// A proxy on the way may hold small pieces back until there are more: HTTP/1.0, or a `Via` field.
    pub buffered: bool,
}

/// Reads the head of a request. `path`: the route's.
///
/// # Errors
/// Words for a 400.
pub fn read(head: &Head<'_, '_>, settings: &BroadcastPlan, path: &str) -> Result<SubscribeRequest, &'static str> {
    let mut request = SubscribeRequest {
        transport: by_accept(head),
        channels: Vec::new(),
        last: None,
        buffered: head.version == Version::Http10 || head.get("Via").is_some(),
    };
    if settings.channel_in_path {
        let channel = decode(&head.path[path.len().min(head.path.len())..], false);
        request.channels.push(channel.ok_or("the channel is not UTF-8")?);
    }
    for pair in head.query.unwrap_or("").split('&') {
        parameter(pair, &mut request)?;
    }
    // An EventSource reconnects to its URL, whose id may be old by then; the field has that of the last event since.
    let field = head.get("Last-Event-ID").and_then(|id| str::from_utf8(id).ok()).filter(|id| !id.is_empty());
    request.last = field.map(Into::into).or(request.last);
    if upgrade::wanted(head) {
        request.transport = Transport::WebSocket;
    }
    if request.channels.iter().all(|channel| is_channel(channel)) {
        Ok(request)
    } else {
        Err("a channel is 1 to 255 bytes of UTF-8 without control characters, with `*` only at its end")
    }
}

/// The transport whose media type has the highest weight in `Accept` (RFC 9110 section 12.5.1); of equals the last one
/// here. Without any of them it is lines, as for curl.
fn by_accept(head: &Head<'_, '_>) -> Transport {
    let named = [
        (Transport::Lines, "application/x-ndjson"),
        (Transport::Raw, "application/octet-stream"),
        (Transport::Poll, "application/json"),
        (Transport::Events, "text/event-stream"),
    ];
    let wanted = named.map(|(transport, media_type)| (head.quality(media_type), transport));
    let most = wanted.into_iter().filter(|(quality, _)| *quality > 0).max_by_key(|(quality, _)| *quality);
    most.map_or(Transport::Lines, |(_, transport)| transport)
}

fn parameter(pair: &str, request: &mut SubscribeRequest) -> Result<(), &'static str> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let value = || decode(value, true).ok_or("the query is not UTF-8");
    match name {
        "channel" => request.channels.push(value()?),
        "lastEventId" => request.last = Some(value()?),
        "after" => {
            request.transport = Transport::Poll;
            request.last = Some(value()?);
        }
        "transport" => request.transport = by_name(&value()?)?,
        _ => {}
    }
    // A client that was sent nothing yet may name an empty id.
    request.last.take_if(|last| last.is_empty());
    Ok(())
}

fn by_name(name: &str) -> Result<Transport, &'static str> {
    match name {
        "sse" => Ok(Transport::Events),
        "lines" => Ok(Transport::Lines),
        "raw" => Ok(Transport::Raw),
        "poll" => Ok(Transport::Poll),
        _ => Err("transport is one of sse, lines, raw, poll"),
    }
}

/// Decodes percent-encoding (RFC 3986 section 2.1); `plus`: a plus is a space, as in a form's query. `None`: not UTF-8,
/// or not percent-encoding.
fn decode(text: &str, plus: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'%' => (digit()? * 16 + digit()?) as u8,
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;
    use edgehold_wire::EMPTY_HEADER;
    use edgehold_wire::http1::{HeadLimits, MAX_HEADERS};

    fn parse(request: &str) -> Result<SubscribeRequest, &'static str> {
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        let limits = HeadLimits { head_bytes: 4096, head_count: 20, target_bytes: 200 };
        let text = request.replace('\n', "\r\n") + "\r\n\r\n";
        let head = edgehold_wire::http1::read(text.as_bytes(), &limits, &mut store).unwrap().unwrap();
        read(&head, &settings(), "/feed/")
    }

    fn transport(request: &str) -> Transport {
        parse(&format!("GET /feed/a{request}")).unwrap().transport
    }

    #[test]
    fn the_request_chooses_the_transport() {
        let sse = " HTTP/1.1\nHost: h\nAccept: text/html, text/event-stream;q=0.9";
        assert_eq!(transport(sse), Transport::Events);
        assert_eq!(transport(" HTTP/1.1\nHost: h"), Transport::Lines);
        assert_eq!(transport(" HTTP/1.1\nHost: h\nAccept: application/json"), Transport::Poll);
        assert_eq!(transport(" HTTP/1.1\nHost: h\nAccept: Text/Event-Stream"), Transport::Events);
        assert_eq!(transport(" HTTP/1.1\nHost: h\nAccept: text/event-stream;q=0, */*"), Transport::Lines);
        let json = " HTTP/1.1\nHost: h\nAccept: text/event-stream;q=0.5, application/json;q=0.7, */*;q=0.1";
        assert_eq!(transport(json), Transport::Poll);
        let both = " HTTP/1.1\nHost: h\nAccept: application/json, application/octet-stream, text/event-stream";
        assert_eq!(transport(both), Transport::Events);
        let lines = " HTTP/1.1\nHost: h\nAccept: application/x-ndjson, text/event-stream;q=0.9";
        assert_eq!(transport(lines), Transport::Lines);
        assert_eq!(transport("?after= HTTP/1.1\nHost: h\nAccept: */*"), Transport::Poll);
        assert_eq!(transport("?transport=raw HTTP/1.1\nHost: h"), Transport::Raw);
        let socket = " HTTP/1.1\nHost: h\nUpgrade: websocket\nConnection: Upgrade\nAccept: text/event-stream";
        assert_eq!(transport(socket), Transport::WebSocket);
        assert!(parse("GET /feed/a?transport=pigeon HTTP/1.1\nHost: h").is_err());
    }

    #[test]
    fn channels_come_from_the_path_and_the_query() {
        let request = parse("GET /feed/a%2Fb%20c?channel=d*&x&channel=e+f HTTP/1.1\nHost: h").unwrap();
        assert_eq!(request.channels, ["a/b c", "d*", "e f"]);
        assert!(parse("GET /feed/ HTTP/1.1\nHost: h").is_err());
        assert!(parse("GET /feed/a%ff HTTP/1.1\nHost: h").is_err());
        assert!(parse("GET /feed/a%2 HTTP/1.1\nHost: h").is_err());
        assert!(parse("GET /feed/a*b HTTP/1.1\nHost: h").is_err());
    }

    #[test]
    fn the_last_id_comes_from_the_header_before_the_query() {
        let last = |request: &str| parse(request).unwrap().last;
        let header = "HTTP/1.1\nHost: h\nLast-Event-ID: 7";
        assert_eq!(last(&format!("GET /feed/a {header}")).as_deref(), Some("7"));
        assert_eq!(last(&format!("GET /feed/a?lastEventId=8 {header}")).as_deref(), Some("7"));
        assert_eq!(last("GET /feed/a?lastEventId=8 HTTP/1.1\nHost: h").as_deref(), Some("8"));
        assert_eq!(last("GET /feed/a?after= HTTP/1.1\nHost: h"), None);
    }
}
