//! Requests of pages of other origins: the CORS protocol of the Fetch standard.

use super::settings::BroadcastPlan;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;

/// Fields of a response that depend on the origin of the request.
pub type Fields = Vec<(&'static str, String)>;

/// The fields that let a page of the request's origin read the response, if the route allows it.
pub fn fields(head: &Head<'_, '_>, plan: &BroadcastPlan) -> Fields {
    let mut fields = Fields::new();
    if plan.allow_origin.is_empty() {
        return fields;
    }
    fields.push(("Vary", "Origin".into()));
    let Some(origin) = head.get("Origin").and_then(|it| str::from_utf8(it).ok()) else { return fields };
    let named = plan.allow_origin.iter().any(|it| it.eq_ignore_ascii_case(origin));
    if named || plan.allow_origin.iter().any(|it| it == "*") {
        fields.push(("Access-Control-Allow-Origin", origin.into()));
        fields.push(("Access-Control-Expose-Headers", "Last-Event-ID, Edgehold-Gap".into()));
        if named && plan.allow_credentials {
            fields.push(("Access-Control-Allow-Credentials", "true".into()));
        }
    }
    fields
}

/// Answers OPTIONS, a preflight or not. `cors`: the fields for the request's origin.
pub fn answer_preflight(desk: &mut Desk<'_>, who: Handle, cors: &[(&'static str, &str)]) {
    let own = [
        ("Allow", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
        ("Access-Control-Allow-Headers", "Last-Event-ID, Cache-Control"),
        ("Access-Control-Max-Age", "600"),
    ];
    desk.begin_answer(who, Status::NO_CONTENT, &[cors, &own].concat(), None);
    desk.finish_answer(who);
}
