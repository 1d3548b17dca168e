//! Brokers that are asked, on sockets: each lets in who is right, and counts what it sees.

use super::super::settings::{AuthSettings, BrokerAuthSettings};
use super::super::stats::Kind;
use super::asking::{Desk, password};
use super::{no_auth, until};
use crate::control::brokers::{BrokerAddress, BrokerSettings, Protocol};
use crate::mesh::{Credentials, Denied};
use edgehold_wire::mqtt::{self, ConnAck, Connect, Packet, Properties, Read, Role, Version};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What a broker has seen, and what it does.
struct Seen {
    /// CONNECT of each session: who, and the client identifier of MQTT.
    logins: Mutex<Vec<(String, String)>>,
    /// Sessions that have ended as they should.
    left: AtomicUsize,
    /// It has nothing to say to anybody.
    is_full: AtomicBool,
    /// A permit for each answer to CONNECT.
    answers: Semaphore,
}

/// A broker whose only user is ann with the password secret; nobody may come in, too.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Server {
    /// One that speaks STOMP, or MQTT of this version alone.
    async fn start(version: Option<Version>) -> Server {
        Server::at("127.0.0.1:0", version).await
    }

    async fn at(address: &str, version: Option<Version>) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Semaphore::new(1 << 20);
        let (logins, left, is_full) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        let seen = Arc::new(Seen { logins, left, is_full, answers });
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match version {
                    None => tokio::spawn(speak_stomp(stream, shared.clone())),
                    Some(version) => tokio::spawn(speak_mqtt(stream, shared.clone(), version)),
                };
            }
        });
        Server { address, seen }
    }

    fn logins(&self) -> Vec<(String, String)> {
        self.seen.logins.lock().unwrap().clone()
    }

    fn sessions(&self) -> usize {
        self.logins().len()
    }

    async fn until_left(&self, count: usize) {
        until("sessions to be left", || self.seen.left.load(Ordering::SeqCst) == count).await;
    }
}

impl Seen {
    /// Whether it lets somebody in; `None`: it does not say.
    async fn judge(&self, who: &str, client_id: &str) -> Option<bool> {
        self.logins.lock().unwrap().push((who.into(), client_id.into()));
        self.answers.acquire().await.unwrap().forget();
        (!self.is_full.load(Ordering::SeqCst)).then_some(["ann:secret", "none"].contains(&who))
    }
}

async fn speak_stomp(mut stream: TcpStream, seen: Arc<Seen>) {
    let mut received = Vec::new();
    while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
        let Some(end) = received.iter().position(|byte| *byte == 0) else { continue };
        let frame = String::from_utf8(received.drain(..=end).collect()).unwrap();
        if frame.trim_start().starts_with("DISCONNECT\n") {
            seen.left.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let header = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let who =
            header("login:").zip(header("passcode:")).map_or("none".into(), |(user, word)| format!("{user}:{word}"));
        assert_eq!(header("host:"), Some("/prod"));
        let said = match seen.judge(&who, "").await {
            Some(true) => "CONNECTED\nversion:1.2\n\n\0\n",
            Some(false) => "ERROR\nmessage:Bad CONNECT\nversion:1.0,1.1,1.2\n\nAccess refused\0\n",
            None => return,
        };
        let _ = stream.write_all(said.as_bytes()).await;
    }
}

async fn speak_mqtt(mut stream: TcpStream, seen: Arc<Seen>, version: Version) {
    let (mut received, limits) = (Vec::new(), mqtt::Limits { packet_bytes: 1 << 16 });
    while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
        let Ok(Read::Packet { packet, .. }) = mqtt::read(&received, &limits, None, Role::Server) else { continue };
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        let mut out = Vec::new();
        let reason = if connect.version == version { reason(&seen, &connect).await } else { 1 };
        let connack = ConnAck { session_present: false, reason, properties: Properties::default() };
        mqtt::write_connack(&mut out, version, &connack);
        let _ = stream.write_all(&out).await;
        received.clear();
        // DISCONNECT without a reason.
        let mut last = [0; 2];
        if reason == 0 && stream.read_exact(&mut last).await.is_ok() && last[0] == 0xe0 {
            seen.left.fetch_add(1, Ordering::SeqCst);
        }
        return;
    }
}

async fn reason(seen: &Seen, connect: &Connect<'_>) -> u8 {
    assert!(connect.clean_start && connect.will.is_none());
    let word = |it: &[u8]| String::from_utf8(it.into()).unwrap();
    let who = connect.user.zip(connect.password).map_or("none".into(), |(user, it)| format!("{user}:{}", word(it)));
    match (seen.judge(&who, connect.client_id).await, connect.version) {
        (Some(true), _) => 0,
        (Some(false), Version::V5) => 0x86,
        (Some(false), _) => 4,
        (None, Version::V5) => 0x89,
        (None, _) => 3,
    }
}

fn settings(protocol: Protocol, addresses: &[SocketAddr]) -> BrokerSettings {
    let address = |it: &SocketAddr| BrokerAddress::Tcp { host: it.ip().to_string(), port: it.port(), tls: None };
    BrokerSettings {
        name: "/broker".into(),
        protocol,
        route: 1,
        feed: 0,
        addresses: addresses.iter().map(address).collect(),
        user: Some("edge".into()),
        password: None,
        host: "/prod".into(),
        streams: Vec::new(),
        client_id: "edge-1".into(),
        persistent: true,
        linger: Duration::ZERO,
        heart_beat: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(2),
        topics_max: 100,
        subscribe_rate: 1000,
        message_bytes: 1 << 20,
    }
}

const ASKED: BrokerAuthSettings = BrokerAuthSettings {
    remember: Duration::from_secs(60),
    refused_remember: Duration::from_secs(10),
    parallel: 2,
    wrong_per_minute: 0,
};

fn desk(asked: BrokerAuthSettings, protocol: Protocol, addresses: &[SocketAddr]) -> Desk {
    let auth = AuthSettings { broker: Some(asked), ..no_auth() };
    Desk::before(auth, &[settings(protocol, addresses)]).0
}

fn stomp(servers: &[&Server]) -> Desk {
    desk(ASKED, Protocol::Stomp, &servers.iter().map(|it| it.address).collect::<Vec<_>>())
}

fn ann() -> Credentials {
    password("ann", "secret")
}

#[tokio::test]
async fn yes_and_no_are_asked_once_and_remembered() {
    let server = Server::start(None).await;
    let mut desk = stomp(&[&server]);
    for _ in 0..3 {
        assert_eq!(desk.judge(ann()).await, Ok("ann".into()));
        assert_eq!(desk.judge(password("ann", "Secret")).await, Err(Denied::Password));
        assert_eq!(desk.judge(password("", "")).await, Ok(String::new()), "the broker lets in who says no name");
    }
    let logins: Vec<_> = server.logins().into_iter().map(|it| it.0).collect();
    assert_eq!(logins, ["ann:secret", "ann:Secret", "none"]);
    desk.ask(ann());
    let answer = desk.next().await;
    assert!((55..=60).contains(&answer.keep) && answer.verdict.unwrap().roles.is_empty());
    server.until_left(2).await;
    let stats = desk.verifiers.stats();
    assert_eq!((stats.asked(Kind::Broker), stats.asked(Kind::Basic), stats.waiting(Kind::Broker)), (10, 0, 0));
    assert_eq!((stats.sources[0].kind, stats.sources[0].good.get()), ("broker", 3));
    assert_eq!(stats.sources[0].name, format!("tcp://{}", server.address));
}

#[tokio::test]
async fn of_equal_questions_under_way_one_is_asked_whichever_clients_they_are_of() {
    let server = Server::start(None).await;
    server.seen.answers.acquire_many(1 << 20).await.unwrap().forget();
    let mut desk = stomp(&[&server]);
    for client in 0..200_u8 {
        desk.ask_from(Some([192, 0, 2, client].into()), ann());
    }
    until("a session", || server.sessions() == 1).await;
    assert_eq!(desk.answers_that_are_there(), 0);
    server.seen.answers.add_permits(1);
    for _ in 0..200 {
        assert_eq!(&*desk.next().await.verdict.unwrap().name, "ann");
    }
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn a_broker_that_is_away_is_no_verdict_and_nothing_is_remembered_of_it() {
    let server = Server::start(None).await;
    server.seen.is_full.store(true, Ordering::SeqCst);
    let mut desk = stomp(&[&server]);
    for _ in 0..2 {
        desk.ask(ann());
        let answer = desk.next().await;
        assert_eq!((answer.verdict.unwrap_err().why, answer.keep), (Denied::Unavailable, 0));
    }
    assert_eq!(server.sessions(), 2, "it is asked again");
    assert!(desk.verifiers.stats().sources[0].why().unwrap().contains("closed the connection"));
    server.seen.is_full.store(false, Ordering::SeqCst);
    assert_eq!(desk.judge(ann()).await, Ok("ann".into()));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut desk = self::desk(ASKED, Protocol::Stomp, &[address]);
    assert_eq!(desk.judge(ann()).await, Err(Denied::Unavailable));
    let _server = Server::at(&address.to_string(), None).await;
    assert_eq!(desk.judge(ann()).await, Ok("ann".into()));
}

#[tokio::test]
async fn addresses_are_asked_one_after_the_other_and_the_one_that_answers_first_then() {
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::start(None).await;
    let brokers = BrokerSettings {
        connect_timeout: Duration::from_secs(3600),
        ..settings(Protocol::Stomp, &[silent.local_addr().unwrap(), server.address])
    };
    let auth = AuthSettings { broker: Some(ASKED), timeout: Duration::from_secs(2), ..no_auth() };
    let (mut desk, _upkeep) = Desk::before(auth, &[brokers]);
    assert_eq!(desk.judge(ann()).await, Ok("ann".into()));
    assert_eq!(desk.judge(password("ann", "x")).await, Err(Denied::Password));
    assert_eq!(server.sessions(), 2);
    let calls = std::iter::from_fn(|| futures_now(silent.accept())).count();
    assert_eq!(calls, 1, "the silent one is not called again");
}

/// What is there without waiting.
fn futures_now<T>(future: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(it) => it.ok(),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn brokers_of_mqtt_are_asked_in_the_version_that_they_speak() {
    for version in [Version::V5, Version::V311] {
        let server = Server::start(Some(version)).await;
        let mut desk = desk(ASKED, Protocol::Mqtt, &[server.address]);
        assert_eq!(desk.judge(ann()).await, Ok("ann".into()), "{version:?}");
        assert_eq!(desk.judge(password("ann", "x")).await, Err(Denied::Password), "{version:?}");
        assert_eq!(desk.judge(password("", "")).await, Ok(String::new()));
        server.seen.is_full.store(true, Ordering::SeqCst);
        assert_eq!(desk.judge(password("ann", "y")).await, Err(Denied::Unavailable), "{version:?}");
        server.until_left(2).await;
        let logins = server.logins();
        let mut ids: Vec<_> = logins.iter().map(|it| &*it.1).collect();
        ids.dedup();
        assert_eq!(ids, ["edge-1-login-0", "edge-1-login-1", "edge-1-login-2", "edge-1-login-3"]);
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_not_asked_about() {
    let server = Server::start(None).await;
    let mut desk = stomp(&[&server]);
    let long = "a".repeat(256);
    for (user, word) in
        [("a\nlogin:ann", "x"), (&*long, "x"), ("ann", "secret\nhost:/"), ("ann", "\0"), ("a\u{7f}", "x")]
    {
        assert_eq!(desk.judge(password(user, word)).await, Err(Denied::Malformed), "{user:?}");
    }
    assert_eq!(server.sessions(), 0);
}

/// Wrong passwords in a loop: the broker is asked so often and no more, and nobody else waits for it.
#[tokio::test]
async fn whoever_guesses_has_few_tries_and_others_do_not_notice() {
    let server = Server::start(None).await;
    let asked = BrokerAuthSettings { wrong_per_minute: 20, ..ASKED };
    let mut desk = desk(asked, Protocol::Stomp, &[server.address]);
    let [hostile, other]: [Option<IpAddr>; 2] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().ok());
    let mut why = Vec::new();
    for guess in 0..100 {
        desk.ask_from(hostile, password("ann", &guess.to_string()));
        why.push(desk.next().await.verdict.unwrap_err().why);
    }
    assert!(why[..20].iter().all(|it| *it == Denied::Password), "{why:?}");
    assert!(why[20..].iter().all(|it| *it == Denied::Rate), "{why:?}");
    assert_eq!(server.sessions(), 20);
    desk.ask_from(hostile, ann());
    assert_eq!(desk.next().await.verdict.unwrap_err().why, Denied::Rate);
    desk.ask_from(other, ann());
    assert!(desk.next().await.verdict.is_ok());
    desk.ask_from(hostile, ann());
    assert!(desk.next().await.verdict.is_ok(), "what is known is not asked");
}

/// As fast as they come: a quarter of what may wait is one client's, and `parallel` sessions are there at one time.
#[tokio::test]
async fn a_flood_of_one_address_keeps_out_nobody_else() {
    let server = Server::start(None).await;
    server.seen.answers.acquire_many(1 << 20).await.unwrap().forget();
    let mut desk = stomp(&[&server]);
    let [hostile, other]: [Option<IpAddr>; 2] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().ok());
    for guess in 0..100 {
        desk.ask_from(hostile, password("ann", &guess.to_string()));
    }
    let number = desk.ask_from(other, ann());
    for _ in 0..92 {
        assert_eq!(desk.next().await.verdict.unwrap_err().why, Denied::Busy);
    }
    until("sessions", || server.sessions() == 2).await;
    assert_eq!(desk.answers_that_are_there(), 0);
    server.seen.answers.add_permits(100);
    let mut last = Vec::new();
    for _ in 0..9 {
        last.push(desk.next().await);
    }
    assert!(last.iter().any(|it| it.question == number && it.verdict.is_ok()));
    assert_eq!(server.sessions(), 9);
}
