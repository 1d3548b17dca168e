//! Listeners: against each other, and against the admin address; `tls` checks what they say of TLS.

use super::super::draft::Section;
use super::super::keys::{AddressesDraft, LISTENER, ListenerDraft, RouteDraft};
use super::super::model::{Address, ClientAddresses, Listener, Protocol};
use super::super::report::Report;
use super::addresses::check_addresses;
use super::admission::of_listener;
use super::rules::{collide, require, twice};
use super::tls::{check_tls, settings};
use std::net::SocketAddr;
use std::path::Path;

pub(super) fn check_listeners(listeners: &[Section<ListenerDraft>], report: &mut Report<'_>) {
    for section in listeners {
        require(&LISTENER, section, None, report);
        check_redirect(section, report);
        check_protocol(section, report);
        check_tls(section, report);
        check_addresses(section, report);
    }
    twice(listeners, "name", |l| l.name.clone(), report);
    twice(listeners, "address", |l| l.address.clone().filter(is_fixed), report);
    for section in listeners {
        check_kind(section, report);
    }
}

/// Keys that an address of the other kind would never read.
fn check_kind(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    let (key, kind) = match &section.value.address {
        Some(Address::Tcp(_)) => ("mode", "a Unix socket"),
        Some(Address::Unix(_)) => ("reuse_port", "a TCP address"),
        None => return,
    };
    if section.gives(key) {
        report.note_key(section, key, format!("belongs to {kind}, which `address` is not — leave it out"));
    }
}

/// Whoever came by `https` would be sent round in a circle.
fn check_redirect(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    if section.value.redirect_https && section.gives("tls") {
        let words = "is for a listener of plain HTTP, and this one has `tls` — leave it out";
        report.note_key(section, "redirect_https", words.into());
    }
}

/// What HTTP has and others have not.
fn check_protocol(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    if section.value.protocol == Protocol::Http {
        if section.gives("route") {
            let words = "is for a listener whose `protocol` is not HTTP — leave it out, or write `protocol`";
            report.note_key(section, "route", words.into());
        }
        return;
    }
    for key in ["health", "redirect_https", "trusted_proxies", "forwarded_field"] {
        if section.gives(key) {
            let words = "is for HTTP, which `protocol` is not — leave it out";
            report.note_key(section, key, words.into());
        }
    }
}

/// A listener without HTTP needs a route whose service speaks its protocol.
pub(super) fn check_bare(
    listeners: &mut [Section<ListenerDraft>],
    routes: &[Section<RouteDraft>],
    report: &mut Report<'_>,
) {
    for section in listeners.iter_mut().filter(|it| it.value.protocol != Protocol::Http) {
        let service = if section.value.protocol == Protocol::Mqtt { "mqtt" } else { "stomp" };
        let fits = |it: &&Section<RouteDraft>| it.service() == Some(service);
        let paths: Vec<&String> = routes.iter().filter(fits).filter_map(|it| it.value.path.as_ref()).collect();
        match (&section.value.route, &paths[..]) {
            (Some(path), paths) if paths.iter().filter(|it| **it == path).count() == 1 => {}
            (Some(path), paths) if paths.contains(&path) => {
                let words = format!("is the path of several routes with service {service} — give them other paths");
                report.note_key(section, "route", words);
            }
            (None, [only]) => section.value.route = Some((*only).clone()),
            (Some(_), _) => {
                let words = format!("is the path of no route with service {service} — write one that is");
                report.note_key(section, "route", words);
            }
            (None, []) => {
                let words = format!("needs a route with service {service}, and there is none — write one");
                report.note_key(section, "protocol", words);
            }
            (None, _) => {
                let words = format!("stands beside several routes with service {service} — write which one: `route`");
                report.note_key(section, "protocol", words);
            }
        }
    }
}

/// Port 0 is another port each time.
fn is_fixed(address: &Address) -> bool {
    !matches!(address, Address::Tcp(tcp) if tcp.port() == 0)
}

/// The admin address is bound once, without sharing: a listener there would keep it from starting.
pub(super) fn check_admin(admin: Option<SocketAddr>, listeners: &[Section<ListenerDraft>], report: &mut Report<'_>) {
    let Some(admin) = admin else { return };
    for section in listeners {
        if matches!(section.value.address, Some(Address::Tcp(tcp)) if collide(tcp, admin)) {
            let words = format!("takes the admin address {admin} — choose another port, or change server.admin");
            report.note_key(section, "address", words);
        }
    }
}

/// The listener of a draft; `None` where a part is missing, which has been noted. Reads the files of its TLS.
pub(super) fn listener(section: Section<ListenerDraft>, base: &Path, report: &mut Report<'_>) -> Option<Listener> {
    let tls = settings(&section, base, report);
    let admission = of_listener(&section, base, report);
    let ListenerDraft {
        name,
        address,
        backlog,
        reuse_port,
        mode,
        health,
        redirect_https,
        protocol,
        route,
        addresses,
        ..
    } = section.value;
    let AddressesDraft { mode: proxy_protocol, from, timeout, trusted_proxies, field } = addresses;
    let addresses = ClientAddresses { proxy_protocol, from, timeout, trusted_proxies, field };
    Some(Listener {
        name: name?,
        address: address?,
        backlog,
        reuse_port,
        mode,
        health,
        redirect_https,
        protocol,
        route,
        tls,
        addresses,
        admission,
    })
}
