//! Pages of other origins: which of their requests are served, and what their browsers are told of it (the CORS
//! protocol of the Fetch standard, section 3.2).
//!
//! A browser sends a page's WebSocket opening and its simple requests whatever the server thinks of the page. So what
//! changes something, and a WebSocket, is refused to pages that are not allowed; what only reads is served, and the
//! browser keeps it from a page that the fields of the answer do not name.

use super::CorsPlan;
use super::origin::{Leave, Origins};
use crate::mesh::Refused;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::{self, Head};
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;

/// What a request says of the page that has made it.
enum Page<'b> {
    /// It names none: no browser has sent it, or a page of the very same origin that reads.
    None,
    /// It may use the route.
    Allowed(&'b str, Leave),
    /// It may not.
    Foreign,
}

/// Whether the request may go on; where not, it has been answered. The answer to come gets the fields of CORS.
pub(super) fn passes(desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, plan: &CorsPlan) -> bool {
    let page = page(head, plan);
    let is_opening = upgrade::wanted(head);
    let is_preflight = head.method == "OPTIONS" && head.get("Access-Control-Request-Method").is_some();
    let reads = matches!(head.method, "GET" | "HEAD" | "OPTIONS") && !is_opening && !is_preflight;
    if matches!(page, Page::Foreign) && !reads {
        desk.refuse_as(who, Refused::Origin, Status::FORBIDDEN, &[], "pages of this origin may not use this route");
        return false;
    }
    if !is_opening && plan.allow_origin.is_some() {
        desk.add_fields(who, &fields(&page, plan));
    }
    match page {
        Page::Allowed(..) if is_preflight && plan.allow_origin.is_some() => answer_preflight(desk, who, plan),
        _ => return true,
    }
    false
}

fn page<'b>(head: &Head<'_, 'b>, plan: &CorsPlan) -> Page<'b> {
    let mut lines = head.all("Origin");
    let (Some(origin), None) = (lines.next(), lines.next()) else {
        return if head.get("Origin").is_none() { Page::None } else { Page::Foreign };
    };
    let Ok(origin) = str::from_utf8(origin) else { return Page::Foreign };
    let leave = match &plan.allow_origin {
        Some(origins) => origins.leave(origin, head.host),
        None => Origins::same_host().leave(origin, head.host),
    };
    leave.map_or(Page::Foreign, |leave| Page::Allowed(origin, leave))
}

/// Fields of an answer, as bytes of a head. What depends on the origin says so, also to those who name none.
fn fields(page: &Page<'_>, plan: &CorsPlan) -> Vec<u8> {
    let mut fields = Vec::new();
    http1::push_field(&mut fields, "Vary", "Origin");
    if let Page::Allowed(origin, leave) = page {
        http1::push_field(&mut fields, "Access-Control-Allow-Origin", origin);
        if !plan.expose.is_empty() {
            http1::push_field(&mut fields, "Access-Control-Expose-Headers", &plan.expose);
        }
        if plan.credentials && *leave == Leave::Named {
            http1::push_field(&mut fields, "Access-Control-Allow-Credentials", "true");
        }
    }
    fields
}

fn answer_preflight(desk: &mut Desk<'_>, who: Handle, plan: &CorsPlan) {
    let max_age = plan.max_age.to_string();
    let fields = [
        ("Access-Control-Allow-Methods", &*plan.methods),
        ("Access-Control-Allow-Headers", &*plan.headers),
        ("Access-Control-Max-Age", &*max_age),
    ];
    desk.begin_answer(who, Status::NO_CONTENT, &fields, None);
    desk.finish_answer(who);
}
