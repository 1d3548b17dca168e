//! The addresses that a server listens on: binding all of them, or saying of each what is in the way and what to
//! change.
//!
//! `serve` and `doctor` try the same and have the same words for it. Where the address belongs to a process that is
//! about to end, or has ended and left its sockets to the kernel, `serve` waits a while.

use super::config::{self, Config, Service, Source};
use super::failure::Failure;
use crate::engine::Address;
use crate::engine::claim::{Holder, SocketFile, holder};
use crate::engine::finding::{Finding, Verdict};
use crate::engine::sockets::{self, Options};
use socket2::Socket;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an address is waited for that a living process has: it may have been told to end a moment ago.
const DYING: Duration = Duration::from_secs(1);

/// How long an address is waited for whose process has ended: the kernel takes its io_uring down behind its back, and
/// the sockets with it.
const TEARDOWN: Duration = Duration::from_secs(30);

/// The wait between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// All that the server listens on.
pub(super) struct Bound {
    pub(super) admin: Option<TcpListener>,
    /// For each shard one socket per listener.
    pub(super) sockets: Vec<Vec<Socket>>,
    /// The files of unix sockets, which go when this is dropped.
    pub(super) _files: Vec<SocketFile>,
}

impl Bound {
    /// Binds the admin address and, once for each shard, those of the listeners.
    ///
    /// # Errors
    /// The first address that cannot be had: somebody else has it, it is not of this machine, or it is not allowed.
    pub(super) fn all(config: &Config, shards: usize) -> Result<Bound, Failure> {
        let admin = config.server.admin.map(bind_admin).transpose()?;
        let mut sockets: Vec<Vec<Socket>> = (0..shards).map(|_| Vec::new()).collect();
        let mut files = Vec::new();
        for (number, listener) in config.listeners.iter().enumerate() {
            let address = &listener.address;
            let options = options(config, number);
            let bind = || sockets::listen_many(address, options, shards);
            let bound = patiently(&listener.name, address, bind)?;
            sockets.iter_mut().zip(bound).for_each(|(shard, socket)| shard.push(socket));
            if let Address::Unix(path) = address {
                files.push(SocketFile::of(path).map_err(|error| failure(&listener.name, address, error))?);
            }
        }
        Ok(Bound { admin, sockets, _files: files })
    }
}

/// What the doctor says of all addresses: each is tried, and left as it was found.
pub fn rows(config: &Config) -> Vec<Finding> {
    let admin = config.server.admin.map(|it| ("admin address".to_owned(), Address::Tcp(it), Options::default()));
    let listeners = config.listeners.iter().enumerate().map(|(number, it)| {
        (format!("listener {}", it.name), it.address.clone(), Options { mode: None, ..options(config, number) })
    });
    let must = admin.into_iter().chain(listeners).map(|(what, address, options)| tried(&what, &address, options));
    must.chain(config.feeds.iter().filter_map(feed_row)).collect()
}

/// A feed tries again by itself: not to listen is no reason not to serve.
fn feed_row(feed: &config::Feed) -> Option<Finding> {
    let address = match &feed.source {
        Source::TcpListen(address) => Address::Tcp(*address),
        Source::Unix(path) => Address::Unix(path.clone()),
        _ => return None,
    };
    let row = tried(&format!("feed {}", feed.name), &address, Options::default());
    let verdict = if row.verdict == Verdict::Fails { Verdict::Advice } else { row.verdict };
    Some(Finding { verdict, ..row })
}

/// Binds and lets go again.
fn tried(what: &str, address: &Address, options: Options) -> Finding {
    let found = |is, verdict, command| Finding::new(what, is, "free".into(), verdict, command);
    match sockets::try_listen(address, options) {
        Ok(()) => found(address.to_string(), Verdict::Ok, String::new()),
        Err(error) => {
            let dying = error.kind() == io::ErrorKind::AddrInUse && holder(address) == Holder::Dead;
            let verdict = if dying { Verdict::Advice } else { Verdict::Fails };
            found(format!("{address}: {error}"), verdict, remedy(address, &error))
        }
    }
}

/// # Errors
/// As [`Bound::all`].
fn bind_admin(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bind = || TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    patiently("admin", &Address::Tcp(address), bind)
}

/// An address that another listener of this server overlaps (`[::]:80` beside `0.0.0.0:80`) can only be shared.
fn options(config: &Config, number: usize) -> Options {
    let listener = &config.listeners[number];
    let before = &config.listeners[..number];
    Options {
        backlog: listener.backlog,
        unsent_bytes: config.server.unsent_bytes,
        silence: silence(config, |service| matches!(service, Service::Broadcast(_))),
        mode: listener.mode,
        shared: listener.reuse_port || before.iter().any(|it| overlap(&it.address, &listener.address)),
    }
}

/// How long peers may be silent: the shortest `idle_timeout` of the routes that are meant; where there is none, that
/// of all. Listeners do not know the route that a client will ask for.
pub(super) fn silence(config: &Config, meant: impl Fn(&Service) -> bool) -> Duration {
    let routes = config.routes.iter().filter(|route| meant(&route.service));
    routes.map(|route| route.limits.idle_timeout).min().unwrap_or(config.limits.idle_timeout)
}

fn overlap(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && same
        }
        _ => false,
    }
}

/// Tries again while the address belongs to a process that may be about to end.
///
/// # Errors
/// As [`Bound::all`], at once or after [`DYING`] or [`TEARDOWN`].
fn patiently<T>(name: &str, address: &Address, attempt: impl Fn() -> io::Result<T>) -> Result<T, Failure> {
    let (begun, mut warned) = (Instant::now(), false);
    loop {
        let error = match attempt() {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
            Err(error) => return Err(failure(name, address, error)),
        };
        let (patience, dead) = match holder(address) {
            Holder::Dead => (TEARDOWN, true),
            Holder::Process | Holder::Connections => (DYING, false),
            Holder::File => (Duration::ZERO, false),
        };
        if begun.elapsed() >= patience {
            return Err(failure(name, address, error));
        }
        if dead && !std::mem::replace(&mut warned, true) {
            tracing::warn!(listener = name, address = address.to_string(), "{DEAD}: waiting");
        }
        std::thread::sleep(RETRY);
    }
}

/// What is said of [`Holder::Dead`].
const DEAD: &str = "a process that has ended listened there, and the kernel has not closed its sockets yet";

fn failure(name: &str, address: &Address, error: io::Error) -> Failure {
    let remedy = remedy(address, &error);
    Failure::Listen { name: name.into(), address: address.to_string(), error, remedy }
}

// ---- words ----

/// What to change where the kernel said `error` to this address; empty where nothing better is known.
fn remedy(address: &Address, error: &io::Error) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => in_use(address),
        (io::ErrorKind::AddrNotAvailable, _) => {
            "no interface of this machine has this address; `ip address` lists those that there are".into()
        }
        (io::ErrorKind::PermissionDenied, Address::Tcp(_)) => format!(
            "ports below {} (net.ipv4.ip_unprivileged_port_start) need CAP_NET_BIND_SERVICE: choose a higher one, or \
             give the program that capability",
            setting("ip_unprivileged_port_start")
        ),
        (io::ErrorKind::NotFound, Address::Unix(path)) => {
            format!("there is no folder {}; make it, or choose another path", folder(path))
        }
        (io::ErrorKind::NotADirectory, Address::Unix(path)) => {
            format!("{} is no folder; choose another path", folder(path))
        }
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, Address::Unix(path)) => {
            format!("the user that runs edgehold may not write the folder {}", folder(path))
        }
        _ => String::new(),
    }
}

fn in_use(address: &Address) -> String {
    match (holder(address), address) {
        (Holder::Process, Address::Tcp(_)) => {
            "another process listens there; `ss -ltnp` shows which. Servers that are \
             to share the clients of one address write reuse_port = true, all of them"
                .into()
        }
        (Holder::Process, Address::Unix(_)) => "another process listens there; `ss -lxp` shows which".into(),
        (Holder::Dead, _) => format!("{DEAD}; try again in a moment"),
        (Holder::File, _) => "there is a file that is no socket; remove it, or choose another path".into(),
        (Holder::Connections, _) => format!(
            "nobody listens there, but connections of this machine have the port as their own end; choose one outside \
             of net.ipv4.ip_local_port_range ({}), or name it in net.ipv4.ip_local_reserved_ports",
            setting("ip_local_port_range")
        ),
    }
}

/// A sysctl of net.ipv4 in words; empty where it cannot be read.
fn setting(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" to ")
}

fn folder(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_words() {
        let tcp = Address::Tcp(([127, 0, 0, 1], 80).into());
        let unix = Address::Unix("/run/nowhere/socket".into());
        let words = |address, errno| remedy(address, &io::Error::from_raw_os_error(errno));
        assert!(words(&tcp, libc::EACCES).contains("CAP_NET_BIND_SERVICE"));
        assert!(words(&tcp, libc::EADDRNOTAVAIL).contains("no interface of this machine"));
        assert!(words(&unix, libc::EACCES).contains("may not write the folder /run/nowhere"));
        assert!(words(&unix, libc::EROFS).contains("may not write the folder /run/nowhere"));
        assert!(words(&unix, libc::ENOENT).contains("no folder /run/nowhere"));
        assert!(words(&unix, libc::ENOTDIR).contains("/run/nowhere is no folder"));
        assert_eq!(words(&tcp, libc::ENOMEM), "");
    }

    #[test]
    fn listeners_of_one_server_may_overlap() {
        let address = |text: &str| Address::Tcp(text.parse().expect("an address"));
        let overlaps = |one, other| overlap(&address(one), &address(other));
        assert!(overlaps("[::]:80", "0.0.0.0:80") && overlaps("0.0.0.0:80", "127.0.0.1:80"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.2:80") && !overlaps("0.0.0.0:80", "0.0.0.0:81"));
        assert!(!overlaps("0.0.0.0:0", "0.0.0.0:0"));
    }
}
