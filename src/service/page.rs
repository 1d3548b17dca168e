//! The built-in demo page: an echo console and a live count of connections.

use crate::shard::door::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;

const PAGE: &str = include_str!("page.html");

const FIELDS: [(&str, &str); 3] = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
];

/// The page, at the path `/` only.
pub fn open(desk: &mut Desk, who: Handle, head: &Head<'_, '_>) {
    match head.path {
        "/" => desk.answer(who, Status::OK, &FIELDS, PAGE.as_bytes()),
        _ => desk.refuse(who, Status::NOT_FOUND, &[], "the demo has one page, at /"),
    }
}
