//! What a request shows of who its client is: found where the route's `auth` looks for it, and not read further than a
//! keyed hash of it needs. Only what a shard has not seen before is taken apart, to be asked about.

use super::plan::{AuthPlan, ForwardPlan, TokenPlan};
use crate::mesh::identity::{AskedRequest, Credentials, Denied, Secret};
use crate::mesh::{Fingerprint, keyed_hasher};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use edgehold_wire::http1::Head;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// What a request shows, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'b> {
    /// A token.
    Token(&'b str),
    /// `user:password` in Base64 (RFC 7617 section 2).
    Basic(&'b str),
    /// The request itself.
    Request,
}

/// What a request shows, at the first place that has something.
///
/// # Errors
/// It shows nothing that the route takes, or a token that is too long.
pub(super) fn shown<'b>(head: &Head<'_, 'b>, plan: &AuthPlan) -> Result<Shown<'b>, Denied> {
    if let Some(token) = plan.token.as_ref().and_then(|places| token(head, places)) {
        let fits = plan.token.as_ref().is_some_and(|it| token.len() <= it.token_bytes as usize);
        return if fits { Ok(Shown::Token(token)) } else { Err(Denied::Malformed) };
    }
    if let Some(basic) = authorization(head, "Basic").filter(|_| plan.basic.is_some()) {
        return Ok(Shown::Basic(basic));
    }
    plan.forward.as_ref().map(|_| Shown::Request).ok_or(Denied::Missing)
}

fn token<'b>(head: &Head<'_, 'b>, places: &TokenPlan) -> Option<&'b str> {
    let by_field = || authorization(head, "Bearer").filter(|_| places.header);
    let by_cookie = || cookie(head, places.cookie.as_deref()?);
    let by_query = || parameter(head, places.query.as_deref()?);
    let by_protocol = || {
        let prefix = places.subprotocol.as_deref()?;
        head.list("Sec-WebSocket-Protocol").find_map(|offer| offer.strip_prefix(prefix))
    };
    by_field().or_else(by_cookie).or_else(by_query).or_else(by_protocol).filter(|token| !token.is_empty())
}

/// What follows a scheme in `Authorization` (RFC 9110 section 11.6.2). With several lines there is none: which of them
/// another server would take is not known.
fn authorization<'b>(head: &Head<'_, 'b>, scheme: &str) -> Option<&'b str> {
    let mut lines = head.all("Authorization");
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let (named, rest) = str::from_utf8(line).ok()?.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then(|| rest.trim_matches(' '))
}

/// The value of the first cookie of this name (RFC 6265 section 4.2.1).
fn cookie<'b>(head: &Head<'_, 'b>, name: &str) -> Option<&'b str> {
    let pairs = head.all("Cookie").filter_map(|line| str::from_utf8(line).ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(its, _)| *its == name).map(|(_, value)| value)
}

/// The value of the first parameter of this name, as it was sent: a token has nothing that must be encoded.
fn parameter<'b>(head: &Head<'_, 'b>, name: &str) -> Option<&'b str> {
    let mut pairs = head.query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(its, _)| *its == name).map(|(_, value)| value)
}

/// What makes fingerprints.
pub(super) struct Fingerprints(SipHasher24);

impl Fingerprints {
    /// With a new key.
    pub(super) fn new() -> Fingerprints {
        Fingerprints(keyed_hasher())
    }

    /// Of a token, however it is shown.
    pub(super) fn of_token(&self, route: u16, token: &str) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write_u16(route);
        hasher.write_u8(0);
        hasher.write(token.as_bytes());
        hasher.finish128().as_u128()
    }

    /// Of a name and a password that were not shown in a request.
    pub(super) fn of_pair(&self, route: u16, user: &str, password: &str) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write_u16(route);
        hasher.write_u8(3);
        hasher.write_usize(user.len());
        hasher.write(user.as_bytes());
        hasher.write(password.as_bytes());
        hasher.finish128().as_u128()
    }

    /// Of what another server is to be asked about that no request has shown.
    pub(super) fn of_asked(&self, route: u16, asked: &AskedRequest, plan: Option<&ForwardPlan>) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write_u16(route);
        hasher.write_u8(4);
        if plan.is_some_and(|plan| plan.keys.iter().any(|key| &**key == "address")) {
            hasher.write(asked.peer.ip().to_string().as_bytes());
        }
        for (name, value) in &asked.fields {
            hasher.write_usize(name.len());
            hasher.write(name.as_bytes());
            hasher.write_usize(value.len());
            hasher.write(value);
        }
        hasher.finish128().as_u128()
    }

    /// Of what is shown to a route. Verdicts of one route say nothing to another, whose keys may be others.
    pub(super) fn of(
        &self,
        route: u16,
        shown: Shown<'_>,
        (desk, who, head): (&Desk<'_>, Handle, &Head<'_, '_>),
        forward: Option<&ForwardPlan>,
    ) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write_u16(route);
        match shown {
            Shown::Token(token) => (hasher.write_u8(0), hasher.write(token.as_bytes())),
            Shown::Basic(text) => (hasher.write_u8(1), hasher.write(text.as_bytes())),
            Shown::Request => (hasher.write_u8(2), request(&mut hasher, desk, who, head, forward)),
        };
        hasher.finish128().as_u128()
    }
}

/// What a verdict on a request depends on.
fn request(hasher: &mut SipHasher24, desk: &Desk<'_>, who: Handle, head: &Head<'_, '_>, plan: Option<&ForwardPlan>) {
    let mut add = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    for key in plan.iter().flat_map(|plan| &plan.keys) {
        match &**key {
            "method" => add(head.method.as_bytes()),
            "path" => add(head.path.as_bytes()),
            "target" => add(head.target.as_bytes()),
            "host" => add(head.host.unwrap_or("").as_bytes()),
            "address" => add(desk.peer(who).ip().to_string().as_bytes()),
            field => head.all(field).for_each(&mut add),
        }
        add(b"");
    }
}

/// What is asked about.
///
/// # Errors
/// They are no such credentials.
pub(super) fn asked(
    shown: Shown<'_>,
    (desk, who, head): (&Desk<'_>, Handle, &Head<'_, '_>),
    forward: Option<&ForwardPlan>,
) -> Result<Credentials, Denied> {
    match shown {
        Shown::Token(token) => Ok(Credentials::Token(Secret::new(token))),
        Shown::Basic(text) => basic(text).ok_or(Denied::Malformed),
        Shown::Request => Ok(Credentials::Request(Box::new(asked_request(desk, who, head, forward)))),
    }
}

/// RFC 7617 section 2: a name without colon, and a password.
fn basic(text: &str) -> Option<Credentials> {
    let pair = zeroize::Zeroizing::new(BASE64_STANDARD.decode(text).ok()?);
    let (user, password) = str::from_utf8(&pair).ok()?.split_once(':')?;
    let is_clean = !user.is_empty() && !user.chars().chain(password.chars()).any(char::is_control);
    is_clean.then(|| Credentials::Basic { user: user.into(), password: Secret::new(password) })
}

fn asked_request(desk: &Desk<'_>, who: Handle, head: &Head<'_, '_>, plan: Option<&ForwardPlan>) -> AskedRequest {
    let wanted = |name: &str| plan.is_some_and(|plan| plan.fields.iter().any(|it| it.eq_ignore_ascii_case(name)));
    let lines = head.headers.iter().filter(|line| wanted(line.name));
    AskedRequest {
        method: head.method.into(),
        target: head.target.into(),
        host: head.host.unwrap_or("").into(),
        secure: desk.is_secure(who),
        peer: desk.peer(who),
        fields: lines.map(|line| (line.name.into(), line.value.into())).collect(),
    }
}
