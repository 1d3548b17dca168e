//! Handshakes that fail: each with its reason, and with the alert that rustls, at the other end, understands.

use crate::laws;
use crate::peers::{
    AUTHORITY, Identity, NAME, Ours, authority, client_config, give, identity, identity_by, provider, roots, sent_by,
    server_config, shake, stock_client, stock_server, suites,
};
use edgehold_wire::tls::{Alert, Established, Failure, Handshake, MAX_HELLO, MAX_UNFINISHED, Reason, Version};
use proptest::prelude::*;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, Connection, Error, ServerConfig};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Both ends until one of them fails: what ours says, and what rustls says about the alert.
fn fall(ours: &mut Ours, stock: &mut Connection) -> (Result<Option<Established>, Failure>, Option<Error>) {
    let mut result = Ok(None);
    for _ in 0..6 {
        let mut out = Vec::new();
        let flight = sent_by(stock);
        result = ours.feed(&flight, &mut out);
        let told = give(stock, &out).err();
        if told.is_some() || result.is_err() || matches!(result, Ok(Some(_))) {
            return (result, told);
        }
    }
    (result, None)
}

fn reason(result: Result<Option<Established>, Failure>) -> (Reason, Option<Alert>) {
    let failure = result.err().expect("the handshake fails");
    (failure.reason, failure.alert)
}

fn told(description: AlertDescription) -> Error {
    Error::AlertReceived(description)
}

/// A listener of ours and a client of rustls's.
fn refused(server: &ServerConfig, client: ClientConfig) -> (Reason, Option<Alert>, Option<Error>) {
    let (result, told) = fall(&mut Ours::server(server), &mut stock_client(&Arc::new(client)));
    let (reason, alert) = reason(result);
    (reason, alert, told)
}

fn server_of(versions: &[&'static rustls::SupportedProtocolVersion], identity: Identity) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider(&suites())).with_protocol_versions(versions).unwrap();
    builder.with_no_client_auth().with_single_cert(identity.0, identity.1).unwrap()
}

fn client_of(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider(&suites())).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots()).with_no_client_auth()
}

#[test]
fn an_http_request_in_clear_text_is_seen() {
    for request in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"OPTIONS * HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n"] {
        for size in 1..=request.len() {
            let mut handshake = Handshake::new(&server_config(&suites())).unwrap();
            let mut out = Vec::new();
            let fed = request.chunks(size).find_map(|piece| handshake.feed(piece, &mut out).err());
            let failure = fed.expect("it is no hello");
            assert_eq!((failure.reason, failure.alert), (Reason::PlainHttp, None));
            assert!(out.is_empty() && request.starts_with(handshake.request()));
        }
    }
}

#[test]
fn bytes_that_are_no_record_are_refused() {
    let records = [&[23, 3, 3, 0, 1, 0][..], &[99, 3, 3, 0, 1, 0], &[20, 3, 3, 0, 1, 1]];
    let others = [&b"SSH-2.0-x\r\n"[..], b"\x80\x2e\x01\x03\x01", b"GETX / HTTP", &[0; 5]];
    for bytes in records.into_iter().chain(others) {
        let mut out = Vec::new();
        let (reason, alert) = reason(Ours::server(&server_config(&suites())).feed(bytes, &mut out));
        assert_eq!((reason, alert), (Reason::NotTls, Some(Alert::UNEXPECTED_MESSAGE)), "{bytes:?}");
        assert_eq!(out, [21, 3, 3, 0, 2, 2, Alert::UNEXPECTED_MESSAGE.0], "{bytes:?}");
    }
}

#[test]
fn a_hello_that_cannot_be_parsed_is_refused() {
    for body in [&[1, 0, 0, 2, 3, 3][..], &[2, 0, 0, 2, 3, 3], &[1, 0, 0, 1], &[]] {
        let record = [&[22, 3, 1, 0, body.len() as u8][..], body, &[22, 3, 1, 0, 1, 0]].concat();
        let mut out = Vec::new();
        let (reason, alert) = reason(Ours::server(&server_config(&suites())).feed(&record, &mut out));
        assert_eq!(reason, Reason::Malformed, "{body:?}");
        assert!(alert.is_some() && out.len() == 7, "{body:?}: {out:?}");
    }
}

#[test]
fn a_hello_without_an_end_is_refused() {
    let mut ours = Ours::server(&server_config(&suites()));
    let (mut out, mut fed) = (Vec::new(), 0);
    let mut record = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0xff, 0], &[0; (1 << 14) - 4]].concat();
    let failure = loop {
        match ours.feed(&record, &mut out) {
            Ok(none) => assert!(none.is_none()),
            Err(failure) => break failure,
        }
        fed += record.len();
        record[5..9].fill(0);
    };
    assert!(fed <= MAX_HELLO);
    assert_eq!((failure.reason, failure.alert), (Reason::TooLong, Some(Alert::DECODE_ERROR)));
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 50]);
}

/// Once a hello has been taken this end does not know whether an alert would have to be encrypted.
#[test]
fn a_flight_without_an_end_is_refused_in_silence() {
    let mut ours = Ours::server(&server_config(&suites()));
    let mut out = Vec::new();
    ours.feed(&sent_by(&mut stock_client(&Arc::new(client_of(&[&TLS12])))), &mut out).unwrap();
    out.clear();
    let mut record = [&[22, 3, 3, 0x40, 0][..], &[16, 0, 0xff, 0], &[0; (1 << 14) - 4]].concat();
    let mut fed = 0;
    let failure = (0..4).find_map(|_| {
        let failure = ours.feed(&record, &mut out).err();
        fed += record.len();
        record[5..9].fill(0);
        failure
    });
    assert!((MAX_UNFINISHED..MAX_UNFINISHED + record.len()).contains(&fed));
    let failure = failure.expect("it is too long");
    assert_eq!((failure.reason, failure.alert, out.len()), (Reason::TooLong, None, 0));
}

#[test]
fn no_version_in_common() {
    let server = server_of(&[&TLS13], identity());
    let found = refused(&server, client_of(&[&TLS12]));
    let told = Some(told(AlertDescription::ProtocolVersion));
    assert_eq!(found, (Reason::NoCommonVersion, Some(Alert::PROTOCOL_VERSION), told));
    let (reason, alert, _) = refused(&server_of(&[&TLS12], identity()), client_of(&[&TLS13]));
    assert_eq!((reason, alert), (Reason::NoCommonVersion, Some(Alert::PROTOCOL_VERSION)));
}

/// A hello without signature_algorithms is one of TLS 1.1, or of a client of 1.2 that knows nothing but SHA-1.
#[test]
fn a_client_of_tls_1_1_has_no_version_in_common() {
    for (version, why, alert) in [
        ([3, 1], Reason::NoCommonVersion, Alert::PROTOCOL_VERSION),
        ([3, 2], Reason::NoCommonVersion, Alert::PROTOCOL_VERSION),
        ([3, 3], Reason::NoCommonCipher, Alert::HANDSHAKE_FAILURE),
    ] {
        let hello = [&version[..], &[7; 32], &[0, 0, 2, 0xc0, 0x09, 1, 0]].concat();
        let len = hello.len() as u8;
        let record = [&[22, 3, 1, 0, len + 4, 1, 0, 0, len][..], &hello].concat();
        for cut in [record.len(), 1, 4, 10] {
            let (mut ours, mut out) = (Ours::server(&server_config(&suites())), Vec::new());
            let fed = record.chunks(cut).find_map(|piece| ours.feed(piece, &mut out).err());
            let failure = fed.expect("it is refused");
            assert_eq!((failure.reason, failure.alert), (why, Some(alert)), "{version:?}");
            assert_eq!(out, [21, 3, 3, 0, 2, 2, alert.0]);
        }
    }
}

#[test]
fn a_record_that_is_too_long_overflows() {
    let mut out = Vec::new();
    let (reason, alert) = reason(Ours::server(&server_config(&suites())).feed(&[22, 3, 1, 0x48, 1], &mut out));
    assert_eq!((reason, alert), (Reason::Malformed, Some(Alert::RECORD_OVERFLOW)));
    assert_eq!(out, [21, 3, 3, 0, 2, 2, Alert::RECORD_OVERFLOW.0]);
}

#[test]
fn no_cipher_in_common() {
    let [aes, _, chacha, ..] = suites();
    let found = refused(&server_config(&[aes]), client_config(&[chacha]));
    let told = Some(told(AlertDescription::HandshakeFailure));
    assert_eq!(found, (Reason::NoCommonCipher, Some(Alert::HANDSHAKE_FAILURE), told));
}

#[test]
fn no_protocol_in_common() {
    let mut client = client_config(&suites());
    client.alpn_protocols = vec![b"h2".to_vec()];
    let found = refused(&server_config(&suites()), client);
    let told = Some(told(AlertDescription::NoApplicationProtocol));
    assert_eq!(found, (Reason::NoCommonProtocol, Some(Alert::NO_APPLICATION_PROTOCOL), told));
}

#[test]
fn no_certificate_for_the_name() {
    for version in [&TLS12, &TLS13] {
        let mut server = server_of(&[version], identity());
        server.cert_resolver = Arc::new(ResolvesServerCertUsingSni::new());
        let found = refused(&server, client_of(&[version]));
        let told = Some(told(AlertDescription::UnrecognisedName));
        assert_eq!(found, (Reason::NoCertificateForName, Some(Alert::UNRECOGNIZED_NAME), told));
    }
}

/// A client's certificate is presented to a listener of ours that requires one of [`AUTHORITY`]'s that is not revoked.
fn presented(version: &'static rustls::SupportedProtocolVersion, identity: Option<Identity>) -> Presented {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(77),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2999, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&AUTHORITY.1).unwrap().der().clone();
    let provider = provider(&suites());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), provider.clone()).with_crls([list]);
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let own = crate::peers::identity();
    let server = builder.with_client_cert_verifier(verifier.build().unwrap()).with_single_cert(own.0, own.1).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots());
    let client = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    fall(&mut Ours::server(&server), &mut stock_client(&Arc::new(client)))
}

type Presented = (Result<Option<Established>, Failure>, Option<Error>);

#[test]
fn a_client_certificate_that_is_in_order_is_handed_over() {
    for version in [&TLS12, &TLS13] {
        let (chain, key) = identity();
        let (result, told) = presented(version, Some((chain.clone(), key)));
        let established = result.ok().flatten().expect("the handshake is over");
        assert_eq!((established.certificates, told), (chain, None));
    }
}

#[test]
fn a_client_certificate_that_is_not_in_order_is_refused() {
    use AlertDescription::*;
    for version in [&TLS12, &TLS13] {
        let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
        let future = |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(2990, 1, 1);
        let revoked = |params: &mut rcgen::CertificateParams| params.serial_number = Some(SerialNumber::from(77));
        let by_us =
            |change: &dyn Fn(&mut rcgen::CertificateParams)| Some(identity_by(&AUTHORITY.1, |params| change(params)));
        let by_another = Some(identity_by(&authority("another").1, |_| {}));
        let cases = [
            (None, Reason::CertificateMissing, Alert::CERTIFICATE_REQUIRED, CertificateRequired),
            (by_us(&expired), Reason::CertificateExpired, Alert::CERTIFICATE_EXPIRED, CertificateExpired),
            (by_us(&future), Reason::CertificateExpired, Alert::CERTIFICATE_EXPIRED, CertificateExpired),
            (by_us(&revoked), Reason::CertificateRevoked, Alert::CERTIFICATE_REVOKED, CertificateRevoked),
            (by_another, Reason::CertificateUnknownIssuer, Alert::UNKNOWN_CA, UnknownCA),
        ];
        for (identity, why, alert, description) in cases {
            let (result, heard) = presented(version, identity);
            assert_eq!((reason(result), heard), ((why, Some(alert)), Some(told(description))), "{version:?}");
        }
    }
}

/// An upstream of rustls's with this certificate and a client of ours.
fn upstream(identity: Identity) -> Presented {
    let server = Arc::new(server_of(&[&TLS13, &TLS12], identity));
    fall(&mut Ours::client(&client_of(&[&TLS13, &TLS12])), &mut stock_server(&server))
}

#[test]
fn an_upstream_with_a_certificate_that_is_not_in_order_is_refused() {
    use AlertDescription::*;
    let expired = identity_by(&AUTHORITY.1, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let other = identity_by(&AUTHORITY.1, |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let unknown = identity_by(&authority("another").1, |_| {});
    for (identity, why, description) in [
        (expired, Reason::CertificateExpired, CertificateExpired),
        (other, Reason::CertificateName, BadCertificate),
        (unknown, Reason::CertificateUnknownIssuer, UnknownCA),
    ] {
        let (result, heard) = upstream(identity);
        assert_eq!((reason(result).0, heard), (why, Some(told(description))));
    }
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_seen() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"INFO {\"server_id\":\"x\"}\r\n"] {
        let (mut ours, mut out) = (Ours::client(&client_config(&suites())), Vec::new());
        assert!(ours.feed(&[], &mut out).unwrap().is_none() && out[0] == 22);
        assert_eq!(reason(ours.feed(answer, &mut out)).0, Reason::NotTls);
    }
}

#[test]
fn a_peer_that_refuses_is_believed() {
    let server = server_of(&[&TLS13, &TLS12], identity_by(&authority("another").1, |_| {}));
    let mut client = stock_client(&Arc::new(client_config(&suites())));
    let (mut ours, mut out) = (Ours::server(&server), Vec::new());
    assert!(ours.feed(&sent_by(&mut client), &mut out).unwrap().is_none());
    assert!(give(&mut client, &out).is_err(), "the client does not know the authority");
    out.clear();
    let failed = reason(ours.feed(&sent_by(&mut client), &mut out));
    assert_eq!((failed, out.len()), ((Reason::Refused(Alert::UNKNOWN_CA), None), 0));
}

#[test]
fn a_flight_that_was_tampered_with_is_refused() {
    for suite in suites() {
        let (mut ours, mut stock) =
            (Ours::server(&server_config(&[suite])), stock_client(&Arc::new(client_config(&[suite]))));
        let mut out = Vec::new();
        ours.feed(&sent_by(&mut stock), &mut out).unwrap();
        give(&mut stock, &out).unwrap();
        let mut flight = sent_by(&mut stock);
        *flight.last_mut().unwrap() ^= 1;
        out.clear();
        let (reason, _) = reason(ours.feed(&flight, &mut out));
        assert_eq!(reason, Reason::Decrypt);
        assert!(!out.is_empty(), "an alert is sent");
    }
}

/// Early data would be taken twice from one who sends it twice.
#[test]
fn no_early_data_is_accepted_whatever_the_configuration_says() {
    let mut server = server_of(&[&TLS13], identity());
    server.max_early_data_size = 1000;
    let mut client = client_of(&[&TLS13]);
    client.enable_early_data = true;
    let (server, client) = (Arc::new(server), Arc::new(client));
    let (mut first, mut stock) = (stock_server(&server), stock_client(&client));
    for _ in 0..3 {
        give(&mut first, &sent_by(&mut stock)).unwrap();
        give(&mut stock, &sent_by(&mut first)).unwrap();
    }
    let mut stock = stock_client(&client);
    let Connection::Client(client) = &mut stock else { panic!("it is a client") };
    client.early_data().expect("the session allows it").write_all(b"early").unwrap();
    let established = shake(&mut Ours::server(&server), &mut stock, &[]).unwrap();
    assert!(established.resumed && established.leftover.is_empty());
    let Connection::Client(client) = &mut stock else { panic!("it is a client") };
    assert!(!client.is_early_data_accepted());
}

/// A log that notes the labels.
#[derive(Debug, Default)]
struct Labels(Mutex<Vec<String>>);

impl rustls::KeyLog for Labels {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap().push(label.to_string());
    }
}

#[test]
fn the_configured_key_log_still_hears_everything() {
    for suite in [suites()[0], suites()[3]] {
        let labels = Arc::new(Labels::default());
        let mut server = server_config(&[suite]);
        server.key_log = labels.clone();
        shake(&mut Ours::server(&server), &mut stock_client(&Arc::new(client_config(&[suite]))), &[]).unwrap();
        let heard = labels.0.lock().unwrap().clone();
        let expected: &[&str] = match suite.version {
            Version::Tls12 => &["CLIENT_RANDOM"],
            Version::Tls13 => &["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"],
        };
        assert!(expected.iter().all(|label| heard.iter().any(|heard| heard == label)), "{heard:?}");
    }
}

#[test]
fn a_name_that_is_asked_for_is_handed_over() {
    for suite in suites() {
        let (mut ours, mut stock) =
            (Ours::server(&server_config(&[suite])), stock_client(&Arc::new(client_config(&[suite]))));
        let established = shake(&mut ours, &mut stock, &[]).unwrap();
        assert_eq!(established.server_name.as_deref(), Some(NAME));
        assert_eq!(established.parked.suite(), suite);
        assert!(established.cipher_suite.starts_with("TLS"), "{}", established.cipher_suite);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_hello_of_whatever_bytes_has_one_verdict(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        headed: bool,
        cuts in prop::collection::vec(0..20_u8, 0..4),
    ) {
        if headed {
            let len = bytes.len() as u8;
            bytes.splice(0..0, [22, 3, 1, 0, len + 4, 1, 0, 0, len]);
        }
        laws::hello(&server_config(&suites()), &bytes, &cuts);
    }

    #[test]
    fn a_client_whose_bytes_are_changed_is_refused_or_understood(
        old: bool,
        changes in prop::collection::vec((0..1200_u16, any::<u8>()), 0..3),
        cuts in prop::collection::vec(0..90_u8, 0..4),
    ) {
        let changes: Vec<u8> = changes.iter().flat_map(|&(at, how)| [(at >> 8) as u8, at as u8, how]).collect();
        let version = if old { &TLS12 } else { &TLS13 };
        let stock = stock_client(&Arc::new(client_of(&[version])));
        laws::disturbed(&server_config(&suites()), stock, &changes, &cuts);
    }
}
