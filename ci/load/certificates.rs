//! Certificates that change while the server runs, seen from outside: by rename and by SIGHUP, good ones and bad ones;
//! what `/metrics`, `/v1/status` and the log say of them; `check` and `doctor`. What the log says of those of clients.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::peer::{Server, binary, patience, wait_for};

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 100
admin = "{admin}"
[[listener]]
name = "public"
address = "{address}"
[[listener]]
name = "secure"
address = "127.0.0.1:0"
tls = { certificate = "{folder}/edge.pem", key = "{folder}/edge.key" }
[[route]]
path = "/echo"
service = "echo"
"#;

/// A certificate of the tests of the configuration, with its key.
fn committed(name: &str) -> [String; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/config/good/tls");
    ["pem", "key"].map(|end| fs::read_to_string(folder.join(format!("{name}.{end}"))).expect("a committed file"))
}

/// Replaces a file by rename, as tools do that care.
fn replace(folder: &Path, name: &str, text: &str) {
    let next = folder.join("next");
    fs::write(&next, text).expect("a file");
    fs::set_permissions(&next, Permissions::from_mode(0o600)).expect("a mode");
    fs::rename(next, folder.join(name)).expect("the file");
}

fn folder_with(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [certificate, key] = committed(name);
    replace(folder.path(), "edge.pem", &certificate);
    replace(folder.path(), "edge.key", &key);
    folder
}

fn config(folder: &Path) -> String {
    CONFIG.replace("{folder}", &folder.display().to_string())
}

fn reloads(server: &Server, result: &str) -> u64 {
    server.metrics().sum("edgehold_tls_reloads_total", &[("listener", "secure"), ("result", result)])
}

fn status(server: &Server) -> String {
    server.get("/v1/status").expect("GET /v1/status").body
}

#[test]
fn certificates_are_exchanged_and_bad_ones_are_told() {
    let _together = crate::together();
    let folder = folder_with("edge");
    let keylog = folder.path().join("secrets");
    let prepare = |command: &mut Command| {
        command.env("SSLKEYLOGFILE", keylog);
    };
    let server = Server::start_with(&config(folder.path()), prepare, |_| {});
    assert!(status(&server).contains(r#""names":["edge.example"]"#), "{}", status(&server));
    assert!(server.log().contains("SSLKEYLOGFILE"), "a warning");
    let left = server.metrics().sum("edgehold_tls_certificate_seconds_left", &[("listener", "secure")]);
    assert!(left > 1_000_000_000, "{left}");
    replace(folder.path(), "edge.pem", "no certificate");
    wait_for("the bad file is refused", patience(20), || reloads(&server, "failed") == 1);
    assert_eq!(server.metrics().sum("edgehold_tls_files_refused", &[("listener", "secure")]), 1);
    assert!(status(&server).contains("edge.pem has no certificate in PEM"), "{}", status(&server));
    assert!(status(&server).contains(r#""names":["edge.example"]"#), "the one before stays");
    let [certificate, key] = committed("b");
    replace(folder.path(), "edge.key", &key);
    replace(folder.path(), "edge.pem", &certificate);
    wait_for("the new one is taken", patience(20), || reloads(&server, "ok") == 1);
    assert!(status(&server).contains(r#""names":["*.b.example"]"#), "{}", status(&server));
    assert_eq!(server.metrics().sum("edgehold_tls_files_refused", &[("listener", "secure")]), 0);
    server.signal(Signal::HUP);
    wait_for("SIGHUP is answered", patience(20), || server.log().contains("were read again and have not changed"));
    assert_eq!(reloads(&server, "ok"), 1);
}

/// What a command says of the configuration of a folder, and its exit code.
fn said(folder: &Path, command: &str) -> (String, Option<i32>) {
    let file: PathBuf = folder.join("edge.toml");
    let config = config(folder).replace("{address}", "127.0.0.1:0").replace("\"{admin}\"", "\"off\"");
    fs::write(&file, config).expect("a file");
    let output = Command::new(binary()).args([command, "--config"]).arg(file).output().expect("the program runs");
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (words.concat(), output.status.code())
}

#[test]
fn check_and_doctor_look_at_certificates() {
    let folder = folder_with("edge");
    assert_eq!(said(folder.path(), "check"), ("no problems found\n".into(), Some(0)));
    fs::set_permissions(folder.path().join("edge.key"), Permissions::from_mode(0o644)).expect("a mode");
    let (words, code) = said(folder.path(), "check");
    assert!(words.contains("edge.key is open to every user of this machine") && code == Some(0), "{words}");
    let (words, _) = said(folder.path(), "doctor");
    assert!(words.contains("edge.pem: edge.example") && words.contains("chmod o="), "{words}");
    replace(folder.path(), "edge.key", &committed("b")[1]);
    for command in ["check", "doctor", "serve"] {
        let (words, code) = said(folder.path(), command);
        let problem = "listener[2].tls.key: ";
        assert!(words.contains(problem) && words.contains("is not the key of the first certificate"), "{words}");
        assert_eq!(code, Some(2), "{command}");
    }
}

const SHOWN: &str = r#"
[server]
shards = 1
slots_per_shard = 100
admin = "{admin}"
log = "debug"
[[listener]]
name = "secure"
address = "{address}"
[listener.tls]
certificate = "{folder}/edge.pem"
key = "{folder}/edge.key"
client = { verify = "optional", ca = "{folder}/clients.pem" }
[[route]]
path = "/echo"
service = "echo"
"#;

/// Authorities for clients, written into the folder, and a client's configuration with a certificate of theirs.
fn client_with_certificate(folder: &Path, common_name: &str) -> Arc<ClientConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&authority_key).expect("a certificate");
    replace(folder, "clients.pem", &authority.pem());
    let mut own = CertificateParams::default();
    own.distinguished_name.push(DnType::CommonName, common_name);
    own.subject_alt_names = vec![SanType::URI("spiffe://example/agent".try_into().expect("a name"))];
    let key = KeyPair::generate().expect("a key");
    let own = own.signed_by(&key, &Issuer::new(params, authority_key)).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(committed("edge")[0].as_bytes()).expect("a certificate")).expect("a root");
    let config = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_client_auth_cert(vec![own.der().clone()], key).expect("a configuration"))
}

/// A request and its response, over TLS. The connection is closed by the server.
fn ask(config: &Arc<ClientConfig>, server: &Server) {
    let name = ServerName::try_from("edge.example").expect("a name");
    let client = ClientConnection::new(config.clone(), name).expect("a client");
    let stream = TcpStream::connect(server.address).expect("a listener");
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(b"GET /echo HTTP/1.1\r\nHost: edge.example\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a response");
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

/// The log knows a client by its certificate when it comes and when it has left, also where a session was resumed; a
/// name that would break a line does not.
#[test]
fn the_log_names_the_subject_of_a_clients_certificate() {
    let _together = crate::together();
    let folder = folder_with("edge");
    let client = client_with_certificate(folder.path(), "agent 7\nERROR forged");
    let text = SHOWN.replace("{folder}", &folder.path().display().to_string());
    let server = Server::start(&text);
    for resumed in ["resumed=false", "resumed=true"] {
        ask(&client, &server);
        wait_for("the client is named", patience(10), || {
            let log = server.log();
            log.lines().any(|line| line.contains(resumed) && line.contains("URI:spiffe://example/agent"))
        });
    }
    wait_for("both have left", patience(10), || {
        let log = server.log();
        let left = log.lines().filter(|line| line.contains("connection ended") && line.contains("agent 7"));
        left.count() == 2
    });
    assert!(server.log().contains("0AERROR forged"), "it is escaped");
    assert!(!server.log().lines().any(|line| line.starts_with("ERROR forged")), "{}", server.log());
}
