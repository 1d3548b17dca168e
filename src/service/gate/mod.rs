//! The gate: who may come in, before any service sees the request.
//!
//! A request passes the route's own limits, its method, the origin of its page (`cors.rs`), the form that its service
//! asks for, and then the question who it is (`credentials.rs`): the answer is remembered (`verdicts.rs`), or asked for
//! by letter (`questions.rs`), with the head kept and read again when it has come. An identity then needs a role of the
//! route, if the route names any.

mod certificate;
mod cors;
mod credentials;
mod origin;
mod plan;
mod presented;
mod questions;
mod verdicts;

pub use origin::Origins;
pub use plan::{AuthPlan, CertificateName, CertificatePlan, CorsPlan, ForwardPlan, GatePlan, GateSettings, TokenPlan};
pub(super) use presented::meet;

use super::{Admits, Route, Routes};
use crate::mesh::identity::{Answer, Credentials, Denial, Denied, Identity, Question};
use crate::mesh::{Fingerprint, Refused, ServiceKind, ToControl};
use crate::shard::clock::ticks;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use credentials::{Fingerprints, Shown};
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;
use questions::{Questions, Waiting};
use std::sync::Arc;
use std::time::Duration;
use verdicts::{Said, Verdicts};

/// RFC 9110 section 15.5.22 and RFC 6455 section 4.4: what a 426 must tell.
const UPGRADE_FIELDS: [(&str, &str); 3] =
    [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")];

/// RFC 9110 section 9.3, and PATCH (RFC 5789): methods that are known, though no service here may allow them.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Seconds for which every verdict is remembered at least for which a request has waited, which is to find it.
const KEPT_AT_LEAST: u32 = 2;

/// Seconds after which a client may come again that could not be asked about.
const RETRY_AFTER: &str = "2";

/// What becomes of a request at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes on to its service.
    Passed,
    /// It was answered.
    Answered,
    /// It comes again when the answer to a question has come; the gate knows it by this token meanwhile.
    Waits(u32),
}

/// An open connection, and what its service is to be told of the credentials that it has shown.
pub(super) type Told = (Handle, Result<(), Denied>);

/// The gate of one shard.
pub(super) struct Gate {
    fingerprints: Fingerprints,
    verdicts: Verdicts,
    questions: Questions,
}

/// A request on its way through the gate.
#[derive(Clone, Copy)]
struct Caller<'h, 'b> {
    who: Handle,
    head: &'h Head<'h, 'b>,
    route: &'h Route,
    auth: &'h AuthPlan,
}

impl Gate {
    pub(super) fn new(settings: &GateSettings) -> Gate {
        Gate {
            fingerprints: Fingerprints::new(),
            verdicts: Verdicts::new(settings.verdicts),
            questions: Questions::new(settings.questions),
        }
    }

    /// Other routes are in force: what was said under those before says nothing any more. Answers on their way are to
    /// fingerprints that nothing has now; those who wait for them ask again.
    pub(super) fn exchange(&mut self, settings: &GateSettings) {
        (self.fingerprints, self.verdicts) = (Fingerprints::new(), Verdicts::new(settings.verdicts));
    }

    /// Whether the request may go on to the service of its route.
    pub(super) fn judge(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, route: &Route) -> Judgement {
        if !passes(desk, who, head, route) {
            return Judgement::Answered;
        }
        let Some(auth) = &route.gate.auth else {
            desk.identify(who, None);
            return Judgement::Passed;
        };
        let caller = Caller { who, head, route, auth };
        match by_certificate(desk, who, auth) {
            Some(identity) => admit(desk, caller, Arc::new(identity)),
            None => self.judge_shown(desk, caller),
        }
    }

    /// By what the request shows.
    fn judge_shown(&mut self, desk: &mut Desk<'_>, caller: Caller<'_, '_>) -> Judgement {
        let shown = match credentials::shown(caller.head, caller.auth) {
            Err(Denied::Missing) | Ok(Shown::Request) if caller.auth.late => {
                desk.identify(caller.who, None);
                return Judgement::Passed;
            }
            Ok(shown) => shown,
            Err(why) => return deny(desk, caller, &Denial::new(why)),
        };
        let Caller { who, head, route, auth } = caller;
        let of = self.fingerprints.of(route.limits, shown, (desk, who, head), auth.forward.as_ref());
        match self.verdicts.get(of, desk.now()) {
            Some(said) => {
                desk.counters().auth_remembered += 1;
                obey(desk, caller, said)
            }
            None => self.ask(desk, caller, shown, of),
        }
    }

    /// Asks what this shard has not heard of, or waits with those who have.
    fn ask(&mut self, desk: &mut Desk<'_>, caller: Caller<'_, '_>, shown: Shown<'_>, of: Fingerprint) -> Judgement {
        let Caller { who, head, route, auth } = caller;
        let waiting = Waiting::Request(who);
        if let Some(token) = self.questions.join(waiting, of) {
            return wait(desk, caller, token);
        }
        match credentials::asked(shown, (desk, who, head), auth.forward.as_ref()) {
            Err(why) => deny(desk, caller, &Denial::new(why)),
            Ok(credentials) => match self.post(desk, waiting, (route.limits, of), credentials) {
                Some(token) => wait(desk, caller, token),
                None => deny(desk, caller, &Denial::new(Denied::Busy)),
            },
        }
    }

    /// Posts a question; returns the token by which its caller waits. `None`: too many are under way.
    fn post(
        &mut self,
        desk: &mut Desk<'_>,
        caller: Waiting,
        (route, of): (u16, Fingerprint),
        credentials: Credentials,
    ) -> Option<u32> {
        let now = desk.now();
        let (Waiting::Request(who) | Waiting::Connection(who)) = caller;
        let client = desk.peer_prefix(who);
        let question = Question { number: self.questions.next(), route, client, credentials };
        let posted = self.questions.has_room(now) && desk.post(ToControl::Question(Box::new(question)));
        posted.then(|| {
            desk.counters().auth_asked += 1;
            self.questions.begin(caller, of, now)
        })
    }

    /// The answer to a question: requests that have waited come again. Returns the open connections that have waited,
    /// and what their services are to be told.
    pub(super) fn answered(&mut self, desk: &mut Desk<'_>, answer: Answer, routes: &Routes) -> Vec<Told> {
        let Some((of, waiters)) = self.questions.answered(answer.question) else { return Vec::new() };
        let kept = ticks(Duration::from_secs(u64::from(answer.keep.max(KEPT_AT_LEAST))));
        let said = answer.verdict;
        let is_read_again = waiters.iter().any(|it| matches!(it, Waiting::Request(_)));
        if answer.keep > 0 || is_read_again {
            self.verdicts.put(of, said.clone(), desk.now().saturating_add(kept));
        }
        let mut connections = Vec::new();
        for caller in waiters {
            match caller {
                Waiting::Request(who) => desk.decide(who),
                Waiting::Connection(who) => {
                    connections.push((who, presented::settle(desk, who, said.as_ref(), routes)));
                }
            }
        }
        connections
    }

    /// A client that has waited is gone.
    pub(super) fn closed(&mut self, token: u32) {
        self.questions.leave(token);
    }

    /// What the gate holds, for the gauges.
    pub(super) fn gauge(&self, desk: &mut Desk<'_>) {
        let counters = desk.counters();
        counters.auth_questions = self.questions.len() as u64;
        counters.auth_verdicts = self.verdicts.len() as u64;
    }
}

fn by_certificate(desk: &Desk<'_>, who: Handle, auth: &AuthPlan) -> Option<Identity> {
    certificate::identity_of(desk.client_certificate(who)?, auth.certificate.as_ref()?)
}

/// The request waits. Its service does not know it yet: what happens to it meanwhile is told to the gate.
fn wait(desk: &mut Desk<'_>, caller: Caller<'_, '_>, token: u32) -> Judgement {
    desk.route(caller.who, ServiceKind::None, caller.route.limits);
    Judgement::Waits(token)
}

/// Does what was said of the credentials.
fn obey(desk: &mut Desk<'_>, caller: Caller<'_, '_>, said: Said) -> Judgement {
    let open = || caller.auth.forward.as_ref()?.open.clone();
    match said {
        Ok(identity) => admit(desk, caller, identity),
        Err(denial) if denial.why == Denied::Unavailable => match open() {
            Some(identity) => admit(desk, caller, Arc::new(identity)),
            None => deny(desk, caller, &denial),
        },
        Err(denial) => deny(desk, caller, &denial),
    }
}

/// The client is known: it may go on if it has a role of the route, and its token has not ended.
fn admit(desk: &mut Desk<'_>, caller: Caller<'_, '_>, identity: Arc<Identity>) -> Judgement {
    if identity.expires.is_some_and(|end| end <= desk.unix()) {
        return deny(desk, caller, &Denial::new(Denied::Expired));
    }
    let roles = &caller.route.gate.roles;
    if !roles.is_empty() && !identity.has_any(roles) {
        desk.counters().auth_denied[Denied::Role as usize] += 1;
        let words = "this route needs a role that you do not have";
        desk.refuse_as(caller.who, Refused::Forbidden, Status::FORBIDDEN, &[], words);
        return Judgement::Answered;
    }
    desk.counters().auth_admitted += 1;
    desk.identify(caller.who, Some(identity));
    Judgement::Passed
}

fn deny(desk: &mut Desk<'_>, caller: Caller<'_, '_>, denial: &Denial) -> Judgement {
    desk.counters().auth_denied[denial.why as usize] += 1;
    desk.identify(caller.who, None);
    match denial.why {
        why if why.is_no_verdict() => {
            let words = "nobody can say now who you are";
            let fields = [("Retry-After", RETRY_AFTER)];
            desk.refuse_as(caller.who, Refused::AuthUnavailable, Status::SERVICE_UNAVAILABLE, &fields, words);
        }
        Denied::Forward if denial.status == Some(Status::FORBIDDEN.code()) => {
            desk.refuse_as(caller.who, Refused::Forbidden, Status::FORBIDDEN, &[], "this is not for you");
        }
        why => challenge(desk, caller, why),
    }
    Judgement::Answered
}

/// RFC 9110 section 11.6.1: a 401 tells how a client may say who it is. Of what was wrong it says no more than that
/// (RFC 6750 section 3.1): whether there is such a user is nobody's business.
fn challenge(desk: &mut Desk<'_>, caller: Caller<'_, '_>, why: Denied) {
    let AuthPlan { token, basic, .. } = caller.auth;
    let mut challenges = Vec::new();
    if token.is_some() {
        let error = if why == Denied::Missing { "" } else { " error=\"invalid_token\"" };
        challenges.push(("WWW-Authenticate", format!("Bearer{error}")));
    }
    if let Some(realm) = basic {
        challenges.push(("WWW-Authenticate", format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")));
    }
    if challenges.is_empty() {
        challenges.push(("WWW-Authenticate", "Bearer".into()));
    }
    let fields: Vec<(&str, &str)> = challenges.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let words = if why == Denied::Missing { "say who you are" } else { "these credentials are worth nothing here" };
    desk.refuse_as(caller.who, Refused::Credentials, Status::UNAUTHORIZED, &fields, words);
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7): what some resource here allows.
pub(super) fn answer_for_all(desk: &mut Desk<'_>, who: Handle) {
    desk.begin_answer(who, Status::NO_CONTENT, &[("Allow", "GET, HEAD, OPTIONS")], None);
    desk.finish_answer(who);
}

/// What can be seen of the request itself; where it may not go on, it has been answered.
fn passes(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, route: &Route) -> bool {
    within_limits(desk, who, head)
        && knows_method(desk, who, head)
        && cors::passes(desk, who, head, &route.gate.cors)
        && match route.target.admits() {
            Admits::Anything => true,
            Admits::Opening => opens_websocket(desk, who, head),
            Admits::Reading => reads(desk, who, head),
        }
}

/// The head was read under the limits for all; the route's may be tighter.
fn within_limits(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
    let limits = &desk.limits(who).head;
    let fits = head.len <= limits.head_bytes && head.headers.len() <= limits.head_count;
    if !fits {
        desk.refuse_last(who, Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is above this route's limits");
    }
    fits
}

/// RFC 9110 section 9.1: 501 for a method that is not known at all.
fn knows_method(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
    let known = METHODS.contains(&head.method);
    if !known {
        desk.refuse(who, Status::NOT_IMPLEMENTED, &[], "this method is not known here");
    }
    known
}

fn opens_websocket(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
    let opens = upgrade::check(head).is_ok();
    if !opens {
        refuse_opening(desk, who, head);
    }
    opens
}

/// Says what is wrong with a WebSocket opening.
pub(super) fn refuse_opening(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) {
    let Err(refusal) = upgrade::check(head) else { return };
    let fields: &[(&str, &str)] = match refusal.status() {
        Status::METHOD_NOT_ALLOWED => &[("Allow", "GET")],
        Status::UPGRADE_REQUIRED => &UPGRADE_FIELDS,
        _ => &[],
    };
    desk.refuse(who, refusal.status(), fields, refusal.words());
}

fn reads(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
    let reads = matches!(head.method, "GET" | "HEAD");
    if !reads {
        desk.refuse(who, Status::METHOD_NOT_ALLOWED, &[("Allow", "GET, HEAD")], "this resource can only be read");
    }
    reads
}
