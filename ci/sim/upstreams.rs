//! Upstreams that speak TLS: stock rustls at the far end of the scripted kernel, which cuts everything anywhere.

use crate::stage::{KIND, PLAIN, Stage, limits, services, services_that_tell, settings};
use crate::tls::frame;
use edgehold::engine::script::{Dice, FarEnd, Temper};
use edgehold::mesh::{Cause, UpstreamTls};
use edgehold::service::Settings;
use edgehold::service::proxy::Tells;
use edgehold::service::upstreams::{Place, Placed, Places};
use edgehold::shard::service::{AddressRules, RouteLimits, ShardSettings};
use edgehold_wire::proxy_protocol;
use edgehold_wire::ws::{self, Opcode};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const TURNS: usize = 6000;

/// An authority's certificate and key, by which upstream `u` is known.
struct Known {
    certificate: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

impl Known {
    fn new(version: &'static SupportedProtocolVersion) -> Known {
        Known::called("u", version)
    }

    /// With another subject.
    fn called(subject: &str, version: &'static SupportedProtocolVersion) -> Known {
        let mut params = rcgen::CertificateParams::new(vec!["u".into()]).expect("a name");
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
        let server = server.with_single_cert(vec![certificate.clone()], key).expect("a configuration");
        Known { certificate, server: Arc::new(server) }
    }

    /// TLS towards an upstream that must be this one, under this name.
    fn tls(&self, name: &'static str) -> UpstreamTls {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        UpstreamTls::new("tls://u:1".into(), ServerName::try_from(name).expect("a name"), Arc::new(client))
    }
}

fn with_upstream(tls: UpstreamTls) -> Settings {
    Settings { proxy: places(Some(tls)), ..services() }
}

fn places(tls: Option<UpstreamTls>) -> Places {
    let place = Place::Known(([127, 0, 0, 1], 7).into());
    Places { upstreams: vec![Some(Placed { place, health: Arc::default(), tls })], ..Places::default() }
}

/// The upstream's end of a connection.
struct Upstream {
    tls: ServerConnection,
    end: FarEnd,
    received: Vec<u8>,
    failed: bool,
}

impl Upstream {
    /// Accepts the next call.
    fn called(stage: &mut Stage, known: &Known) -> Upstream {
        let mut end = None;
        let called = stage.until(TURNS, |stage| {
            let call = stage.shard.ring().next_call();
            end = call.and_then(|call| stage.shard.ring().answer(&call, true));
            end.is_some()
        });
        assert!(called, "{:?}", stage.counters());
        let tls = ServerConnection::new(known.server.clone()).expect("a server");
        Upstream { tls, end: end.expect("a call"), received: Vec::new(), failed: false }
    }

    /// What has come is decrypted, what is to go is encrypted.
    fn step(&mut self, stage: &mut Stage) {
        let bytes = stage.shard.ring().read(self.end, usize::MAX);
        let mut rest = &bytes[..];
        while !rest.is_empty() && !self.failed {
            self.tls.read_tls(&mut rest).expect("room for records");
            self.failed = self.tls.process_new_packets().is_err();
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
            stage.shard.ring().say(self.end, &records);
        }
    }
}

fn sent_frame(payload: &[u8]) -> Vec<u8> {
    [ws::head(Opcode::Binary, true, payload.len() as u64, Some([0; 4])).as_bytes(), payload].concat()
}

/// A client of `/proxy` with what it has received.
struct Client {
    end: FarEnd,
    received: Vec<u8>,
}

impl Client {
    fn step(&mut self, stage: &mut Stage) {
        self.received.extend(stage.shard.ring().read(self.end, usize::MAX));
    }
}

/// A client whose 101 has come, and its upstream.
fn joined(stage: &mut Stage, known: &Known) -> (Client, Upstream) {
    let mut client = Client { end: stage.opened("/proxy", PLAIN), received: Vec::new() };
    let mut upstream = Upstream::called(stage, known);
    let opened = stage.until(TURNS, |stage| {
        upstream.step(stage);
        client.step(stage);
        client.received.ends_with(b"\r\n\r\n") && !upstream.tls.is_handshaking()
    });
    assert!(opened && client.received.starts_with(b"HTTP/1.1 101"), "{:?}", stage.counters());
    client.received.clear();
    (client, upstream)
}

fn temper(dice: &mut Dice) -> Temper {
    Temper {
        delay: [0, 10, 50][dice.below(3)],
        end_multishot: [0, 10][dice.below(2)],
        buffers: ([2, 16, 256][dice.below(3)], [64, 256, 4096][dice.below(3)]),
        window: [300, 5000, 1 << 20][dice.below(3)],
        ..KIND
    }
}

/// Many seeds: whatever the kernel cuts, what one side says is what the other hears, and the end comes behind it.
#[test]
fn bytes_go_both_ways_and_the_end_is_told() {
    for (seed, version) in (0..24).zip([&rustls::version::TLS13, &rustls::version::TLS12].into_iter().cycle()) {
        let mut dice = Dice::new(seed ^ 0x0_75);
        let known = Known::new(version);
        let park_after = Duration::from_millis([250, 1_000_000][dice.below(2)]);
        let temper = temper(&mut dice);
        let settings = ShardSettings { park_after, ..settings() };
        let mut stage = Stage::of(&with_upstream(known.tls("u")), seed, temper, &settings);
        let (mut client, mut upstream) = joined(&mut stage, &known);
        for _ in 0..8 {
            let payload: Vec<u8> = (0..[1, 64, 1000, 20_000][dice.below(4)]).map(|n: u32| (n * 7) as u8).collect();
            if dice.chance(20) {
                (0..400).for_each(|_| stage.turn());
            }
            stage.shard.ring().say(client.end, &sent_frame(&payload));
            let came = stage.until(TURNS, |stage| {
                upstream.step(stage);
                upstream.received.len() >= payload.len()
            });
            assert!(came && upstream.received == payload, "seed {seed}: {:?}", stage.counters());
            upstream.received.clear();
            upstream.tls.writer().write_all(&payload).expect("room");
            let came = stage.until(TURNS, |stage| {
                upstream.step(stage);
                client.step(stage);
                data(&client.received).len() >= payload.len()
            });
            assert!(came && data(&client.received) == payload, "seed {seed}: {:?}", stage.counters());
            client.received.clear();
        }
        upstream.tls.send_close_notify();
        let told = stage.until(TURNS, |stage| {
            upstream.step(stage);
            client.step(stage);
            client.received.len() >= 4
        });
        assert!(told && client.received[2..4] == 1012u16.to_be_bytes(), "seed {seed}: {:?}", client.received);
        stage.shard.ring().say(client.end, &[0x88, 0x82, 0, 0, 0, 0, 3, 0xf4]);
        let left = stage.until(TURNS, |stage| {
            upstream.step(stage);
            client.step(stage);
            stage.shard.ring().is_ended(upstream.end).then(|| stage.shard.ring().end(upstream.end));
            stage.shard.ring().is_ended(client.end).then(|| stage.shard.ring().end(client.end));
            stage.counters().used == 0
        });
        assert!(left, "seed {seed}: {:?}", stage.counters());
        assert_eq!(stage.counters().upstreams[0].tls_handshakes, [1, 0], "seed {seed}");
        let ended = upstream.tls.process_new_packets().expect("records of TLS");
        assert!(ended.peer_has_closed(), "seed {seed}: close_notify stands before FIN");
    }
}

/// The payloads of unmasked frames, one behind the other; of the last, as far as it has come.
fn data(mut frames: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let [_, short, rest @ ..] = frames {
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < extended {
            break;
        }
        let (bytes, rest) = rest.split_at(extended);
        let long = bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        let len = if extended == 0 { usize::from(*short) } else { long };
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        data.extend_from_slice(payload);
        frames = rest;
    }
    data
}

/// Where the upstream is not whom the operator named, the client is told 503 and nothing of it reaches the upstream.
#[test]
fn an_upstream_that_cannot_be_verified_gets_no_client() {
    let (known, other) = (Known::new(&rustls::version::TLS13), Known::called("w", &rustls::version::TLS13));
    for (tls, reason) in [(other.tls("u"), "certificate_unknown_issuer"), (known.tls("v"), "certificate_name")] {
        let mut stage = Stage::of(&with_upstream(tls.clone()), 1, KIND, &settings());
        let mut client = Client { end: stage.opened("/proxy", PLAIN), received: Vec::new() };
        let mut upstream = Upstream::called(&mut stage, &known);
        let told = stage.until(TURNS, |stage| {
            upstream.step(stage);
            client.step(stage);
            stage.shard.ring().is_ended(upstream.end).then(|| stage.shard.ring().end(upstream.end));
            client.received.len() >= 13
        });
        assert!(told && client.received.starts_with(b"HTTP/1.1 503 "), "{reason}: {:?}", stage.counters());
        assert!(upstream.failed, "the upstream is sent an alert");
        assert_eq!((upstream.received.len(), tls.failure()), (0, Some(reason)));
        let counters = stage.counters().upstreams[0].clone();
        assert_eq!((counters.tls_handshakes, counters.tls_failures, counters.failures), ([0, 0], 1, 1));
    }
}

/// An upstream that accepts and says nothing has `connect_timeout` for all of it; one that speaks no TLS is found out.
#[test]
fn an_upstream_that_shakes_no_hands_has_its_time() {
    let known = Known::new(&rustls::version::TLS13);
    let patient = RouteLimits { idle_ticks: 1_000_000, ..limits() };
    let settings = ShardSettings { limits: vec![patient], ..settings() };
    for (words, reason) in [(&b""[..], "gone"), (b"220 mail.example ESMTP\r\n", "not_tls")] {
        let tls = known.tls("u");
        let mut stage = Stage::of(&with_upstream(tls.clone()), 1, KIND, &settings);
        let mut client = Client { end: stage.opened("/proxy", PLAIN), received: Vec::new() };
        let upstream = Upstream::called(&mut stage, &known);
        stage.shard.ring().say(upstream.end, words);
        let mut stage = stage.at_pace(Duration::from_secs(10));
        let told = stage.until(TURNS, |stage| {
            client.step(stage);
            stage.shard.ring().is_ended(upstream.end).then(|| stage.shard.ring().end(upstream.end));
            client.received.len() >= 13
        });
        let text = String::from_utf8_lossy(&client.received).into_owned();
        assert!(told && text.starts_with("HTTP/1.1 503 "), "{text}");
        assert_eq!((stage.counters().upstreams[0].tls_failures, tls.failure()), (1, Some(reason)));
    }
}

/// FIN without close_notify may be anybody's: what has come is delivered, and then the client hears of a loss.
#[test]
fn a_stream_that_was_cut_short_does_not_pass_for_a_whole_one() {
    let known = Known::new(&rustls::version::TLS13);
    let mut stage = Stage::of(&with_upstream(known.tls("u")), 1, KIND, &settings());
    let (mut client, mut upstream) = joined(&mut stage, &known);
    upstream.tls.writer().write_all(b"the first half").expect("room");
    upstream.step(&mut stage);
    stage.shard.ring().end(upstream.end);
    let expected = [&frame(b"the first half")[..], &[0x88]].concat();
    let told = stage.until(TURNS, |stage| {
        client.step(stage);
        client.received.len() > expected.len() + 3
    });
    assert!(told && client.received.starts_with(&expected), "{:?}", client.received);
    assert_eq!(client.received[expected.len() + 1..][..2], 1011u16.to_be_bytes());
}

/// Behind our close_notify FIN is enough: the client gets its own code back.
#[test]
fn an_upstream_may_answer_the_end_by_fin_alone() {
    let known = Known::new(&rustls::version::TLS13);
    let mut stage = Stage::of(&with_upstream(known.tls("u")), 1, KIND, &settings());
    let (mut client, mut upstream) = joined(&mut stage, &known);
    stage.shard.ring().say(client.end, &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]);
    let told = stage.until(TURNS, |stage| {
        upstream.step(stage);
        stage.shard.ring().is_ended(upstream.end).then(|| stage.shard.ring().end(upstream.end));
        client.step(stage);
        client.received.len() >= 4
    });
    assert!(told && client.received == [0x88, 2, 3, 0xe8], "{:?}", client.received);
}

/// A client that leaves while the handshake is under way leaves nothing behind.
#[test]
fn who_leaves_meanwhile_leaves_nothing() {
    let known = Known::new(&rustls::version::TLS13);
    let mut stage = Stage::of(&with_upstream(known.tls("u")), 1, KIND, &settings());
    let client = stage.opened("/proxy", PLAIN);
    let upstream = Upstream::called(&mut stage, &known);
    assert!(stage.until(TURNS, |stage| !stage.shard.ring().read(upstream.end, 64).is_empty()), "a hello");
    stage.shard.ring().break_off(client);
    let left = stage.until(TURNS, |stage| stage.counters().used == 0);
    assert!(left, "{:?}", stage.counters());
    assert_eq!(stage.counters().closes[Cause::Tls as usize], 0);
}

/// The header that an upstream is sent first, byte by byte, so that nothing behind it is read.
fn told(stage: &mut Stage, end: FarEnd) -> Vec<u8> {
    let mut header = Vec::new();
    let whole = stage.until(TURNS, |stage| {
        while !matches!(proxy_protocol::read(&header), Ok(Some(_))) {
            match stage.shard.ring().read(end, 1)[..] {
                [byte] => header.push(byte),
                _ => return false,
            }
        }
        true
    });
    assert!(whole, "{header:?} {:?}", stage.counters());
    header
}

/// In front of the client's first byte, and of TLS; towards every address that is tried.
#[test]
fn an_upstream_is_told_where_its_client_is() {
    let address: SocketAddr = ([203, 0, 113, 1], 443).into();
    let rules = vec![AddressRules { address: Some(address), ..AddressRules::default() }];
    let tells = Tells { identity: true, roles: true, authority: true, tls: true };
    let known = Known::new(&rustls::version::TLS13);
    for (seed, tls) in (0..12).zip([None, Some(known.tls("u"))].into_iter().cycle()) {
        let mut dice = Dice::new(seed);
        let is_secure = tls.is_some();
        let services = Settings { proxy: places(tls), ..services_that_tell(Some(tells)) };
        let settings = ShardSettings { addresses: rules.clone(), ..settings() };
        let mut stage = Stage::of(&services, seed, temper(&mut dice), &settings);
        let mut client = Client { end: stage.opened("/proxy", PLAIN), received: Vec::new() };
        let mut upstream = Upstream::called(&mut stage, &known);
        let header = told(&mut stage, upstream.end);
        let addresses = proxy_protocol::read(&header).expect("a header").expect("a whole one").addresses;
        let addresses = addresses.expect("addresses");
        assert_eq!((addresses.source.ip().to_string().as_str(), addresses.destination), ("127.0.0.1", address));
        assert!(header.ends_with(b"\x02\0\x01h"), "the host is told, and of TLS and identities there is nothing");
        let opened = stage.until(TURNS, |stage| {
            is_secure.then(|| upstream.step(stage));
            client.step(stage);
            client.received.ends_with(b"\r\n\r\n")
        });
        assert!(opened, "{:?}", stage.counters());
        stage.shard.ring().say(client.end, &sent_frame(b"hello"));
        let came = stage.until(TURNS, |stage| {
            if is_secure {
                upstream.step(stage);
            } else {
                upstream.received.extend(stage.shard.ring().read(upstream.end, usize::MAX));
            }
            upstream.received.len() >= 5
        });
        assert!(came && upstream.received == b"hello", "seed {seed}: {:?}", upstream.received);
    }
}
