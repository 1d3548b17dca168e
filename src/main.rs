//! The program: parse, load, run; the one place where an outcome becomes an exit code.

use edgehold::app::capacity::{self, Arguments};
use edgehold::app::cli::{self, Command, Page};
use edgehold::app::config::{self, Config, Problem};
use edgehold::app::derive::Machine;
use edgehold::app::{addresses, doctor, findings, passwd, privileges, run, tls};
use edgehold::control::{Ending, metrics};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Something went wrong at run time.
const FAILED: u8 = 1;

/// The command line, or the configuration, is wrong.
const MISTAKEN: u8 = 2;

fn main() -> ExitCode {
    match cli::parse().task() {
        Command::Serve(file) => with_config(load(file.config.as_deref()), serve),
        Command::Check(file) => with_config(config::load(&file.config), check),
        Command::Doctor(file) => with_config(load(file.config.as_deref()), doctor_table),
        Command::Plan(asked) => with_config(load(asked.config.as_deref()), |config| plan(&asked, config)),
        Command::Passwd(asked) => changed(passwd::change(&asked)),
        Command::Completions { shell } => exit_code(cli::completions(shell, &mut io::stdout())),
        Command::Man => exit_code(cli::man(&mut io::stdout())),
        Command::Reference { page: Page::Configuration } => print(&config::reference()),
        Command::Reference { page: Page::Metrics } => print(&metrics::reference()),
    }
}

/// The configuration of a file; the built-in demo where none is named.
///
/// # Errors
/// Every problem of the file.
fn load(file: Option<&Path>) -> Result<Config, Vec<Problem>> {
    file.map_or_else(|| Ok(config::demo()), config::load)
}

fn with_config(config: Result<Config, Vec<Problem>>, task: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match config {
        Ok(config) => task(&config),
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(MISTAKEN)
        }
    }
}

fn serve(config: &Config) -> ExitCode {
    match run::serve(config) {
        Ok(Ending::Stopped) => ExitCode::SUCCESS,
        // The shards are still at work: leaving now means not to wait for their threads.
        Ok(Ending::Forced | Ending::ShardLost) => std::process::exit(i32::from(FAILED)),
        Err(failure) => {
            run::complain(&failure);
            std::process::exit(i32::from(FAILED))
        }
    }
}

/// Problems were printed before; what will become one is said here.
fn check(config: &Config) -> ExitCode {
    print(&(privileges::advice(config) + &tls::advice(config) + "no problems found\n"))
}

fn doctor_table(config: &Config) -> ExitCode {
    let mut rows = doctor::rows(config, &Machine::read(), &run::kernel_trials(config));
    rows.extend(privileges::rows(config));
    rows.extend(addresses::rows(config));
    rows.extend(tls::rows(config));
    let printed = print(&findings::text(&rows));
    if findings::fails(&rows) { ExitCode::from(FAILED) } else { printed }
}

fn plan(asked: &Arguments, config: &Config) -> ExitCode {
    match capacity::plan(asked, config, &Machine::read()) {
        Ok(plan) => {
            let printed = print(&if asked.json { plan.json() } else { plan.text() });
            if plan.fits { printed } else { ExitCode::from(FAILED) }
        }
        Err(words) => {
            eprintln!("edgehold: {words}");
            ExitCode::from(MISTAKEN)
        }
    }
}

fn changed(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("edgehold: {words}");
            ExitCode::from(FAILED)
        }
    }
}

fn print(words: &str) -> ExitCode {
    exit_code(io::stdout().write_all(words.as_bytes()))
}

/// Success, unless standard output has failed. A reader that has gone (`edgehold man | head`) is no failure.
fn exit_code(result: io::Result<()>) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("edgehold: standard output: {error}");
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}
