//! Feeds and the admin address with a real dispatcher: what comes in by real sockets is read where a shard would read
//! it, from the mailboxes of the mesh.

#[path = "../../ci/load/ports.rs"]
mod ports;
mod tls;

use super::feeds::{DecoderSettings, FeedState, Format, Framing, InvalidText, Source, SourceSettings, Start};
use super::{AdminRules, Line, PublishLimits, admin, commands, dispatcher, feeds, metrics, publishing, stats};
use crate::mesh::{
    ChannelState, Counters, Health, ListenerTls, Message, Missed, Receiver, Refused, Report, Sender, SubscriberCounts,
    ToControl, ToShard, Waker, Wanted, mailbox,
};
use ports::free_port;
use serde_json::{Value, json};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const SHARDS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);
const ADMIN_CONNECTIONS: usize = 20;
const BODY_BYTES: usize = 64 << 10;
const LIMITS: PublishLimits = PublishLimits { backlog_bytes: 32 << 20, patience: Duration::from_millis(500) };
const DECODER: DecoderSettings =
    DecoderSettings { format: Format::Raw, text: true, invalid_text: InvalidText::Drop, message_bytes: 1000 };

/// Where a shard's letters end.
struct Seat {
    letters: Receiver<ToShard>,
    to_control: Sender<ToControl>,
}

/// A control side with its feeds, and seats instead of shards.
struct Hall {
    seats: Vec<Seat>,
    feeds: Arc<[Arc<feeds::Feed>]>,
    admin: SocketAddr,
}

fn feed(source: Source) -> SourceSettings {
    SourceSettings {
        name: "feed".into(),
        source,
        tls: None,
        channel: Some("c".into()),
        topics: Vec::new(),
        start: Start::New,
        framing: Framing::Lines,
        decoder: DECODER,
    }
}

fn rules() -> AdminRules {
    AdminRules {
        allow_origin: vec!["https://good.example".into()],
        hosts: Vec::new(),
        connections: ADMIN_CONNECTIONS,
        timeout: Duration::from_secs(2),
        body_bytes: BODY_BYTES,
        page_channels: 1000,
    }
}

impl Hall {
    async fn new(settings: Vec<SourceSettings>) -> Hall {
        Hall::with_labels(settings, metrics::Labels::default()).await
    }

    async fn with_labels(settings: Vec<SourceSettings>, labels: metrics::Labels) -> Hall {
        Hall::with_admin(settings, labels, None).await
    }

    #[expect(clippy::unused_async, reason = "its tasks are spawned in the runtime that runs it")]
    async fn with_admin(
        settings: Vec<SourceSettings>,
        labels: metrics::Labels,
        admin_tls: Option<ListenerTls>,
    ) -> Hall {
        let control_waker = Arc::new(Waker::new().unwrap());
        let (mut lines, mut seats) = (Vec::new(), Vec::new());
        for _ in 0..SHARDS {
            let (to, letters) = mailbox(1024, Arc::new(Waker::new().unwrap()));
            let (to_control, from) = mailbox(1024, control_waker.clone());
            lines.push(Line { to, from });
            seats.push(Seat { letters, to_control });
        }
        let (commands, queue) = mpsc::channel(commands::QUEUE);
        let (publisher, publish_queue) = publishing::channel(0x5f3a_01bc, SHARDS, LIMITS);
        let feeds = feeds::start(settings, &publisher);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let admin = listener.local_addr().unwrap();
        let counts = stats::Counts::default();
        let state = admin::AdminState::new(commands, (labels, counts), rules(), (feeds.clone(), publisher));
        tokio::spawn(admin::serve(listener, admin_tls, state));
        let mut dispatcher = dispatcher::Dispatcher::new(lines, publish_queue);
        tokio::spawn(async move { dispatcher.run(&control_waker, queue, Duration::ZERO).await });
        Hall { seats, feeds, admin }
    }

    async fn with(settings: SourceSettings) -> Hall {
        Hall::new(vec![settings]).await
    }

    /// The next messages, which every seat must get in the same order.
    async fn receive(&mut self, count: usize) -> Vec<Arc<Message>> {
        let mut received: Vec<Vec<Arc<Message>>> = vec![Vec::new(); SHARDS];
        until("messages in every box", || {
            for (seat, received) in self.seats.iter_mut().zip(&mut received) {
                received.extend(published(seat));
            }
            received.iter().all(|it| it.len() >= count)
        })
        .await;
        let sequences = |it: &Vec<Arc<Message>>| it.iter().map(|it| it.sequence).collect::<Vec<_>>();
        assert!(received.iter().all(|it| sequences(it) == sequences(&received[0]) && it.len() == count));
        received.swap_remove(0)
    }

    /// The payloads of the next messages, in order.
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let texts = self.receive(count).await;
        texts.iter().map(|it| String::from_utf8_lossy(it.payload()).into_owned()).collect()
    }

    async fn until_up(&self) {
        until("the feed to be up", || self.feeds[0].stats.state() == FeedState::Up).await;
    }

    /// One request; the status and the body.
    async fn ask(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let head = format!("{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn post(&self, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
        self.ask(&format!("POST {target} HTTP/1.1\r\nContent-Type: {kind}"), body).await
    }
}

fn published(seat: &mut Seat) -> Vec<Arc<Message>> {
    let mut all = Vec::new();
    while let Some(letter) = seat.letters.take() {
        if let ToShard::Publish(messages) = letter {
            all.extend(messages.iter().cloned());
        }
    }
    all
}

/// Looks at a condition until it holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let looking = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "waited for {what}");
}

// ---- sources ----

async fn datagrams(address: SocketAddr, from: &str) {
    let mut hall = Hall::with(feed(Source::Udp(address))).await;
    hall.until_up().await;
    let socket = UdpSocket::bind(from).await.unwrap();
    let long = "x".repeat(1000);
    for payload in ["one", &format!("{long}y"), &long, "", "two"] {
        socket.send_to(payload.as_bytes(), address).await.unwrap();
    }
    assert_eq!(hall.texts(4).await, ["one", &long, "", "two"]);
    let stats = &hall.feeds[0].stats;
    assert_eq!(stats.refused(feeds::Reason::Oversized), 1);
    assert_eq!((stats.messages(), stats.bytes()), (4, 1006));
}

#[tokio::test]
async fn a_datagram_is_a_message() {
    datagrams(SocketAddr::from(([127, 0, 0, 1], free_port())), "127.0.0.1:0").await;
    datagrams(SocketAddr::from((Ipv6Addr::LOCALHOST, free_port())), "[::1]:0").await;
}

/// What lets a network namespace carry groups: IPv4's over its loopback interface, IPv6's over one that is numbered 7.
const CARRY_GROUPS: &str = "ip link set lo up && ip route add 224.0.0.0/4 dev lo && \
                            ip link add v0 index 7 type veth peer name v1 && ip link set v1 up && ip link set v0 up && \
                            ip -6 address add fd77::1/64 dev v0 nodad && exec \"$0\" \"$@\"";

/// Set where this program is already in such a namespace.
const INSIDE: &str = "EDGEHOLD_TEST_NAMESPACE";

/// Runs this very test again in a network namespace of its own, and there what it is about.
#[test]
fn a_multicast_group_is_joined() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(groups());
    }
    let name = "control::tests::a_multicast_group_is_joined";
    let mut again = std::process::Command::new("unshare");
    again.args(["-rn", "sh", "-c", CARRY_GROUPS]).arg(std::env::current_exe().unwrap()).args(["--exact", name]);
    let output = again.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn groups() {
    datagrams(SocketAddr::from(([239, 255, 7, 7], free_port())), "127.0.0.1:0").await;
    let group = SocketAddrV6::new("ff02::ed6e".parse().unwrap(), free_port(), 0, 7);
    datagrams(group.into(), "[::]:0").await;
}

#[tokio::test]
async fn a_stream_is_called_again_when_it_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut hall = Hall::with(feed(Source::Tcp { host: "localhost".into(), port })).await;
    for round in 0..2 {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        stream.write_all(b"one\r\n\xff\ntw").await.unwrap();
        stream.write_all(b"o\nrest").await.unwrap();
        drop(stream);
        assert_eq!(hall.texts(3).await, ["one", "two", "rest"]);
        until("the reconnect to be counted", || hall.feeds[0].stats.reconnects() == round).await;
    }
    assert_eq!(hall.feeds[0].stats.refused(feeds::Reason::NotUtf8), 2);
}

#[tokio::test]
async fn a_feed_that_cannot_connect_says_so_and_comes_when_it_can() {
    let port = free_port();
    let mut hall = Hall::with(feed(Source::Tcp { host: "127.0.0.1".into(), port })).await;
    until("the feed to be down", || hall.feeds[0].stats.state() == FeedState::Down).await;
    assert!(hall.feeds[0].stats.last_error().unwrap().contains("refused"));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    stream.write_all(b"here\n").await.unwrap();
    assert_eq!(hall.texts(1).await, ["here"]);
    assert_eq!(hall.feeds[0].stats.reconnects(), 0);
}

#[tokio::test]
async fn many_may_connect_to_a_listening_feed() {
    let port = free_port();
    let settings =
        SourceSettings { framing: Framing::Length, ..feed(Source::TcpListen(([127, 0, 0, 1], port).into())) };
    let mut hall = Hall::with(settings).await;
    hall.until_up().await;
    // More than are served at one time: the last are served when the first have gone.
    for number in 0..100u8 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(&[0, 0, 0, 1, b'a' + number % 26]).await.unwrap();
    }
    let mut texts = hall.texts(100).await;
    texts.sort();
    assert!(texts.iter().filter(|it| *it == "a").count() == 4);
}

#[tokio::test]
async fn a_unix_socket_that_is_left_over_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut hall = Hall::with(feed(Source::Unix(path.clone()))).await;
    hall.until_up().await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"a\nb\n").await.unwrap();
    assert_eq!(hall.texts(2).await, ["a", "b"]);
}

#[tokio::test]
async fn the_demo_counts_from_one() {
    let mut hall = Hall::with(SourceSettings { channel: None, ..feed(Source::Demo) }).await;
    let messages = hall.receive(3).await;
    for (n, message) in (1..).zip(&messages) {
        let value: Value = serde_json::from_slice(message.payload()).unwrap();
        assert_eq!((value["n"].as_u64(), &*message.channel, message.key.as_deref()), (Some(n), "demo", Some("demo")));
        assert_eq!((message.sequence, message.id()), (n, format!("5f3a01bc-{n}")));
    }
}

// ---- shards that are behind ----

/// Messages of 1 MiB come from a source of bytes, as many as are taken.
async fn megabytes(count: usize) -> (Hall, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let decoder = DecoderSettings { message_bytes: 1 << 20, ..DECODER };
    let settings = SourceSettings { decoder, ..feed(Source::Tcp { host: "127.0.0.1".into(), port }) };
    let hall = Hall::with(settings).await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let (_, mut to) = stream.into_split();
    let line = [vec![b'x'; (1 << 20) - 1], b"\n".to_vec()].concat();
    let writer = tokio::spawn(async move {
        for _ in 0..count {
            to.write_all(&line).await.unwrap();
        }
    });
    until("the budget to be used up", || hall.feeds[0].stats.messages() >= 31).await;
    (hall, writer)
}

#[tokio::test]
async fn a_stream_is_held_back_while_no_shard_reads() {
    let (mut hall, writer) = megabytes(200).await;
    // Longer than one shard is waited for.
    sleep(2 * LIMITS.patience).await;
    assert!(!writer.is_finished() && hall.feeds[0].stats.messages() <= 32);
    let mut seen = [0; SHARDS];
    until("the rest", || {
        hall.seats.iter_mut().zip(&mut seen).for_each(|(seat, seen)| *seen += published(seat).len());
        seen == [200; SHARDS]
    })
    .await;
    writer.await.unwrap();
}

#[tokio::test]
async fn a_shard_that_reads_nothing_is_left_behind_and_told_what_it_has_missed() {
    let (mut hall, writer) = megabytes(200).await;
    let mut late = hall.seats.pop().unwrap();
    let mut seen = 0;
    until("the prompt shard to receive all", || {
        seen += published(&mut hall.seats[0]).len();
        seen == 200
    })
    .await;
    writer.await.unwrap();
    let (_, metrics) = hall.ask("GET /metrics HTTP/1.1", b"").await;
    let shown = |line: &str| metrics.lines().any(|it| it == line);
    assert!(shown("edgehold_publish_left_behind{shard=\"1\"} 1"), "{metrics}");
    assert!(shown("edgehold_publish_left_behind_total{shard=\"1\"} 1"), "{metrics}");
    assert!(shown("edgehold_publish_backlog_bytes{shard=\"0\"} 0"), "{metrics}");
    // It gets what was in its mailbox, and then that the rest is missing.
    let (mut received, mut missed) = (Vec::new(), None);
    until("word of what is missing", || {
        while let Some(letter) = late.letters.take() {
            match letter {
                ToShard::Publish(messages) => received.extend(messages.iter().map(|it| it.sequence)),
                ToShard::Missed(told) => missed = Some(*told),
                _ => {}
            }
        }
        missed.is_some()
    })
    .await;
    assert!(received.len() <= 32 && received.iter().copied().eq(1..=received.len() as u64));
    assert_eq!(missed, Some(Missed { feed: None, channel: None, sequence: 200 }));
}

// ---- the admin address ----

async fn http_hall() -> Hall {
    let limited = SourceSettings { name: "limited".into(), channel: Some("news/*".into()), ..feed(Source::Http) };
    let exact = SourceSettings {
        name: "exact".into(),
        channel: Some("x".into()),
        decoder: DecoderSettings { invalid_text: InvalidText::Binary, ..DECODER },
        ..feed(Source::Http)
    };
    Hall::new(vec![limited, exact]).await
}

#[tokio::test]
async fn a_request_is_a_message() {
    let mut hall = http_hall().await;
    let (status, body) =
        hall.post("/v1/publish/news%2Fa%20b?id=7&event=e&key=k", "text/x-message", "Grüße".as_bytes()).await;
    assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(json!({ "id": "7" }))));
    let (status, body) = hall.post("/v1/publish/x", "application/octet-stream", b"\x00").await;
    assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(json!({ "id": "5f3a01bc-2" }))));
    let (status, _) = hall.post("/v1/publish/x", "application/json; charset=utf-8", b"\xff").await;
    assert_eq!(status, 200);
    let [first, second, third] = hall.receive(3).await.try_into().unwrap();
    assert_eq!((&*first.channel, first.feed, first.text), ("news/a b", 0, true));
    assert_eq!(
        (first.event.as_deref(), first.key.as_deref(), first.payload()),
        (Some("e"), Some("k"), "Grüße".as_bytes())
    );
    assert_eq!((&*second.channel, second.feed, second.text), ("x", 1, false));
    assert!(!third.text);
}

#[tokio::test]
async fn a_wrong_request_is_told_so() {
    let hall = http_hall().await;
    let long = vec![b'x'; 1001];
    for (target, kind, body, expected) in [
        ("/v1/publish/elsewhere", "text/x-message", &b"a"[..], 404),
        ("/v1/publish/xy", "text/x-message", b"a", 404),
        ("/v1/publish/a*", "text/x-message", b"a", 400),
        ("/v1/publish/x?id=", "text/x-message", b"a", 400),
        ("/v1/publish/x?id=%0A", "text/x-message", b"a", 400),
        ("/v1/publish/%FF", "text/x-message", b"a", 400),
        ("/v1/publish/news/a", "text/x-message", b"\xff", 400),
        ("/v1/publish/x", "text/x-message", &long, 413),
        ("/v1/publish", "application/json", b"{}", 415),
        ("/v1/publish/x", "text/x-message\r\nContent-Encoding: gzip", b"a", 415),
        ("/v1/publish/x", "text/plain\r\nOrigin: https://bad.example", b"a", 403),
        ("/v1/publish/x", "text/plain\r\nOrigin: https://good.example", b"a", 200),
    ] {
        let (status, words) = hall.post(target, kind, body).await;
        assert_eq!(status, expected, "{target} {kind}: {words}");
        assert!(!words.is_empty());
    }
    assert_eq!(hall.ask("GET /v1/publish/x HTTP/1.1", b"").await.0, 405);
    let (_, metrics) = hall.ask("GET /metrics HTTP/1.1", b"").await;
    for line in [
        "edgehold_feed_up{feed=\"exact\"} 1",
        "edgehold_feed_messages_total{feed=\"exact\"} 1",
        "edgehold_feed_refused_total{feed=\"exact\",reason=\"oversized\"} 1",
        "edgehold_feed_refused_total{feed=\"exact\",reason=\"bad_id\"} 2",
        "edgehold_feed_refused_total{feed=\"limited\",reason=\"not_utf8\"} 1",
        "edgehold_feed_refused_total{feed=\"limited\",reason=\"not_allowed\"} 2",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_batch_tells_of_each_line_that_was_refused() {
    let mut hall = http_hall().await;
    let good =
        b"{\"channel\":\"x\",\"data\":{\"a\":1.0}}\n\r\n{\"channel\":\"news/\",\"base64\":\"AA==\",\"id\":\"9\"}";
    let (status, body) = hall.post("/v1/publish", "application/x-ndjson", good).await;
    assert_eq!(
        (status, serde_json::from_str(&body).ok()),
        (200, Some(json!({ "published": 2, "refused": 0, "lines": [] })))
    );
    let mixed = b"{\"channel\":\"x\",\"data\":\"b\"}\n\n{\"data\":1}\n{\"channel\":\"y\",\"data\":1}\n\xff\n\
                  {\"channel\":\"x\"}\n";
    let (status, body) = hall.post("/v1/publish", "application/x-ndjson", mixed).await;
    let lines = [(3, "no_channel"), (4, "not_allowed"), (5, "not_utf8"), (6, "bad_json")];
    let lines: Vec<_> = lines.iter().map(|(line, reason)| json!({ "line": line, "reason": reason })).collect();
    let expected = json!({ "published": 1, "refused": 4, "lines": lines });
    assert_eq!((status, serde_json::from_str(&body).ok()), (400, Some(expected)));
    let received = hall.receive(3).await;
    assert_eq!(received.iter().map(|it| it.payload()).collect::<Vec<_>>(), [&b"{\"a\":1.0}"[..], b"\0", b"b"]);
    assert_eq!(received[1].id(), "9");
}

#[tokio::test]
async fn status_tells_of_feeds() {
    let port = free_port();
    let hall = Hall::with(feed(Source::Nats(feeds::Broker::new(format!("nats://me:secret@127.0.0.1:{port}"))))).await;
    until("the feed to be down", || hall.feeds[0].stats.state() == FeedState::Down).await;
    let (_, body) = hall.ask("GET /v1/status HTTP/1.1", b"").await;
    let feed = &serde_json::from_str::<Value>(&body).unwrap()["feeds"][0];
    assert_eq!((&feed["name"], &feed["state"], &feed["messages"]), (&json!("feed"), &json!("down"), &json!(0)));
    assert_eq!(feed["source"], json!(format!("nats://127.0.0.1:{port}")));
    assert!(feed["last_error"].is_string() && feed["since"].as_u64() > Some(1_700_000_000));
    assert!(!body.contains("secret"), "{body}");
}

#[tokio::test]
async fn channels_are_asked_of_every_shard() {
    let mut hall = http_hall().await;
    let mut seats = std::mem::take(&mut hall.seats);
    let answering = tokio::spawn(async move {
        let mut answered = 0;
        until("the questions", || {
            for (shard, seat) in seats.iter_mut().enumerate() {
                answered += answer(seat, shard);
            }
            answered == 2 * SHARDS
        })
        .await;
        seats
    });
    let (status, body) = hall.ask("GET /v1/channels HTTP/1.1", b"").await;
    let channel = json!({ "feed": "exact", "channel": "x", "subscribers": 3, "kept": 4, "kept_bytes": 400 });
    let expected = json!({ "channels": [channel], "next": null, "silent_shards": [] });
    assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(expected)));
    let (_, body) = hall.ask("GET /v1/channels/other%2Fone HTTP/1.1", b"").await;
    let expected = json!({ "channels": [], "next": null, "silent_shards": [] });
    assert_eq!(serde_json::from_str(&body).ok(), Some(expected.clone()));
    let _silent = answering.await.unwrap();
    let (_, body) = hall.ask("GET /v1/channels HTTP/1.1", b"").await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["silent_shards"], json!([0, 1]));
}

/// Answers as a shard would that has one channel, `x`; how many questions there were.
fn answer(seat: &mut Seat, shard: usize) -> usize {
    let mut count = 0;
    while let Some(letter) = seat.letters.take() {
        let ToShard::SubscriberCounts(ask) = letter else { continue };
        let question = ask.question;
        let x = ChannelState { feed: 1, channel: "x".into(), subscribers: 1 + shard as u32, kept: 4, kept_bytes: 400 };
        let channels = match ask.wanted {
            Wanted::Page { after: None, .. } => vec![x],
            Wanted::Page { .. } => Vec::new(),
            Wanted::One(name) => {
                assert_eq!(&*name, "other/one");
                Vec::new()
            }
        };
        assert!(
            seat.to_control
                .post(ToControl::SubscriberCounts(Box::new(SubscriberCounts { shard, question, channels })))
                .is_ok()
        );
        count += 1;
    }
    count
}

fn failed_accepts(accept_errors: u64) -> Counters {
    Counters { accept_errors, ..Counters::new(10, 0, 0) }
}

fn report(seat: &mut Seat, shard: usize, counters: Counters) {
    assert!(
        seat.to_control.post(ToControl::Report(Box::new(Report { shard, generation: 0, held: 0, counters }))).is_ok()
    );
}

/// How often a seat was asked for a report.
fn asked(seat: &mut Seat) -> usize {
    std::iter::from_fn(|| seat.letters.take()).filter(|it| matches!(it, ToShard::Report)).count()
}

#[tokio::test]
async fn what_a_late_shard_has_said_stays_in_the_sums() {
    let mut hall = http_hall().await;
    let seats = std::mem::take(&mut hall.seats);
    let [mut first, mut late] = seats.try_into().ok().unwrap();
    // Both have sent a report, and then the second is late, and is asked no second time until it answers.
    let (_, mut questions) = tokio::join!(hall.ask("GET /metrics HTTP/1.1", b""), async {
        let mut questions = 0;
        until("both are asked", || asked(&mut first) == 1).await;
        until("both are asked", || {
            questions += asked(&mut late);
            questions == 1
        })
        .await;
        report(&mut first, 0, failed_accepts(3));
        report(&mut late, 1, failed_accepts(4));
        questions
    });
    for _ in 0..2 {
        let ((_, metrics), ()) = tokio::join!(hall.ask("GET /metrics HTTP/1.1", b""), async {
            until("the first is asked", || asked(&mut first) == 1).await;
            report(&mut first, 0, failed_accepts(5));
        });
        questions += asked(&mut late);
        for line in
            ["edgehold_accept_errors_total 9", "edgehold_shard_up{shard=\"1\"} 0", "edgehold_shard_up{shard=\"0\"} 1"]
        {
            assert!(metrics.contains(&format!("{line}\n")), "{line}\n{metrics}");
        }
        assert!(!metrics.contains("edgehold_shard_late_seconds{shard=\"1\"} 0"));
    }
    assert_eq!(questions, 2);
}

#[tokio::test]
async fn status_tells_of_a_dead_upstream_a_full_shard_and_refused_clients() {
    let upstreams = ["tcp://a:1", "tcp://b:2"].map(String::from);
    let health: Arc<[Arc<Health>]> = upstreams.iter().cloned().map(Health::new).map(Arc::new).collect();
    let labels = metrics::Labels {
        listeners: vec!["l".into()],
        upstreams: upstreams.into(),
        health: health.clone(),
        ..metrics::Labels::default()
    };
    let mut hall = Hall::with_labels(Vec::new(), labels).await;
    let counters = |used, refused, failures| {
        let mut counters = Counters { used, accept_errors: 1, ..Counters::new(10, 1, 2) };
        counters.refusals[Refused::Full as usize] = refused;
        counters.upstreams[0].connections = 4;
        counters.upstreams[1].failures = failures;
        counters
    };
    health[1].failed();
    let mut seats = std::mem::take(&mut hall.seats);
    let ((status, body), ()) = tokio::join!(hall.ask("GET /v1/status HTTP/1.1", b""), async {
        for (shard, counters) in [counters(10, 3, 2), counters(9, 0, 5)].into_iter().enumerate() {
            until("the shard is asked", || asked(&mut seats[shard]) == 1).await;
            report(&mut seats[shard], shard, counters);
        }
    });
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["clients_refused_full"], &told["accept_errors"]), (200, &json!(3), &json!(2)));
    let dead = json!({ "name": "tcp://b:2", "up": false, "connections": 0, "failures": 7, "tls_failure": null });
    let well = json!({ "name": "tcp://a:1", "up": true, "connections": 8, "failures": 0, "tls_failure": null });
    assert_eq!(told["upstreams"], json!([well, dead]));
    let shard = |number: usize| &told["shards"][number];
    assert_eq!((&shard(0)["full"], &shard(0)["used"], &shard(0)["slots"]), (&json!(true), &json!(10), &json!(10)));
    assert_eq!((&shard(1)["full"], &shard(1)["used"], &shard(1)["answers"]), (&json!(false), &json!(9), &json!(true)));
}

/// Without an Origin, as browsers once sent forms.
#[tokio::test]
async fn what_any_page_can_send_is_not_published() {
    let hall = http_hall().await;
    let form = "application/x-www-form-urlencoded";
    let types = ["text/plain", "Text/Plain; charset=utf-8", form, "multipart/form-data", ""];
    for target in ["/v1/publish/x", "/v1/publish"] {
        for kind in types {
            let (status, words) = hall.post(target, kind, b"a").await;
            assert!(status == 415 && words.contains("any web page"), "{target} {kind}: {status} {words}");
        }
    }
    assert_eq!(hall.post("/v1/publish/x", "text/x-message", b"a").await.0, 200);
}

/// The head of a message of so many bytes.
fn publish_head(bytes: usize) -> String {
    let fields = format!("Host: localhost\r\nContent-Type: text/x-message\r\nContent-Length: {bytes}");
    format!("POST /v1/publish/x HTTP/1.1\r\n{fields}\r\n\r\n")
}

#[tokio::test]
async fn a_body_that_has_not_come_whole_is_counted_and_leaves_no_room_for_another() {
    let settings = SourceSettings {
        decoder: DecoderSettings { message_bytes: BODY_BYTES, ..DECODER },
        channel: Some("x".into()),
        ..feed(Source::Http)
    };
    let mut hall = Hall::with(settings).await;
    let mut slow = TcpStream::connect(hall.admin).await.unwrap();
    slow.write_all(&[publish_head(BODY_BYTES).as_bytes(), &vec![b'x'; BODY_BYTES - 1]].concat()).await.unwrap();
    // As long as some of it is still on its way, another finds room.
    let mut status = 200;
    for _ in 0..1000 {
        if status == 200 {
            status = hall.post("/v1/publish/x", "text/x-message", b"ab").await.0;
        }
    }
    assert_eq!(status, 503);
    let mut seats = std::mem::take(&mut hall.seats);
    let ((_, metrics), ()) = tokio::join!(hall.ask("GET /metrics HTTP/1.1", b""), async {
        for (shard, seat) in seats.iter_mut().enumerate() {
            until("the shard is asked", || asked(seat) == 1).await;
            report(seat, shard, failed_accepts(0));
        }
    });
    for (name, value) in [("bytes", BODY_BYTES - 1), ("limit_bytes", BODY_BYTES)] {
        assert!(metrics.contains(&format!("edgehold_admin_body_{name} {value}\n")), "{metrics}");
    }
    slow.write_all(b"x").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(hall.post("/v1/publish/x", "text/x-message", b"ab").await.0, 200);
}

#[tokio::test]
async fn half_a_head_does_not_stay_and_slow_clients_leave_room_for_health() {
    let hall = http_hall().await;
    let mut slow = Vec::new();
    for number in 0..ADMIN_CONNECTIONS {
        let mut stream = TcpStream::connect(hall.admin).await.unwrap();
        let body = publish_head(9) + "half";
        stream.write_all(if number % 2 == 0 { b"GET / HTTP/1.1\r\nHo" } else { body.as_bytes() }).await.unwrap();
        slow.push(stream);
    }
    // Health is asked of the shards, of which none answers here: 503 in time, and not for want of a place.
    let (status, words) = hall.ask("GET /healthz HTTP/1.1", b"").await;
    assert_eq!((status, &*words), (503, "2 shards do not answer\n"));
    let (status, words) = hall.ask("GET /v1/status HTTP/1.1", b"").await;
    assert!(status == 503 && words.contains("admin_connections"), "{words}");
    for stream in &mut slow {
        timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    }
    assert_eq!(hall.post("/v1/publish/x", "text/x-message", b"a").await.0, 200);
}

#[tokio::test]
async fn the_root_links_what_there_is_and_names_of_others_see_nothing() {
    let hall = http_hall().await;
    let (status, page) = hall.ask("GET / HTTP/1.1", b"").await;
    assert!(status == 200 && page.contains("href=\"/v1/status\""), "{page}");
    let (status, _) = hall.ask("GET /v1/status HTTP/1.1\r\nOrigin: https://bad.example", b"").await;
    assert_eq!(status, 403);
    let coded =
        "POST /v1/publish/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked";
    let mut stream = TcpStream::connect(hall.admin).await.unwrap();
    stream.write_all(format!("{coded}\r\n\r\n1\r\na\r\n0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
}
