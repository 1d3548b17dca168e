//! The verdict on a request head before any service sees it: method, opening, the route's own limits.

mod origin;
mod plan;

pub use origin::Origins;
pub use plan::{AuthPlan, CertificateName, CertificatePlan, CorsPlan, ForwardPlan, GatePlan, TokenPlan};

use super::Admits;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;

/// RFC 9110 section 15.5.22 and RFC 6455 section 4.4: what a 426 must tell.
const UPGRADE_FIELDS: [(&str, &str); 3] =
    [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")];

/// RFC 9110 section 9.3, and PATCH (RFC 5789): methods that are known, though no service here may allow them.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7): what some resource here allows.
pub fn answer_for_all(desk: &mut Desk<'_>, who: Handle) {
    desk.begin_answer(who, Status::NO_CONTENT, &[("Allow", "GET, HEAD, OPTIONS")], None);
    desk.finish_answer(who);
}

/// Whether the request may go on; where not, it has been refused.
pub fn passes(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, admits: Admits) -> bool {
    within_limits(desk, who, head)
        && knows_method(desk, who, head)
        && match admits {
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
