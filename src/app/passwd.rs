//! `edgehold passwd`: a password from the terminal, or from a pipe, into the file of users.

use super::cli::Passwd;
use crate::control::auth::passwd::{self, Change};
use std::io::{self, BufRead as _, IsTerminal as _};
use zeroize::Zeroizing;

/// Adds the user, changes it, or deletes it.
///
/// # Errors
/// In words: no password came, or the file cannot be changed.
pub fn change(asked: &Passwd) -> Result<(), String> {
    if asked.delete {
        return passwd::change(&asked.file, &asked.user, &Change::Delete);
    }
    let password = password().map_err(|error| format!("no password: {error}"))?;
    let roles = (!asked.roles.is_empty()).then_some(asked.roles.as_slice());
    passwd::change(&asked.file, &asked.user, &Change::Set(&password, roles))
}

/// From the terminal twice, without echo; from anything else one line.
fn password() -> io::Result<Zeroizing<String>> {
    let password = if io::stdin().is_terminal() { asked_twice()? } else { first_line()? };
    if password.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(password) }
}

fn asked_twice() -> io::Result<Zeroizing<String>> {
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let second = Zeroizing::new(rpassword::prompt_password("Once more: ")?);
    if first == second { Ok(first) } else { Err(io::Error::other("the two are not the same")) }
}

fn first_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
