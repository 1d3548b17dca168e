//! What a TLS record costs: from a parked state (one key is derived and expanded for each half that is woken), from
//! keys that stay expanded, and with rustls's own connection; and what a handshake costs beside rustls alone.
//!
//! `echo` opens a message of so many bytes and seals it again; `push` seals one. The messages are sealed by the other
//! end outside the time that is taken. One iteration is one message.

use divan::{Bencher, Divan, black_box};
use edgehold_wire::tls::{Aead, Awake, Direction, Handshake, Opened, Parked, Plain, Role, Suite, overhead};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

fn main() {
    Divan::from_args().min_time(Duration::from_millis(120)).max_time(Duration::from_millis(400)).main();
}

const SIZES: [usize; 2] = [64, 16 << 10];

/// A suite, and the size of a message.
struct Case {
    suite: Suite,
    size: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{}", self.suite.version, self.suite.aead, self.size)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let aeads = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::ChaCha20Poly1305];
    let suites = aeads.map(Suite::tls13).into_iter().chain(aeads.map(Suite::tls12));
    suites.flat_map(|suite| SIZES.map(|size| Case { suite, size }))
}

fn end(suite: Suite, role: Role) -> Parked {
    let (client, server) = (vec![1; suite.material_len()], vec![2; suite.material_len()]);
    let (client, server) =
        (Direction { sequence: 0, material: &client }, Direction { sequence: 0, material: server.as_slice() });
    let (write, read) = if role == Role::Client { (client, server) } else { (server, client) };
    Parked::new(suite, role, write, read).expect("the lengths are right")
}

/// The client's messages, one after the other.
fn messages(case: &Case) -> impl FnMut() -> Vec<u8> + use<> {
    let (mut client, size) = (end(case.suite, Role::Client).wake(), case.size);
    move || seal(&mut client, &vec![0x5a; size])
}

fn seal(end: &mut Awake, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; message.len() + 2 * overhead(end.suite()) + 5];
    let len = end.write().seal(&mut Plain::new(&[message]), &mut out).expect("there is room");
    out.truncate(len);
    out
}

/// What is opened; a KeyUpdate may stand in front of it.
fn opened<'r>(end: &mut Parked, records: &'r mut [u8]) -> &'r mut [u8] {
    let mut rest = records;
    loop {
        let len = end.lend().record_len(rest).expect("it is a record").expect("its header is whole");
        let (record, behind) = rest.split_at_mut(len);
        if let Opened::Data(plain) = end.wake_read().open(record).expect("it is authentic") {
            return plain;
        }
        rest = behind;
    }
}

#[divan::bench(args = cases())]
fn echo_parked(bencher: Bencher<'_, '_>, case: &Case) {
    let mut server = end(case.suite, Role::Server);
    let mut out = vec![0; case.size + 100];
    bencher.with_inputs(messages(case)).bench_local_refs(|message| {
        let plain = opened(&mut server, message);
        let len = server.wake_write().seal(&mut Plain::new(&[plain]), &mut out).expect("there is room");
        black_box(&out[..len]);
    });
}

#[divan::bench(args = cases())]
fn echo_awake(bencher: Bencher<'_, '_>, case: &Case) {
    let mut server = end(case.suite, Role::Server).wake();
    let mut out = vec![0; case.size + 100];
    bencher.with_inputs(messages(case)).bench_local_refs(|message| {
        if let Opened::Data(plain) = server.read().open(message).expect("it is authentic") {
            let len = server.write().seal(&mut Plain::new(&[plain]), &mut out).expect("there is room");
            black_box(&out[..len]);
        }
    });
}

#[divan::bench(args = cases())]
fn push_parked(bencher: Bencher<'_, '_>, case: &Case) {
    let mut server = end(case.suite, Role::Server);
    let (message, mut out) = (vec![0x5a; case.size], vec![0; case.size + 100]);
    bencher.bench_local(|| {
        let len = server.wake_write().seal(&mut Plain::new(&[black_box(&message)]), &mut out);
        black_box(&out[..len.unwrap_or(0)]);
    });
}

static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(configs);

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let (certificate, key) = (made.cert.der().clone(), PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let server = server.expect("1.3").with_no_client_auth().with_single_cert(vec![certificate], key);
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("1.3");
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    (Arc::new(server.expect("the key fits")), Arc::new(client))
}

fn client() -> ClientConnection {
    ClientConnection::new(CONFIGS.1.clone(), ServerName::try_from("localhost").expect("a name")).expect("a client")
}

fn sent(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("a vector takes all");
    }
    bytes
}

fn received(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("there is room");
        client.process_new_packets().expect("it is in order");
    }
}

fn give(server: &mut ServerConnection, mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).expect("there is room");
        server.process_new_packets().expect("it is in order");
    }
    while server.wants_write() {
        server.write_tls(out).expect("a vector takes all");
    }
}

#[divan::bench(args = SIZES)]
fn echo_rustls(bencher: Bencher<'_, '_>, size: usize) {
    let (mut client, mut server) = (client(), ServerConnection::new(CONFIGS.0.clone()).expect("a server"));
    for _ in 0..3 {
        let mut out = Vec::new();
        give(&mut server, &sent(&mut client), &mut out);
        received(&mut client, &out);
    }
    let (mut plain, mut out) = (vec![0; size], Vec::new());
    let message = || {
        client.writer().write_all(&vec![0x5a; size]).expect("there is room");
        sent(&mut client)
    };
    bencher.with_inputs(message).bench_local_refs(|message| {
        give(&mut server, message, &mut out);
        server.reader().read_exact(&mut plain).expect("it is there");
        server.writer().write_all(&plain).expect("there is room");
        out.clear();
        server.write_tls(&mut out).expect("a vector takes all");
    });
}

#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let (mut client, mut server) = (client(), Handshake::new(&CONFIGS.0).expect("a server"));
        let mut out = Vec::new();
        loop {
            let established = server.feed(&sent(&mut client), &mut out).expect("it is in order");
            received(&mut client, &std::mem::take(&mut out));
            if established.is_some() {
                return established.map(|established| established.parked);
            }
        }
    });
}

#[divan::bench]
fn handshake_rustls(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let (mut client, mut server) = (client(), ServerConnection::new(CONFIGS.0.clone()).expect("a server"));
        while server.is_handshaking() {
            let mut out = Vec::new();
            give(&mut server, &sent(&mut client), &mut out);
            received(&mut client, &out);
        }
        server
    });
}
