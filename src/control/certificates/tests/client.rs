//! edgehold as a client, over the loopback, with stock rustls as the server.

use super::super::upstream::ClientReading;
use super::super::{ClientFiles, ClientTls, TlsUpstream, UpstreamTlsSettings, inspect_client, why};
use super::*;
use crate::mesh::UpstreamTls;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server that shows a certificate, and asks for one of an authority.
fn server(made: &Made, clients: Option<&Made>) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.key.serialize_pem().as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Says `yes` to one client; whom it refuses it lets go first, so that its alert is read.
async fn serve(listener: TcpListener, server: Arc<ServerConfig>) {
    let (stream, _) = listener.accept().await.unwrap();
    match TlsAcceptor::from(server).accept(stream).into_fallible().await {
        Ok(mut stream) => stream.write_all(b"yes").await.unwrap(),
        Err((_, mut stream)) => {
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

/// What a client hears from a server, or why it hears nothing.
async fn hear(server: Arc<ServerConfig>, files: &ClientFiles, host: &str) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, server));
    let heard = hear_at(address, files, host).await;
    serving.await.unwrap();
    heard
}

async fn hear_at(address: std::net::SocketAddr, files: &ClientFiles, host: &str) -> Result<String, String> {
    let tls = ClientTls::load(files).await?;
    let words = |error: std::io::Error| why(&error).unwrap_or_else(|| panic!("no words for {error:?}"));
    let mut stream = tls.connect(host, TcpStream::connect(address).await.unwrap()).await.map_err(words)?;
    let mut heard = [0; 3];
    stream.read_exact(&mut heard).await.map_err(words)?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

fn is_told(heard: &Result<String, String>, words: &str) {
    assert!(heard.as_ref().is_err_and(|it| it.contains(words) && it.contains(" — ")), "{heard:?}: {words}");
}

fn believing(stage: &Stage) -> ClientFiles {
    stage.write("ca.pem", &stage.authority.pem);
    ClientFiles { ca: Some(stage.path("ca.pem")), identity: None }
}

#[test]
fn a_server_of_a_known_authority_is_spoken_to_by_its_name_or_its_address() {
    let stage = Stage::new();
    let files = believing(&stage);
    block_on(async {
        let made = stage.authority.server(&["broker.example", "*.in.example", "127.0.0.1", "::1"]);
        for host in ["broker.example", "Broker.Example", "a.in.example", "127.0.0.1", "::1"] {
            assert_eq!(hear(server(&made, None), &files, host).await.as_deref(), Ok("yes"), "{host}");
        }
        for host in ["other.example", "a.b.in.example", "127.0.0.2"] {
            is_told(&hear(server(&made, None), &files, host).await, &format!("is not for {host} but for"));
        }
    });
}

#[test]
fn a_certificate_that_cannot_be_verified_is_told_with_whose_fault_it_is() {
    let stage = Stage::new();
    let files = believing(&stage);
    let issue = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params(&["broker.example"]);
        change(&mut params);
        stage.authority.issue(params, KeyPair::generate().unwrap())
    };
    let cases = [
        (authority("others").server(&["broker.example"]), "an authority that is not known here"),
        (issue(&|it| it.not_after = date_time_ymd(2021, 1, 1)), "has expired on Fri, 01 Jan 2021"),
        (issue(&|it| it.not_before = date_time_ymd(3000, 1, 1)), "holds from Wed, 01 Jan 3000"),
        (issue(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), "cannot be verified"),
    ];
    block_on(async {
        for (made, words) in cases {
            is_told(&hear(server(&made, None), &files, "broker.example").await, words);
        }
    });
}

#[test]
fn a_server_is_shown_the_certificate_that_it_asks_for() {
    let stage = Stage::new();
    let clients = authority("clients");
    stage.put("client", &clients.client(1, |_| {}));
    stage.put("stranger", &authority("strangers").client(1, |_| {}));
    let files = |name: &str| ClientFiles { identity: Some(stage.files(name)), ..believing(&stage) };
    let made = stage.authority.server(&["broker.example"]);
    block_on(async {
        let hear = |files| {
            let server = server(&made, Some(&clients));
            async move { hear(server, &files, "broker.example").await }
        };
        assert_eq!(hear(files("client")).await.as_deref(), Ok("yes"));
        is_told(&hear(believing(&stage)).await, "where it asks for a certificate");
        is_told(&hear(files("stranger")).await, "refuses the certificate of `tls.certificate`");
        // The next connection has the file that is there by then.
        stage.put("stranger", &clients.client(2, |_| {}));
        assert_eq!(hear(files("stranger")).await.as_deref(), Ok("yes"));
    });
}

#[test]
fn a_server_of_clear_text_is_told_as_one() {
    let stage = Stage::new();
    let files = believing(&stage);
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"-ERR unknown command\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        is_told(&hear_at(address, &files, "broker.example").await, "does not speak TLS");
        serving.await.unwrap();
    });
}

#[test]
fn files_that_cannot_be_used_are_told_all_at_once() {
    let stage = Stage::new();
    stage.put("other", &stage.authority.server(&["b.example"]));
    let mixed = CertificateFiles { key: stage.path("other.key"), ..stage.files("edge") };
    let files = ClientFiles { ca: Some(stage.path("nowhere.pem")), identity: Some(mixed) };
    let faults = inspect_client(&files);
    assert_eq!(faults.iter().map(|it| it.place).collect::<Vec<_>>(), [Place::Ca, Place::Key(0)]);
    let told = ClientTls::read(&files).err().expect("a refusal");
    assert!(told.contains("nowhere.pem is not there") && told.contains("is not the key"), "{told}");
    let good = ClientFiles { identity: Some(stage.files("edge")), ..believing(&stage) };
    assert_eq!(inspect_client(&good), []);
}

/// A handshake over the loopback by what shards take.
async fn reaches(port: u16, tls: &UpstreamTls) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut handshake, mut flight, mut came) = (tls.begin().unwrap(), Vec::new(), Vec::new());
    loop {
        let fed = handshake.feed(&came, &mut flight);
        stream.write_all(&flight).await.unwrap();
        flight.clear();
        match fed {
            Ok(None) => {}
            fed => return fed.is_ok(),
        }
        came.resize(4096, 0);
        let len = stream.read(&mut came).await.unwrap();
        assert!(len > 0, "the server is gone");
        came.truncate(len);
    }
}

/// Files of an upstream that have changed are used when they are well; until then those before are.
#[tokio::test]
async fn the_files_of_an_upstream_may_change() {
    let stage = Stage::new();
    let old = stage.authority.server(&["broker.example"]);
    let other = authority("others");
    stage.write("brokers.pem", &stage.authority.pem);
    let ca = stage.path("brokers.pem");
    let files = ClientFiles { ca: Some(ca.clone()), identity: None };
    let settings = UpstreamTlsSettings { files, ..UpstreamTlsSettings::default() };
    let mut upstream = TlsUpstream::load("tls://broker.example:1", "broker.example", &settings).unwrap();
    let current = upstream.current();
    let reached = async |made: &Made| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(serve(listener, server(made, None)));
        let reached = reaches(port, &current).await;
        serving.abort();
        reached
    };
    let new = other.server(&["broker.example"]);
    assert!(reached(&old).await && !reached(&new).await);
    stage.write("brokers.pem", "no certificate");
    upstream.take(ClientReading::of(&settings));
    assert!(current.is_refused() && reached(&old).await);
    stage.write("brokers.pem", &other.pem);
    upstream.take(ClientReading::of(&settings));
    assert!(!current.is_refused() && reached(&new).await && !reached(&old).await);
}
