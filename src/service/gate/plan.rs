//! What a route says of who may come in.

use super::origin::Origins;
use crate::mesh::identity::Identity;

/// What gates are told of the configuration, whatever the route.
#[derive(Clone, Copy, Debug)]
pub struct GateSettings {
    /// Verdicts that a shard remembers, of either kind.
    pub verdicts: usize,
    /// Questions that a shard may have under way.
    pub questions: usize,
}

impl Default for GateSettings {
    fn default() -> GateSettings {
        GateSettings { verdicts: 65_536, questions: 1024 }
    }
}

/// What a route's gate asks for.
#[derive(Clone, Debug, Default)]
pub struct GatePlan {
    /// Pages of which origins may use the route.
    pub cors: CorsPlan,
    /// How clients say who they are; `None`: nobody is asked.
    pub auth: Option<AuthPlan>,
    /// Roles of which a client must have one; none: any client will do.
    pub roles: Box<[Box<str>]>,
}

impl GatePlan {
    /// What a subprotocol begins with that is a token.
    pub fn token_prefix(&self) -> Option<&str> {
        self.auth.as_ref()?.token.as_ref()?.subprotocol.as_deref()
    }
}

/// Requests of pages of other origins (the CORS protocol of the Fetch standard).
#[derive(Clone, Debug, Default)]
pub struct CorsPlan {
    /// Whose pages; `None`: what changes something, and a WebSocket, is for pages of the same host, and nobody else's
    /// page may read an answer.
    pub allow_origin: Option<Origins>,
    /// Pages of origins that are named may send cookies and other credentials along.
    pub credentials: bool,
    /// Methods, as a list for the field.
    pub methods: Box<str>,
    /// Request fields that they may send, as a list for the field.
    pub headers: Box<str>,
    /// Response fields that they may read, as a list for the field; empty: those that need no leave.
    pub expose: Box<str>,
    /// Seconds for which a browser may remember the answer to a preflight.
    pub max_age: u32,
}

/// How clients say who they are: any of these, in this order.
#[derive(Clone, Debug)]
pub struct AuthPlan {
    /// A client that shows nothing in its request may do so on its open connection, to a service that asks for it.
    pub late: bool,
    /// By the certificate of their TLS.
    pub certificate: Option<CertificatePlan>,
    /// By a JWT, at one of these places.
    pub token: Option<TokenPlan>,
    /// By a name and a password (RFC 7617); the realm.
    pub basic: Option<Box<str>>,
    /// By what another server says of the request.
    pub forward: Option<ForwardPlan>,
    /// By what the broker behind the route says of a name and a password.
    pub broker: bool,
}

/// Which part of a certificate is the client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject as a whole (RFC 4514).
    Subject,
    /// The common name of the subject.
    CommonName,
    /// The first DNS name of its alternative names.
    Dns,
    /// The first e-mail address.
    Email,
    /// The first URI.
    Uri,
}

/// Identities out of certificates.
#[derive(Clone, Debug)]
pub struct CertificatePlan {
    /// What is the name.
    pub name: CertificateName,
    /// The roles of all who come by one.
    pub roles: Box<[Box<str>]>,
}

/// Where a token is looked for, in this order.
#[derive(Clone, Debug)]
pub struct TokenPlan {
    /// `Authorization: Bearer` (RFC 6750 section 2.1).
    pub header: bool,
    /// The cookie of this name.
    pub cookie: Option<Box<str>>,
    /// The query parameter of this name (RFC 6750 section 2.3).
    pub query: Option<Box<str>>,
    /// A subprotocol that begins so; the token is the rest of it. A browser's WebSocket can say it no other way.
    pub subprotocol: Option<Box<str>>,
    /// The longest token, in bytes.
    pub token_bytes: u32,
}

/// What is told to the server that is asked.
#[derive(Clone, Debug)]
pub struct ForwardPlan {
    /// Fields of the request that are handed on, in lower case.
    pub fields: Box<[Box<str>]>,
    /// Of these, and of `method`, `path`, `host`, `address`: what a verdict that is remembered depends on.
    pub keys: Box<[Box<str>]>,
    /// The route lets clients in as this where nobody could be asked.
    pub open: Option<Identity>,
}
