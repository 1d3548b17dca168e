//! Feeds by TLS, the clients of all three brokers against brokers that are just enough of one; the admin address by
//! TLS.

use super::*;
use crate::control::certificates::{
    self, CertificateFiles, ClientCertificates, ClientFiles, ClientTls, Kept, MinVersion, TicketSettings, TlsListener,
    TlsSettings, key_log,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, split};
use tokio_rustls::TlsAcceptor;

/// A folder with an authority (`NAME-ca.pem`) and what it has issued for the loopback (`NAME.pem`, `NAME.key`).
struct Files(TempDir);

impl Files {
    fn new(names: &[&str]) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        names.iter().for_each(|name| files.make(name));
        files
    }

    fn make(&self, name: &str) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, format!("the authority {name}"));
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap().pem();
        for (end, text) in [("-ca.pem", authority_pem), (".pem", pem), (".key", key.serialize_pem())] {
            fs::write(self.path(&format!("{name}{end}")), text).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self, name: &str) -> CertificateFiles {
        let [certificate, key] = ["pem", "key"].map(|end| self.path(&format!("{name}.{end}")));
        CertificateFiles { certificate, key, ..CertificateFiles::default() }
    }

    /// Believes one, and shows another.
    fn client(&self, believed: &str, shown: Option<&str>) -> ClientFiles {
        let ca = Some(self.path(&format!("{believed}-ca.pem")));
        ClientFiles { ca, identity: shown.map(|name| self.pair(name)) }
    }

    /// Shows one, and asks clients for a certificate of another.
    fn server(&self, shown: &str, clients: Option<&str>) -> TlsListener {
        let of = |name: &str| self.path(&format!("{name}-ca.pem"));
        let verified = |name| ClientCertificates::Verified { optional: false, ca: of(name), crl: None };
        let settings = TlsSettings {
            certificates: vec![self.pair(shown)],
            min_version: MinVersion::V12,
            clients: clients.map_or(ClientCertificates::Off, verified),
            tickets: TicketSettings { rotate: Duration::from_secs(3600), keys: None },
        };
        TlsListener::load("broker", &settings, &key_log(false)).unwrap_or_else(|faults| panic!("{faults:?}"))
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Nats,
    Redis,
    Mqtt,
}

const KINDS: [Kind; 3] = [Kind::Nats, Kind::Redis, Kind::Mqtt];

impl Kind {
    fn source(self, port: u16) -> Source {
        let broker = |scheme: &str| feeds::Broker::new(format!("{scheme}://me:secret@localhost:{port}"));
        match self {
            Kind::Nats => Source::Nats(broker("tls")),
            Kind::Redis => Source::RedisChannels(broker("rediss")),
            Kind::Mqtt => Source::Mqtt(broker("mqtts")),
        }
    }

    /// What it says before TLS.
    fn greeting(self) -> &'static [u8] {
        match self {
            Kind::Nats => {
                b"INFO {\"server_id\":\"x\",\"server_name\":\"x\",\"host\":\"x\",\"port\":1,\"version\":\"2.9.10\",\
                  \"go\":\"x\",\"max_payload\":1048576,\"proto\":1,\"client_id\":1,\"tls_required\":true,\
                  \"headers\":true}\r\n"
            }
            _ => b"",
        }
    }

    /// Says `hello` in channel `c` to who subscribes to it.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite) -> std::io::Result<()> {
        let (from, to) = split(stream);
        match self {
            Kind::Nats => nats(BufReader::new(from), to).await,
            Kind::Redis => redis(BufReader::new(from), to).await,
            Kind::Mqtt => mqtt(BufReader::new(from), to).await,
        }
    }
}

async fn nats(from: impl AsyncBufReadExt + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut lines = from.lines();
    while let Some(line) = lines.next_line().await? {
        if line == "PING" {
            to.write_all(b"PONG\r\n").await?;
        } else if let Some(number) = line.strip_prefix("SUB c ") {
            to.write_all(format!("MSG c {} 5\r\nhello\r\n", number.trim()).as_bytes()).await?;
        }
        to.flush().await?;
    }
    Ok(())
}

async fn redis(from: impl AsyncBufReadExt + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut lines = from.lines();
    while let Some(line) = lines.next_line().await? {
        if line == "AUTH" {
            to.write_all(b"+OK\r\n").await?;
        } else if line == "SUBSCRIBE" {
            let answers =
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n";
            to.write_all(answers).await?;
        }
        to.flush().await?;
    }
    Ok(())
}

async fn mqtt(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let (kind, len) = (from.read_u8().await?, from.read_u8().await?);
        let mut body = vec![0; usize::from(len)];
        from.read_exact(&mut body).await?;
        let answer: &[u8] = match kind >> 4 {
            1 => &[0x20, 2, 0, 0],
            8 => &[&[0x90, 3, body[0], body[1], 1][..], b"\x30\x08\x00\x01chello"].concat(),
            _ => &[],
        };
        to.write_all(answer).await?;
        to.flush().await?;
    }
}

/// Serves all that connect; whom TLS refuses it lets go first, so that the alert is read. The port, and how many have
/// come in.
async fn broker(kind: Kind, tls: TlsListener) -> (u16, Arc<stats::Count>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inside = Arc::new(stats::Count::default());
    let count = inside.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(kind.greeting()).await.unwrap();
            match TlsAcceptor::from(tls.current().current()).accept(stream).into_fallible().await {
                Ok(stream) => {
                    count.add();
                    tokio::spawn(async move { kind.serve(stream).await });
                }
                Err((_, mut stream)) => {
                    let _ = stream.shutdown().await;
                    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
                }
            }
        }
    });
    (port, inside)
}

async fn hall(kind: Kind, port: u16, files: ClientFiles) -> Hall {
    Hall::with(SourceSettings { tls: Some(files), ..feed(kind.source(port)) }).await
}

#[tokio::test]
async fn brokers_are_heard_by_tls_and_shown_a_certificate() {
    let files = Files::new(&["brokers", "clients"]);
    for kind in KINDS {
        let (port, _) = broker(kind, files.server("brokers", Some("clients"))).await;
        let mut hall = hall(kind, port, files.client("brokers", Some("clients"))).await;
        assert_eq!(hall.texts(1).await, ["hello"], "{kind:?}");
        hall.until_up().await;
    }
}

/// The words for the operator, in `/v1/status`; and nothing has been said to such a broker.
async fn refusal(kind: Kind, tls: TlsListener, files: ClientFiles) -> String {
    let (port, inside) = broker(kind, tls).await;
    let hall = hall(kind, port, files).await;
    until("the feed to be down", || hall.feeds[0].stats.state() == FeedState::Down).await;
    let (_, body) = hall.ask("GET /v1/status HTTP/1.1", b"").await;
    assert_eq!((inside.get(), body.contains("secret")), (0, false), "{kind:?}");
    let status: Value = serde_json::from_str(&body).unwrap();
    status["feeds"][0]["last_error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_broker_that_is_not_believed_hears_nothing_and_the_operator_why() {
    let files = Files::new(&["brokers", "others"]);
    for kind in KINDS {
        let told = refusal(kind, files.server("others", None), files.client("brokers", None)).await;
        assert!(told.contains("an authority that is not known here"), "{kind:?}: {told}");
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_a_certificate_is_told_as_one() {
    let files = Files::new(&["brokers", "clients", "others"]);
    for kind in KINDS {
        for (shown, words) in [(None, "asks for a certificate"), (Some("others"), "refuses the certificate")] {
            let client = files.client("brokers", shown);
            let told = refusal(kind, files.server("brokers", Some("clients")), client).await;
            assert!(told.contains(words), "{kind:?}: {told}");
        }
    }
}

#[tokio::test]
async fn files_are_read_anew_for_each_connection() {
    let files = Files::new(&["brokers"]);
    let (port, _) = broker(Kind::Redis, files.server("brokers", None)).await;
    let ca = files.path("brokers-ca.pem");
    let authority = fs::read(&ca).unwrap();
    fs::remove_file(&ca).unwrap();
    let mut hall = hall(Kind::Redis, port, files.client("brokers", None)).await;
    until("the feed to be down", || hall.feeds[0].stats.state() == FeedState::Down).await;
    assert!(hall.feeds[0].stats.last_error().unwrap().contains("brokers-ca.pem is not there"));
    fs::write(&ca, authority).unwrap();
    assert_eq!(hall.texts(1).await, ["hello"]);
}

// ---- the admin address ----

/// What the admin address answers by TLS, or why the handshake or the reading failed.
async fn ask(admin: SocketAddr, client: &ClientFiles, path: &str) -> Result<String, String> {
    let tls = ClientTls::load(client).await?;
    let mut stream =
        tls.connect("localhost", TcpStream::connect(admin).await.unwrap()).await.map_err(|error| words(&error))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|error| words(&error))?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().map_err(|error| words(&error))?;
    Ok(answer)
}

fn words(error: &std::io::Error) -> String {
    certificates::why(error).unwrap_or_else(|| error.to_string())
}

async fn secured(files: &Files, clients: Option<&str>) -> (Hall, TlsListener) {
    let tls = files.server("admin", clients);
    let labels = metrics::Labels::default();
    (Hall::with_admin(vec![feed(Source::Http)], labels, Some(tls.current())).await, tls)
}

#[tokio::test]
async fn the_admin_address_answers_by_tls_and_tells_clear_text_what_it_is() {
    let files = Files::new(&["admin"]);
    let (hall, _tls) = secured(&files, None).await;
    let client = files.client("admin", None);
    let answer = ask(hall.admin, &client, "/metrics").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (status, body) = hall.ask("GET /metrics HTTP/1.1", b"").await;
    assert_eq!((status, body.as_str()), (400, "This address speaks TLS: ask it by https://\n"));
    let answer = ask(hall.admin, &client, "/metrics").await.unwrap();
    assert!(answer.contains("\nedgehold_admin_tls_failures_total 1\n"), "{answer}");
}

#[tokio::test]
async fn who_has_no_certificate_that_the_admin_address_asks_for_is_not_let_in() {
    let files = Files::new(&["admin", "operators", "others"]);
    let (hall, _tls) = secured(&files, Some("operators")).await;
    for shown in [None, Some("others")] {
        assert!(ask(hall.admin, &files.client("admin", shown), "/v1/status").await.is_err(), "{shown:?}");
    }
    let answer = ask(hall.admin, &files.client("admin", Some("operators")), "/metrics").await.unwrap();
    assert!(answer.contains("\nedgehold_admin_tls_failures_total 2\n"), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_of_the_admin_address_is_shown_without_a_restart() {
    let files = Files::new(&["admin", "next"]);
    let (hall, tls) = secured(&files, None).await;
    tokio::spawn(certificates::keep(Kept { listeners: vec![tls], ..Kept::default() }, Arc::default()));
    assert!(ask(hall.admin, &files.client("next", None), "/readyz").await.is_err());
    for end in ["pem", "key"] {
        fs::rename(files.path(&format!("next.{end}")), files.path(&format!("admin.{end}"))).unwrap();
    }
    let asked = async {
        while ask(hall.admin, &files.client("next", None), "/readyz").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, asked).await.is_ok(), "the new one is not shown");
}
