//! The report: one page from what several modes wrote, opened in a browser.

use std::path::Path;
use std::process::Command;

use crate::back_ends;
use crate::stage::Server;
use crate::tool::{self, Ran};

/// A run that must succeed; its file lives as long as it.
#[track_caller]
fn ran(mode: &str, flags: &[&str], more: &[&str]) -> Ran {
    let ran = tool::run(mode, &[flags, more].concat());
    assert_eq!(ran.code, Some(0), "{mode}: {}{}", ran.out, ran.err);
    ran
}

/// One of each mode, and echo at three rates.
fn runs() -> Vec<Ran> {
    let (back_end, events) = (back_ends::echo(), back_ends::events());
    let server = Server::before(back_end);
    let (echo, back, pid) = (server.ws("/echo"), server.ws("/back"), server.pid());
    let common = ["--server-pid", &pid, "--label", "edgehold", "--connections", "50", "--duration", "500ms"];
    let to = |url| [&["--url", url], &common[..]].concat();
    let (direct, url, publish) =
        (format!("tcp://{back_end}"), format!("http://{events}/"), format!("http://{events}/pub"));
    let fan = ["--url", &url, "--publish", &publish, "--connections", "50", "--duration", "1s", "--rate", "50"];
    let mut all: Vec<Ran> =
        ["500", "1000", "2000"].map(|rate| ran("echo", &to(&echo), &["--warm-up", "0s", "--rate", rate])).into();
    all.push(ran("idle", &to(&echo), &["--hold", "600ms", "--settle", "1s"]));
    all.push(ran("storm", &to(&echo), &["--hold", "100ms"]));
    all.push(ran("slow", &to(&echo), &["--rate", "500"]));
    all.push(ran("proxy", &to(&back), &["--direct", &direct, "--rounds", "1", "--rate", "500"]));
    all.push(ran("fanout", &fan, &[]));
    all
}

#[test]
fn a_page_of_all_modes() {
    let _alone = crate::alone();
    let (runs, folder) = (runs(), tempfile::tempdir().expect("a temporary folder"));
    let page = folder.path().join("report.html");
    let files: Vec<String> = runs.iter().map(|ran| ran.file().display().to_string()).collect();
    let flags: Vec<&str> =
        files.iter().map(String::as_str).chain(["--output", page.to_str().expect("UTF-8")]).collect();
    let made = tool::run_bare("report", &flags);
    assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
    let html = std::fs::read_to_string(&page).expect("a page");
    ["idle", "echo", "fanout", "storm", "slow", "proxy"].iter().for_each(|mode| {
        assert!(html.to_lowercase().contains(mode), "the page says nothing of {mode}");
    });
    look(&page);
}

/// What a reader would find wrong with it fails the test.
fn look(page: &Path) {
    let look = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/report/look");
    let seen = Command::new(look).arg(page).output().expect("ci/report/look runs");
    let [out, err] = [seen.stdout, seen.stderr].map(|words| String::from_utf8_lossy(&words).into_owned());
    println!("{out}");
    assert!(seen.status.success(), "{out}{err}ci/install browser installs what this needs");
}

/// Files that are no results, and pages that have no place.
#[test]
fn no_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("broken.json"), "{\"schema\": 1,").expect("a file");
    std::fs::write(folder.path().join("newer.json"), "{\"schema\": 99}").expect("a file");
    let output = path("page.html");
    for name in ["none.json", "broken.json", "newer.json"] {
        let made = tool::run_bare("report", &[&path(name), "--output", &output]);
        let lines = made.complaints();
        assert_eq!((made.code, lines.len(), made.out.as_str()), (Some(2), 1, ""), "{lines:?}");
        assert!(lines[0].starts_with("edgehold-bench: ") && lines[0].contains(name), "{lines:?}");
    }
    assert!(!Path::new(&output).exists(), "a page of nothing");
    std::fs::write(folder.path().join("empty.json"), "{\"schema\": 1}").expect("a file");
    let made = tool::run_bare("report", &[&path("empty.json"), "--output", &path("none/page.html")]);
    let lines = made.complaints();
    assert_eq!((made.code, lines.len()), (Some(2), 1), "{lines:?}");
    assert!(lines[0].contains("none/page.html") && lines[0].contains("--output"), "{lines:?}");
}
