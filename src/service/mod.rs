//! What the edge does for a client: routing, the gate, and one file per service.
//!
//! A request head goes to the route that matches it best, through the gate, to its service; from then on the
//! connection's `ServiceKind` leads straight to it. Read `echo.rs` first.

pub mod broadcast;
pub mod echo;
pub mod files;
mod gate;
pub mod page;
pub mod proxy;

use crate::mesh::{Cause, ServiceKind, ToShard};
use crate::shard::door::{Batch, Desk, Frame, Service};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use std::sync::Arc;

/// One `[[route]]`, as a shard needs it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Exact, or everything below it.
    pub path: String,
    /// Everything below it.
    pub below: bool,
    /// Only for this host, without port, in lower case.
    pub host: Option<String>,
    /// Number of the limits that hold here.
    pub limits: u16,
    /// What serves it.
    pub target: Target,
}

/// A route's service and its settings.
#[derive(Clone, Debug)]
pub enum Target {
    /// Messages come back.
    Echo(echo::Settings),
    /// Messages go to a back end.
    Proxy(Arc<proxy::Settings>),
    /// Files below a folder.
    Files(files::Settings),
    /// What feeds say: by the number of its settings.
    Broadcast(u16),
    /// The built-in demo page.
    Page,
}

impl Target {
    fn kind(&self) -> ServiceKind {
        match self {
            Target::Echo(_) => ServiceKind::Echo,
            Target::Proxy(_) => ServiceKind::Proxy,
            Target::Files(_) => ServiceKind::Files,
            Target::Broadcast(_) => ServiceKind::Broadcast,
            Target::Page => ServiceKind::Page,
        }
    }
}

/// All services of a shard.
pub struct Services {
    routes: Arc<[Route]>,
    proxy: proxy::Proxy,
    files: files::Files,
    broadcast: broadcast::Broadcast,
}

impl Services {
    /// `routes` in the order of the configuration, `upstreams` by their numbers, and what broadcast routes need.
    pub fn new(routes: Arc<[Route]>, upstreams: impl Into<proxy::Places>, broadcast: broadcast::Broadcast) -> Services {
        Services { routes, proxy: proxy::Proxy::new(upstreams.into()), files: files::Files::default(), broadcast }
    }
}

/// The route that matches best: one for this host before one for all, an exact path before what lies below,
/// a longer path before a shorter.
fn find<'r>(routes: &'r [Route], host: &str, path: &str) -> Option<&'r Route> {
    let fits = |route: &&Route| route.is_for(host) && route.covers(path);
    routes.iter().filter(fits).max_by_key(|route| (route.host.is_some(), route.path.len()))
}

impl Route {
    fn is_for(&self, host: &str) -> bool {
        self.host.as_deref().is_none_or(|it| it.eq_ignore_ascii_case(host))
    }

    fn covers(&self, path: &str) -> bool {
        self.path == path || self.below && path.starts_with(&self.path)
    }
}

/// The host of an authority, without its port.
fn without_port(authority: &str) -> &str {
    let colon = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
    &authority[..colon.unwrap_or(authority.len())]
}

impl Service for Services {
    fn open(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>) {
        let routes = self.routes.clone();
        let host = without_port(head.host.unwrap_or(""));
        let Some(route) = find(&routes, host, head.path) else {
            return desk.refuse(who, Status::NOT_FOUND, &[], "no route of this server has this path");
        };
        desk.route(who, route.target.kind(), route.limits);
        if !gate::passes(desk, who, head) {
            return;
        }
        match &route.target {
            Target::Echo(settings) => echo::open(desk, who, head, settings),
            Target::Proxy(settings) => self.proxy.open(desk, who, head, settings, route.limits),
            Target::Files(settings) => self.files.open(desk, who, head, settings, &route.path),
            Target::Broadcast(number) => self.broadcast.open(desk, who, head, *number, &route.path),
            Target::Page => page::open(desk, who, head),
        }
    }

    fn frame(&mut self, desk: &mut Desk, who: Handle, token: u32, frame: Frame<'_>) {
        match desk.kind(who) {
            ServiceKind::Echo => echo::frame(desk, who, frame),
            ServiceKind::Proxy => self.proxy.frame(desk, who, token, frame),
            ServiceKind::Broadcast => self.broadcast.frame(desk, who, token, frame),
            ServiceKind::Files | ServiceKind::Page | ServiceKind::None => {}
        }
    }

    fn dialed(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        self.proxy.dialed(desk, who, token);
    }

    fn drained(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        match desk.kind(who) {
            ServiceKind::Echo | ServiceKind::Broadcast => desk.resume(who),
            ServiceKind::Proxy => self.proxy.drained(desk, who, token),
            ServiceKind::Files => self.files.drained(desk, who, token),
            ServiceKind::Page | ServiceKind::None => {}
        }
    }

    fn closed(&mut self, desk: &mut Desk, who: Handle, token: u32, cause: Cause) {
        match desk.kind(who) {
            ServiceKind::Proxy => self.proxy.closed(desk, who, token, cause),
            ServiceKind::Files => self.files.closed(token),
            ServiceKind::Broadcast => self.broadcast.closed(desk, token),
            ServiceKind::Echo | ServiceKind::Page | ServiceKind::None => {}
        }
    }

    fn letter(&mut self, desk: &mut Desk, letter: ToShard) {
        match letter {
            ToShard::Addresses { upstream, addresses } => self.proxy.moved(upstream, addresses),
            ToShard::File(answer) => self.files.answered(desk, answer),
            ToShard::Publish(messages) => self.broadcast.publish(desk, &messages),
            ToShard::Missed(missed) => self.broadcast.missed(desk, &missed),
            ToShard::Listeners { question, channel } => {
                self.broadcast.count_listeners(desk, question, channel.as_deref());
            }
            ToShard::Report | ToShard::Quiesce | ToShard::Leave => {}
        }
    }

    fn more(&mut self, desk: &mut Desk, who: Handle, token: u32, batch: &mut Batch) {
        debug_assert_eq!(desk.kind(who), ServiceKind::Broadcast);
        self.broadcast.more(desk, token, batch);
    }

    fn quiet(&mut self, desk: &mut Desk, _who: Handle, token: u32) {
        self.broadcast.quiet(desk, token);
    }

    fn turn(&mut self, desk: &mut Desk, budget: u32) -> u32 {
        self.broadcast.turn(desk, budget)
    }

    fn quiesce(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        if desk.kind(who) == ServiceKind::Broadcast {
            return self.broadcast.quiesce(desk, who, token);
        }
        desk.close(who, edgehold_wire::ws::CloseCode::GOING_AWAY, "the server is stopping");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: Option<&str>, path: &str) -> Route {
        Route {
            path: path.into(),
            below: path.ends_with('/'),
            host: host.map(Into::into),
            limits: 0,
            target: Target::Page,
        }
    }

    fn found(routes: &[Route], host: &str, path: &str) -> Option<usize> {
        find(routes, host, path).and_then(|found| routes.iter().position(|it| std::ptr::eq(it, found)))
    }

    #[test]
    fn host_goes_before_path_exact_before_below_longer_before_shorter() {
        let routes = [
            route(None, "/"),
            route(None, "/a"),
            route(None, "/a/"),
            route(Some("edge.example"), "/"),
            route(None, "/a/b"),
        ];
        assert_eq!(found(&routes, "x", "/"), Some(0));
        assert_eq!(found(&routes, "x", "/a"), Some(1));
        assert_eq!(found(&routes, "x", "/a/"), Some(2));
        assert_eq!(found(&routes, "x", "/a/b"), Some(4));
        assert_eq!(found(&routes, "x", "/a/c"), Some(2));
        assert_eq!(found(&routes, "EDGE.example", "/a"), Some(3));
        assert_eq!(found(&routes[1..], "x", "/elsewhere"), None);
    }

    #[test]
    fn a_port_is_no_part_of_the_host() {
        let hosts = ["h:80", "h", "[::1]:80", "[::1]"].map(without_port);
        assert_eq!(hosts, ["h", "h", "[::1]", "[::1]"]);
    }
}
