//! Where stories are played: the servers, the upstreams' doors, the files that are served; and the report.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::agree::{play_in_memory, read_plainly};
use crate::cut::{Cutting, next};
use crate::feed::Feed;
use crate::peer::Server;
use crate::play::{Failure, Player, Transcript};
use crate::script::{Story, read_folder};

/// The folders of scripts; one that is not there has none.
const FOLDERS: [&str; 6] = ["broadcast", "files", "gate", "http", "proxy", "websocket"];

/// Stories played at a time. Most of the time they wait.
const PLAYERS: usize = 8;

/// How often each story is played with random cuts.
const RANDOM_PLAYINGS: u64 = 2;

/// A story that takes longer is named, so that the suite does not become slow unseen.
const SLOW: Duration = Duration::from_secs(2);

/// What the kernel holds for a client of a story with a feed, and does not read, in bytes.
const SLOW_RECV_BUFFER: usize = 16 << 10;

/// When the served files were last written: 2001-09-09 01:46:40 UTC.
const MODIFIED: Duration = Duration::from_secs(1_000_000_000);

/// All stories and what they need. Built by the first test that asks, gone with the last one.
pub(crate) struct Hall {
    stories: Vec<Story>,
    servers: BTreeMap<String, Server>,
    /// By the host of the story.
    doors: BTreeMap<String, TcpListener>,
    /// Bound and not listening: whoever connects is refused.
    nobody: Socket,
    site: TempDir,
}

/// The hall, shared by all tests of this process.
pub(crate) fn hall() -> Arc<Hall> {
    static HALL: Mutex<Weak<Hall>> = Mutex::new(Weak::new());
    let mut hall = HALL.lock().unwrap_or_else(PoisonError::into_inner);
    hall.upgrade().unwrap_or_else(|| {
        let built = Arc::new(Hall::build());
        *hall = Arc::downgrade(&built);
        built
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/specs")
}

impl Hall {
    fn build() -> Hall {
        let stories: Vec<Story> = FOLDERS.iter().flat_map(|folder| read_folder(&root(), folder)).collect();
        let door = |story: &Story| (story.host.clone(), TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let mut hall = Hall {
            doors: stories.iter().map(door).collect(),
            nobody: nobody(),
            site: site(),
            stories,
            servers: BTreeMap::new(),
        };
        hall.servers = hall.start_servers();
        hall
    }

    fn start_servers(&self) -> BTreeMap<String, Server> {
        let mut servers = BTreeMap::new();
        for story in &self.stories {
            let start = || Server::start(&self.config(&story.config));
            servers.entry(story.config.clone()).or_insert_with(start);
        }
        servers
    }

    /// The configuration file of this name with the routes of the stories that want it.
    fn config(&self, name: &str) -> String {
        let mut config = fs::read_to_string(root().join(name)).expect("a configuration file");
        for story in self.stories.iter().filter(|story| story.config == name) {
            for route in &story.routes {
                config += &format!("\n[[route]]\nhost = \"{}\"\n{route}\n", story.host);
                config = config.replace("{upstream}", &address(self.doors[&story.host].local_addr().ok()));
            }
        }
        let nobody = self.nobody.local_addr().expect("a bound address").as_socket();
        config
            .replace("{nobody}", &address(nobody))
            .replace("{site}", &self.site.path().display().to_string())
            .replace("{auth}", &root().join("auth").display().to_string())
    }

    /// Plays all stories of a folder; panics with a report of those that failed.
    pub(crate) fn play_folder(&self, folder: &str) {
        let seed = seed();
        println!("EDGEHOLD_SEED={seed}");
        let is_here = |story: &&Story| story.file.starts_with(&format!("{folder}/"));
        let stories: Vec<&Story> = self.stories.iter().filter(is_here).collect();
        assert!(!stories.is_empty(), "no stories in {folder}");
        let (turn, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let play = || {
            while let Some(story) = stories.get(turn.fetch_add(1, Ordering::Relaxed)) {
                let begun = Instant::now();
                if let Err(report) = self.play(story, seed) {
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
                if begun.elapsed() > SLOW {
                    println!("{:?}: {}:{} {}", begun.elapsed(), story.file, story.line, story.title);
                }
            }
        };
        thread::scope(|scope| (0..PLAYERS).for_each(|_| drop(scope.spawn(play))));
        let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = stories.len();
        let failed = reports.len();
        assert!(
            reports.is_empty(),
            "{failed} of {count} stories failed, EDGEHOLD_SEED={seed}\n\n{}",
            reports.join("\n")
        );
        println!("{count} stories");
    }

    /// In memory, whole, byte by byte, at random places; `Err` is the report.
    pub(crate) fn play(&self, story: &Story, seed: u64) -> Result<(), String> {
        if story.not_as_root && rustix::process::geteuid().is_root() {
            println!("skipped, root may read every file: {}:{} {}", story.file, story.line, story.title);
            return Ok(());
        }
        read_plainly(story).map_err(|problem| report(story, "the two voices do not agree", &plain(story, problem)))?;
        play_in_memory(story).map_err(|failure| report(story, "played in memory", &failure))?;
        let whole = self.play_cut(story, Cutting::Whole)?;
        let mut own_seed = story.host.bytes().fold(seed, |seed, byte| seed.rotate_left(5) ^ u64::from(byte));
        let random = (0..RANDOM_PLAYINGS).map(|_| Cutting::Random(next(&mut own_seed)));
        let cuttings = [Cutting::Bytes].into_iter().chain(random);
        if story.has_upstream() {
            // They would answer each other's calls.
            return cuttings.into_iter().try_for_each(|cutting| self.play_like(story, cutting, &whole));
        }
        thread::scope(|scope| {
            let whole = &whole;
            let playings: Vec<_> =
                cuttings.map(|cutting| scope.spawn(move || self.play_like(story, cutting, whole))).collect();
            playings.into_iter().try_for_each(|playing| playing.join().expect("a player"))
        })
    }

    /// As [`Hall::play_cut`]; the server must say what it said to `whole` bytes.
    fn play_like(&self, story: &Story, cutting: Cutting, whole: &Transcript) -> Result<(), String> {
        let cut = self.play_cut(story, cutting)?;
        compare(story, whole, &cut).map_err(|failure| report(story, &words(cutting), &failure))
    }

    fn play_cut(&self, story: &Story, cutting: Cutting) -> Result<Transcript, String> {
        let server = &self.servers[&story.config];
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if story.has_feed() {
            // A client that does not read is to be noticed soon.
            socket.set_recv_buffer_size(SLOW_RECV_BUFFER).expect("a size");
        }
        socket.connect(&server.address.into()).expect("the server accepts");
        let player = Player::of_peers(story, socket, &self.doors[&story.host], cutting);
        let player = if story.has_feed() { player.hearing(Feed::of(server)) } else { player };
        player.play().map_err(|failure| report(story, &words(cutting), &failure))
    }
}

fn compare(story: &Story, whole: &Transcript, cut: &Transcript) -> Result<(), Failure> {
    let Some((whole, cut)) = whole.iter().zip(cut).find(|(whole, cut)| whole != cut) else { return Ok(()) };
    let problem = format!("the server says something else than to whole bytes:\n{}", dump(whole));
    Err(Failure { came: cut.clone(), ..plain(story, problem) })
}

/// A failure of the story as a whole.
fn plain(story: &Story, problem: String) -> Failure {
    Failure { line: story.line, source: story.title.clone(), problem, came: Vec::new() }
}

fn words(cutting: Cutting) -> String {
    match cutting {
        Cutting::Whole => "whole".into(),
        Cutting::Bytes => "cut byte by byte".into(),
        Cutting::Random(seed) => format!("cut at random places, own seed {seed:#x}"),
    }
}

fn report(story: &Story, how: &str, failure: &Failure) -> String {
    let Story { file, title, proves, .. } = story;
    let Failure { line, source, problem, came } = failure;
    format!(
        "ci/specs/{file}:{line}: {title} ({proves}), {how}\n  expected: {source}\n  problem: {problem}\n{}",
        dump(came)
    )
}

/// Hex and text, the first kilobyte.
fn dump(bytes: &[u8]) -> String {
    let text = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    let line = |row: &[u8]| {
        let hex: String = row.iter().map(|byte| format!("{byte:02x} ")).collect();
        format!("    {hex:48} {}\n", row.iter().map(text).collect::<String>())
    };
    let rows: String = bytes.chunks(16).take(64).map(line).collect();
    format!("  came, {} bytes:\n{rows}", bytes.len())
}

/// `EDGEHOLD_SEED`, else a new one.
fn seed() -> u64 {
    let given = std::env::var("EDGEHOLD_SEED").ok();
    given.map_or_else(|| RandomState::new().hash_one(()), |seed| seed.parse().expect("EDGEHOLD_SEED is a number"))
}

fn address(of: Option<SocketAddr>) -> String {
    of.map(|address| address.to_string()).expect("an address")
}

fn nobody() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    socket
}

/// What `ci/specs/edgehold.toml` serves, beside it a file that must never be served.
fn site() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = folder.path().join("site");
    fs::create_dir_all(inside.join("sub")).expect("folders");
    let long: String = (0..20_000).map(|line| format!("line {line:05}\n")).collect();
    for (name, text) in [
        ("site/index.html", "<p>home</p>\n"),
        ("site/hello.txt", "hello\n"),
        ("site/empty.bin", ""),
        ("site/digits", "0123456789"),
        ("site/a b.css", "p {}\n"),
        ("site/secret.txt", "not for you\n"),
        ("site/long.txt", &long),
        ("site/sub/index.html", "<p>sub</p>\n"),
        ("outside.txt", "outside\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        File::options()
            .append(true)
            .open(&path)
            .expect("the file")
            .set_modified(UNIX_EPOCH + MODIFIED)
            .expect("a time");
    }
    fs::set_permissions(inside.join("secret.txt"), fs::Permissions::from_mode(0o000)).expect("a mode");
    for (name, to) in [("inside", "hello.txt"), ("outside", "../outside.txt"), ("machine", "/"), ("loop", "loop")] {
        symlink(to, inside.join(name)).expect("a link");
    }
    fs::create_dir_all(inside.join("odd/index.html")).expect("folders");
    for (name, to) in [("absolute", inside.join("sub")), ("absolute-out", folder.path().join("outside.txt"))] {
        symlink(to, inside.join(name)).expect("a link");
    }
    folder
}
