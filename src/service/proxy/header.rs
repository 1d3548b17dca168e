//! The PROXY header that upstreams are sent in front of everything else.

use super::super::Request;
use crate::mesh::identity::Identity;
use crate::mesh::x509::ClientCertificate;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::proxy_protocol::{Addresses, Tls, Writer, kind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a PROXY header tells an upstream of a client beside its addresses, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// Who it is found to be.
    pub identity: bool,
    /// Its roles.
    pub roles: bool,
    /// The host that it has asked for.
    pub authority: bool,
    /// Its TLS, and the certificate that it has shown.
    pub tls: bool,
}

/// What is known of a client.
#[derive(Clone, Copy, Default)]
struct Known<'k> {
    addresses: Option<Addresses>,
    host: Option<&'k str>,
    tls: Option<Tls<'k>>,
    identity: Option<&'k Identity>,
}

/// The header for the client of a request.
pub(super) fn header(desk: &Desk<'_>, request: &Request<'_, '_>, tells: Tells) -> Vec<u8> {
    let who = request.who;
    let known = Known {
        addresses: addresses(desk, who),
        host: request.head.host,
        tls: desk.is_secure(who).then(|| tls(desk, who)),
        identity: desk.identity(who).map(|it| &**it),
    };
    written(known, tells)
}

fn written(known: Known<'_>, tells: Tells) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, known.addresses);
    if let Some(host) = known.host.filter(|_| tells.authority) {
        writer.tlv(kind::AUTHORITY, host.as_bytes());
    }
    if let Some(tls) = known.tls.filter(|_| tells.tls) {
        writer.tls(tls);
    }
    if let Some(identity) = known.identity.filter(|_| tells.identity) {
        writer.tlv(kind::IDENTITY, identity.name.as_bytes());
    }
    let roles = known.identity.map(|it| listed(&it.roles)).filter(|it| tells.roles && !it.is_empty());
    if let Some(roles) = roles {
        writer.tlv(kind::ROLES, roles.as_bytes());
    }
    writer.end();
    out
}

/// `None`: the client has no address, it has come by a unix socket.
fn addresses(desk: &Desk<'_>, who: Handle) -> Option<Addresses> {
    let source = Some(desk.peer(who)).filter(|it| !it.ip().is_unspecified())?;
    let any: IpAddr = if source.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let destination = desk.destination(who).unwrap_or(SocketAddr::new(any, 0));
    // `[::]` listens for IPv4 as well.
    let is_any = destination.ip().is_unspecified();
    let destination = if is_any { SocketAddr::new(any, destination.port()) } else { destination };
    Some(Addresses { source, destination })
}

fn tls<'d>(desk: &'d Desk<'_>, who: Handle) -> Tls<'d> {
    let certificate = desk.client_certificate(who);
    Tls {
        version: desk.tls_version(who).unwrap_or_default(),
        is_certified: certificate.is_some(),
        common_name: certificate.and_then(ClientCertificate::common_name),
    }
}

/// Roles between commas; one that has a comma itself would be two, and is left out.
fn listed(roles: &[Box<str>]) -> String {
    let roles: Vec<&str> = roles.iter().map(|role| &**role).filter(|role| !role.contains(',')).collect();
    roles.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_where_the_route_says_so() {
        let roles = ["reader".into(), "a,b".into(), "writer".into()];
        let identity = Identity { name: "anna".into(), roles: roles.into(), claims: Box::default(), expires: None };
        let tls = Tls { version: "TLSv1.3", is_certified: true, common_name: Some("agent") };
        let known = Known { addresses: None, host: Some("edge"), tls: Some(tls), identity: Some(&identity) };
        let all = Tells { identity: true, roles: true, authority: true, tls: true };
        let nothing = Tells::default();
        let tlvs = |known, tells| written(known, tells).split_off(16);
        assert_eq!(tlvs(known, nothing), b"");
        assert_eq!(tlvs(Known::default(), all), b"");
        assert_eq!(tlvs(known, Tells { identity: true, ..nothing }), b"\xe0\0\x04anna");
        assert_eq!(tlvs(known, Tells { roles: true, ..nothing }), b"\xe1\0\x0dreader,writer");
        assert_eq!(tlvs(known, Tells { authority: true, ..nothing }), b"\x02\0\x04edge");
        let tls = b"\x20\0\x17\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05agent";
        assert_eq!(tlvs(known, Tells { tls: true, ..nothing }), tls);
        let told = [&b"\x02\0\x04edge"[..], tls, b"\xe0\0\x04anna\xe1\0\x0dreader,writer"].concat();
        assert_eq!(tlvs(known, all), told);
    }

    #[test]
    fn a_role_cannot_be_two() {
        assert_eq!(listed(&["a".into(), "b,admin".into(), "c".into()]), "a,c");
        assert_eq!(listed(&[]), "");
    }
}
