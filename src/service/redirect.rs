//! Listeners of clear text that send pages to `https`.

use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;

/// The port of `https`, which a URL does not name.
const HTTPS: u16 = 443;

/// By listener: the port that its clients are sent to; `None`: it serves them itself.
pub(super) struct Redirects(pub(super) Vec<Option<u16>>);

impl Redirects {
    /// Answers a request to such a listener; `false`: it is another's. No client follows a redirect of a WebSocket
    /// opening, so that is refused.
    pub(super) fn answers(&self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> bool {
        let Some(Some(port)) = self.0.get(desk.listener(who)) else { return false };
        if upgrade::wanted(head) {
            desk.refuse(who, Status::FORBIDDEN, &[], "this listener sends clients to https: open the WebSocket by wss");
        } else if let Some(location) = location(head, *port) {
            desk.answer(who, Status::PERMANENT_REDIRECT, &[("Location", &location)], b"");
        } else {
            desk.refuse(
                who,
                Status::BAD_REQUEST,
                &[],
                "this listener sends clients to https: the request names no host",
            );
        }
        true
    }
}

/// The same address under `https`; `None` where the request has no host.
fn location(head: &Head<'_, '_>, port: u16) -> Option<String> {
    let authority = head.host.filter(|host| !host.is_empty())?;
    let host = super::routes::without_port(authority);
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    Some(format!("https://{host}{port}{}", head.target))
}
