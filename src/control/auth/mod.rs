//! Whose credentials these are: the questions that shards ask about clients, and who answers them.
//!
//! From top to bottom, each importing only what stands below it:
//!
//! | file | what |
//! |---|---|
//! | `verifiers` | by route: who is asked, and what has to be kept for it |
//! | `forward` | another server is asked |
//! | `broker`, `wrong` | the broker of the route is asked; how many wrong answers one client may cause |
//! | `jwks` | keys at a URL, kept fresh |
//! | `http` | requests to other servers |
//! | `pool` | threads for what takes long |
//! | `source` | users and keys as they are now; files |
//! | `passwd` | writing the file of users |
//! | `fair` | what of a queue one client may fill |
//! | `token`, `users` | a token, a password: whose it is |
//! | `keys`, `signature` | keys with what they are for; signatures, by ring |
//! | `asked` | a question on its way to its one answer |
//! | `stats`, `settings` | what is counted; what was written |
//!
//! The control thread is not held up: hashes and signatures are threads' work, other servers' answers are waited for in
//! tasks, and of each kind only so many questions wait as a limit says. The next one is answered `busy`.

mod asked;
mod broker;
mod fair;
mod forward;
mod http;
mod jwks;
mod keys;
pub mod passwd;
mod pool;
mod settings;
mod signature;
mod source;
mod stats;
mod token;
mod users;
mod verifiers;
mod wrong;

pub use forward::{NOT_HANDED_ON, is_handed_on};
pub use settings::{
    Algorithm, AuthLimits, AuthSettings, BasicSettings, BrokerAuthSettings, CertificateName, CertificateSettings,
    ForwardSettings, HttpUrl, JwtSettings, KeySource, TokenPlaces,
};
pub use source::{inspect_keys, inspect_users};
pub use stats::{AuthStats, Kind, SourceState};
pub(super) use verifiers::{Upkeep, Verifiers};

use crate::mesh::{Denied, Identity, WORD_BYTES, WORDS};

/// An identity of these, each role once.
///
/// # Errors
/// One of them can be none, or there are too many.
fn made(
    name: &str,
    roles: impl IntoIterator<Item = String>,
    claims: impl IntoIterator<Item = (String, String)>,
    expires: Option<u64>,
) -> Result<Identity, Denied> {
    let mut its: Vec<Box<str>> = Vec::new();
    for role in roles {
        let role = word(&role)?;
        if !its.contains(&role) {
            its.push(role);
        }
    }
    let claims: Result<Vec<_>, _> = claims.into_iter().map(|(name, value)| Ok((word(&name)?, word(&value)?))).collect();
    let (name, claims) = (word(name)?, claims?);
    let few = its.len() <= WORDS && claims.len() <= WORDS;
    few.then(|| Identity { name, roles: its.into(), claims: claims.into(), expires }).ok_or(Denied::Claim)
}

fn word(text: &str) -> Result<Box<str>, Denied> {
    let fits = (1..=WORD_BYTES).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.into()) } else { Err(Denied::Claim) }
}

#[cfg(test)]
mod tests;
