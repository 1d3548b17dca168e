//! README's commands as they are written, in a folder and a network of their own.
//!
//! Its fenced blocks are taken from the page: a `toml` block becomes the file that is named before it, the lines behind
//! `$` of a `console` block are run by a shell. Only who waits for whom is added: a newcomer sees that the server is
//! up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::peer::binary;

const README: &str = include_str!("../../README.md");

/// The fenced blocks of one language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The commands of a block, without the prompt.
fn commands(block: &str) -> Vec<&str> {
    block.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// A checkout as a newcomer has it behind `cargo build --release`, with these files in it.
fn checkout(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(folder.path().join("target/release")).expect("folders");
    symlink(fs::canonicalize(binary()).expect("the program"), folder.path().join("target/release/edgehold"))
        .expect("a link");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

/// Runs a script in the folder; its ports are its own, and so are its processes, which end with it.
fn run(folder: &Path, script: &str) -> String {
    let inside = "ip link set lo up && exec sh -euc \"$0\"";
    let mut command = Command::new("unshare");
    let output = command
        .args(["-rn", "--pid", "--fork", "sh", "-c", inside, script])
        .current_dir(folder)
        .output()
        .expect("unshare runs");
    let said = [output.stdout, output.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
    assert!(output.status.success(), "{script}\n{said}");
    said
}

/// Waits, for ten seconds at most, until the command succeeds.
const UNTIL: &str =
    "until_ok() { for _ in $(seq 200); do if eval \"$1\"; then return; fi; sleep 0.05; done; return 1; }";

#[test]
fn the_first_broadcast() {
    let _together = crate::together();
    let folder = checkout(&[("news.toml", blocks("toml")[0])]);
    let [serve, listen, publish] = commands(blocks("console")[0])[..] else { panic!("three commands") };
    let script = format!(
        "{UNTIL}\n\
         {{ {serve}\n}} 2>log &\n\
         trap 'cat log' EXIT\n\
         until_ok 'curl -fso ready http://127.0.0.1:9180/readyz'\n\
         {{ {listen}\n}} >heard 2>/dev/null &\n\
         until_ok 'curl -fs http://127.0.0.1:9180/v1/channels/news | grep -q \"subscribers.:1\"'\n\
         {publish}\n\
         until_ok 'grep hello heard'"
    );
    let said = run(folder.path(), &script);
    assert!(said.contains(r#""channel":"news""#) && said.contains(r#""data":"hello""#), "{said}");
}

/// Its configuration is right as it stands, once the folder that it names is made.
#[test]
fn the_broker_s_configuration() {
    let _together = crate::together();
    let config = blocks("toml").into_iter().find(|block| block.contains("/stomp")).expect("the broker's block");
    let folder = checkout(&[("edge.toml", config)]);
    let block = blocks("console").into_iter().find(|block| block.contains("mkdir")).expect("its commands");
    let before_doctor: Vec<&str> = commands(block).into_iter().take_while(|line| !line.contains("doctor")).collect();
    assert_eq!(before_doctor.len(), 2, "the folder, and the check");
    run(folder.path(), &before_doctor.join("\n"));
}

/// The tool is no part of the default build.
#[test]
fn the_bench_is_built_before_it_is_run() {
    let lines: Vec<&str> = blocks("console").into_iter().flat_map(commands).collect();
    let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("--workspace") < at("edgehold-bench idle"));
}
