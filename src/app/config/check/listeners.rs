//! Listeners: against each other, and against the admin address; `tls` checks what they say of TLS.

use super::super::draft::Section;
use super::super::keys::{AddressesDraft, LISTENER, ListenerDraft};
use super::super::model::{Address, ClientAddresses, Listener};
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
    let ListenerDraft { name, address, backlog, reuse_port, mode, health, redirect_https, addresses, .. } =
        section.value;
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
        tls,
        addresses,
        admission,
    })
}
