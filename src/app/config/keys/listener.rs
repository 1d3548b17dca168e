//! The keys of `[[listener]]`.

use super::super::forms;
use super::super::model::{Address, Addresses, MinVersion, Protocol};
use super::addresses::{self, AddressesDraft};
use super::admission;
use super::{DAY, Field, Key, MINUTE, Preset, Rule, push_new, put};
use std::path::PathBuf;
use std::time::Duration;

/// A `[[listener]]` as it is read: what is missing or wrong is absent.
#[derive(Default)]
pub(crate) struct ListenerDraft {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<Address>,
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) health: Option<String>,
    pub(crate) redirect_https: bool,
    pub(crate) protocol: Protocol,
    pub(crate) route: Option<String>,
    pub(crate) tls: TlsDraft,
    pub(crate) addresses: AddressesDraft,
    pub(crate) admission: Addresses,
}

/// The value of `tls` as it is read.
#[derive(Default)]
pub(crate) struct TlsDraft {
    /// What `certificate`, `key` and `ocsp` say beside each other.
    pub(crate) single: CertificateDraft,
    pub(crate) certificates: Vec<CertificateDraft>,
    pub(crate) min_version: MinVersion,
    pub(crate) verify: VerifyDraft,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) crl: Option<PathBuf>,
    pub(crate) rotate: Duration,
    pub(crate) keys: Option<PathBuf>,
}

/// The files of a certificate as they are read, as they are written: relative to the configuration file.
#[derive(Default)]
pub(crate) struct CertificateDraft {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ocsp: Option<PathBuf>,
    pub(crate) names: Vec<String>,
}

/// The word at `tls.client.verify`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum VerifyDraft {
    #[default]
    Off,
    Optional,
    Required,
}

/// The item of `certificates` that is being read.
fn last(listener: &mut ListenerDraft) -> &mut CertificateDraft {
    listener.tls.certificates.last_mut().expect("an item has begun before its keys are stored")
}

/// A field for the name of a file.
macro_rules! file {
    ($form:literal, $place:expr) => {
        Field::Text {
            form: $form,
            store: |listener, text| {
                let place: fn(&mut ListenerDraft) -> &mut Option<PathBuf> = $place;
                forms::file(text).map(|file| put(place(listener), file))
            },
        }
    };
}

/// The keys of `[[listener]]`.
pub(crate) static LISTENER: [Key<ListenerDraft>; 14] = [
    admission::addresses(),
    Key {
        name: "protocol",
        field: choice!(protocol: "http" => Protocol::Http, "stomp" => Protocol::Stomp, "mqtt" => Protocol::Mqtt),
        default: Preset::Is("http"),
        words: "What its clients speak: HTTP, which a WebSocket begins with, too; or STOMP or MQTT from the first byte \
                on.",
        note: "With `tls` it is spoken inside of TLS. How long such a client may be silent is agreed on by its \
               heart-beats; `idle_timeout` does not hold for it.",
        example: "\"stomp\"",
        see: &["route", "service"],
        ..Key::PLAIN
    },
    Key {
        name: "route",
        field: Field::Text {
            form: "the path of a route, \"/stomp\"",
            store: |l, text| forms::route_path(text).map(|(path, _)| put(&mut l.route, path)),
        },
        default: Preset::Absent("the only route with the service of `protocol`"),
        words: "Where `protocol` is not HTTP: the route that all its clients take.",
        example: "\"/stomp\"",
        see: &["protocol", "path"],
        ..Key::PLAIN
    },
    Key {
        name: "name",
        field: Field::Text {
            form: "1 to 32 letters, digits, `_` or `-`",
            store: |l, text| forms::name(text).map(|name| put(&mut l.name, name)),
        },
        default: Preset::Required,
        words: "What the listener is called in logs and metrics; no two share a name.",
        example: "\"public\"",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "address",
        field: Field::Text {
            form: "an IP address with a port, \"0.0.0.0:8080\" or \"[::]:8080\", or \"unix:/path\"",
            store: |l, text| forms::address(text).map(|address| put(&mut l.address, address)),
        },
        default: Preset::Required,
        words: "Where clients connect; no two listeners share an address.",
        note: "Port 0 lets the kernel choose one. A Unix socket takes an absolute path of 107 bytes at most.",
        example: "\"0.0.0.0:8080\"",
        see: &["admin"],
        ..Key::PLAIN
    },
    Key {
        name: "backlog",
        field: Field::count(Rule::Range(1, 1 << 20), |l| &mut l.backlog),
        default: Preset::Is("4096"),
        words: "How many connections the kernel holds for each shard until they are accepted.",
        note: "The kernel cuts it to `net.core.somaxconn` without a word; `edgehold doctor` says so.",
        see: &["accepts_in_flight"],
        ..Key::PLAIN
    },
    Key {
        name: "reuse_port",
        field: Field::Flag { store: |l, on| l.reuse_port = on },
        default: Preset::Is("false"),
        words: "Whether other servers may listen on the same TCP address, and the kernel spreads clients among them.",
        note: "All of them must write it, and run as the same user (SO_REUSEPORT): so a new server can take over \
               before the old one goes. Without it a second server on one address does not start.",
        example: "true",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "mode",
        field: Field::Text {
            form: "three or four octal digits, \"0660\"",
            store: |l, text| forms::mode(text).map(|mode| put(&mut l.mode, mode)),
        },
        default: Preset::Absent("what the umask leaves"),
        words: "The mode of the file of a Unix socket: who may connect is who may write it.",
        example: "\"0660\"",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "health",
        field: Field::Text {
            form: "a path, \"/healthz\"",
            store: |l, text| forms::path(text).map(|path| put(&mut l.health, path)),
        },
        default: Preset::Absent("no path"),
        words: "The path at which this listener itself answers a balancer: 200 while new clients are taken, 503 while \
                the server is stopping.",
        note: "It goes before all routes, whatever the host, and says nothing but `ready`: for balancers that do not \
               reach the admin address. The shard that has the connection answers; who finds it full gets its 503.",
        example: "\"/healthz\"",
        see: &["admin"],
        ..Key::PLAIN
    },
    Key {
        name: "redirect_https",
        field: Field::Flag { store: |l, on| l.redirect_https = on },
        default: Preset::Is("false"),
        words: "Whether each request for a page is answered 308 with the same address under `https`.",
        note: "For a listener of plain HTTP beside one with `tls`. A WebSocket opening is not redirected, since no \
               client would follow: it is refused. `health` is answered all the same.",
        example: "true",
        see: &["tls"],
        ..Key::PLAIN
    },
    Key {
        name: "tls",
        field: Field::Table { form: "a table, { certificate = \"edge.pem\", key = \"edge.key\" }", keys: &TLS },
        default: Preset::Absent("clear text"),
        words: "TLS for all clients of this listener: the files of one certificate, or of several.",
        note: "Files are read when the server starts, watched, and read again when they have changed; what is wrong \
               with the new ones is logged, and the old ones stay. [tls.md](tls.md) tells the rest.",
        example: "{ certificate = \"edge.pem\", key = \"edge.key\" }",
        see: &["tls.certificates", "redirect_https"],
        ..Key::PLAIN
    },
    addresses::PROXY_PROTOCOL,
    addresses::TRUSTED_PROXIES,
    addresses::FORWARDED_FIELD,
];

/// The keys inside of `tls`.
static TLS: [Key<ListenerDraft>; 7] = [
    Key {
        name: "certificate",
        field: file!("a file with a certificate in PEM and its chain behind it", |l| &mut l.tls.single.certificate),
        default: Preset::Absent("`certificates` has the files"),
        words: "The certificate of the listener, with the certificates of those that issued it behind it.",
        note: "Of RSA (2048 to 8192 bits), P-256, P-384 or Ed25519; a P-256 key costs a handshake least.",
        example: "\"edge.pem\"",
        see: &["tls.key", "tls.certificates"],
        ..Key::PLAIN
    },
    Key {
        name: "key",
        field: file!("a file with a private key in PEM", |l| &mut l.tls.single.key),
        default: Preset::Absent("`certificates` has the files"),
        words: "The private key of `certificate`, without a passphrase.",
        note: "Nobody but the user that runs edgehold should be able to read it: mode 0600.",
        example: "\"edge.key\"",
        see: &["tls.certificate"],
        ..Key::PLAIN
    },
    Key {
        name: "ocsp",
        field: file!("a file with an OCSP response in DER", |l| &mut l.tls.single.ocsp),
        default: Preset::Absent("nothing is stapled"),
        words: "An OCSP response for `certificate`, which is sent to clients that ask for one.",
        note: "It is sent as it is: whoever fetches it must replace it before its next update.",
        example: "\"edge.ocsp\"",
        see: &["tls.certificate"],
        ..Key::PLAIN
    },
    Key {
        name: "certificates",
        field: Field::Tables {
            form: "a list of tables, { certificate = \"a.pem\", key = \"a.key\" }",
            most: 64,
            begin: |l| l.tls.certificates.push(CertificateDraft::default()),
            keys: &CERTIFICATE,
        },
        default: Preset::Absent("`certificate` and `key` are written"),
        words: "Several certificates, chosen by the name that the client asks for (SNI); the first is the default.",
        note: "A name goes before a `*.`, and of several certificates for one name the first is taken whose signature \
               the client can verify: RSA may stand behind P-256.",
        example: "[{ certificate = \"a.pem\", key = \"a.key\" }, { certificate = \"b.pem\", key = \"b.key\" }]",
        see: &["tls.certificates.names"],
        ..Key::PLAIN
    },
    Key {
        name: "min_version",
        field: choice!(tls.min_version: "1.2" => MinVersion::V12, "1.3" => MinVersion::V13),
        default: Preset::Is("1.2"),
        words: "The oldest version of TLS that is spoken.",
        note: "Of TLS 1.2 only ciphers with forward secrecy and authentication (ECDHE with AES-GCM or \
               ChaCha20-Poly1305). It cannot change its keys: a connection ends after some 16 million messages.",
        example: "\"1.3\"",
        ..Key::PLAIN
    },
    Key {
        name: "client",
        field: Field::Table { form: "a table, { verify = \"required\", ca = \"clients.pem\" }", keys: &CLIENT },
        default: Preset::Inner,
        words: "Whether clients must show a certificate, and of whom.",
        example: "{ verify = \"required\", ca = \"clients.pem\" }",
        see: &["tls.client.verify", "tls.client.ca", "tls.client.crl"],
        ..Key::PLAIN
    },
    Key {
        name: "tickets",
        field: Field::Table { form: "a table, { rotate = \"12h\" }", keys: &TICKETS },
        default: Preset::Inner,
        words: "How long clients may resume a session without a full handshake, and with which machines.",
        note: "Tickets are stateless: they cost the server no memory, and any shard takes those of any other.",
        example: "{ rotate = \"12h\", keys = \"tickets.keys\" }",
        see: &["tls.tickets.rotate", "tls.tickets.keys"],
        ..Key::PLAIN
    },
];

/// The keys of an item of `certificates`.
static CERTIFICATE: [Key<ListenerDraft>; 4] = [
    Key {
        name: "certificate",
        field: file!("a file with a certificate in PEM and its chain behind it", |l| &mut last(l).certificate),
        default: Preset::Required,
        words: "As [tls.certificate](#tlscertificate).",
        example: "\"a.pem\"",
        ..Key::PLAIN
    },
    Key {
        name: "key",
        field: file!("a file with a private key in PEM", |l| &mut last(l).key),
        default: Preset::Required,
        words: "As [tls.key](#tlskey).",
        example: "\"a.key\"",
        ..Key::PLAIN
    },
    Key {
        name: "ocsp",
        field: file!("a file with an OCSP response in DER", |l| &mut last(l).ocsp),
        default: Preset::Absent("nothing is stapled"),
        words: "As [tls.ocsp](#tlsocsp).",
        example: "\"a.ocsp\"",
        ..Key::PLAIN
    },
    Key {
        name: "names",
        field: Field::List {
            form: "a name, or a list of names, `*.` in front for all names with one label more",
            single: true,
            most: 256,
            store: |l, text| push_new(&mut last(l).names, forms::server_name(text)?, text),
        },
        default: Preset::Absent("the DNS names that stand in the certificate"),
        words: "The names for which clients are shown this certificate.",
        note: "A client refuses a certificate in which the name that it asked for does not stand, whatever is written.",
        example: "[\"*.b.example\"]",
        ..Key::PLAIN
    },
];

/// The keys inside of `tls.client`.
static CLIENT: [Key<ListenerDraft>; 3] = [
    Key {
        name: "verify",
        field: choice!(tls.verify:
            "off" => VerifyDraft::Off, "optional" => VerifyDraft::Optional, "required" => VerifyDraft::Required),
        default: Preset::Is("off"),
        words: "Whether a client is asked for a certificate: not at all, or it may show one, or it must.",
        note: "A certificate that does not hold ends the handshake with `optional` as well.",
        example: "\"required\"",
        see: &["tls.client.ca"],
        ..Key::PLAIN
    },
    Key {
        name: "ca",
        field: file!("a file with certificates in PEM", |l| &mut l.tls.ca),
        default: Preset::Absent("needed where `verify` is not \"off\""),
        words: "The authorities whose certificates are good for clients.",
        note: "All that they have issued for clients (extended key usage) is let in: use an authority of your own.",
        example: "\"clients.pem\"",
        see: &["tls.client.verify", "tls.client.crl"],
        ..Key::PLAIN
    },
    Key {
        name: "crl",
        field: file!("a file with revocation lists in PEM", |l| &mut l.tls.crl),
        default: Preset::Absent("no certificate is taken for revoked"),
        words: "Lists of certificates that the authorities have revoked.",
        note: "With it each issuer of a client's certificate needs a list in the file, and one that is past its next \
               update lets nobody in.",
        example: "\"clients.crl\"",
        see: &["tls.client.ca"],
        ..Key::PLAIN
    },
];

/// The keys inside of `tls.tickets`.
static TICKETS: [Key<ListenerDraft>; 2] = [
    Key {
        name: "rotate",
        field: Field::millis(Rule::Range(MINUTE, 7 * DAY), |l| &mut l.tls.rotate),
        default: Preset::Is("12h"),
        words: "How long a key seals tickets. It opens them for as long again.",
        note: "Whoever learns a key can read what was said in sessions of TLS 1.2 that its tickets resume. Shorter is \
               safer, and makes more full handshakes.",
        see: &["tls.tickets.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "keys",
        field: file!("a file with secrets, a line each", |l| &mut l.tls.keys),
        default: Preset::Absent("random keys, which no other process has and a restart forgets"),
        words: "A file of secrets that several machines share, so that each resumes the sessions of all.",
        note: "Each line is 32 bytes in base64 (`openssl rand -base64 32`); tickets are made with the first and taken \
               with all. Keep it as safe as a private key.",
        example: "\"tickets.keys\"",
        see: &["tls.tickets.rotate"],
        ..Key::PLAIN
    },
];
