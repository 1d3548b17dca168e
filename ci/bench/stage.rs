//! The server under test, with the services that the stories need, and Redis behind one of them.
//!
//! A child is ended through its own handle, when it is dropped.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::peer::{self, Metrics, free_port, names, patience, wait_for};

/// Counter, label `listener`: clients accepted.
const ACCEPTS: &str = "edgehold_accepts_total";

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = {slots}
admin = "{admin}"
park_after = "1s"
[[listener]]
name = "public"
address = "{address}"
[[listener]]
name = "secure"
address = "{secure}"
tls = { certificate = "{folder}/edge.pem", key = "{folder}/edge.key" }
[[route]]
path = "/echo"
service = "echo"
[[route]]
path = "/back"
service = "proxy"
upstream = "tcp://{upstream}"
[[feed]]
name = "bench"
source = "http"
[[route]]
path = "/feed/{channel}"
service = "broadcast"
feeds = ["bench"]
"#;

/// A running server. Dropping it kills the child, and shows its log if the test is failing.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    secure: SocketAddr,
    admin: SocketAddr,
}

/// What the server's own counters say; of two readings, the difference is what happened between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Clients accepted.
    pub(crate) accepts: u64,
    /// Whole messages of clients to the service.
    pub(crate) heard: u64,
    /// Whole messages of the service to clients.
    pub(crate) said: u64,
    /// Clients that ended by a reset.
    pub(crate) resets: u64,
    /// Clients for whom there was no slot.
    pub(crate) refused: u64,
}

impl Counts {
    /// What has happened since `then`.
    pub(crate) fn since(self, then: Counts) -> Counts {
        Counts {
            accepts: self.accepts - then.accepts,
            heard: self.heard - then.heard,
            said: self.said - then.said,
            resets: self.resets - then.resets,
            refused: self.refused - then.refused,
        }
    }
}

impl Server {
    /// A server whose `/echo` echoes; nothing is behind `/back`.
    pub(crate) fn start() -> Server {
        Server::before(local(free_port()))
    }

    /// The same, and `/back` leads to `upstream`.
    pub(crate) fn before(upstream: SocketAddr) -> Server {
        Server::with(8000, upstream)
    }

    /// A server for so many clients.
    pub(crate) fn small(slots: u32) -> Server {
        Server::with(slots, local(free_port()))
    }

    fn with(slots: u32, upstream: SocketAddr) -> Server {
        let [address, secure, admin] = [free_port(), free_port(), free_port()].map(local);
        let words = [("{address}", address), ("{secure}", secure), ("{admin}", admin), ("{upstream}", upstream)];
        let fill = |text: String, (word, value): (&str, SocketAddr)| text.replace(word, &value.to_string());
        let folder = tempfile::tempdir().expect("a temporary folder");
        certify(folder.path());
        let config = CONFIG.replace("{slots}", &slots.to_string());
        let config = config.replace("{folder}", &folder.path().display().to_string());
        let child = serve(folder.path(), &words.into_iter().fold(config, fill));
        let mut server = Server { child, folder, address, secure, admin };
        wait_for("GET /readyz is 200", patience(20), || server.is_ready());
        server
    }

    fn is_ready(&mut self) -> bool {
        let ended = self.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "the server ended: {ended:?}");
        peer::get(self.admin, "/readyz").is_ok_and(|reply| reply.status == 200)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// `path` under ws://.
    pub(crate) fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// `path` under wss://.
    pub(crate) fn wss(&self, path: &str) -> String {
        format!("wss://{}{path}", self.secure)
    }

    /// The certificate behind that, which is its own authority.
    pub(crate) fn ca(&self) -> String {
        self.folder.path().join("edge.pem").display().to_string()
    }

    /// The URL of the admin address.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Its counters now, messages being those of `service`.
    pub(crate) fn counts(&self, service: &str) -> Counts {
        let reply = peer::get(self.admin, "/metrics").expect("GET /metrics");
        let metrics = Metrics::parse(&reply.body);
        let messages = |way| metrics.sum(names::MESSAGES, &[("service", service), ("direction", way)]);
        Counts {
            accepts: ["public", "secure"].map(|name| metrics.sum(ACCEPTS, &[("listener", name)])).iter().sum(),
            heard: messages("in"),
            said: messages("out"),
            resets: metrics.sum(names::CLOSES, &[("cause", "reset")]),
            refused: metrics.sum(names::REFUSALS, &[("reason", "full")]),
        }
    }

    /// Clients that the echo has.
    pub(crate) fn echoing(&self) -> u64 {
        let reply = peer::get(self.admin, "/metrics").expect("GET /metrics");
        Metrics::parse(&reply.body).sum(names::CONNECTIONS, &[("listener", "public"), ("service", "echo")])
    }

    /// How long its threads have waited for a core that others had; seconds.
    pub(crate) fn kept_waiting(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let text = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let waited = |text: String| text.split_whitespace().nth(1).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
        tasks.flatten().map(text).map(waited).sum::<f64>() / 1e9
    }

    /// Its resident memory; bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        peer::kilobytes(&std::fs::read_to_string(path).expect("smaps_rollup of our own child"), "Rss:")
    }

    /// Ends it at once, as an out-of-memory killer would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", peer::log_of(self.folder.path()));
        }
    }
}

/// Both fail only for a child that has ended, which is what is wanted.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A certificate for 127.0.0.1, made by itself, and its key (P-256).
fn certify(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a certificate");
    let key = folder.join("edge.key");
    std::fs::write(folder.join("edge.pem"), made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    std::fs::set_permissions(key, Permissions::from_mode(0o600)).expect("a mode");
}

fn serve(folder: &Path, config: &str) -> Child {
    let file = folder.join("edgehold.toml");
    std::fs::write(&file, config).expect("a configuration file");
    let mut command = Command::new(binary());
    let command = command.arg("serve").arg("--config").arg(file);
    logged(command, &folder.join("log")).spawn().expect("a server process")
}

fn logged<'c>(command: &'c mut Command, log: &Path) -> &'c mut Command {
    let log = File::create(log).expect("a log file");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("the same file")).stderr(log)
}

/// `EDGEHOLD`, else the release build of the checkout.
pub(crate) fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/edgehold");
    let path = std::env::var_os("EDGEHOLD").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "no server at {}: cargo build --release, or name one with EDGEHOLD", path.display());
    path
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Redis without persistence, in a folder of its own. Dropping it kills the child.
pub(crate) struct Redis {
    child: Child,
    _folder: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Redis {
    /// Starts it and waits until it listens; `ci/install real` installs it.
    pub(crate) fn start() -> Redis {
        let (folder, address) = (tempfile::tempdir().expect("a temporary folder"), local(free_port()));
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        let command = command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let child = logged(command.current_dir(folder.path()), &folder.path().join("log")).spawn();
        let child = child.unwrap_or_else(|error| panic!("redis-server: {error}; ci/install real installs it"));
        let redis = Redis { child, _folder: folder, address };
        wait_for("Redis listens", patience(20), || TcpStream::connect(address).is_ok());
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Mosquitto for everybody, in a folder of its own. Dropping it kills the child.
pub(crate) struct Mosquitto {
    child: Child,
    _folder: TempDir,
    /// Where it listens for MQTT on TCP.
    pub(crate) plain: SocketAddr,
    /// Where it listens for WebSockets.
    pub(crate) web: SocketAddr,
}

impl Mosquitto {
    /// Starts it and waits until it listens; `ci/install real` installs it.
    pub(crate) fn start() -> Mosquitto {
        let (folder, [plain, web]) = (tempfile::tempdir().expect("a temporary folder"), [free_port(), free_port()]);
        let listeners = format!("listener {plain} 127.0.0.1\nlistener {web} 127.0.0.1\nprotocol websockets\n");
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, listeners + "allow_anonymous true\npersistence false\n").expect("a configuration file");
        // Debian has it where only root looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("mosquitto");
        let command = command.env("PATH", path).arg("-c").arg(file);
        let child = logged(command, &folder.path().join("log")).spawn();
        let child = child.unwrap_or_else(|error| panic!("mosquitto: {error}; ci/install real installs it"));
        let broker = Mosquitto { child, _folder: folder, plain: local(plain), web: local(web) };
        let listens = |address: SocketAddr| TcpStream::connect(address).is_ok();
        wait_for("Mosquitto listens", patience(20), || listens(broker.plain) && listens(broker.web));
        broker
    }

    /// Its process.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A process that listens nowhere. Dropping it kills the child.
pub(crate) struct Bystander(Child);

impl Bystander {
    /// Starts it.
    pub(crate) fn start() -> Bystander {
        let child = Command::new("tail").args(["-f", "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Bystander(child.expect("tail"))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}
