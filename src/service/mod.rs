//! What the edge does for a client: routing, the gate, and one file per service.
//!
//! A request head goes to the route that matches it best, through the gate, to its service; from then on the
//! connection's `ServiceKind` leads straight to it. Read `echo.rs` first.

pub mod broadcast;
pub mod echo;
mod fanout;
pub mod files;
mod gate;
mod health;
pub mod page;
pub mod proxy;
mod routes;

use crate::mesh::{Cause, ServiceKind, ToShard};
use crate::shard::door::{Batch, Desk, Frame, Service};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
pub use routes::Routes;
use std::sync::Arc;

/// One `[[route]]`, as a shard needs it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Exact, or everything below it.
    pub path: String,
    /// Everything below it.
    pub below: bool,
    /// Only for this host, without port, in lower case; with `*.` in front for all names below it.
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
    Echo(echo::EchoPlan),
    /// Messages go to a back end.
    Proxy(Arc<proxy::ProxyPlan>),
    /// Files below a folder.
    Files(files::FilesPlan),
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
    routes: Arc<Routes>,
    proxy: proxy::Proxy,
    files: files::Files,
    broadcast: broadcast::Broadcast,
    health: health::Paths,
}

impl Services {
    /// The routes, `upstreams` by their numbers, and what broadcast routes need.
    pub fn new(routes: Arc<Routes>, upstreams: impl Into<proxy::Places>, broadcast: broadcast::Broadcast) -> Services {
        let (files, health) = (files::Files::default(), health::Paths::default());
        Services { routes, proxy: proxy::Proxy::new(upstreams.into()), files, broadcast, health }
    }

    /// With room for so many requests for files that wait.
    pub fn with_files(self, queue: usize) -> Services {
        Services { files: files::Files::new(queue), ..self }
    }

    /// With the paths at which listeners, by their numbers, tell balancers how they are.
    pub fn with_health(self, paths: Vec<Option<String>>) -> Services {
        Services { health: health::Paths(paths), ..self }
    }
}

/// Only one service asks for what it is called for here. A token of another's would name another client, so that costs
/// the connection (`Shard::guarded`), in every build.
fn is_of(desk: &Desk, who: Handle, kind: ServiceKind) {
    assert_eq!(desk.kind(who), kind, "the service of this connection has not asked for this");
}

impl Service for Services {
    fn open(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>) {
        if self.health.answers(desk, who, head) {
            return;
        }
        let routes = self.routes.clone();
        // What no route answers is none of the service's that the request before went to.
        desk.route(who, ServiceKind::None, 0);
        if head.path == "*" {
            return gate::answer_for_all(desk, who);
        }
        let Some(route) = routes.find(head.host.unwrap_or(""), head.path) else {
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
        is_of(desk, who, ServiceKind::Proxy);
        self.proxy.dialed(desk, who, token);
    }

    fn writable(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        match desk.kind(who) {
            ServiceKind::Echo | ServiceKind::Broadcast => desk.resume(who),
            ServiceKind::Proxy => self.proxy.writable(desk, who, token),
            ServiceKind::Files => self.files.writable(desk, who, token),
            ServiceKind::Page | ServiceKind::None => {}
        }
    }

    fn closed(&mut self, desk: &mut Desk, who: Handle, token: u32, cause: Cause) {
        match desk.kind(who) {
            ServiceKind::Proxy => self.proxy.closed(desk, who, token, cause),
            ServiceKind::Files => self.files.closed(desk, token),
            ServiceKind::Broadcast => self.broadcast.closed(desk, token),
            ServiceKind::Echo | ServiceKind::Page | ServiceKind::None => {}
        }
    }

    fn letter(&mut self, desk: &mut Desk, letter: ToShard) {
        match letter {
            ToShard::Addresses { upstream, addresses } => self.proxy.moved(upstream, addresses),
            ToShard::File(answer) => self.files.answered(desk, *answer),
            ToShard::Publish(messages) => self.broadcast.publish(desk, &messages),
            ToShard::SubscriberCounts(ask) => self.broadcast.count_subscribers(desk, &ask),
            ToShard::Missed(missed) => self.broadcast.missed(desk, &missed),
            ToShard::Report | ToShard::Drain | ToShard::Leave => {}
        }
    }

    fn more(&mut self, desk: &mut Desk, who: Handle, token: u32, batch: &mut Batch) {
        is_of(desk, who, ServiceKind::Broadcast);
        self.broadcast.more(desk, token, batch);
    }

    fn quiet(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        is_of(desk, who, ServiceKind::Broadcast);
        self.broadcast.quiet(desk, token);
    }

    fn turn(&mut self, desk: &mut Desk, budget: u32) -> u32 {
        self.files.turn(desk) + self.broadcast.turn(desk, budget)
    }

    fn drain(&mut self, desk: &mut Desk, who: Handle, token: u32) {
        if desk.kind(who) == ServiceKind::Broadcast {
            return self.broadcast.drain(desk, who, token);
        }
        desk.close(who, edgehold_wire::ws::CloseCode::GOING_AWAY, "the server is stopping");
    }
}
