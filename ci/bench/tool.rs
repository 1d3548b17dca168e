//! The tool as a process: started with flags, waited for, its words and its JSON read.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::peer::{patience, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgehold-bench");
/// No run of these tests takes so long.
const LONGEST: Duration = Duration::from_secs(60);

/// The tool at work. Dropping it kills the child.
pub(crate) struct Tool {
    child: Child,
    folder: TempDir,
}

/// A run that is over.
pub(crate) struct Ran {
    /// The exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// What `--json` wrote, if it wrote.
    pub(crate) json: Option<Found>,
    folder: TempDir,
}

/// What a run found.
#[derive(Debug)]
pub(crate) struct Found(Value);

/// Starts `edgehold-bench MODE FLAGS… --json FILE`, the file being in a folder of its own.
pub(crate) fn start(mode: &str, flags: &[&str]) -> Tool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("out.json");
    let mut command = command(mode, flags);
    spawn(command.arg("--json").arg(json), folder)
}

/// Runs the mode to its end.
pub(crate) fn run(mode: &str, flags: &[&str]) -> Ran {
    start(mode, flags).wait()
}

/// Runs it with these flags and no others.
pub(crate) fn run_bare(mode: &str, flags: &[&str]) -> Ran {
    spawn(&mut command(mode, flags), tempfile::tempdir().expect("a temporary folder")).wait()
}

/// Runs it under a limit of so many open files.
pub(crate) fn run_within(files: u64, mode: &str, flags: &[&str]) -> Ran {
    let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, PROGRAM, mode]).args(flags);
    spawn(&mut command, tempfile::tempdir().expect("a temporary folder")).wait()
}

/// Runs a mode that must succeed, and returns what it found.
#[track_caller]
pub(crate) fn found(mode: &str, flags: &[&str]) -> Found {
    let ran = run(mode, flags);
    assert_eq!(ran.code, Some(0), "{mode}: {}{}", ran.out, ran.err);
    println!("{}", ran.out);
    ran.json.expect("a JSON file")
}

fn command(mode: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(mode).args(flags);
    command
}

fn spawn(command: &mut Command, folder: TempDir) -> Tool {
    let file = |name: &str| File::create(folder.path().join(name)).expect("a file for its words");
    let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn();
    Tool { child: child.expect("the tool starts"), folder }
}

impl Tool {
    /// Waits for its end, and kills it when that does not come.
    pub(crate) fn wait(mut self) -> Ran {
        let status = self.status();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let json = read("out.json");
        let json = (!json.is_empty()).then(|| Found(serde_json::from_str(&json).expect("JSON")));
        Ran { code: status.code(), out: read("out"), err: read("err"), json, folder }
    }

    fn status(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the tool has ended", patience(LONGEST.as_secs()), || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("the condition held")
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("our own child takes a signal");
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Both fail only for a child that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// What it says beside advice about the machine.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        let lines = self.err.lines().filter(|line| !line.is_empty());
        lines.filter(|line| !line.starts_with("edgehold-bench: advice:")).collect()
    }

    /// Where `--json` went; the file lives as long as this.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("out.json")
    }
}

impl Found {
    /// The number at a JSON pointer (RFC 6901), whole.
    #[track_caller]
    pub(crate) fn whole(&self, pointer: &str) -> u64 {
        self.at(pointer).as_u64().unwrap_or_else(|| panic!("{pointer} is no whole number in {:#}", self.0))
    }

    /// The sum of the whole numbers of the object at a JSON pointer.
    #[track_caller]
    pub(crate) fn sum(&self, pointer: &str) -> u64 {
        let object = self.at(pointer).as_object().unwrap_or_else(|| panic!("{pointer} is no object in {:#}", self.0));
        object.values().filter_map(Value::as_u64).sum()
    }

    /// The number at a JSON pointer.
    #[track_caller]
    pub(crate) fn figure(&self, pointer: &str) -> f64 {
        self.at(pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is no number in {:#}", self.0))
    }

    /// The words at a JSON pointer.
    #[track_caller]
    pub(crate) fn words(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text in {:#}", self.0))
    }

    /// Whether it says that it was interrupted.
    #[track_caller]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.at("/interrupted").as_bool().expect("yes or no")
    }

    /// How many entries a list has; one that is absent has none.
    pub(crate) fn len(&self, pointer: &str) -> usize {
        self.0.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// How many fields an object has.
    #[track_caller]
    pub(crate) fn fields(&self, pointer: &str) -> usize {
        self.at(pointer).as_object().expect("an object").len()
    }

    #[track_caller]
    fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {:#}", self.0))
    }
}
