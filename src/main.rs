//! The program: parse, load, run; the one place where an outcome becomes an exit code.

use edgehold::app::capacity::{self, Arguments};
use edgehold::app::cli::{self, Command, Page};
use edgehold::app::config::{self, Config, Problem};
use edgehold::app::derive::Machine;
use edgehold::app::{addresses, doctor, findings, run};
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
        Command::Serve(file) => with(load(file.config.as_deref()), serve),
        Command::Check(file) => with(config::load(&file.config), |_| said("no problems found\n")),
        Command::Doctor(file) => with(load(file.config.as_deref()), examine),
        Command::Plan(asked) => with(load(asked.config.as_deref()), |config| reckon(&asked, config)),
        Command::Completions { shell } => written(cli::completions(shell, &mut io::stdout())),
        Command::Man => written(cli::man(&mut io::stdout())),
        Command::Reference { page: Page::Configuration } => said(&config::reference()),
        Command::Reference { page: Page::Metrics } => said(&metrics::reference()),
    }
}

/// The embedded demo where no file is named.
fn load(file: Option<&Path>) -> Result<Config, Vec<Problem>> {
    file.map_or_else(|| Ok(config::demo()), config::load)
}

fn with(config: Result<Config, Vec<Problem>>, task: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match config {
        Ok(config) => task(&config),
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
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

fn examine(config: &Config) -> ExitCode {
    let mut rows = doctor::rows(config, &Machine::read(), &run::kernel_trials());
    rows.extend(addresses::rows(config));
    let written = said(&findings::text(&rows));
    if findings::fails(&rows) { ExitCode::from(FAILED) } else { written }
}

fn reckon(asked: &Arguments, config: &Config) -> ExitCode {
    match capacity::plan(asked, config, &Machine::read()) {
        Ok(plan) => {
            let written = said(&if asked.json { plan.json() } else { plan.text() });
            if plan.fits { written } else { ExitCode::from(FAILED) }
        }
        Err(words) => {
            eprintln!("edgehold: {words}");
            ExitCode::from(MISTAKEN)
        }
    }
}

fn said(words: &str) -> ExitCode {
    written(io::stdout().write_all(words.as_bytes()))
}

/// A reader that has gone (`edgehold man | head`) is no failure.
fn written(result: io::Result<()>) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("edgehold: standard output: {error}");
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}
