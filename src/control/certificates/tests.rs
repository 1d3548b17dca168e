//! A listener's files from their making to a handshake with stock rustls as the client.

mod client;

use super::keeper::keep;
use super::listener::{Look, Reading};
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite, SupportedProtocolVersion, version,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;

// ---- making ----

/// An authority, or a certificate that was issued by one.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
    params
}

fn authority(name: &str) -> Made {
    let mut params = params(&[name]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Made { params, key, pem }
}

impl Made {
    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn issue(&self, params: CertificateParams, key: KeyPair) -> Made {
        let pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Made { params, key, pem }
    }

    fn server(&self, names: &[&str]) -> Made {
        self.issue(params(names), KeyPair::generate().unwrap())
    }

    /// A client's certificate with this serial number.
    fn client(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = params(&["client"]);
        params.serial_number = Some(serial.into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.issue(params, KeyPair::generate().unwrap())
    }

    /// A list on which these serial numbers stand.
    fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }
}

// ---- a listener ----

/// A folder with the files of a listener, and who issued its certificates.
struct Stage {
    folder: TempDir,
    authority: Made,
}

impl Stage {
    /// With `edge.pem` and `edge.key` in it.
    fn new() -> Stage {
        let stage = Stage { folder: tempfile::tempdir().unwrap(), authority: authority("servers") };
        stage.put("edge", &stage.authority.server(&["edge.example"]));
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// As careful tools do it: both files are whole at any moment.
    fn put(&self, name: &str, made: &Made) {
        for (end, text) in [("pem", &made.pem), ("key", &made.key.serialize_pem())] {
            let (next, file) = (self.path("next"), self.path(&format!("{name}.{end}")));
            fs::write(&next, text).unwrap();
            fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(next, file).unwrap();
        }
    }

    fn files(&self, name: &str) -> CertificateFiles {
        let [certificate, key] = ["pem", "key"].map(|end| self.path(&format!("{name}.{end}")));
        CertificateFiles { certificate, key, ..CertificateFiles::default() }
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificates: vec![self.files("edge")],
            min_version: MinVersion::V12,
            clients: ClientCertificates::Off,
            tickets: TicketSettings { rotate: Duration::from_secs(3600), keys: None },
        }
    }

    /// The first name in the certificate that a new client is shown.
    fn shown(&self, server: &Arc<ServerConfig>) -> String {
        meet(server, &Arc::new(self.client()), "edge.example").shown()
    }

    /// A client that knows the authority of the servers.
    fn client(&self) -> ClientConfig {
        self.client_with(default_provider().cipher_suites, None)
    }

    /// One that speaks this version only.
    fn client_of(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        builder.with_root_certificates(self.roots()).with_no_client_auth()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    fn client_with(&self, cipher_suites: Vec<SupportedCipherSuite>, shown: Option<&Made>) -> ClientConfig {
        let provider = rustls::crypto::CryptoProvider { cipher_suites, ..default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(self.roots());
        let Some(made) = shown else { return builder.with_no_client_auth() };
        let chain = vec![CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(made.key.serialize_pem().as_bytes()).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    }
}

fn load(settings: &TlsSettings) -> TlsListener {
    let key_log: Arc<dyn KeyLog> = Arc::new(NoKeyLog {});
    TlsListener::load("public", settings, &key_log).unwrap_or_else(|faults| panic!("{}", fault::line(&faults)))
}

fn look(listener: &mut TlsListener) -> Look {
    let reading = Reading::of(&listener.settings(), &listener.moment());
    listener.take(reading)
}

// ---- a handshake ----

/// What became of a handshake, and of the tickets behind it.
struct Met {
    client: ClientConnection,
    server: ServerConnection,
    /// Why the server has refused.
    refused: Option<Error>,
}

fn meet(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Met {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut met = Met {
        client: ClientConnection::new(client.clone(), name).unwrap(),
        server: ServerConnection::new(server.clone()).unwrap(),
        refused: None,
    };
    for _ in 0..10 {
        met.exchange();
    }
    met
}

impl Met {
    fn exchange(&mut self) {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while self.client.wants_write() {
            self.client.write_tls(&mut there).unwrap();
        }
        self.server.read_tls(&mut there.as_slice()).unwrap();
        self.refused = self.server.process_new_packets().err().or(self.refused.take());
        while self.server.wants_write() {
            self.server.write_tls(&mut back).unwrap();
        }
        self.client.read_tls(&mut back.as_slice()).unwrap();
        let _ = self.client.process_new_packets();
    }

    /// The first name in the certificate that the client was shown.
    fn shown(&self) -> String {
        let chain = self.client.peer_certificates().expect("a handshake");
        crate::mesh::x509::CertificateFacts::of(&chain[0]).unwrap().dns_names[0].clone()
    }

    fn is_resumed(&self) -> bool {
        self.refused.is_none() && self.server.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

// ---- certificates change ----

#[test]
fn a_new_certificate_is_shown_from_the_next_handshake_on() {
    let stage = Stage::new();
    let mut listener = load(&stage.settings());
    let shards = listener.current();
    let begun = shards.current();
    assert_eq!(look(&mut listener), Look::Unchanged);
    stage.put("edge", &stage.authority.server(&["new.example", "edge.example"]));
    assert_eq!(look(&mut listener), Look::Replaced);
    assert_eq!(stage.shown(&shards.current()), "new.example");
    assert_eq!(stage.shown(&begun), "edge.example", "what had begun keeps what it took");
    assert_eq!(listener.state.standing().certificates[0].names, ["new.example", "edge.example"]);
    assert_eq!((listener.state.replaced.get(), listener.state.refused.get()), (1, 0));
}

type Spoil<'s> = Box<dyn Fn() + 's>;

#[test]
fn bad_files_keep_those_before_until_they_are_well() {
    let stage = Stage::new();
    let mut listener = load(&stage.settings());
    let shards = listener.current();
    let (good, key) = (fs::read(stage.path("edge.pem")).unwrap(), fs::read(stage.path("edge.key")).unwrap());
    let mut expired = params(&["edge.example"]);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = stage.authority.issue(expired, KeyPair::generate().unwrap());
    let other = stage.authority.server(&["edge.example"]);
    let spoils: [(&str, Spoil<'_>); 4] = [
        ("expired", Box::new(|| stage.put("edge", &expired))),
        ("is not the key", Box::new(|| stage.write("edge.pem", &other.pem))),
        ("no certificate", Box::new(|| stage.write("edge.pem", ""))),
        ("is not there", Box::new(|| fs::remove_file(stage.path("edge.key")).unwrap())),
    ];
    for (count, (words, spoil)) in (1..).zip(spoils) {
        fs::write(stage.path("edge.pem"), &good).unwrap();
        fs::write(stage.path("edge.key"), &key).unwrap();
        spoil();
        assert_eq!(look(&mut listener), Look::Refused, "{words}");
        assert_eq!(look(&mut listener), Look::Unchanged, "it is told once");
        let refusal = listener.state.standing().refusal.clone().unwrap_or_default();
        assert!(refusal.contains(words), "{refusal}");
        assert_eq!(listener.state.refused.get(), count);
        assert_eq!(stage.shown(&shards.current()), "edge.example");
    }
    fs::write(stage.path("edge.pem"), &good).unwrap();
    fs::write(stage.path("edge.key"), &key).unwrap();
    assert_eq!(look(&mut listener), Look::Unchanged, "those that are used all the while");
    assert_eq!((listener.state.standing().refusal.clone(), listener.state.replaced.get()), (None, 0));
    stage.put("edge", &other);
    assert_eq!(look(&mut listener), Look::Replaced);
}

/// Of two certificates one expires while it is in use: the other can be renewed all the same.
#[test]
fn what_expires_in_use_does_not_hold_up_what_is_new() {
    let stage = Stage::new();
    let issuer = authority("clients");
    stage.put("b", &stage.authority.server(&["b.example"]));
    stage.write("clients.pem", &issuer.pem);
    stage.write("clients.crl", &issuer.revoke(&[]));
    let (ca, crl) = (stage.path("clients.pem"), Some(stage.path("clients.crl")));
    let settings = TlsSettings {
        certificates: vec![stage.files("edge"), stage.files("b")],
        clients: ClientCertificates::Verified { optional: true, ca, crl },
        ..stage.settings()
    };
    let mut listener = load(&settings);
    // In the year 4005 the list is past its next update; in 4097 the certificates have expired.
    let at = |listener: &TlsListener, now| Reading::of(&settings, &identity::Moment { now, ..listener.moment() });
    stage.put("b", &stage.authority.server(&["b2.example"]));
    let reading = at(&listener, 64_220_000_000);
    assert_eq!(listener.take(reading), Look::Replaced);
    let mut lasting = params(&["b3.example"]);
    lasting.not_after = date_time_ymd(5000, 1, 1);
    stage.put("b", &stage.authority.issue(lasting, KeyPair::generate().unwrap()));
    let reading = at(&listener, 67_120_000_000);
    assert_eq!(listener.take(reading), Look::Replaced);
    stage.put("edge", &stage.authority.server(&["edge.example"]));
    let reading = at(&listener, 67_120_000_000);
    assert_eq!(listener.take(reading), Look::Refused, "a new one that has expired");
}

fn block_on(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), story).await }).expect("in time");
    runtime.shutdown_background();
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn the_keeper_sees_files_that_are_renamed_and_links_that_are_swapped() {
    let stage = Stage::new();
    for (version, names) in [("v1", ["one.example", "edge.example"]), ("v2", ["two.example", "edge.example"])] {
        fs::create_dir(stage.path(version)).unwrap();
        stage.put(&format!("{version}/edge"), &stage.authority.server(&names));
    }
    std::os::unix::fs::symlink("v1", stage.path("data")).unwrap();
    let settings = TlsSettings { certificates: vec![stage.files("data/edge")], ..stage.settings() };
    let listener = load(&settings);
    let (shards, state) = (listener.current(), listener.state());
    let is_shown = |name: &str| stage.shown(&shards.current()) == name;
    assert!(is_shown("one.example"));
    block_on(async {
        tokio::spawn(keep(Kept { listeners: vec![listener], ..Kept::default() }, Arc::default()));
        std::os::unix::fs::symlink("v2", stage.path("next")).unwrap();
        fs::rename(stage.path("next"), stage.path("data")).unwrap();
        until(|| is_shown("two.example")).await;
        stage.write("v2/edge.pem", "no certificate");
        until(|| state.standing().refusal.is_some()).await;
        assert!(is_shown("two.example"));
        stage.put("v2/edge", &stage.authority.server(&["three.example", "edge.example"]));
        until(|| is_shown("three.example")).await;
    });
    assert_eq!(state.standing().refusal, None);
}

/// Through a second name in another folder, which nobody watches, as other machines write to a file of the network.
#[test]
fn the_keeper_reads_files_when_it_is_told_to() {
    let stage = Stage::new();
    let listener = load(&stage.settings());
    let (state, orders) = (listener.state(), Arc::new(Notify::new()));
    let [one, two] = ["one.example", "two.example"].map(|name| stage.authority.server(&[name]));
    block_on(async {
        tokio::spawn(keep(Kept { listeners: vec![listener], ..Kept::default() }, orders.clone()));
        stage.put("edge", &one);
        until(|| state.standing().certificates[0].names == ["one.example"]).await;
        fs::create_dir(stage.path("far")).unwrap();
        for (end, text) in [("pem", &two.pem), ("key", &two.key.serialize_pem())] {
            fs::hard_link(stage.path(&format!("edge.{end}")), stage.path(&format!("far/{end}"))).unwrap();
            fs::write(stage.path(&format!("far/{end}")), text).unwrap();
        }
        orders.notify_one();
        until(|| state.standing().certificates[0].names == ["two.example"]).await;
    });
}

// ---- which certificate ----

#[test]
fn a_certificate_is_chosen_by_name_then_by_wildcard_then_the_first() {
    let stage = Stage::new();
    stage.put("b", &stage.authority.server(&["*.b.example", "b.example"]));
    stage.put("c", &stage.authority.server(&["a.b.example", "c.example", "deep.a.b.example", "other.example"]));
    let names = vec!["a.b.example".to_owned(), "*.c.example".to_owned()];
    let settings = TlsSettings {
        certificates: vec![stage.files("edge"), stage.files("b"), CertificateFiles { names, ..stage.files("c") }],
        ..stage.settings()
    };
    let server = load(&settings).current().current();
    let mut client = stage.client();
    // It takes any certificate: which one it is shown is the question.
    client.dangerous().set_certificate_verifier(Arc::new(Gullible));
    let client = Arc::new(client);
    for (name, shown) in [
        ("edge.example", "edge.example"),
        ("b.example", "*.b.example"),
        ("x.b.example", "*.b.example"),
        ("X.B.EXAMPLE", "*.b.example"),
        ("a.b.example", "a.b.example"),
        ("x.c.example", "a.b.example"),
        ("deep.a.b.example", "edge.example"),
        ("c.example", "edge.example"),
        ("nobody.example", "edge.example"),
        ("127.0.0.1", "edge.example"),
    ] {
        assert_eq!(meet(&server, &client, name).shown(), shown, "{name}");
    }
}

/// A client that looks at no certificate.
#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn of_two_certificates_for_a_name_the_first_that_the_client_can_verify_is_shown() {
    let stage = Stage::new();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    stage.put("ed", &stage.authority.issue(params(&["ed.example", "edge.example"]), key));
    let settings = TlsSettings { certificates: vec![stage.files("ed"), stage.files("edge")], ..stage.settings() };
    let server = load(&settings).current().current();
    let client = Arc::new(stage.client());
    assert_eq!(meet(&server, &client, "edge.example").shown(), "ed.example");
    let mut old = stage.client();
    old.dangerous().set_certificate_verifier(Arc::new(Gullible));
    assert_eq!(meet(&server, &Arc::new(old), "edge.example").shown(), "edge.example");
}

#[test]
fn aes_128_is_chosen_whatever_the_client_would_rather_have() {
    let stage = Stage::new();
    let server = load(&stage.settings()).current().current();
    let aes_256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let both = vec![aes_256, cipher_suite::TLS13_AES_128_GCM_SHA256];
    for (suites, chosen) in [(both, cipher_suite::TLS13_AES_128_GCM_SHA256), (vec![aes_256], aes_256)] {
        let met = meet(&server, &Arc::new(stage.client_with(suites, None)), "edge.example");
        assert_eq!(met.server.negotiated_cipher_suite(), Some(chosen));
    }
    let mut h2 = stage.client();
    h2.alpn_protocols = vec![b"h2".to_vec()];
    let met = meet(&server, &Arc::new(h2.clone()), "edge.example");
    assert!(matches!(met.refused, Some(Error::NoApplicationProtocol)), "{:?}", met.refused);
    h2.alpn_protocols.push(b"http/1.1".to_vec());
    let met = meet(&server, &Arc::new(h2), "edge.example");
    assert_eq!(met.server.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_minimum_of_1_3_refuses_clients_of_1_2() {
    let stage = Stage::new();
    let old = Arc::new(stage.client_of(&version::TLS12));
    for (min_version, refused) in [(MinVersion::V12, false), (MinVersion::V13, true)] {
        let settings = TlsSettings { min_version, ..stage.settings() };
        let met = meet(&load(&settings).current().current(), &old, "edge.example");
        assert_eq!(met.refused.is_some(), refused, "{:?}", met.refused);
    }
}

// ---- clients ----

/// Clients with certificates of all kinds, in the order of the answers that [`admitted`] gives.
fn clients(stage: &Stage, clients: &Made) -> Vec<Arc<ClientConfig>> {
    let stranger = authority("strangers");
    let shown = [
        clients.client(1, |_| {}),
        clients.client(2, |_| {}),
        stranger.client(1, |_| {}),
        clients.client(3, |params| params.not_after = date_time_ymd(2021, 1, 1)),
        clients.client(4, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ];
    let suites = || default_provider().cipher_suites;
    let with = |it: &Made| Arc::new(stage.client_with(suites(), Some(it)));
    std::iter::once(Arc::new(stage.client())).chain(shown.iter().map(with)).collect()
}

fn admitted(server: &Arc<ServerConfig>, clients: &[Arc<ClientConfig>]) -> Vec<bool> {
    clients.iter().map(|client| meet(server, client, "edge.example").refused.is_none()).collect()
}

#[test]
fn clients_are_let_in_by_their_certificates() {
    let stage = Stage::new();
    let issuer = authority("clients");
    stage.write("clients.pem", &issuer.pem);
    stage.write("clients.crl", &issuer.revoke(&[2]));
    let all = clients(&stage, &issuer);
    let server = |optional, crl: Option<&str>| {
        let (ca, crl) = (stage.path("clients.pem"), crl.map(|name| stage.path(name)));
        let clients = ClientCertificates::Verified { optional, ca, crl };
        load(&TlsSettings { clients, ..stage.settings() }).current().current()
    };
    // Without one, good, number 2, of strangers, expired, for servers.
    assert_eq!(admitted(&server(false, None), &all), [false, true, true, false, false, false]);
    assert_eq!(admitted(&server(false, Some("clients.crl")), &all), [false, true, false, false, false, false]);
    assert_eq!(admitted(&server(true, Some("clients.crl")), &all), [true, true, false, false, false, false]);
    stage.write("others.crl", &authority("others").revoke(&[]));
    let none = [false; 6];
    assert_eq!(admitted(&server(false, Some("others.crl")), &all), none, "its issuer has no list");
}

#[test]
fn who_is_revoked_cannot_resume() {
    let stage = Stage::new();
    let issuer = authority("clients");
    stage.write("clients.pem", &issuer.pem);
    stage.write("clients.crl", &issuer.revoke(&[]));
    let (ca, crl) = (stage.path("clients.pem"), Some(stage.path("clients.crl")));
    let clients = ClientCertificates::Verified { optional: false, ca, crl };
    let mut listener = load(&TlsSettings { clients, ..stage.settings() });
    let shards = listener.current();
    let shown = issuer.client(7, |_| {});
    let client = Arc::new(stage.client_with(default_provider().cipher_suites, Some(&shown)));
    assert!(!meet(&shards.current(), &client, "edge.example").is_resumed());
    let met = meet(&shards.current(), &client, "edge.example");
    assert!(met.is_resumed() && met.server.peer_certificates().is_some());
    stage.write("clients.crl", &issuer.revoke(&[7]));
    assert_eq!(look(&mut listener), Look::Replaced);
    let met = meet(&shards.current(), &client, "edge.example");
    assert!(matches!(met.refused, Some(Error::InvalidCertificate(_))), "{:?}", met.refused);
}

// ---- tickets ----

/// A session of `client` that was begun with the first server is resumed with the second.
fn resumes(stage: &Stage, [one, other]: [&Arc<ServerConfig>; 2], version: &'static SupportedProtocolVersion) -> bool {
    let client = Arc::new(stage.client_of(version));
    let met = meet(one, &client, "edge.example");
    assert!(met.refused.is_none() && !met.is_resumed());
    meet(other, &client, "edge.example").is_resumed()
}

const SECRETS: [&str; 2] =
    ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="];

#[test]
fn machines_with_one_file_of_secrets_resume_each_others_sessions() {
    let stage = Stage::new();
    let server = |secrets: &str| {
        stage.write("tickets.keys", secrets);
        let keys = (!secrets.is_empty()).then(|| stage.path("tickets.keys"));
        let tickets = TicketSettings { keys, ..stage.settings().tickets };
        load(&TlsSettings { tickets, ..stage.settings() }).current().current()
    };
    let [old, new] = SECRETS;
    let (one, same, both) = (server(old), server(old), server(&format!("# in front\n{new}\n{old}\n")));
    let (other, random, lonely) = (server(new), server(""), server(""));
    for version in [&version::TLS13, &version::TLS12] {
        assert!(resumes(&stage, [&one, &one], version) && resumes(&stage, [&one, &same], version));
        assert!(resumes(&stage, [&one, &both], version) && resumes(&stage, [&both, &other], version));
        assert!(!resumes(&stage, [&both, &one], version) && !resumes(&stage, [&one, &other], version));
        assert!(resumes(&stage, [&random, &random], version) && !resumes(&stage, [&random, &lonely], version));
    }
}

/// CVE-2025-23419: a session that was begun where nobody asks for a certificate must not open the door where one is
/// asked for.
#[test]
fn a_session_is_not_resumed_where_other_clients_are_let_in() {
    let stage = Stage::new();
    stage.write("tickets.keys", SECRETS[0]);
    stage.write("clients.pem", &authority("clients").pem);
    let tickets = TicketSettings { keys: Some(stage.path("tickets.keys")), ..stage.settings().tickets };
    let server = |clients| {
        let settings = TlsSettings { clients, tickets: tickets.clone(), ..stage.settings() };
        load(&settings).current().current()
    };
    let of = |optional| ClientCertificates::Verified { optional, ca: stage.path("clients.pem"), crl: None };
    let (open, optional) = (server(ClientCertificates::Off), server(of(true)));
    assert!(resumes(&stage, [&open, &open], &version::TLS13));
    assert!(!resumes(&stage, [&open, &optional], &version::TLS13));
    assert!(!resumes(&stage, [&optional, &server(of(false))], &version::TLS13));
}

#[test]
fn sessions_outlive_a_new_certificate_and_one_rotation_but_not_two() {
    let stage = Stage::new();
    let mut listener = load(&stage.settings());
    let (shards, client) = (listener.current(), Arc::new(stage.client()));
    meet(&shards.current(), &client, "edge.example");
    stage.put("edge", &stage.authority.server(&["edge.example"]));
    assert_eq!(look(&mut listener), Look::Replaced);
    let now = super::listener::now();
    assert!(listener.keys.rotate(now + 3600));
    assert!(meet(&shards.current(), &client, "edge.example").is_resumed());
    assert!(listener.keys.rotate(now + 7200) && listener.keys.rotate(now + 10_800));
    assert!(!meet(&shards.current(), &client, "edge.example").is_resumed());
}

// ---- what should be known ----

fn told(stage: &Stage, settings: &TlsSettings) -> Vec<String> {
    let inspection = inspect(settings).unwrap_or_else(|faults| panic!("{}", fault::line(&faults)));
    let name = |file: &Path| file.strip_prefix(stage.folder.path()).unwrap().display().to_string();
    inspection.advice.iter().map(|it| format!("{} {}", name(&it.file), it.words)).collect()
}

#[test]
fn what_is_well_and_will_not_be_is_told() {
    let stage = Stage::new();
    assert_eq!(told(&stage, &stage.settings()), [""; 0]);
    let mut soon = params(&["edge.example"]);
    let left = Duration::from_secs(13 * 24 * 3600 + 60);
    soon.not_after = (std::time::SystemTime::now() + left).into();
    let mut chained = stage.authority.issue(soon, KeyPair::generate().unwrap());
    chained.pem += &authority("others").pem;
    stage.put("edge", &chained);
    fs::set_permissions(stage.path("edge.key"), fs::Permissions::from_mode(0o644)).unwrap();
    stage.put("nameless", &stage.authority.issue(params(&[]), KeyPair::generate().unwrap()));
    let certificates = vec![stage.files("edge"), stage.files("nameless")];
    let told = told(&stage, &TlsSettings { certificates, ..stage.settings() });
    let begins = [
        "edge.pem expires in 13 days, on ",
        "edge.pem has a gap: certificate 2 did not issue certificate 1 — ",
        "edge.key is open to every user of this machine (mode 0644) — chmod o= ",
        "nameless.pem has no DNS name, ",
    ];
    assert_eq!(told.len(), begins.len(), "{told:?}");
    let starts = |(line, begin): (&String, &&str)| line.starts_with(*begin);
    assert!(told.iter().zip(&begins).all(starts), "{told:?}");
}
