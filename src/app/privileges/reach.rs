//! What a server of a configuration reaches for after its start: files that are read again, folders that are served,
//! sockets that feeds make, and what the name service and the authorities of TLS are read from.

use crate::app::config::{AuthSettings, Config, HttpUrl, KeySource, Source, Upstream};
use crate::control::certificates::{self, ClientFiles};
use crate::engine::Address;
use crate::engine::privilege::landlock::Rules;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What any server reads: about itself, its cores, and the modules of the name service.
const ALWAYS: [&str; 7] =
    ["/proc/self", "/proc/sys", "/sys/devices/system", "/usr/lib", "/usr/lib64", "/lib", "/lib64"];

/// What getaddrinfo(3) reads, and asks. All of /etc: resolv.conf and hosts are replaced by others of their name while
/// the server runs, and a rule about a file would not reach the next.
const NAMES: [&str; 5] = ["/etc", "/run/nscd", "/run/systemd/resolve", "/run/NetworkManager", "/var/lib/sss/mc"];

/// The file by whose links the name service is found, wherever it keeps its state.
const RESOLVER: &str = "/etc/resolv.conf";

/// Where authorities of the system are kept: by Debian, Fedora, Arch, Alpine and SUSE.
const AUTHORITIES: [&str; 9] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
];

/// The variables that name others (openssl(1)).
const AUTHORITIES_BY: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What is reached for after the start.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Files that are read again when they change.
    pub(super) files: Vec<PathBuf>,
    /// Folders of which files are served.
    pub(super) roots: Vec<PathBuf>,
    /// Unix sockets of listeners, which go at the end.
    pub(super) listeners: Vec<PathBuf>,
    /// Unix sockets of feeds, which are made and go.
    pub(super) feeds: Vec<PathBuf>,
    /// Unix sockets of upstreams.
    pub(super) upstreams: Vec<PathBuf>,
    /// Where feeds listen: by name, with the scheme.
    pub(super) ports: Vec<(String, SocketAddr)>,
    /// TCP ports among them.
    pub(super) tcp: Vec<u16>,
    /// Names are resolved.
    pub(super) names: bool,
    /// The authorities of the system are read.
    pub(super) authorities: bool,
}

impl Reach {
    /// That of a configuration. A key that names a file which is read again belongs in here.
    pub(super) fn of(config: &Config) -> Reach {
        let mut reach = Reach::default();
        let listeners = config.listeners.iter();
        let tls = listeners.clone().filter_map(|it| it.tls.as_ref()).chain(&config.server.admin_tls);
        reach.files.extend(tls.flat_map(|it| it.files()).map(Path::to_owned));
        reach.listeners.extend(listeners.filter_map(|it| match &it.address {
            Address::Unix(path) => Some(path.clone()),
            Address::Tcp(_) => None,
        }));
        let lists = config.listeners.iter().filter_map(|it| it.admission.as_ref()).chain([&config.addresses]);
        reach.files.extend(lists.flat_map(|it| it.allow_files.iter().chain(&it.deny_files)).cloned());
        for route in &config.routes {
            reach.roots.extend(route.service.root().map(Path::to_owned));
            route.service.upstreams().iter().for_each(|it| reach.upstream(it));
            route.auth.iter().for_each(|it| reach.auth(it));
        }
        for feed in &config.feeds {
            reach.feed(&feed.name, &feed.source);
            feed.tls.iter().for_each(|files| reach.client(files));
        }
        reach
    }

    fn upstream(&mut self, upstream: &Upstream) {
        match upstream {
            Upstream::Unix(path) => self.upstreams.push(path.clone()),
            Upstream::Tcp { host, tls, .. } => {
                self.names |= host.parse::<IpAddr>().is_err();
                tls.iter().for_each(|tls| self.client(&tls.files));
            }
        }
    }

    fn auth(&mut self, auth: &AuthSettings) {
        self.files.extend(auth.basic.iter().map(|it| it.users.clone()));
        match auth.jwt.as_ref().map(|it| (&it.keys, &it.ca)) {
            Some((KeySource::File(file), _)) => self.files.push(file.clone()),
            Some((KeySource::Url(url), ca)) => self.http(url, ca.as_ref()),
            None => {}
        }
        auth.forward.iter().for_each(|it| self.http(&it.url, it.ca.as_ref()));
    }

    fn http(&mut self, url: &HttpUrl, ca: Option<&PathBuf>) {
        self.names |= url.host.parse::<IpAddr>().is_err();
        if url.secure {
            self.client(&ClientFiles { ca: ca.cloned(), identity: None });
        }
    }

    fn client(&mut self, files: &ClientFiles) {
        self.files.extend(files.files().map(Path::to_owned));
        self.authorities |= files.ca.is_none();
    }

    fn feed(&mut self, name: &str, source: &Source) {
        match source {
            Source::Udp(address) => self.ports.push((format!("feed {name}"), *address)),
            Source::TcpListen(address) => {
                self.ports.push((format!("feed {name}"), *address));
                self.tcp.push(address.port());
            }
            Source::Unix(path) => self.feeds.push(path.clone()),
            Source::Tcp { host, .. } => self.names |= host.parse::<IpAddr>().is_err(),
            // A cluster may name its other members. The client of NATS reads the authorities of the system whatever it
            // is handed, and does not connect where it may not.
            Source::Nats(_) | Source::JetStream(..) => (self.names, self.authorities) = (true, true),
            Source::RedisChannels(_) | Source::RedisStreams(_) | Source::Mqtt(_) => self.names = true,
            Source::Http | Source::Demo => {}
        }
    }

    /// As Landlock takes it.
    pub(super) fn rules(&self) -> Rules {
        let named = self.files.iter().chain(&self.roots).flat_map(|it| around(it));
        let mut read: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).chain(named).collect();
        if self.names {
            read.extend(NAMES.iter().map(PathBuf::from));
            read.extend(around(Path::new(RESOLVER)));
        }
        if self.authorities {
            read.extend(AUTHORITIES.iter().map(PathBuf::from));
            read.extend(AUTHORITIES_BY.iter().filter_map(std::env::var_os).map(PathBuf::from));
        }
        if !self.feeds.is_empty() {
            // Who listens at a path that is taken stands in the tables of all processes (engine/claim.rs).
            read.push("/proc".into());
        }
        read.sort();
        read.dedup();
        let sockets = self.listeners.iter().chain(&self.feeds).map(|it| folder(it)).collect();
        Rules { read, sockets, ports: self.tcp.clone() }
    }
}

/// What must be readable so that a file or folder can be replaced by another of its name, or by a link that leads to
/// another place beside it: it, the folder in which it stands, and those in which links on the way to it stand. Not
/// `/`, and where a link on the way stands in a folder of `/`, not that folder: all of /var would be open by /var/run.
fn around(path: &Path) -> Vec<PathBuf> {
    let mut folders = certificates::folders_on_the_way(path);
    let own = folders.pop();
    let deep = |it: &PathBuf, least: usize| it.components().count() > least;
    folders.retain(|it| deep(it, 2));
    folders.extend(own.filter(|it| deep(it, 1)));
    folders.push(path.to_owned());
    folders
}

/// The folder in which a socket stands.
pub(super) fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_stands_around_a_file_may_take_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["releases", "releases/1", "releases/1/www", "plain"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        symlink("releases/1", at("current")).expect("a link");
        fs::write(at("plain/key.pem"), "").expect("a file");
        assert_eq!(around(&at("plain/key.pem")), [at("plain"), at("plain/key.pem")]);
        let through = [folder.path().to_owned(), at("releases/1"), at("current/www")];
        assert_eq!(around(&at("current/www")), through);
        assert_eq!(around(&at("current")), [folder.path().to_owned(), at("releases"), at("current")]);
        assert_eq!(around(Path::new("/etc")), [PathBuf::from("/etc")]);
        assert_eq!(around(Path::new("/etc/passwd")), ["/etc", "/etc/passwd"].map(PathBuf::from));
    }
}
