//! Real servers that are asked, on sockets: what they say is a script.

use super::super::settings::{AuthSettings, ForwardSettings, KeySource};
use super::asking::{Desk, token};
use super::{PATIENCE, jwt, no_auth, until, url};
use crate::mesh::identity::AskedRequest;
use crate::mesh::{Credentials, Denial, Denied};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What a server does with a request.
#[derive(Clone)]
enum Say {
    /// It writes this.
    Bytes(Vec<u8>),
    /// It writes this and closes.
    Last(Vec<u8>),
    /// It writes this again and again.
    Endless(&'static str),
    /// It reads and says nothing.
    Nothing,
}

/// A server on the loopback, whose script can be changed.
struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Say>>,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(first: Say) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Server { address, script: Arc::new(Mutex::new(first)), connections: Arc::default(), heads: Arc::default() };
        let (script, connections, heads) = (server.script.clone(), server.connections.clone(), server.heads.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, script.clone(), heads.clone()));
            }
        });
        server
    }

    fn say(&self, say: Say) {
        *self.script.lock().unwrap() = say;
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

async fn converse(stream: TcpStream, script: Arc<Mutex<Say>>, heads: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await.ok()? == 0 {
                return None;
            }
        }
        heads.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
        let say = script.lock().unwrap().clone();
        match say {
            Say::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Say::Last(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
            Say::Endless(text) => loop {
                stream.write_all(text.as_bytes()).await.ok()?;
            },
            Say::Nothing => sleep(PATIENCE).await,
        }
    }
}

fn answer(status: &str, fields: &str, body: &str) -> Say {
    Say::Bytes(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

// ---- JWKS ----

fn of(algorithm: &str) -> &'static str {
    let tokens = include_str!("vectors.txt").lines();
    tokens.filter_map(|line| line.split_once(' ')).find(|(its, _)| *its == algorithm).expect(algorithm).1
}

/// A JWKS of one key.
fn set(kid: &str) -> String {
    let all: Value = serde_json::from_str(include_str!("vectors.jwks")).unwrap();
    let keys: Vec<_> = all["keys"].as_array().unwrap().iter().filter(|it| it["kid"] == kid).collect();
    json!({"keys": keys}).to_string()
}

fn by_url(server: &Server) -> AuthSettings {
    AuthSettings { jwt: Some(jwt(KeySource::Url(url(&server.url("/jwks?x=y"))))), ..no_auth() }
}

#[tokio::test]
async fn keys_that_were_good_stay_whatever_the_server_says_then() {
    let server = Server::start(answer("500 Internal Server Error", "", "")).await;
    let (mut desk, upkeep) = Desk::new(by_url(&server));
    let state = desk.verifiers.stats().sources[0].clone();
    tokio::spawn(upkeep.keep(Arc::default()));
    until("a failure", || state.failures.get() > 0).await;
    assert_eq!(desk.judge(token(of("ES256"))).await, Err(Denied::Unavailable), "before the first good one");
    server.say(answer("200 OK", "", &set("p256")));
    until("a good one", || state.good.get() > 0).await;
    assert_eq!(desk.judge(token(of("ES256"))).await, Ok("alice".into()));
    assert_eq!(state.entries.get(), 1);
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}", " ".repeat(2_000_000)).into_bytes();
    for (what, say) in [
        ("answers 404", answer("404 Not Found", "", "")),
        ("redirects to /other", answer("302 Found", "Location: /other\r\n", "")),
        ("is no JSON", answer("200 OK", "", "<html>")),
        ("has no key", answer("200 OK", "", "{\"keys\":[]}")),
        ("more than 1048576 bytes", Say::Last(huge)),
        ("does not answer as it should", Say::Last(b"SSH-2.0-x\r\n\r\n".to_vec())),
        ("does not answer as it should", Say::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec())),
        ("does not answer as it should", Say::Endless("X-More: and more of it\r\n")),
    ] {
        server.say(say);
        until(what, || state.why().is_some_and(|why| why.contains(what))).await;
        assert_eq!(desk.judge(token(of("ES256"))).await, Ok("alice".into()), "{what}");
    }
    server.say(answer("200 OK", "", &set("p256")));
    until("a good one again", || state.why().is_none()).await;
    assert!(server.heads.lock().unwrap()[0].starts_with("GET /jwks?x=y HTTP/1.1\r\n"));
}

#[tokio::test]
async fn keys_are_rotated_and_those_that_are_unchanged_are_not_sent_again() {
    let server = Server::start(answer("200 OK", "ETag: \"1\"\r\n", &set("p256"))).await;
    let (mut desk, upkeep) = Desk::new(by_url(&server));
    let state = desk.verifiers.stats().sources[0].clone();
    tokio::spawn(upkeep.keep(Arc::default()));
    until("a good one", || state.good.get() > 0).await;
    server.say(Say::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_vec()));
    let before = state.good.get();
    until("it is asked again", || state.good.get() > before + 1).await;
    assert!(server.heads.lock().unwrap().last().unwrap().to_ascii_lowercase().contains("if-none-match: \"1\"\r\n"));
    assert_eq!((desk.judge(token(of("ES256"))).await, state.failures.get()), (Ok("alice".into()), 0));
    assert_eq!(desk.judge(token(of("RS256"))).await, Err(Denied::Key));
    server.say(answer("200 OK", "ETag: \"2\"\r\n", &set("rsa")));
    let mut judged = Err(Denied::Key);
    while judged == Err(Denied::Key) {
        judged = desk.judge(token(of("RS256"))).await;
    }
    assert_eq!(judged, Ok("alice".into()));
    assert_eq!(desk.judge(token(of("ES256"))).await, Err(Denied::Key), "the key is withdrawn");
}

// ---- forward ----

fn forward(server: &Server) -> ForwardSettings {
    ForwardSettings {
        url: url(&server.url("/auth?a=b")),
        ca: None,
        fields: vec!["cookie".into(), "x-key".into()],
        keys: vec!["cookie".into()],
        remember: Duration::from_secs(10),
        refused_remember: Duration::from_secs(2),
        parallel: 1,
        timeout: Duration::from_millis(500),
        open: false,
        name_field: "x-user".into(),
        roles_field: "x-roles".into(),
        claims_fields: vec!["x-tenant".into()],
    }
}

fn asking(settings: ForwardSettings) -> Desk {
    Desk::new(AuthSettings { forward: Some(settings), ..no_auth() }).0
}

fn request(fields: &[(&str, &[u8])]) -> Credentials {
    Credentials::Request(Box::new(AskedRequest {
        method: "DELETE".into(),
        target: "/private/x?y=z".into(),
        host: "edge.example".into(),
        secure: true,
        peer: "192.0.2.7:1234".parse().unwrap(),
        fields: fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }))
}

/// Fields of a client that is up to something.
const ODD: [(&str, &[u8]); 8] = [
    ("Cookie", b"a=b"),
    ("X-Key", b"\xff1"),
    ("X-Forwarded-For", b"127.0.0.1"),
    ("x-forwarded-user", b"admin"),
    ("Connection", b"close, x-key"),
    ("Content-Length", b"7"),
    ("Transfer-Encoding", b"chunked"),
    ("Host", b"other"),
];

#[tokio::test]
async fn the_server_is_told_of_the_request_and_nothing_is_smuggled_in() {
    let ok = answer("200 OK", "X-User: alice\r\nX-Roles: a, b c\r\nX-Tenant: t1\r\nX-Other: x\r\n", "welcome");
    let server = Server::start(ok).await;
    let mut desk = asking(forward(&server));
    desk.ask(request(&ODD));
    let said = desk.next().await;
    let identity = said.verdict.unwrap();
    assert_eq!((&*identity.name, said.keep, identity.claim("x-tenant")), ("alice", 10, Some("t1")));
    assert_eq!(identity.roles, ["a".into(), "b".into(), "c".into()].into());
    assert_eq!((identity.claims.len(), identity.expires), (1, None));
    let head = server.heads.lock().unwrap()[0].clone();
    let mut lines: Vec<String> = head.trim_end().lines().map(str::to_ascii_lowercase).collect();
    assert_eq!(lines.remove(0), "get /auth?a=b http/1.1");
    lines.sort_unstable();
    let expected = [
        "cookie: a=b",
        &format!("host: {}", server.address),
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: edge.example",
        "x-forwarded-method: delete",
        "x-forwarded-proto: https",
        "x-forwarded-uri: /private/x?y=z",
    ];
    assert_eq!(
        lines.iter().filter(|it| !it.starts_with("x-key: ")).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert_eq!(lines.len(), expected.len() + 1);
}

#[tokio::test]
async fn a_field_that_can_be_none_is_not_handed_on_but_refused() {
    let server = Server::start(Say::Nothing).await;
    let mut desk = asking(forward(&server));
    for wrong in [("X Key", &b"x"[..]), ("X-Key", b"a\r\nX-User: admin"), ("X-Key", b"a\0")] {
        assert_eq!(desk.judge(request(&[wrong])).await, Err(Denied::Malformed));
    }
}

#[tokio::test]
async fn only_2xx_with_a_name_lets_in_and_the_connection_is_kept() {
    let server = Server::start(Say::Nothing).await;
    let mut desk = asking(forward(&server));
    let state = desk.verifiers.stats().sources[0].clone();
    let name = "X-User: alice\r\n";
    let unavailable = || Err(Denial::new(Denied::Unavailable));
    let refused = |status| Err(Denial { why: Denied::Forward, status: Some(status) });
    for (say, expected, keep) in [
        (answer("200 OK", name, ""), Ok("alice".to_owned()), 10),
        (answer("204 No Content", name, ""), Ok("alice".into()), 10),
        (answer("401 Unauthorized", name, "no"), refused(401), 2),
        (answer("403 Forbidden", name, ""), refused(403), 2),
        (answer("302 Found", "X-User: alice\r\nLocation: /login\r\n", ""), unavailable(), 0),
        (answer("400 Bad Request", name, ""), unavailable(), 0),
        (answer("500 Internal Server Error", name, ""), unavailable(), 0),
        (answer("200 OK", "", ""), unavailable(), 0),
        (answer("200 OK", "X-User:\r\n", ""), unavailable(), 0),
        (answer("200 OK", "X-User: alice\r\nX-User: bob\r\n", ""), unavailable(), 0),
        (answer("200 OK", "X-User: \u{ff}\u{1}\r\n", ""), unavailable(), 0),
        (answer("200 OK", &format!("X-User: {}\r\n", "a".repeat(256)), ""), unavailable(), 0),
        (answer("200 OK", name, ""), Ok("alice".into()), 10),
    ] {
        server.say(say);
        desk.ask(request(&[]));
        let said = desk.next().await;
        let verdict = said.verdict.map(|it| it.name.to_string());
        assert_eq!((&verdict, said.keep), (&expected, keep), "{:?}", server.heads.lock().unwrap().len());
        assert_eq!(state.why().is_some(), expected == unavailable());
    }
    // One answer that is no HTTP costs its connection.
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections <= 2, "{connections} connections for {} requests", server.requests());
}

#[tokio::test]
async fn interim_answers_are_skipped_and_endless_or_broken_ones_are_none() {
    let server = Server::start(Say::Nothing).await;
    let mut desk = asking(forward(&server));
    let after = |interim: &str| {
        Say::Bytes(format!("{interim}HTTP/1.1 200 OK\r\nX-User: a\r\nContent-Length: 0\r\n\r\n").into())
    };
    for interim in
        ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX-User: eve\r\n\r\nHTTP/1.1 102 P\r\n\r\n"]
    {
        server.say(after(interim));
        assert_eq!(desk.judge(request(&[])).await, Ok("a".into()), "{interim}");
    }
    let body = format!("HTTP/1.1 200 OK\r\nX-User: a\r\nContent-Length: 9000000\r\n\r\n{}", "x".repeat(200_000));
    for (say, expected) in [
        (Say::Nothing, Err(Denied::Unavailable)),
        (Say::Last(Vec::new()), Err(Denied::Unavailable)),
        (Say::Last(b"HTTP/1.1 200 OK\r\nX-User: a".to_vec()), Err(Denied::Unavailable)),
        (Say::Last(b"HTTP/1.1 101 Switching Protocols\r\nX-User: a\r\n\r\n".to_vec()), Err(Denied::Unavailable)),
        (Say::Last(b"+OK\r\n".to_vec()), Err(Denied::Unavailable)),
        (Say::Endless("HTTP/1.1 100 Continue\r\n\r\n"), Err(Denied::Unavailable)),
        (Say::Endless("HTTP/1.1 200 OK\r\nX-User: a\r\nX-More: "), Err(Denied::Unavailable)),
        // By its head alone; the rest costs its connection.
        (Say::Bytes(body.into()), Ok("a".to_owned())),
        (after(""), Ok("a".to_owned())),
    ] {
        server.say(say);
        assert_eq!(desk.judge(request(&[])).await, expected, "{}", server.requests());
    }
}

/// One at a time; sixteen wait, and no longer than their time; the rest is told at once.
#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_no_more_than_it_should_be() {
    let server = Server::start(Say::Nothing).await;
    let settings = ForwardSettings { timeout: Duration::from_secs(60), ..forward(&server) };
    let auth = AuthSettings { forward: Some(settings), timeout: Duration::from_secs(1), ..no_auth() };
    let (mut desk, _upkeep) = Desk::new(auth);
    desk.ask(request(&[]));
    until("it is asked", || server.requests() == 1).await;
    for _ in 0..16 {
        desk.ask(request(&[]));
    }
    until("they wait", || desk.verifiers.stats().waiting(super::super::stats::Kind::Forward) == 16).await;
    let number = desk.ask(request(&[]));
    let first = desk.next().await;
    assert_eq!((first.question, first.verdict.unwrap_err().why), (number, Denied::Busy));
    let mut others = Vec::new();
    for _ in 0..17 {
        others.push(desk.next().await.verdict.unwrap_err().why);
    }
    let busy = others.iter().filter(|it| **it == Denied::Busy).count();
    assert!(busy >= 15 && others.contains(&Denied::Unavailable), "{others:?}");
    assert!(server.requests() <= 2, "{} were sent", server.requests());
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_good_again_when_it_is_back() {
    let server = Server::start(Say::Nothing).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut desk = asking(ForwardSettings { url: url(&format!("http://{gone}/")), ..forward(&server) });
    assert_eq!(desk.judge(request(&[])).await, Err(Denied::Unavailable));
    assert!(desk.verifiers.stats().sources[0].why().unwrap().contains("cannot be reached"));
    let mut desk = asking(forward(&server));
    let ok = "HTTP/1.1 200 OK\r\nX-User: a\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..3 {
        // It answers and closes, and the next question finds the connection closed.
        server.say(Say::Last(ok.into()));
        assert_eq!(desk.judge(request(&[])).await, Ok("a".into()));
    }
    let named = ForwardSettings { url: url("http://does-not-resolve.invalid/"), ..forward(&server) };
    assert_eq!(asking(named).judge(request(&[])).await, Err(Denied::Unavailable));
}
