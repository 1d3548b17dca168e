//! Credentials that clients show on their open connections: new ones in time before those that they have end, or their
//! first ones, where a service asks for them in its own protocol.

use super::credentials::Fingerprint;
use super::questions::Waiting;
use super::{Gate, by_certificate};
use crate::mesh::identity::{Credentials, Denial, Denied, Identity};
use crate::service::{Route, Routes};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use std::sync::Arc;

impl Gate {
    /// A client has shown credentials on its open connection. `Some`: what its service is to be told now.
    pub(in crate::service) fn presented(
        &mut self,
        desk: &mut Desk<'_>,
        (who, credentials): (Handle, Credentials),
        routes: &Routes,
    ) -> Option<bool> {
        let number = desk.limits_number(who)?;
        let taken = routes.by_limits(number).is_some_and(|route| takes(route, &credentials));
        if !taken || self.questions.has(who) {
            return Some(settle(desk, who, Err(&Denial::new(Denied::Malformed)), routes));
        }
        let of = self.fingerprint(number, &credentials);
        if let Some(said) = self.verdicts.get(of, desk.now()) {
            return Some(settle(desk, who, said.as_ref(), routes));
        }
        let caller = Waiting::Connection(who);
        let waits = self.questions.join(caller, of).or_else(|| self.post(desk, caller, (number, of), credentials));
        if waits.is_some() { None } else { Some(settle(desk, who, Err(&Denial::new(Denied::Busy)), routes)) }
    }

    fn fingerprint(&self, route: u16, credentials: &Credentials) -> Fingerprint {
        match credentials {
            Credentials::Token(token) => self.fingerprints.of_token(route, token.reveal()),
            Credentials::Basic { user, password } => self.fingerprints.of_pair(route, user, password.reveal()),
            Credentials::Request(request) => self.fingerprints.of_asked(route, request),
        }
    }
}

/// A client at a listener without HTTP has come to a route: it is known by its certificate, or not yet.
pub(in crate::service) fn meet(desk: &mut Desk<'_>, who: Handle, route: &Route) {
    let identity = route.gate.auth.as_ref().and_then(|auth| by_certificate(desk, who, auth));
    desk.identify(who, identity.map(Arc::new));
}

/// Whether the route takes such credentials.
fn takes(route: &Route, credentials: &Credentials) -> bool {
    let Some(auth) = &route.gate.auth else { return false };
    match credentials {
        Credentials::Token(token) => {
            let fits = |most: u32| (1..=most as usize).contains(&token.reveal().len());
            auth.token.as_ref().is_some_and(|places| fits(places.token_bytes))
        }
        Credentials::Basic { .. } => auth.basic.is_some(),
        Credentials::Request(_) => auth.forward.is_some(),
    }
}

/// What was said of credentials of an open connection becomes true of it, if it may. Whether it does: the first ones
/// must have a role of the route, and later ones name the same client as well.
pub(super) fn settle(desk: &mut Desk<'_>, who: Handle, said: Result<&Arc<Identity>, &Denial>, routes: &Routes) -> bool {
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
    let taken = checked.is_ok();
    if let Ok(identity) = checked {
        desk.identify(who, Some(identity));
        desk.authenticated(who);
    }
    taken
}

fn count(desk: &mut Desk<'_>, is_first: bool, denied: Option<Denied>) {
    let counters = desk.counters();
    match denied {
        _ if !is_first => counters.auth_refreshes[usize::from(denied.is_some())] += 1,
        Some(why) => counters.auth_denied[why as usize] += 1,
        None => counters.auth_admitted += 1,
    }
}
