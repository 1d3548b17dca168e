//! Credentials that clients show on their open connections: new ones in time before those that they have end, or their
//! first ones, where a service asks for them in its own protocol.

use super::questions::Waiting;
use super::{AuthPlan, Gate, by_certificate};
use crate::mesh::Fingerprint;
use crate::mesh::identity::{AskedField, AskedRequest, Credentials, Denial, Denied, Identity, Secret};
use crate::service::{Route, Routes};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;

impl Gate {
    /// A client has shown credentials on its open connection. `Some`: what its service is to be told now.
    pub(in crate::service) fn presented(
        &mut self,
        desk: &mut Desk<'_>,
        (who, credentials): (Handle, Credentials),
        routes: &Routes,
    ) -> Option<Result<(), Denied>> {
        let number = desk.limits_number(who)?;
        let route = routes.by_limits(number);
        let taken = route.and_then(|route| taken(desk, who, route, credentials));
        let Some(credentials) = taken.filter(|_| !self.questions.has(who)) else {
            return Some(settle(desk, who, Err(&Denial::new(Denied::Malformed)), routes));
        };
        let of = self.fingerprint(number, &credentials, route.and_then(|it| it.gate.auth.as_ref()));
        if let Some(said) = self.verdicts.get(of, desk.now()) {
            return Some(settle(desk, who, said.as_ref(), routes));
        }
        let caller = Waiting::Connection(who);
        let waits = self.questions.join(caller, of).or_else(|| self.post(desk, caller, (number, of), credentials));
        if waits.is_some() { None } else { Some(settle(desk, who, Err(&Denial::new(Denied::Busy)), routes)) }
    }

    fn fingerprint(&self, route: u16, credentials: &Credentials, auth: Option<&AuthPlan>) -> Fingerprint {
        match credentials {
            Credentials::Token(token) => self.fingerprints.of_token(route, token.reveal()),
            Credentials::Basic { user, password } => self.fingerprints.of_pair(route, user, password.reveal()),
            Credentials::Request(request) => {
                self.fingerprints.of_asked(route, request, auth.and_then(|it| it.forward.as_ref()))
            }
        }
    }
}

/// A client at a listener without HTTP has come to a route: it is known by its certificate, or not yet.
pub(in crate::service) fn meet(desk: &mut Desk<'_>, who: Handle, route: &Route) {
    let identity = route.gate.auth.as_ref().and_then(|auth| by_certificate(desk, who, auth));
    desk.identify(who, identity.map(Arc::new));
}

/// Credentials as the route takes them; `None`: it does not. A password that has the form of a token is one, where the
/// route takes tokens; else a name and a password are for the file of users, for the broker, or for the server that is
/// asked.
fn taken(desk: &Desk<'_>, who: Handle, route: &Route, credentials: Credentials) -> Option<Credentials> {
    let auth = route.gate.auth.as_ref()?;
    match credentials {
        Credentials::Token(token) => {
            let fits = |most: u32| (1..=most as usize).contains(&token.reveal().len());
            let is_taken = auth.token.as_ref().is_some_and(|places| fits(places.token_bytes));
            is_taken.then_some(Credentials::Token(token))
        }
        Credentials::Basic { password, .. } if auth.token.is_some() && is_token(password.reveal()) => {
            taken(desk, who, route, Credentials::Token(password))
        }
        Credentials::Basic { .. } if auth.basic.is_some() || auth.broker => Some(credentials),
        Credentials::Basic { user, password } => {
            auth.forward.as_ref()?;
            let fields = authorization(&user, &password)?;
            Some(Credentials::Request(Box::new(request(desk, who, route, fields))))
        }
        Credentials::Request(_) => auth.forward.is_some().then_some(credentials),
    }
}

/// Three parts, the first of which is a JSON object in Base64 (RFC 7519 section 3).
fn is_token(password: &str) -> bool {
    password.starts_with("ey") && password.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A name and a password as the field of a request (RFC 7617 section 2); no field for neither. `None`: they cannot be
/// said so.
fn authorization(user: &str, password: &Secret) -> Option<Box<[AskedField]>> {
    let password = password.reveal();
    if user.is_empty() && password.is_empty() {
        return Some([].into());
    }
    let is_clean = !user.contains(':') && !user.chars().chain(password.chars()).any(char::is_control);
    let pair = zeroize::Zeroizing::new(format!("{user}:{password}"));
    let value = || format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())).into_bytes();
    is_clean.then(|| [("authorization".into(), value().into())].into())
}

/// What another server is asked about a client that has made no request, or whose request is long gone.
fn request(desk: &Desk<'_>, who: Handle, route: &Route, fields: Box<[AskedField]>) -> AskedRequest {
    AskedRequest {
        method: "GET".into(),
        target: route.path.as_str().into(),
        host: route.host.as_deref().unwrap_or_default().into(),
        secure: desk.is_secure(who),
        peer: desk.peer(who),
        fields,
    }
}

/// What was said of credentials of an open connection becomes true of it, if it may: the first ones must have a role
/// of the route, and later ones name the same client as well. A client that is let in without a name stays nobody.
///
/// # Errors
/// Why it may not.
pub(super) fn settle(
    desk: &mut Desk<'_>,
    who: Handle,
    said: Result<&Arc<Identity>, &Denial>,
    routes: &Routes,
) -> Result<(), Denied> {
    let route = desk.limits_number(who).and_then(|number| routes.by_limits(number));
    let is_first = desk.identity(who).is_none();
    let open = || route?.gate.auth.as_ref()?.forward.as_ref()?.open.clone();
    let said = match said {
        Err(denial) if is_first && denial.why == Denied::Unavailable => open().map(Arc::new).ok_or(denial.why),
        Err(denial) => Err(denial.why),
        Ok(identity) => Ok(identity.clone()),
    };
    let checked = said.and_then(|new| {
        let is_same = desk.identity(who).is_none_or(|old| old.name == new.name);
        let lasts = new.expires.is_none_or(|end| end > desk.unix());
        let has_role = route.is_some_and(|it| it.gate.roles.is_empty() || new.has_any(&it.gate.roles));
        match (is_same, lasts, has_role) {
            (true, true, true) => Ok(new),
            (_, false, _) => Err(Denied::Expired),
            _ => Err(Denied::Role),
        }
    });
    count(desk, is_first, checked.as_ref().err().copied());
    let identity = checked?;
    desk.identify(who, Some(identity).filter(|it| !it.name.is_empty()));
    desk.authenticated(who);
    Ok(())
}

fn count(desk: &mut Desk<'_>, is_first: bool, denied: Option<Denied>) {
    let counters = desk.counters();
    match denied {
        _ if !is_first => counters.auth_refreshes[usize::from(denied.is_some())] += 1,
        Some(why) => counters.auth_denied[why as usize] += 1,
        None => counters.auth_admitted += 1,
    }
}
