//! What the edge does for a client: routing, the gate, and one file or folder per service.
//!
//! A request head goes to the route that matches it best, through the gate, to its service; from then on the
//! connection's `ServiceKind` leads straight to it. Read `echo.rs` first; the list of services is
//! src/mesh/services.rs.

pub mod broadcast;
pub mod echo;
mod fanout;
pub mod files;
pub mod gate;
mod health;
pub mod mqtt;
pub mod offload;
pub mod page;
pub mod proxy;
mod redirect;
mod routes;
pub mod stomp;
pub mod upstreams;

use crate::mesh::{Denied, ServiceKind, ToShard};
use crate::shard::service::{Desk, Event, FileEvent, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;
pub use routes::Routes;
use std::sync::Arc;

/// What an edge does for the clients of a route.
///
/// A service keeps what it must remember of a connection in a slab of its own, behind the token that it gave to
/// [`Desk::take`].
pub trait Service {
    /// What a route says for this service.
    type Plan;

    /// What is said for the service itself, whatever the route; `()` where that is nothing.
    type Settings;

    /// What a request must be before the service sees it.
    const ADMITS: Admits;

    /// The service of one shard, with its first settings.
    fn new(settings: &Self::Settings) -> Self;

    /// These settings are in force from now on; routes and their plans may have changed, too. What goes by a number
    /// that they do not have any more goes on as before ([`Numbered`](crate::mesh::Numbered)).
    fn exchange(&mut self, _desk: &mut Desk<'_>, _settings: &Self::Settings) {}

    /// How many things are held that its present settings do not have; connections are counted elsewhere.
    fn held(&self) -> usize {
        0
    }

    /// A request has come for one of its routes: see [`Services::request`](crate::shard::service::Services::request).
    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &Self::Plan) -> Verdict;

    /// The first bytes have come of a client for one of its routes, at a listener without HTTP: see
    /// [`Services::begin`](crate::shard::service::Services::begin). `limits`: the number of the route's.
    fn begin(&mut self, _desk: &mut Desk<'_>, _who: Handle, _plan: &Self::Plan, _limits: u16) {}

    /// Something has happened to one of its connections.
    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>);

    /// A letter; it comes back if it is for another service.
    fn letter(&mut self, _desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        Some(letter)
    }

    /// Once a turn: what is begun and not finished, at most `budget` steps of it. How many steps were done.
    fn poll(&mut self, _desk: &mut Desk<'_>, _budget: u32) -> u32 {
        0
    }
}

/// What a request must be before a service sees it; the gate refuses what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// The opening of a WebSocket (RFC 6455 section 4.1).
    Opening,
    /// GET or HEAD.
    Reading,
    /// Anything: the service judges by itself.
    Anything,
}

/// A request as a service sees it.
pub struct Request<'h, 'b> {
    /// Its connection.
    pub who: Handle,
    /// Its head.
    pub head: &'h Head<'h, 'b>,
    /// The path of its route.
    pub path: &'h str,
    /// The number of its route's limits.
    pub limits: u16,
    /// What a subprotocol begins with that is the client's token.
    pub token_prefix: Option<&'h str>,
}

impl Request<'_, '_> {
    /// The subprotocol to be agreed on: the first that the client offers and that is supported. A browser that had to
    /// say its token as a subprotocol fails if it is answered with none: where none is supported it is agreed to the
    /// first other that it offers, or to the token itself.
    pub fn protocol<'r>(&'r self, supported: &'r [String]) -> Option<&'r str> {
        upgrade::choose(self.head, supported).or_else(|| {
            let prefix = self.token_prefix?;
            let offers = || self.head.list("Sec-WebSocket-Protocol");
            let token = offers().find(|offer| offer.starts_with(prefix))?;
            offers().find(|offer| !offer.starts_with(prefix)).or(Some(token))
        })
    }
}

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
    /// Who may come in.
    pub gate: Arc<gate::GatePlan>,
    /// What serves it.
    pub target: Target,
}

/// What the list of services (src/mesh/services.rs) becomes: a field for each, a plan for each, and the dispatch.
macro_rules! dispatch {
    ($($name:ident $module:ident $word:literal $about:literal,)*) => {
        /// A route's service, with what the route says for it.
        #[derive(Clone, Debug)]
        pub enum Target {
            $(#[doc = $about] $name(<$module::$name as Service>::Plan),)*
        }

        impl Target {
            fn kind(&self) -> ServiceKind {
                match self { $(Target::$name(_) => ServiceKind::$name,)* }
            }

            fn admits(&self) -> Admits {
                match self { $(Target::$name(_) => $module::$name::ADMITS,)* }
            }
        }

        /// What the services of a shard are told of the configuration; the same for all shards.
        #[derive(Clone, Default)]
        pub struct Settings {
            /// Where requests go.
            pub routes: Arc<Routes>,
            /// The paths at which listeners, by their numbers, tell balancers how they are.
            pub health: Vec<Option<String>>,
            /// The ports of `https` to which listeners, by their numbers, send all pages.
            pub redirects: Vec<Option<u16>>,
            /// The routes of listeners without HTTP, by their numbers: host and path.
            pub bare: Vec<Option<(Option<String>, String)>>,
            /// Who may come in, whatever the route.
            pub gate: gate::GateSettings,
            $(#[doc = $about] pub $module: <$module::$name as Service>::Settings,)*
        }

        /// All services of a shard.
        pub struct Services {
            routes: Arc<Routes>,
            health: health::Paths,
            redirects: redirect::Redirects,
            bare: Vec<Option<(Option<String>, String)>>,
            gate: gate::Gate,
            $($module: $module::$name,)*
        }

        impl Services {
            /// With their first settings.
            pub fn new(settings: &Settings) -> Services {
                let (routes, health) = (settings.routes.clone(), health::Paths(settings.health.clone()));
                let redirects = redirect::Redirects(settings.redirects.clone());
                let gate = gate::Gate::new(&settings.gate);
                let bare = settings.bare.clone();
                Services { routes, health, redirects, bare, gate, $($module: $module::$name::new(&settings.$module),)* }
            }

            fn take_settings(&mut self, desk: &mut Desk<'_>, settings: &Settings) {
                (self.routes, self.health.0) = (settings.routes.clone(), settings.health.clone());
                self.redirects.0.clone_from(&settings.redirects);
                self.bare.clone_from(&settings.bare);
                self.gate.exchange(&settings.gate);
                $(self.$module.exchange(desk, &settings.$module);)*
            }

            fn held_by_services(&self) -> usize {
                [$(self.$module.held(),)*].iter().sum()
            }

            fn serve(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, target: &Target) -> Verdict {
                match target { $(Target::$name(plan) => self.$module.request(desk, request, plan),)* }
            }

            fn serve_bare(&mut self, desk: &mut Desk<'_>, who: Handle, route: &Route) {
                match &route.target { $(Target::$name(plan) => self.$module.begin(desk, who, plan, route.limits),)* }
            }

            fn tell(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
                match desk.kind(who) {
                    $(ServiceKind::$name => self.$module.event(desk, who, token, event),)*
                    // Who is of no service waits at the gate.
                    ServiceKind::None => if let Event::Closed(_) = event { self.gate.closed(token) },
                }
            }

            /// To the first service that it is for.
            fn deliver(&mut self, desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
                $(let letter = self.$module.letter(desk, letter)?;)*
                Some(letter)
            }

            fn go_on(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
                let mut done = 0;
                $(done += self.$module.poll(desk, budget - budget.min(done));)*
                done
            }
        }
    };
}

crate::mesh::services!(dispatch);

impl Services {
    /// What feeds have published goes to broadcast as a letter of its own, and is shown here to those who have feeds of
    /// brokers; and where upstreams are, which goes to the proxy.
    fn note_published(&mut self, desk: &mut Desk<'_>, letter: &ToShard) {
        match letter {
            ToShard::Publish(messages) => {
                self.stomp.publish(desk, messages);
                self.mqtt.publish(desk, messages);
            }
            ToShard::Missed(missed) => {
                self.stomp.missed(desk, missed);
                self.mqtt.missed(desk, missed);
            }
            ToShard::Addresses { upstream, addresses } => {
                self.stomp.moved(*upstream, addresses);
                self.mqtt.moved(*upstream, addresses);
            }
            _ => {}
        }
    }

    fn tell_authenticated(&mut self, desk: &mut Desk<'_>, who: Handle, taken: Result<(), Denied>) {
        if let Some(token) = desk.token(who) {
            self.tell(desk, who, token, Event::Authenticated(taken));
        }
    }
}

impl crate::shard::service::Services for Services {
    type Settings = Settings;

    fn exchange(&mut self, desk: &mut Desk<'_>, settings: &Settings) {
        self.take_settings(desk, settings);
    }

    fn held(&self) -> usize {
        self.held_by_services()
    }

    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> Verdict {
        if self.health.answers(desk, who, head) || self.redirects.answers(desk, who, head) {
            return Verdict::Served;
        }
        let routes = self.routes.clone();
        // What no route answers is none of the service's that the request before went to.
        desk.route(who, ServiceKind::None, 0);
        if head.path == "*" {
            gate::answer_for_all(desk, who);
            return Verdict::Served;
        }
        let Some(route) = routes.find(head.host.unwrap_or(""), head.path) else {
            desk.refuse(who, Status::NOT_FOUND, &[], "no route of this server has this path");
            return Verdict::Served;
        };
        desk.route(who, route.target.kind(), route.limits);
        match self.gate.judge(desk, who, head, route) {
            gate::Judgement::Passed => {}
            gate::Judgement::Answered => return Verdict::Served,
            gate::Judgement::Waits(token) => return Verdict::Wait(token),
        }
        let is_late = route.gate.auth.as_ref().is_some_and(|auth| auth.late);
        if !is_late || desk.identity(who).is_some() {
            desk.authenticated(who);
        }
        if !desk.admit_to_route(who) {
            return Verdict::Served;
        }
        let token_prefix = route.gate.token_prefix();
        let request = Request { who, head, path: &route.path, limits: route.limits, token_prefix };
        self.serve(desk, &request, &route.target)
    }

    fn begin(&mut self, desk: &mut Desk<'_>, who: Handle) {
        let routes = self.routes.clone();
        let Some(Some((host, path))) = self.bare.get(desk.listener(who)) else { return };
        let Some(route) = routes.find(host.as_deref().unwrap_or(""), path) else { return };
        desk.route(who, route.target.kind(), route.limits);
        gate::meet(desk, who, route);
        if desk.admit_to_route(who) {
            self.serve_bare(desk, who, route);
        }
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        self.tell(desk, who, token, event);
        while let Some(shown) = desk.take_presented() {
            let (routes, who) = (self.routes.clone(), shown.0);
            if let Some(taken) = self.gate.presented(desk, shown, &routes) {
                self.tell_authenticated(desk, who, taken);
            }
        }
    }

    fn file(&mut self, desk: &mut Desk<'_>, token: u32, event: FileEvent) {
        self.files.progress(desk, token, event);
    }

    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard) {
        if let ToShard::Answer(answer) = letter {
            let routes = self.routes.clone();
            let told = self.gate.answered(desk, *answer, &routes);
            return told.into_iter().for_each(|(who, taken)| self.tell_authenticated(desk, who, taken));
        }
        self.note_published(desk, &letter);
        let unread = self.deliver(desk, letter);
        debug_assert!(unread.is_none(), "a letter for nobody: {unread:?}");
    }

    fn poll(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        self.gate.gauge(desk);
        self.go_on(desk, budget)
    }
}
