//! Files while many ask for them: nobody's download ends because of others, and nobody takes all descriptors.

use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use crate::by_hand::Caller;
use crate::peer::{Server, patience, raise_file_limit, wait_for};

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 2000
admin = "{admin}"
log = "warn"
open_files = 4
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/"
service = "files"
root = "{root}"
"#;

/// Fifty parts.
const LONG_BYTES: usize = 50 << 16;
const DOWNLOADS: usize = 3;
const CROWD: usize = 1400;
const ROUNDS: usize = 5;

fn long() -> Vec<u8> {
    (0..LONG_BYTES).map(|at| (at % 251) as u8).collect()
}

fn start(folder: &tempfile::TempDir) -> Server {
    std::fs::write(folder.path().join("long"), long()).expect("a file");
    std::fs::write(folder.path().join("short"), b"short\n").expect("a file");
    Server::start(&CONFIG.replace("{root}", &folder.path().display().to_string()))
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// More clients ask at once than a letter box has room for, again and again.
#[test]
fn many_small_files_end_no_download() {
    let _alone = crate::alone();
    raise_file_limit();
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder);
    let mut crowd: Vec<Caller> = (0..CROWD).map(|_| Caller::new(server.address)).collect();
    let downloads: Vec<_> = (0..DOWNLOADS).map(|_| thread::spawn(download(&server))).collect();
    for _ in 0..ROUNDS {
        let statuses = ask_all(&mut crowd);
        assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    }
    for download in downloads {
        let (status, content) = download.join().expect("a whole download");
        assert!(status == 200 && content == long());
    }
}

fn ask_all(crowd: &mut [Caller]) -> Vec<u16> {
    for caller in &mut *crowd {
        caller.say(&get("/short"));
    }
    crowd.iter_mut().map(|caller| caller.response().0).collect()
}

/// A client that takes its file slowly, from now until the end.
fn download(server: &Server) -> impl FnOnce() -> (u16, Vec<u8>) + Send + 'static {
    let mut caller = Caller::narrow(server.address);
    caller.rest = Duration::from_millis(1);
    caller.say(&get("/long"));
    move || caller.response()
}

/// The next release takes the place of the one that is served.
#[test]
fn a_root_that_leads_elsewhere_is_followed() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        std::fs::create_dir(path(name)).expect("a folder");
        std::fs::write(path(name).join("name"), name).expect("a file");
        symlink(path(name), path(&format!("to-{name}"))).expect("a link");
    }
    std::fs::rename(path("to-one"), path("current")).expect("a name");
    let server = Server::start(&CONFIG.replace("{root}", &path("current").display().to_string()));
    let mut caller = Caller::new(server.address);
    let mut ask = || {
        caller.say(&get("/name"));
        caller.response()
    };
    assert_eq!(ask(), (200, b"one".to_vec()));
    std::fs::rename(path("to-two"), path("current")).expect("a name");
    wait_for("the next release is served", patience(5), || ask() == (200, b"two".to_vec()));
}

/// What has to be waited for is waited for by the ring: what the kernel has thrown out of its cache, and what lies on a
/// file system that cannot be asked not to wait.
#[test]
fn what_is_in_no_cache_is_read_all_the_same() {
    let _together = crate::together();
    for folder in [tempfile::tempdir(), tempfile::tempdir_in("/dev/shm")] {
        let folder = folder.expect("a folder");
        let server = start(&folder);
        let mut caller = Caller::new(server.address);
        caller.rest = Duration::ZERO;
        for _ in 0..3 {
            let file = std::fs::File::open(folder.path().join("long")).expect("the file");
            file.sync_all().expect("a disk");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a cache");
            caller.say(&get("/long"));
            let (status, content) = caller.response();
            assert!(status == 200 && content == long());
        }
    }
}

/// Those beyond `open_files` hold no descriptor, and are served all the same.
#[test]
fn downloads_that_nobody_takes_leave_descriptors_to_others() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder);
    let mut slow: Vec<Caller> = (0..20).map(|_| Caller::narrow(server.address)).collect();
    for caller in &mut slow {
        caller.say(&get("/long"));
        assert_eq!(caller.status(), 200);
    }
    let held = || server.metrics().sum("edgehold_files_held", &[]);
    wait_for("four files are held", patience(5), || held() == 4);
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("our own child");
    let open = open.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok()).filter(|it| it.ends_with("long")).count();
    assert_eq!(open, 4);
    let mut other = Caller::new(server.address);
    other.say(&get("/short"));
    assert_eq!(other.response(), (200, b"short\n".to_vec()));
    // Who leaves gives the file back.
    drop(slow);
    wait_for("all files are closed", patience(5), || held() == 0);
}
