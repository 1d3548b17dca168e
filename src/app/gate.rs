//! Who may come in by a route, from what was written to what shards and the control thread work with.

use super::config::{self, AuthSettings};
use super::generation::Generation;
use crate::control::auth;
use crate::mesh::Identity;
use crate::service::gate::{
    AuthPlan, CertificateName, CertificatePlan, CorsPlan, ForwardPlan, GatePlan, Origins, TokenPlan,
};

/// The gate of a route.
pub(super) fn plan(route: &config::Route) -> GatePlan {
    let late = matches!(route.service, config::Service::Stomp(_) | config::Service::Mqtt(_));
    let auth = route.auth.as_deref().map(|written| AuthPlan { late, ..auth_plan(written) });
    GatePlan { cors: cors(route), auth, roles: boxed(&route.roles) }
}

/// Whom the control thread asks, by the numbers of limits: that of a route is one more than the route's own.
pub(super) fn auth_by_number(generation: &Generation) -> Vec<Option<AuthSettings>> {
    let routes = generation.by_route(|route| route.auth.as_deref().cloned());
    std::iter::once(None).chain(routes.into_iter().map(Option::flatten)).collect()
}

fn auth_plan(written: &AuthSettings) -> AuthPlan {
    AuthPlan {
        late: false,
        certificate: written.client_certificate.as_ref().map(certificate_plan),
        token: written.jwt.as_ref().map(token_plan),
        basic: written.basic.as_ref().map(|it| it.realm.as_str().into()),
        forward: written.forward.as_ref().map(forward_plan),
        broker: written.broker.is_some(),
    }
}

fn certificate_plan(written: &auth::CertificateSettings) -> CertificatePlan {
    let name = match written.name {
        auth::CertificateName::Subject => CertificateName::Subject,
        auth::CertificateName::CommonName => CertificateName::CommonName,
        auth::CertificateName::Dns => CertificateName::Dns,
        auth::CertificateName::Email => CertificateName::Email,
        auth::CertificateName::Uri => CertificateName::Uri,
    };
    CertificatePlan { name, roles: boxed(&written.roles) }
}

fn token_plan(written: &auth::JwtSettings) -> TokenPlan {
    let places = &written.from;
    TokenPlan {
        header: places.header,
        cookie: places.cookie.as_deref().map(Box::from),
        query: places.query.as_deref().map(Box::from),
        subprotocol: places.subprotocol.as_deref().map(Box::from),
        token_bytes: written.token_bytes,
    }
}

/// Whoever could not be asked about is let in under this name, where the route says so.
const UNKNOWN: &str = "unknown";

fn forward_plan(written: &auth::ForwardSettings) -> ForwardPlan {
    let unknown = || Identity { name: UNKNOWN.into(), roles: [].into(), claims: [].into(), expires: None };
    ForwardPlan { fields: boxed(&written.fields), keys: boxed(&written.keys), open: written.open.then(unknown) }
}

fn boxed(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|it| it.as_str().into()).collect()
}

fn cors(route: &config::Route) -> CorsPlan {
    let written = &route.cors;
    CorsPlan {
        allow_origin: written.allow_origin.as_ref().map(|it| Origins::of(it.iter().map(String::as_str))),
        credentials: written.credentials,
        methods: listed(&written.methods, "GET, HEAD, OPTIONS"),
        headers: listed(&written.headers, "Last-Event-ID, Cache-Control, Authorization"),
        expose: listed(&written.expose, "Last-Event-ID, Edgehold-Gap"),
        max_age: u32::try_from(written.max_age.as_secs()).unwrap_or(u32::MAX),
    }
}

/// The list of a field; `usual` where nothing is written.
fn listed(words: &[String], usual: &str) -> Box<str> {
    if words.is_empty() { usual.into() } else { words.join(", ").into() }
}
