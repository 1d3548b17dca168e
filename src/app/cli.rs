//! The command line: what may be typed, and the shell completions and manual page
//! that grow from the same definitions.
//!
//! Without a subcommand the server serves, so that the program run bare shows the demo.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use super::capacity::Arguments;

const EXIT_CODES: &str = "Exit codes: 0 all is well, 1 a problem was found or serving failed, \
                          2 the command line or the configuration is wrong.";

/// Holds many idle WebSocket clients and carries them to a real back end.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "edgehold",
    version,
    about,
    after_help = EXIT_CODES,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: OptionalFile,
}

impl Cli {
    /// What is to be done: the subcommand, or `serve` where none was typed.
    pub fn task(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// What edgehold can be told to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Serve clients; this is also what happens without a subcommand
    Serve(OptionalFile),
    /// Read a configuration file and print every problem in it; exit 2 if there is one
    Check(RequiredFile),
    /// Compare what the configuration asks for with what this machine gives; exit 1 if serving would fail
    Doctor(OptionalFile),
    /// Say what a load takes: memory, cores, network, files, ports, sysctls; exit 1 if this machine does not fit it
    Plan(Box<Arguments>),
    /// Add a user to a file of users (auth.basic.users), change its password or its roles, or delete it
    Passwd(Passwd),
    /// Print a completion script for a shell
    Completions {
        /// The shell the script is for
        shell: Shell,
    },
    /// Print the manual page
    Man,
    /// Print a page of the reference
    Reference {
        /// The page
        #[arg(default_value = "configuration")]
        page: Page,
    },
}

/// A configuration file, or the built-in demo.
#[derive(Args, Clone, Debug)]
pub struct OptionalFile {
    /// The configuration file; without it, a built-in demo on 127.0.0.1:8080
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// A configuration file.
#[derive(Args, Clone, Debug)]
pub struct RequiredFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
}

/// A user of a file of users. The password is asked for at the terminal, or is the first line of the standard input.
#[derive(Args, Clone, Debug)]
pub struct Passwd {
    /// The file of users; it is made where it is not there, with mode 0600
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The user's name
    pub user: String,
    /// A role of the user; write it once for each. Without it the user has those that it had
    #[arg(short, long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Delete the user
    #[arg(short, long, conflicts_with = "roles")]
    pub delete: bool,
}

/// A page of the reference that is written from the code.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Every key of the configuration file
    Configuration,
    /// Every metric
    Metrics,
}

/// Reads the arguments of the process. Ends it with exit code 2 on a usage error, and
/// with 0 after `--help` and `--version`.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Reads given arguments, the program's name first.
///
/// # Errors
/// The usage error, or the text of `--help` and `--version`, for the caller to print.
pub fn parse_from<I, T>(arguments: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    Cli::try_parse_from(arguments)
}

/// Writes the completion script of a shell.
///
/// # Errors
/// Those of `out`.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator writes without a way to fail, so it gets memory to write to.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "edgehold", &mut script);
    out.write_all(&script)
}

/// Writes the manual page in roff: the program, then its subcommands one after another.
/// One page for all: nobody looks for `edgehold-serve(1)`.
///
/// # Errors
/// Those of `out`.
pub fn man(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = Man::new(command.clone());
    page.render_title(out)?;
    part(out, |roff| {
        page.render_name_section(roff)?;
        page.render_synopsis_section(roff)?;
        page.render_options_section(roff)
    })?;
    let mut subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
    subs.try_for_each(|sub| man_of(sub, out))?;
    writeln!(out, ".SH \"EXIT STATUS\"\n{EXIT_CODES}\n{SIGNALS}\n{FILES}\n{EXAMPLES}")
}

const SIGNALS: &str = r".SH SIGNALS
.TP
SIGTERM, SIGINT
No new clients are let in; those that are here are bidden farewell and have server.shutdown_grace to leave. A second one
ends the server at once.
.TP
SIGHUP
The files of TLS, of users and of keys are read again. The configuration is read once.
.TP
SIGUSR1, SIGUSR2
Nothing.";

const FILES: &str = r".SH FILES
.TP
/etc/edgehold/edgehold.toml
The configuration, where the unit of tuning/systemd looks for it. Without \-\-config the built-in demo is served.
.TP
/usr/local/bin/edgehold
The program, where that unit looks for it.
.TP
/run/edgehold
For unix sockets of listeners, made by that unit.";

const EXAMPLES: &str = r#".SH EXAMPLES
.TP
edgehold
Serve the demo; open http://127.0.0.1:8080/.
.TP
edgehold check \-c edge.toml && edgehold doctor \-c edge.toml && edgehold serve \-c edge.toml
Read a configuration, hold it against this machine, serve it.
.TP
curl \-H "Content\-Type: text/x\-message" \-d hello http://127.0.0.1:9180/v1/publish/news
Say something to all who listen to the channel news of a feed with source = "http".
.TP
edgehold plan \-\-connections 1M \-\-rate 10k \-\-reconnect\-time 120s
Say what a load takes, and whether this machine has it.
.TP
edgehold passwd \-\-file users \-\-role reader alice
Ask for a password and write it, hashed, for the user alice, who has the role reader.
.TP
edgehold completions bash > /etc/bash_completion.d/edgehold; edgehold man > /usr/local/share/man/man1/edgehold.1
Install what the program says of itself."#;

/// The part of one subcommand: the sections of its own page, one level down.
fn man_of(sub: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let page = Man::new(sub.clone());
    writeln!(out, ".SH \"EDGEHOLD {}\"", sub.get_name().to_uppercase())?;
    let mut sections = Vec::new();
    part(&mut sections, |roff| {
        page.render_description_section(roff)?;
        page.render_synopsis_section(roff)?;
        page.render_options_section(roff)
    })?;
    out.write_all(String::from_utf8_lossy(&sections).replace(".SH ", ".SS ").as_bytes())
}

/// Sections without the two lines each opens with, which define its quotes: those of the title do for all.
fn part(out: &mut dyn Write, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut roff = Vec::new();
    render(&mut roff)?;
    let text = String::from_utf8_lossy(&roff);
    let mut lines = text.lines().filter(|line| !line.starts_with(".ie ") && !line.starts_with(".el "));
    lines.try_for_each(|line| writeln!(out, "{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
