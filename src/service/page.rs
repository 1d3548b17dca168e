//! The built-in demo page: an echo console and a live count of connections.

use super::{Admits, Request, Service};
use crate::shard::service::{Desk, Event, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::status::Status;

const PAGE: &str = include_str!("page.html");

const FIELDS: [(&str, &str); 3] = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
];

/// The page service: it answers at once and remembers nothing.
pub struct Page;

impl Service for Page {
    type Plan = ();
    type Settings = ();

    const ADMITS: Admits = Admits::Reading;

    fn new((): &()) -> Page {
        Page
    }

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, _plan: &()) -> Verdict {
        match request.head.path {
            "/" => desk.answer(request.who, Status::OK, &FIELDS, PAGE.as_bytes()),
            _ => desk.refuse(request.who, Status::NOT_FOUND, &[], "the demo has one page, at /"),
        }
        Verdict::Served
    }

    fn event(&mut self, _desk: &mut Desk<'_>, _who: Handle, _token: u32, _event: Event<'_>) {}
}
