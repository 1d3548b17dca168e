//! The file of users: a line for each, `name:hash:role,role`, which `edgehold passwd` and `htpasswd -B` write.
//!
//! A hash is one of argon2id (a PHC string) or of bcrypt. What a hash may cost is bounded when the file is read, so
//! that no line of it holds a thread for long.

use super::made;
use crate::mesh::{Denied, Identity, WORD_BYTES, WORDS};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a file, at most.
pub(super) const FILE_BYTES: u64 = 16 << 20;

/// KiB of memory times passes that an argon2id hash may cost: eight times what `edgehold passwd` writes.
const ARGON2_WORK: u64 = 16 * Params::DEFAULT_M_COST as u64;

/// Steps of bcrypt that a hash may cost, as a power of two: 12 takes a quarter of a second.
const BCRYPT_COST: u32 = 14;

/// Bytes of a password, at most: who sends more has none that is right.
const PASSWORD_BYTES: usize = 1024;

/// What bcrypt looks at of a password (its 72 bytes have a zero at their end); more would not count.
const BCRYPT_BYTES: usize = 71;

/// All users of a file.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashMap<String, User>,
    /// One of their hashes for each who is not among them, so that both take the same time.
    hashes: Vec<Hash>,
}

#[derive(Debug)]
struct User {
    hash: Hash,
    roles: Vec<String>,
}

/// A hash of a password, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hash {
    Argon2(Arc<str>),
    Bcrypt(Arc<str>),
}

/// What is wrong with a line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// From 1.
    pub line: usize,
    /// What is wrong, a dash, and what to write instead.
    pub words: String,
}

impl Users {
    /// Of the text of a file. Empty lines, and those that begin with `#`, say nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of(text: &str) -> Result<Users, Vec<LineFault>> {
        let (mut users, mut faults) = (Users::default(), Vec::new());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| says_something(line)) {
            if let Err(words) = users.add(line.trim_end_matches('\r')) {
                faults.push(LineFault { line: at + 1, words });
            }
        }
        if faults.is_empty() { Ok(users) } else { Err(faults) }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = line.split_once(':').ok_or("has no `:` — write name:hash or name:hash:role,role")?;
        let (hash, roles) = rest.split_once(':').unwrap_or((rest, ""));
        check_word(name, "name")?;
        let hash = Hash::of(hash)?;
        let roles = roles_of(roles)?;
        self.hashes.push(hash.clone());
        match self.by_name.insert(name.to_owned(), User { hash, roles }) {
            None => Ok(()),
            Some(_) => Err("has a name that stands above — leave one of them out".into()),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Who this is. Takes as long for a name that is not known: the password is held against the hash of another.
    ///
    /// # Errors
    /// There is no such user, or it has another password.
    pub(super) fn identity(&self, name: &str, password: &str) -> Result<Identity, Denied> {
        let user = self.by_name.get(name);
        let hash = user.map(|user| &user.hash).or_else(|| self.instead(name)).ok_or(Denied::Password)?;
        let is_right = password.len() <= PASSWORD_BYTES && hash.is_of(password);
        let user = user.filter(|_| is_right).ok_or(Denied::Password)?;
        made(name, user.roles.clone(), [], None)
    }

    /// The hash for a name that is not known, always the same.
    fn instead(&self, name: &str) -> Option<&Hash> {
        let mark = digest(&SHA256, name.as_bytes());
        let mark = mark.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.hashes.get(mark.checked_rem(self.hashes.len())?)
    }
}

pub(super) fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// # Errors
/// It can be no name, and no role.
pub(super) fn check_word(word: &str, what: &str) -> Result<(), String> {
    let fits = (1..=WORD_BYTES).contains(&word.len()) && !word.contains(char::is_control) && !word.contains(':');
    let refuse =
        || format!("has a {what} that is none — write 1 to {WORD_BYTES} bytes without control characters or `:`");
    if fits { Ok(()) } else { Err(refuse()) }
}

fn roles_of(text: &str) -> Result<Vec<String>, String> {
    let roles: Vec<String> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    roles.iter().try_for_each(|role| check_word(role, "role"))?;
    if roles.len() > WORDS { Err(format!("has more than {WORDS} roles — write fewer")) } else { Ok(roles) }
}

impl Hash {
    fn of(text: &str) -> Result<Hash, String> {
        if text.starts_with("$argon2id$") {
            return argon2_of(text);
        }
        if ["$2y$", "$2b$", "$2a$"].iter().any(|it| text.starts_with(it)) {
            return bcrypt_of(text);
        }
        let known = "write one of argon2id (edgehold passwd) or bcrypt (htpasswd -B)";
        Err(format!("has a hash that is of no kind known here — {known}"))
    }

    fn is_of(&self, password: &str) -> bool {
        match self {
            Hash::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            Hash::Bcrypt(_) if password.len() > BCRYPT_BYTES => false,
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

fn argon2_of(text: &str) -> Result<Hash, String> {
    let damaged = || "has a hash of argon2id that is damaged — write it anew (edgehold passwd)".to_owned();
    let hash = PasswordHash::new(text).map_err(|_| damaged())?;
    let params = Params::try_from(&hash).map_err(|_| damaged())?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if hash.salt.is_none() || hash.hash.as_ref().is_none_or(|it| it.as_bytes().len() < 16) {
        return Err(damaged());
    }
    if work > ARGON2_WORK {
        let words = format!("m (KiB) times t is {ARGON2_WORK} at most; write it anew (edgehold passwd)");
        return Err(format!("has a hash that takes too long — {words}"));
    }
    Ok(Hash::Argon2(text.into()))
}

fn bcrypt_of(text: &str) -> Result<Hash, String> {
    let parts: bcrypt::HashParts =
        text.parse().map_err(|_| "has a hash of bcrypt that is damaged — write it anew (htpasswd -B)")?;
    if parts.get_cost() > BCRYPT_COST {
        return Err(format!("has a hash that takes too long — its cost is {BCRYPT_COST} at most (htpasswd -C)"));
    }
    Ok(Hash::Bcrypt(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password `wonderland`: by `argon2 -id`, by `htpasswd -nbB -C 4`.
    const BCRYPT: &str = "$2y$04$m5ZYfiMMPjYdXhOZeeVH/.yAdSxWwzgSPzA9K4ZVJfPHq0wsPNyJm";

    fn words(text: &str) -> Vec<LineFault> {
        Users::of(text).expect_err(text)
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let text = format!(
            "# users\n\na\nb:plain\n:{BCRYPT}\nc:{BCRYPT}\nc:{BCRYPT}\nd:$argon2id$v=19$x:r\ne:{BCRYPT}:r\u{7}\n"
        );
        let faults = words(&text);
        assert_eq!(faults.iter().map(|it| it.line).collect::<Vec<_>>(), [3, 4, 5, 7, 8, 9]);
        assert!(faults.iter().all(|it| it.words.contains(" — ")), "{faults:?}");
    }

    #[test]
    fn a_hash_that_takes_long_is_refused() {
        for hash in [
            BCRYPT.replace("$04$", "$15$"),
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQxMjM0NTY$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs".into(),
        ] {
            assert!(words(&format!("a:{hash}\n"))[0].words.contains("too long"), "{hash}");
        }
    }
}
