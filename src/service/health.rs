//! Health for a balancer that does not reach the admin address: a path of a listener, answered by the shard itself.

use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;

/// The path of each listener that has one, by its number.
pub(super) struct Paths(pub(super) Vec<Option<String>>);

impl Paths {
    /// Answers a request for the listener's path: 200, or 503 while the server is stopping. `false`: it is for another.
    pub(super) fn answers(&self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
        let path = self.0.get(desk.listener(who)).and_then(Option::as_deref);
        if path != Some(head.path) {
            return false;
        }
        if !matches!(head.method, "GET" | "HEAD") {
            desk.refuse(who, Status::METHOD_NOT_ALLOWED, &[("Allow", "GET, HEAD")], "GET or HEAD it");
        } else if desk.is_draining() {
            desk.refuse(who, Status::SERVICE_UNAVAILABLE, &[], "the server is stopping");
        } else {
            let fields = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")];
            desk.answer(who, Status::OK, &fields, b"ready\n");
        }
        true
    }
}
