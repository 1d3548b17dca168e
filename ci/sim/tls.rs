//! Clients that speak TLS: stock rustls at the far end of the scripted kernel, which cuts everything anywhere.

use crate::stage::{HEALTH, KIND, Stage, services, settings};
use edgehold::engine::script::{Dice, FarEnd, Script, Temper};
use edgehold::mesh::{Cause, HandshakeStage, ListenerTls, ServiceKind, ToShard, Waker, mailbox};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Desk, Event, Services, ShardSettings, Verdict};
use edgehold::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade::{self, Offer};
use edgehold_wire::ws::{self, Opcode};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// Turns in which a client must be served.
const TURNS: usize = 6000;

/// The two ends' configurations.
struct Both {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Both {
    fn new(version: &'static SupportedProtocolVersion) -> Both {
        Both::with_key(version, &KeyPair::generate().expect("a key"))
    }

    fn with_key(version: &'static SupportedProtocolVersion, key: &KeyPair) -> Both {
        let params = CertificateParams::new(vec!["h".into()]).expect("a name");
        let certificate = params.self_signed(key).expect("a certificate").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let server = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
        let client = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        Both {
            server: Arc::new(server.with_single_cert(vec![certificate], key).expect("a configuration")),
            client: Arc::new(client.with_no_client_auth()),
        }
    }

    fn stage(&self, seed: u64, temper: Temper, settings: ShardSettings) -> Stage {
        let tls = vec![Some(ListenerTls::new(self.server.clone(), false))];
        Stage::new(seed, temper, &ShardSettings { tls, ..settings })
    }

    /// Where signatures take long, and a thread makes them.
    fn slow_stage(&self, settings: ShardSettings) -> Stage {
        let tls = vec![Some(ListenerTls::new(self.server.clone(), true))];
        Stage::new(1, KIND, &ShardSettings { tls, ..settings }).with_signer()
    }

    fn client(&self, stage: &mut Stage) -> Client {
        self.client_at(stage.shard.ring())
    }

    fn client_at(&self, ring: &mut Script) -> Client {
        let name = ServerName::try_from("h").expect("a name");
        let tls = ClientConnection::new(self.client.clone(), name).expect("a client");
        Client { tls, end: ring.arrive(0), received: Vec::new(), sent: 0 }
    }
}

struct Client {
    tls: ClientConnection,
    end: FarEnd,
    received: Vec<u8>,
    /// Bytes of records.
    sent: u64,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("room for plaintext");
    }

    /// What has come is decrypted, what is to go is encrypted.
    fn step(&mut self, stage: &mut Stage) {
        self.step_at(stage.shard.ring());
    }

    fn step_at(&mut self, ring: &mut Script) {
        let bytes = ring.read(self.end, usize::MAX);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).expect("room for records");
            self.tls.process_new_packets().expect("records of TLS");
            let mut plain = [0; 4096];
            while let Ok(len @ 1..) = self.tls.reader().read(&mut plain) {
                self.received.extend_from_slice(&plain[..len]);
            }
        }
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).expect("a vector");
        }
        if !records.is_empty() {
            self.sent += records.len() as u64;
            ring.say(self.end, &records);
        }
    }

    /// Turns until this has come.
    fn receives(&mut self, stage: &mut Stage, expected: &[u8]) {
        let came = stage.until(TURNS, |stage| {
            self.step(stage);
            self.received.len() >= expected.len()
        });
        assert!(came, "{} of {} bytes; {:?}", self.received.len(), expected.len(), stage.counters());
        assert!(self.received == expected, "other bytes");
        self.received.clear();
    }

    /// The opening of a WebSocket, and its 101.
    fn opens(&mut self, stage: &mut Stage, path: &str) {
        let mut head = Vec::new();
        upgrade::request(&mut head, "h", path, *b"a key of sixteen", Offer { deflate: None, protocols: &[] });
        self.send(&head);
        let opened = stage.until(TURNS, |stage| {
            self.step(stage);
            self.received.ends_with(b"\r\n\r\n")
        });
        assert!(opened && self.received.starts_with(b"HTTP/1.1 101 "), "{:?}", stage.counters());
        self.received.clear();
    }

    fn sends_frame(&mut self, payload: &[u8]) {
        let head = ws::head(Opcode::Binary, true, payload.len() as u64, Some([0; 4]));
        self.send(&[head.as_bytes(), payload].concat());
    }
}

/// A frame of a server.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [ws::head(Opcode::Binary, true, payload.len() as u64, None).as_bytes(), payload].concat()
}

fn frame_of_text(payload: &[u8]) -> Vec<u8> {
    [ws::head(Opcode::Text, true, payload.len() as u64, None).as_bytes(), payload].concat()
}

fn temper(dice: &mut Dice) -> Temper {
    Temper {
        delay: [0, 10, 50][dice.below(3)],
        end_multishot: [0, 10][dice.below(2)],
        buffers: ([2, 16, 256][dice.below(3)], [64, 256, 4096, 20480][dice.below(4)]),
        window: [300, 5000, 1 << 20][dice.below(3)],
        ..KIND
    }
}

/// Many seeds: whatever the kernel cuts, a message comes back as it was, from a connection that was parked or not, with
/// a KeyUpdate in between or not.
#[test]
fn what_is_echoed_over_tls_is_what_was_sent() {
    for (seed, version) in (0..24).zip([&rustls::version::TLS13, &rustls::version::TLS12].into_iter().cycle()) {
        let mut dice = Dice::new(seed ^ 0x7_15);
        let both = Both::new(version);
        let park_after = Duration::from_millis([250, 1_000_000][dice.below(2)]);
        let temper = temper(&mut dice);
        let mut stage = both.stage(seed, temper, ShardSettings { park_after, ..settings() });
        let mut clients: Vec<Client> = (0..3).map(|_| both.client(&mut stage)).collect();
        clients.iter_mut().for_each(|client| client.opens(&mut stage, "/echo"));
        for _ in 0..12 {
            let client = &mut clients[dice.below(3)];
            let payload: Vec<u8> =
                (0..[0, 1, 64, 1000, 16_384, 40_000][dice.below(6)]).map(|n: u32| (n * 7) as u8).collect();
            if dice.chance(20) {
                // Long enough to be parked.
                (0..400).for_each(|_| stage.turn());
            }
            if dice.chance(30) && *version == rustls::version::TLS13 {
                client.tls.refresh_traffic_keys().expect("TLS 1.3 has KeyUpdate");
            }
            client.sends_frame(&payload);
            client.receives(&mut stage, &frame(&payload));
        }
        clients.iter_mut().for_each(|client| client.tls.send_close_notify());
        let left = stage.until(TURNS, |stage| {
            clients.iter_mut().for_each(|client| client.step(stage));
            stage.counters().used == 0
        });
        assert!(left, "seed {seed}: {:?}", stage.counters());
        assert_eq!((stage.counters().tls_handshakes, stage.counters().pending_bytes), ([3, 0], 0), "seed {seed}");
        let sent: u64 = clients.iter().map(|client| client.sent).sum();
        assert_eq!(stage.counters().bytes_in, sent, "seed {seed}");
    }
}

#[test]
fn subscribers_over_tls_are_sent_every_message() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let mut clients: Vec<Client> = (0..8).map(|_| both.client(&mut stage)).collect();
    clients.iter_mut().for_each(|client| client.opens(&mut stage, "/feed/a"));
    for n in 0..50u32 {
        let payload = vec![n as u8 | 0x80; 20 + n as usize * 40];
        stage.publish(&payload);
        clients.iter_mut().for_each(|client| client.receives(&mut stage, &frame(&payload)));
    }
}

/// What a service queues in front of a batch while that is filled is sealed as well.
#[test]
fn a_notice_of_a_gap_over_tls_is_sealed() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let mut client = both.client(&mut stage);
    client.opens(&mut stage, "/feed/a?after=00000007-3");
    stage.publish(b"behind the gap");
    let came = stage.until(TURNS, |stage| {
        client.step(stage);
        client.received.ends_with(&frame_of_text(b"behind the gap"))
    });
    let text = String::from_utf8_lossy(&client.received).into_owned();
    assert!(came && text.contains("\"gap\""), "{text}");
}

#[test]
fn a_request_over_tls_is_answered_and_the_end_is_told() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let mut client = both.client(&mut stage);
    client.send(b"GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let ended = stage.until(TURNS, |stage| {
        client.step(stage);
        stage.shard.ring().is_ended(client.end)
    });
    assert!(ended && client.received.starts_with(b"HTTP/1.1 404 "), "{:?}", stage.counters());
    let state = client.tls.process_new_packets().expect("nothing new");
    assert!(state.peer_has_closed(), "close_notify stands before FIN");
}

#[test]
fn who_speaks_no_tls_is_told_so_or_sent_away_and_counted() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let plain = stage.asked(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let junk = stage.asked(&[0x80; 40]);
    let silent = stage.asked(b"\x16\x03\x01");
    let mut answer = Vec::new();
    let told = stage.until(TURNS, |stage| {
        answer.extend(stage.shard.ring().read(plain, usize::MAX));
        stage.shard.ring().read(junk, usize::MAX);
        stage.shard.ring().is_ended(plain) && stage.shard.ring().is_ended(junk)
    });
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(told && text.starts_with("HTTP/1.1 400 ") && text.ends_with("without TLS\n"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).expect("a body");
    assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
    // Half a hello has `tls_handshake_timeout`.
    let mut stage = stage.at_pace(Duration::from_secs(1));
    let gone = stage.until(TURNS, |stage| stage.counters().closes[Cause::HandshakeTimeout as usize] == 1);
    assert!(gone && stage.shard.ring().is_broken(silent) || stage.shard.ring().is_ended(silent));
    assert_eq!(stage.counters().tls_failures.iter().sum::<u64>(), 2);
}

/// What no peer sends, with the alert that it hears: a record that does not decrypt, headers that no record has, and
/// that of a length that none has, each in one flight with more of the same.
#[test]
fn a_forged_record_ends_its_connection_alone() {
    use rustls::AlertDescription::{BadRecordMac, ProtocolVersion, RecordOverflow, UnexpectedMessage};
    for (header, alert) in [
        ([23, 3, 3, 0, 20], BadRecordMac),
        ([99, 3, 3, 0, 20], UnexpectedMessage),
        ([20, 3, 3, 0, 20], UnexpectedMessage),
        ([23, 9, 3, 0, 20], ProtocolVersion),
        ([23, 3, 3, 0x41, 1], RecordOverflow),
    ] {
        forge(header, alert);
    }
}

/// The peer hears the alert, and nobody else notices.
fn forge(header: [u8; 5], expected: rustls::AlertDescription) {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let (mut forger, mut innocent) = (both.client(&mut stage), both.client(&mut stage));
    forger.opens(&mut stage, "/echo");
    innocent.opens(&mut stage, "/echo");
    let forged: Vec<u8> = header.into_iter().chain(1..=20).collect();
    let forged = forged.repeat(2);
    stage.shard.ring().say(forger.end, &forged);
    let mut bytes = Vec::new();
    let ended = stage.until(TURNS, |stage| {
        bytes.extend(stage.shard.ring().read(forger.end, usize::MAX));
        stage.shard.ring().is_ended(forger.end)
    });
    assert!(ended, "{:?}", stage.counters());
    forger.tls.read_tls(&mut &bytes[..]).expect("room");
    let alert = forger.tls.process_new_packets().expect_err("a fatal alert");
    assert_eq!(alert, rustls::Error::AlertReceived(expected));
    innocent.sends_frame(b"still served");
    innocent.receives(&mut stage, &frame(b"still served"));
    assert_eq!((stage.counters().tls_faults, stage.counters().closes[Cause::Tls as usize]), (1, 0));
}

/// A header that no record has, alone, behind a forged record, or again and again: one fault, one alert, and the shard
/// goes on.
#[test]
fn a_header_that_no_record_has_ends_its_connection_alone() {
    let forged: &[u8] = &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
    let cases: [(&[&[u8]], rustls::AlertDescription); 5] = [
        (&[&[22, 3, 1, 0, 133]], rustls::AlertDescription::UnexpectedMessage),
        (&[&[23, 2]], rustls::AlertDescription::ProtocolVersion),
        (&[&[23, 3, 3, 255, 255]], rustls::AlertDescription::RecordOverflow),
        (&[forged, &[22, 3, 1, 0, 133]], rustls::AlertDescription::BadRecordMac),
        (&[&[22; 5], &[22; 4000], &[22; 4000]], rustls::AlertDescription::UnexpectedMessage),
    ];
    for (number, (said, expected)) in cases.into_iter().enumerate() {
        let both = Both::new(&rustls::version::TLS13);
        let mut stage = both.stage(1, KIND, settings());
        let (mut guilty, mut innocent) = (both.client(&mut stage), both.client(&mut stage));
        guilty.opens(&mut stage, "/echo");
        innocent.opens(&mut stage, "/echo");
        if number % 2 == 0 {
            // From the parked state.
            (0..400).for_each(|_| stage.turn());
        }
        said.iter().for_each(|bytes| stage.shard.ring().say(guilty.end, bytes));
        let mut told = Vec::new();
        let ended = stage.until(TURNS, |stage| {
            told.extend(stage.shard.ring().read(guilty.end, usize::MAX));
            stage.shard.ring().is_ended(guilty.end)
        });
        assert!(ended, "case {number}: {:?}", stage.counters());
        guilty.tls.read_tls(&mut &told[..]).expect("room");
        let alert = guilty.tls.process_new_packets().expect_err("a fatal alert");
        assert_eq!(alert, rustls::Error::AlertReceived(expected), "case {number}");
        innocent.sends_frame(b"still served");
        innocent.receives(&mut stage, &frame(b"still served"));
        assert_eq!(stage.counters().tls_faults, 1, "case {number}");
    }
}

/// A listener of clear text beside one with TLS: pages are sent there, openings refused, balancers answered.
#[test]
fn a_listener_that_redirects_serves_nothing_but_health() {
    let services = edgehold::service::Settings { redirects: vec![Some(8443)], ..services() };
    let mut stage = Stage::of(&services, 1, KIND, &settings());
    for (request, status, location) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: h.example:80\r\n\r\n", "308", Some("https://h.example:8443/a?b=c")),
        ("POST /echo HTTP/1.1\r\nHost: [::1]\r\n\r\n", "308", Some("https://[::1]:8443/echo")),
        ("GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "403", None),
        ("GET / HTTP/1.0\r\n\r\n", "400", None),
        (&format!("GET {HEALTH} HTTP/1.1\r\nHost: h\r\n\r\n"), "200", None),
    ] {
        let (end, mut answer) = (stage.asked(request.as_bytes()), Vec::new());
        let answered = stage.until(TURNS, |stage| {
            answer.extend(stage.shard.ring().read(end, usize::MAX));
            answer.windows(4).any(|it| it == b"\r\n\r\n")
        });
        let answer = String::from_utf8_lossy(&answer);
        assert!(answered && answer[9..].starts_with(status), "{request}: {answer}");
        let told = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        assert_eq!(told, location, "{request}");
    }
}

/// Whoever leaves in the middle of a handshake, before or in it, gives the slot back at once.
#[test]
fn who_leaves_in_a_handshake_leaves_nothing() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    for said in [&b""[..], b"\x16", b"\x16\x03\x01\x00\xff\x01"] {
        let end = stage.asked(said);
        assert!(stage.until(TURNS, |stage| stage.counters().used == 1));
        stage.shard.ring().end(end);
        assert!(stage.until(100, |stage| stage.counters().used == 0), "{said:?}: {:?}", stage.counters());
    }
    let mut client = both.client(&mut stage);
    client.step(&mut stage);
    assert!(stage.until(TURNS, |stage| stage.shard.ring().unread(client.end) == 0 && stage.counters().used == 1));
    stage.shard.ring().break_off(client.end);
    assert!(stage.until(100, |stage| stage.counters().used == 0), "{:?}", stage.counters());
}

/// A full shard makes no handshake: the alert says that there is no room, and the next one who comes when there is some
/// is served.
#[test]
fn a_full_shard_sends_clients_away_by_an_alert() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, ShardSettings { slots: 1, spare_slots: 2, accepts_in_flight: 2, ..settings() });
    let mut first = both.client(&mut stage);
    first.opens(&mut stage, "/echo");
    let mut second = both.client(&mut stage);
    let mut told = Vec::new();
    let ended = stage.until(TURNS, |stage| {
        told.extend(stage.shard.ring().read(second.end, usize::MAX));
        stage.shard.ring().is_ended(second.end)
    });
    assert!(ended, "{:?}", stage.counters());
    second.tls.read_tls(&mut &told[..]).expect("room");
    let alert = second.tls.process_new_packets().expect_err("a fatal alert");
    assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::InternalError));
    assert_eq!((stage.counters().tls_awake, stage.counters().tls_handshaking), (1, [0; 4]));
    stage.shard.ring().break_off(first.end);
    stage.shard.ring().end(second.end);
    assert!(stage.until(TURNS, |stage| stage.counters().used == 0));
    both.client(&mut stage).opens(&mut stage, "/echo");
}

// ---- many handshakes ----

/// What handshakes may hold in these tests: some 15 that were answered, 12 hellos that wait.
const FEW: u64 = 128 << 10;

impl Both {
    /// A hello as a client sends it.
    fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("h").expect("a name");
        let mut hello = Vec::new();
        let mut client = ClientConnection::new(self.client.clone(), name).expect("a client");
        client.write_tls(&mut hello).expect("a vector");
        hello
    }

    fn crowded(&self, seed: u64) -> Stage {
        self.stage(seed, KIND, ShardSettings { tls_handshake_bytes: FEW, ..settings() })
    }
}

/// Clients that come one after another while others do not go on with their handshakes, or never begin one, get in
/// however many of these there are; what they hold stays below the limit.
#[test]
fn whoever_goes_on_gets_in_beside_those_who_do_not() {
    let both = Both::new(&rustls::version::TLS13);
    let hello = both.hello();
    for (seed, said, stage_of) in [
        (1, &hello[..hello.len() - 1], HandshakeStage::Hello),
        (2, &hello[..], HandshakeStage::Begun),
        (3, &[22, 3, 1, 64, 0, 1][..], HandshakeStage::Hello),
    ] {
        let mut stage = both.crowded(seed);
        for _ in 0..4 {
            let mut client = both.client(&mut stage);
            for _ in 0..40 {
                stage.asked(said);
                stage.turn();
                client.step(&mut stage);
                assert!(stage.counters().tls_handshake_bytes <= FEW);
            }
            client.opens(&mut stage, "/echo");
            client.sends_frame(b"in");
            client.receives(&mut stage, &frame(b"in"));
        }
        let (counters, displaced) = (stage.counters(), stage_of as usize);
        let few = if said.len() < 10 { 0 } else { 50 };
        assert!(counters.tls_displaced[displaced] >= few, "{:?}", counters.tls_displaced);
        assert_eq!(counters.tls_displaced.iter().sum::<u64>(), counters.tls_displaced[displaced]);
        assert_eq!(counters.closes[Cause::Overload as usize], counters.tls_displaced[displaced]);
    }
}

/// Hellos that come all at once wait for their turn, a few a turn; a client that is inside does not wait for them.
/// Those for whom there is no place in the queue are sent away.
#[test]
fn hellos_wait_for_their_turn_and_those_inside_do_not() {
    let both = Both::new(&rustls::version::TLS13);
    let mut stage = both.stage(1, KIND, settings());
    let mut inside = both.client(&mut stage);
    inside.opens(&mut stage, "/echo");
    let hello = both.hello();
    let others: Vec<FarEnd> = (0..60).map(|_| stage.shard.ring().arrive(0)).collect();
    assert!(stage.until(TURNS, |stage| stage.counters().used == 61));
    others.iter().for_each(|&other| stage.shard.ring().say(other, &hello));
    inside.sends_frame(b"quick");
    inside.step(&mut stage);
    let (mut turns, mut answered) = (0, 0);
    while inside.received.is_empty() {
        stage.turn();
        inside.step(&mut stage);
        turns += 1;
        let begun = stage.counters().tls_handshaking[HandshakeStage::Begun as usize];
        assert!(begun <= answered + 2, "{begun} after {answered}");
        answered = begun;
        assert!(turns < 8, "{turns}");
    }
    assert_eq!(inside.received, frame(b"quick"));
    let waiting = stage.counters().tls_handshaking[HandshakeStage::Queued as usize];
    assert!(waiting > 30, "{waiting} wait after {turns} turns");
    assert!(stage.until(TURNS, |stage| stage.counters().tls_handshaking[HandshakeStage::Begun as usize] == 60));
    let mut stage = both.crowded(2);
    let others: Vec<FarEnd> = (0..160).map(|_| stage.shard.ring().arrive(0)).collect();
    assert!(stage.until(TURNS, |stage| stage.counters().used == 160));
    others.iter().for_each(|&other| stage.shard.ring().say(other, &hello));
    let queued = stage.until(TURNS, |stage| stage.counters().tls_displaced[HandshakeStage::Queued as usize] > 50);
    assert!(queued && stage.counters().tls_handshake_bytes <= FEW, "{:?}", stage.counters());
}

/// An RSA key signs once in a turn at most, since that takes longer than a turn should.
#[test]
fn a_slow_key_signs_once_in_a_turn() {
    let key = KeyPair::from_pem(include_str!("rsa.key")).expect("a key");
    for (key, most) in [(key, 1), (KeyPair::generate().expect("a key"), 2)] {
        let both = Both::with_key(&rustls::version::TLS13, &key);
        let mut stage = both.stage(1, KIND, settings());
        let hello = both.hello();
        (0..20).for_each(|_| _ = stage.asked(&hello));
        let (mut answered, mut greatest) = (0, 0);
        let all = stage.until(TURNS, |stage| {
            let begun = stage.counters().tls_handshaking[HandshakeStage::Begun as usize];
            (greatest, answered) = (greatest.max(begun - answered), begun);
            begun == 20
        });
        assert!(all && greatest == most, "{greatest} in a turn");
    }
}

/// With a thread for them, slow signatures are made beside the shard: each handshake is brought to its end, of TLS 1.3
/// and 1.2, full and resumed, and what is echoed is what was sent.
#[test]
fn slow_signatures_are_made_beside_the_shard() {
    let key = KeyPair::from_pem(include_str!("rsa.key")).expect("a key");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let both = Both::with_key(version, &key);
        let mut stage = both.slow_stage(settings());
        let mut clients: Vec<Client> = (0..12).map(|_| both.client(&mut stage)).collect();
        let mut greatest = 0;
        let shaken = stage.until_made(|stage| {
            clients.iter_mut().for_each(|client| client.step(stage));
            greatest = greatest.max(stage.counters().tls_handshaking[HandshakeStage::Signing as usize]);
            stage.counters().tls_handshakes.iter().sum::<u64>() == 12
        });
        assert!(shaken && (2..=4).contains(&greatest), "{greatest}: {:?}", stage.counters());
        // Tickets of TLS 1.3 come behind the handshake.
        (0..100).for_each(|_| {
            stage.turn();
            clients.iter_mut().for_each(|client| client.step(&mut stage));
        });
        let mut last = both.client(&mut stage);
        let resumed = stage.until_made(|stage| {
            last.step(stage);
            stage.counters().tls_handshakes == [12, 1]
        });
        assert!(resumed, "{:?}", stage.counters());
        for client in clients.iter_mut().chain([&mut last]) {
            client.opens(&mut stage, "/echo");
            client.sends_frame(b"beside");
            client.receives(&mut stage, &frame(b"beside"));
        }
    }
}

/// Who leaves while a signature is made leaves nothing, and who has the slot next is not sent what was for another.
#[test]
fn who_leaves_while_a_signature_is_made_leaves_nothing() {
    let key = KeyPair::from_pem(include_str!("rsa.key")).expect("a key");
    let both = Both::with_key(&rustls::version::TLS13, &key);
    let mut stage = both.slow_stage(ShardSettings { slots: 4, spare_slots: 2, accepts_in_flight: 4, ..settings() });
    let hello = both.hello();
    for _ in 0..50 {
        let leaves = stage.asked(&hello);
        stage.until(3, |stage| stage.counters().tls_handshaking[HandshakeStage::Signing as usize] > 0);
        stage.shard.ring().break_off(leaves);
    }
    assert!(stage.until_made(|stage| stage.counters().used == 0), "{:?}", stage.counters());
    let mut client = both.client(&mut stage);
    let shaken = stage.until_made(|stage| {
        client.step(stage);
        stage.counters().tls_handshakes == [1, 0]
    });
    assert!(shaken, "{:?}", stage.counters());
    assert_eq!((stage.counters().tls_handshaking, stage.counters().tls_handshake_bytes), ([0; 4], 0));
}

// ---- certificates of clients ----

/// Both ends' configurations, where the server asks for a certificate and takes none as well. The client has one with
/// these names, or none.
fn both_with_names(version: &'static SupportedProtocolVersion, names: Option<Vec<SanType>>) -> Both {
    let both = Both::new(version);
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(params.self_signed(&authority_key).expect("a certificate").der().clone()).expect("a root");
    let authority = Issuer::new(params, authority_key);
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().expect("a verifier");
    let builder = ServerConfig::builder_with_protocol_versions(&[version]).with_client_cert_verifier(verifier);
    let server = builder.with_cert_resolver(both.server.cert_resolver.clone());
    let mut client = (*both.client).clone();
    if let Some(names) = names {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "agent 7");
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let chain = vec![params.signed_by(&key, &authority).expect("a certificate").der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key that signs");
        let certified = rustls::sign::CertifiedKey::new(chain, key);
        client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    Both { server: Arc::new(server), client: Arc::new(client) }
}

/// Tells each client whom its certificate names.
struct Teller;

impl Services for Teller {
    type Settings = ();

    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, _: &Head<'_, '_>) -> Verdict {
        desk.route(who, ServiceKind::Page, 0);
        let words = desk.client_certificate(who).map_or("nobody".into(), |it| {
            let names: Vec<_> = it.names.iter().map(ToString::to_string).collect();
            format!("{} {} {}", it.subject, names.join(" "), it.is_whole)
        });
        desk.answer(who, Status::OK, &[], words.as_bytes());
        Verdict::Served
    }

    fn event(&mut self, _: &mut Desk<'_>, _: Handle, _: u32, _: Event<'_>) {}

    fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

    fn held(&self) -> usize {
        0
    }

    fn letter(&mut self, _: &mut Desk<'_>, _: ToShard) {}

    fn poll(&mut self, _: &mut Desk<'_>, _: u32) -> u32 {
        0
    }
}

/// Turns, of a millisecond each, in which a client is parked.
const PAUSE: usize = 1500;

/// What a client is told that asks twice on one connection, with a pause in which it is parked; then it leaves.
fn told(both: &Both, shard: &mut Shard<Script, Teller>, time: &mut Duration) -> [String; 2] {
    let mut client = both.client_at(shard.ring());
    let mut turns = |most, shard: &mut Shard<Script, Teller>, client: &mut Client, is: &dyn Fn(&Client) -> bool| {
        (0..most).any(|_| {
            *time += Duration::from_millis(1);
            shard.ring().set_time(*time);
            shard.turn(Now { since_start: *time, unix: 0 }).expect("the scripted ring never fails");
            client.step_at(shard.ring());
            is(client)
        })
    };
    let told = [(); 2].map(|()| {
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let has_body = |client: &Client| {
            let text = String::from_utf8_lossy(&client.received);
            let body = text.split_once("\r\n\r\n").map(|it| it.1.len());
            let len = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            len.is_some() && body == len
        };
        assert!(turns(TURNS, shard, &mut client, &has_body), "{:?}", shard.report().counters);
        let text = String::from_utf8(std::mem::take(&mut client.received)).expect("text");
        assert!(!turns(PAUSE, shard, &mut client, &|client| !client.received.is_empty()), "nothing else is told");
        text.split_once("\r\n\r\n").expect("a body").1.to_owned()
    });
    client.tls.send_close_notify();
    turns(20, shard, &mut client, &|_| false);
    shard.ring().end(client.end);
    turns(20, shard, &mut client, &|_| false);
    assert_eq!(shard.report().counters.used, 0, "it has left");
    told
}

/// A service knows whom the certificate of a client names: of a whole handshake and of a session that is resumed, in
/// both versions, and after a pause. The next client in the same slot is nobody.
#[test]
fn a_service_knows_whom_the_certificate_of_a_client_names() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name"));
        let uri = SanType::URI("spiffe://example/agent".try_into().expect("a name"));
        let both = both_with_names(version, Some(vec![uri, dns("Agent.example")]));
        let many = both_with_names(version, Some((0..500).map(|n| dns(&format!("{n}.example"))).collect()));
        let nobody = both_with_names(version, None);
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (_letters, inbox) = mailbox(4, waker());
        let (to_control, _from_shard) = mailbox(4, waker());
        let listener = ListenerTls::new(both.server.clone(), false);
        let settings =
            ShardSettings { tls: vec![Some(listener.clone())], park_after: Duration::from_secs(1), ..settings() };
        let mut shard = Shard::new(Script::new(1, KIND), Teller, &settings, inbox, to_control);
        let mut time = Duration::ZERO;
        let expected = "CN=agent 7,O=Example\\, Inc. URI:spiffe://example/agent DNS:agent.example true";
        assert_eq!(told(&both, &mut shard, &mut time), [expected; 2]);
        assert_eq!(shard.report().counters.tls_handshakes, [1, 0]);
        assert_eq!(told(&both, &mut shard, &mut time), [expected; 2], "resumed");
        assert_eq!(shard.report().counters.tls_handshakes, [1, 1]);
        listener.replace(nobody.server.clone(), false);
        assert_eq!(told(&nobody, &mut shard, &mut time), ["nobody"; 2]);
        assert_eq!(shard.report().counters.tls_client_names_cut, 0);
        listener.replace(many.server.clone(), false);
        assert!(told(&many, &mut shard, &mut time)[0].ends_with(" false"), "some are left out");
        assert_eq!(shard.report().counters.tls_client_names_cut, 1);
    }
}
