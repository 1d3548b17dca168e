//! Who a client is, and what shards ask the control thread about it.
//!
//! A shard knows credentials by a keyed hash of them, and remembers for a while what was said of each. What it has not
//! seen before it asks in a [`Question`]; each is answered by one [`Answer`], however long that takes, within the time
//! that the route's `auth` has for it.

use super::counters::labels;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Bytes of a name, of a role and of a claim, at most; an identity with a longer one is refused where it is made.
pub const WORD_BYTES: usize = 255;

/// Roles and claims that an identity has, at most.
pub const WORDS: usize = 64;

/// Who a client is, as a source of identities has said. All connections that have shown the same credentials share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name: 1 to [`WORD_BYTES`] bytes without control characters. Empty: its broker lets in whoever says no name,
    /// and nobody is known.
    pub name: Box<str>,
    /// Its roles, each once.
    pub roles: Box<[Box<str>]>,
    /// Claims that patterns of channels may name, `{claim.x}`, or that upstreams are told.
    pub claims: Box<[(Box<str>, Box<str>)]>,
    /// The second since 1970 in which it ends; `None`: with the connection.
    pub expires: Option<u64>,
}

impl Identity {
    /// The value of a claim.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.iter().find(|(its, _)| &**its == name).map(|(_, value)| &**value)
    }

    /// Whether it has one of these roles.
    pub fn has_any(&self, roles: &[Box<str>]) -> bool {
        self.roles.iter().any(|role| roles.contains(role))
    }
}

/// A text that is not to be seen in logs; it is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// This text.
    pub fn new(text: &str) -> Secret {
        Secret(zeroize::Zeroizing::new(text.to_owned()))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Asks whose credentials these are.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its number in this shard, repeated in the answer.
    pub number: u32,
    /// The number of the route whose `auth` is asked: that of its limits.
    pub route: u16,
    /// The prefix of its client's address that is counted as one; `None`: it has none.
    pub client: Option<IpAddr>,
    /// What the client has shown.
    pub credentials: Credentials,
}

/// What a client has shown.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// RFC 7617.
    Basic {
        /// The user's name; may be anything that is UTF-8.
        user: Box<str>,
        /// The password.
        password: Secret,
    },
    /// A JWT, as it came.
    Token(Secret),
    /// The request itself, for a forward call.
    Request(Box<AskedRequest>),
}

/// The name and the value of a field.
pub type AskedField = (Box<str>, Box<[u8]>);

/// A request about which another server is asked.
#[derive(Clone, Debug)]
pub struct AskedRequest {
    /// The method.
    pub method: Box<str>,
    /// The target, as it was sent.
    pub target: Box<str>,
    /// The host asked for, with its port if there is one.
    pub host: Box<str>,
    /// `https` was spoken.
    pub secure: bool,
    /// The client's address.
    pub peer: SocketAddr,
    /// Fields of the request that are handed on, in their order; values as they came.
    pub fields: Box<[AskedField]>,
}

/// What was found out about credentials.
#[derive(Clone, Debug)]
pub struct Answer {
    /// [`Question::number`].
    pub question: u32,
    /// What they are worth.
    pub verdict: Result<Arc<Identity>, Denial>,
    /// Seconds for which the verdict may be remembered; 0: it is for those who wait for it only.
    pub keep: u32,
}

/// Why credentials are worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub why: Denied,
    /// The status that another server has said (forward); `None`: what [`Denied`] says.
    pub status: Option<u16>,
}

impl Denial {
    /// For this reason.
    pub fn new(why: Denied) -> Denial {
        Denial { why, status: None }
    }
}

labels! {
    /// Why credentials are worth nothing, as metrics show it.
    Denied {
        /// There are none.
        Missing = "missing",
        /// They are not what such credentials are (RFC 7617, RFC 7519): syntax, size, depth.
        Malformed = "malformed",
        /// There is no such user, or it has another password.
        Password = "password",
        /// The token's algorithm is not one that its key is for, or `none`.
        Algorithm = "algorithm",
        /// No key that is known has made the token.
        Key = "key",
        /// The signature is wrong.
        Signature = "signature",
        /// The token is of the past.
        Expired = "expired",
        /// The token is of the future.
        NotYetValid = "not_yet_valid",
        /// Another has issued the token, or one that does not say.
        Issuer = "issuer",
        /// The token is for others.
        Audience = "audience",
        /// A claim that is needed is not there, or not what it should be.
        Claim = "claim",
        /// The client's certificate does not name anybody.
        Certificate = "certificate",
        /// The server that was asked has refused.
        Forward = "forward",
        /// None of the roles of the route.
        Role = "role",
        /// Nobody could say, in time or at all.
        Unavailable = "unavailable",
        /// Too many were asked about already.
        Busy = "busy",
        /// Too many of its address were wrong of late.
        Rate = "rate",
    }
}

impl Denied {
    /// Nothing was found out: the same credentials may be good at another time.
    pub fn is_no_verdict(self) -> bool {
        matches!(self, Denied::Unavailable | Denied::Busy | Denied::Rate)
    }
}
