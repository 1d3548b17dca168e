//! What a listener says of addresses: keys that need each other.

use super::super::draft::Section;
use super::super::keys::{ListenerDraft, RouteDraft};
use super::super::model::{Address, ProxyProtocol};
use super::super::report::Report;

/// Notes networks that are missing, and keys that nobody would read.
pub(super) fn check_addresses(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    let draft = &section.value.addresses;
    if !section.refuses("proxy_protocol") {
        check_proxy_protocol(section, report);
    }
    if section.gives("forwarded_field") && draft.trusted_proxies.is_empty() && !section.refuses("trusted_proxies") {
        let words = "is read of nobody while there are no `trusted_proxies` — write these, or leave it out";
        report.note_key(section, "forwarded_field", words.into());
    }
}

fn check_proxy_protocol(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    let (from, mode) = ("proxy_protocol.from", section.value.addresses.mode);
    let is_unix = matches!(section.value.address, Some(Address::Unix(_)));
    if mode == ProxyProtocol::Off {
        for key in [from, "proxy_protocol.timeout"].into_iter().filter(|key| section.gives(key)) {
            let words = "is read for nobody while `mode` is \"off\" — write \"required\" there, or leave it out";
            report.note_key(section, key, words.into());
        }
    } else if is_unix && section.gives(from) {
        let words =
            "belongs to a TCP address, which `address` is not: all that may connect are believed — leave it out";
        report.note_key(section, from, words.into());
    } else if !is_unix && section.value.addresses.from.is_empty() {
        let words = "is missing — write the networks of the balancers, [\"192.0.2.0/24\"]";
        report.note(section.place("proxy_protocol"), &format!("{}.{from}", section.label), words.into());
    }
}

/// What a header tells is told by one only.
pub(super) fn check_tells(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    if section.gives("proxy_protocol_tells") && section.service() == Some("proxy") && !section.value.proxy_protocol {
        let words = "is for the PROXY header, and there is none — write `proxy_protocol = true`, or leave it out";
        report.note_key(section, "proxy_protocol_tells", words.into());
    }
}
