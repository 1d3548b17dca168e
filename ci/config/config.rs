//! Configuration and command line from the outside; `machine.rs`: derived limits and doctor.
//!
//! `bad/` holds files that are refused, each beside the problems it must give, all of
//! them and in order; `good/` holds files that are taken. After a wanted change of
//! words, `EDGEHOLD_BLESS=1 cargo test --test config` writes the expected problems
//! anew: read the difference before keeping it.

mod machine;
mod offload;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgehold::app::cli::{self, Command};
use edgehold::app::config::{self, Addresses, *};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/config").join(name)
}

/// The TOML files of a folder, sorted.
fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// The problems of a file, called by its bare name so that no folder stands in them.
fn problems(path: &Path) -> Vec<Problem> {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    config::read(&text, name, path.parent().unwrap()).expect_err(name)
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn bad_files_give_all_their_problems() {
    let bless = std::env::var_os("EDGEHOLD_BLESS").is_some();
    let files = files("bad");
    assert!(files.len() >= 15);
    for path in files {
        let found = lines(&problems(&path));
        let expected = path.with_extension("txt");
        if bless {
            fs::write(&expected, &found).unwrap();
        }
        let wanted = "if this is wanted: EDGEHOLD_BLESS=1 cargo test --test config";
        assert_eq!(found, fs::read_to_string(&expected).unwrap(), "{}; {wanted}", path.display());
    }
}

#[test]
fn every_problem_says_what_to_write_instead() {
    for path in files("bad") {
        for problem in problems(&path) {
            assert!(problem.words.contains(" — "), "{problem}");
        }
    }
}

#[test]
fn a_problem_reads_file_line_column_key_words() {
    let text = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:8080\"\n\
                [[route]]\npath = \"/\"\nservice = \"proxy\"\nupstream = \"x\"\n";
    let problems = config::read(text, "edgehold.toml", Path::new("")).unwrap_err();
    let words = "\"x\" is no upstream — write \"tcp://host:port\", \"tls://host:port\" or \"unix:///path\"";
    assert_eq!(lines(&problems), format!("edgehold.toml:7:12: route[1].upstream: {words}\n"));
}

fn load_good(name: &str) -> Config {
    config::load(&folder("good").join(name)).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

/// What a file is that writes only what it must: the defaults, written out once more.
/// `[server]` where nothing is written.
fn least_server() -> Server {
    Server {
        shards: 0,
        slots_per_shard: 0,
        admin: Some("127.0.0.1:9180".parse().unwrap()),
        admin_tls: None,
        admin_allow_origin: vec![],
        auth_limits: AuthLimits { password_threads: 1, password_queue: 64, token_threads: 1, token_queue: 1024 },
        admin_hosts: vec![],
        admin_connections: 64,
        admin_timeout: Duration::from_secs(30),
        admin_body_bytes: 64 << 20,
        admin_page_channels: 1000,
        log: Level::Info,
        log_format: LogFormat::Text,
        log_queue: 1 << 20,
        shutdown_grace: Duration::from_secs(10),
        park_after: Duration::from_secs(5),
        accepts_in_flight: 16,
        recv_buffers: 128,
        recv_buffer_bytes: 20_480,
        unsent_bytes: 16 * 1024,
        outbox_bytes: 0,
        turn_events: 256,
        resolve_ttl: Duration::from_secs(30),
        upstream_backoff: Duration::from_millis(500),
        upstream_backoff_max: Duration::from_secs(16),
        deflate_window_bytes: 16 << 20,
        tls_handshake_bytes: 64 << 20,
        tls_handshake_timeout: Duration::from_secs(10),
        open_files: 0,
        file_queue: 4096,
        file_wait: Duration::from_secs(10),
        publish_backlog_bytes: 32 << 20,
        publish_patience: Duration::from_millis(500),
        privileges: Privileges { user: None, group: None, sandbox: Sandbox::Auto, core_dumps: false },
    }
}

#[test]
fn the_least_file_gets_every_default() {
    let limits = Limits {
        head_bytes: 16 * 1024,
        head_count: 100,
        message_bytes: 1024 * 1024,
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(120),
        max_pending: 64 * 1024,
        connection_bytes: 0,
        close_timeout: Duration::from_secs(5),
    };
    let expected = Config {
        server: least_server(),
        listeners: vec![Listener {
            name: "public".into(),
            address: Address::Tcp("0.0.0.0:8080".parse().unwrap()),
            backlog: 4096,
            reuse_port: false,
            mode: None,
            health: None,
            redirect_https: false,
            protocol: Protocol::Http,
            route: None,
            tls: None,
            addresses: no_addresses(),
            admission: None,
        }],
        limits: limits.clone(),
        addresses: Addresses { ipv4_prefix: 32, ipv6_prefix: 64, ..Addresses::default() },
        feeds: vec![],
        routes: vec![Route {
            path: "/echo".into(),
            host: None,
            limits,
            deflate: Deflate { on: true, takeover: false, min_bytes: 512 },
            cors: no_cors(),
            auth: None,
            roles: vec![],
            shares: Shares::default(),
            service: Service::Echo { subprotocols: vec![] },
        }],
    };
    assert_eq!(load_good("minimal.toml"), expected);
}

fn full_server() -> Server {
    Server {
        shards: 2,
        slots_per_shard: 1000,
        admin: Some("[::1]:9000".parse().unwrap()),
        admin_tls: Some(full_admin_tls()),
        admin_allow_origin: vec!["http://localhost:3000".into(), "https://status.example.org".into()],
        auth_limits: AuthLimits { password_threads: 2, password_queue: 8, token_threads: 3, token_queue: 16 },
        admin_hosts: vec!["edge-1.internal".into()],
        admin_connections: 10,
        admin_timeout: Duration::from_secs(5),
        admin_body_bytes: 32 << 20,
        admin_page_channels: 100,
        log: Level::Debug,
        log_format: LogFormat::Json,
        log_queue: 64 << 10,
        shutdown_grace: Duration::ZERO,
        park_after: Duration::from_millis(250),
        accepts_in_flight: 256,
        recv_buffers: 32768,
        recv_buffer_bytes: 65536,
        unsent_bytes: 256 * 1024,
        outbox_bytes: 1 << 30,
        turn_events: 4096,
        resolve_ttl: Duration::from_secs(300),
        upstream_backoff: Duration::from_millis(250),
        upstream_backoff_max: Duration::from_secs(4),
        deflate_window_bytes: 32 << 20,
        tls_handshake_bytes: 8 << 20,
        tls_handshake_timeout: Duration::from_secs(4),
        open_files: 100,
        file_queue: 200,
        file_wait: Duration::from_secs(2),
        publish_backlog_bytes: 64 << 20,
        publish_patience: Duration::from_secs(2),
        privileges: Privileges {
            user: Some("nobody".into()),
            group: Some("65534".into()),
            sandbox: Sandbox::Required,
            core_dumps: true,
        },
    }
}

#[test]
fn the_full_file_is_read_to_the_last_key() {
    let Config { server, listeners, limits, addresses, feeds, routes } = load_good("full.toml");
    assert_eq!(server, full_server());
    let six: SocketAddr = "[::]:8080".parse().unwrap();
    let (name, address, health) = ("v6".into(), Address::Tcp(six), Some("/up".into()));
    let v6 = Listener {
        name,
        address,
        backlog: 128,
        reuse_port: true,
        mode: None,
        health,
        redirect_https: true,
        protocol: Protocol::Http,
        route: None,
        tls: None,
        addresses: full_addresses(),
        admission: Some(own_addresses()),
    };
    assert_eq!(listeners[0], v6);
    assert_eq!(addresses, full_admission());
    assert_eq!((listeners[1].reuse_port, listeners[1].mode), (false, Some(0o660)));
    assert_eq!(listeners[1].address, Address::Unix("/run/edgehold.sock".into()));
    assert_eq!(listeners[1].addresses.proxy_protocol, ProxyProtocol::Optional);
    let expected = Limits {
        head_bytes: 8192,
        head_count: 50,
        message_bytes: 65536,
        head_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3600),
        max_pending: 1 << 20,
        connection_bytes: 4 << 20,
        close_timeout: Duration::from_millis(500),
    };
    assert_eq!(limits, expected);
    full_tls(&listeners[2..4]);
    assert_eq!((listeners[4].protocol, listeners[4].route.as_deref()), (Protocol::Stomp, Some("/broker")));
    full_feeds(&feeds);
    full_broadcast(&routes[..3], &limits);
    full_routes(&routes[3..], &limits);
}

fn full_shares() -> Shares {
    Shares {
        connections: 10_000,
        each_connections: 5,
        messages: (20, 100),
        bytes: (64 << 10, 1 << 20),
        exceeding: Exceeding::Close,
    }
}

fn own_addresses() -> Addresses {
    let list = |name: &str| vec![folder("good").join("lists").join(name)];
    Addresses {
        ipv4_prefix: 31,
        ipv6_prefix: 48,
        connections: 9,
        rate: 7,
        burst: 8,
        unauthenticated: 50,
        allow: vec!["::/0".parse().unwrap()],
        deny: vec!["::1".parse().unwrap()],
        allow_files: list("more.list"),
        deny_files: list("deny.list"),
        dry_run: true,
    }
}

fn full_admission() -> Addresses {
    let networks = |all: &[&str]| all.iter().map(|it| it.parse().unwrap()).collect();
    let list = |name: &str| folder("good").join("lists").join(name);
    Addresses {
        ipv4_prefix: 24,
        ipv6_prefix: 56,
        connections: 2000,
        rate: 200,
        burst: 1000,
        unauthenticated: 100,
        allow: networks(&["192.0.2.0/24", "2001:db8::/32"]),
        deny: networks(&["192.0.2.7"]),
        allow_files: vec![list("allow.list")],
        deny_files: vec![list("deny.list"), list("more.list")],
        dry_run: true,
    }
}

fn full_admin_tls() -> TlsSettings {
    let tls = |name: &str| folder("good").join("tls").join(name);
    let (certificate, key) = (tls("edge.pem"), tls("edge.key"));
    TlsSettings {
        certificates: vec![CertificateFiles { certificate, key, ..CertificateFiles::default() }],
        min_version: MinVersion::V12,
        clients: ClientCertificates::Verified {
            optional: false,
            ca: tls("clients.pem"),
            crl: Some(tls("clients.crl")),
        },
        tickets: TicketSettings { rotate: Duration::from_secs(12 * 3600), keys: None },
    }
}

fn full_tls(listeners: &[Listener]) {
    let tls = |name: &str| folder("good").join("tls").join(name);
    let files = |name: &str| CertificateFiles {
        certificate: tls(&format!("{name}.pem")),
        key: tls(&format!("{name}.key")),
        ocsp: None,
        names: vec![],
    };
    let ocsp = Some(tls("edge.ocsp"));
    let one = TlsSettings {
        certificates: vec![CertificateFiles { ocsp: ocsp.clone(), ..files("edge") }],
        min_version: MinVersion::V13,
        clients: ClientCertificates::Off,
        tickets: TicketSettings { rotate: Duration::from_secs(12 * 3600), keys: None },
    };
    let b = CertificateFiles { ocsp, names: strings(&["*.b.example", "b.example"]), ..files("b") };
    let (ca, crl) = (tls("clients.pem"), Some(tls("clients.crl")));
    let several = TlsSettings {
        certificates: vec![files("edge"), b],
        min_version: MinVersion::V12,
        clients: ClientCertificates::Verified { optional: true, ca, crl },
        tickets: TicketSettings { rotate: Duration::from_secs(3600), keys: Some(tls("tickets.keys")) },
    };
    assert_eq!(listeners.iter().map(|it| it.tls.clone()).collect::<Vec<_>>(), [Some(one), Some(several)]);
}

/// A feed of which nothing is written but what it must.
fn feed(name: &str, source: Source, channel: Option<&str>) -> Feed {
    Feed {
        name: name.into(),
        source,
        tls: None,
        channel: channel.map(str::to_owned),
        topics: vec![],
        start: Start::New,
        framing: Framing::Lines,
        format: Format::Raw,
        text: true,
        invalid_text: InvalidText::Drop,
        message_bytes: 1 << 20,
        replay: Replay { messages: 0, bytes: 16 << 20, age: Duration::from_secs(600) },
        last_values: LastValues { keys: 65_536, bytes: 16 << 20, age: Duration::from_secs(168 * 3600) },
        channels_max: 1 << 20,
        prefix_linger: Duration::from_secs(30),
        prefixes_idle: 1024,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}

fn full_feeds(feeds: &[Feed]) {
    let replay = Replay { messages: 1000, bytes: 32 << 20, age: Duration::from_secs(600) };
    let udp = Source::Udp("127.0.0.1:9999".parse().unwrap());
    let tcp = Source::Tcp { host: "ticker".into(), port: 9999 };
    let listen = Source::TcpListen("[::1]:9999".parse().unwrap());
    let lines = feed("lines", tcp, None);
    let nats =
        feed("jetstream", Source::JetStream(Broker::new("tls://edge:secret@broker:4222"), "PRICES".into()), None);
    let file = |name: &str| folder("good").join("tls").join(name);
    let (certificate, key) = (file("edge.pem"), file("edge.key"));
    let identity = Some(CertificateFiles { certificate, key, ocsp: None, names: vec![] });
    let tls = ClientFiles { ca: Some(file("clients.pem")), identity };
    let redis = feed("redis", Source::RedisStreams(Broker::new("redis://10.0.0.1:6379/2")), None);
    let mqtt = feed("mqtt", Source::Mqtt(Broker::new("mqtt://[::1]:1884")), None);
    let expected = [
        Feed { text: false, replay, ..feed("ticker", udp, Some("ticker")) },
        Feed { format: Format::Json, invalid_text: InvalidText::Binary, message_bytes: 1 << 16, ..lines },
        Feed { framing: Framing::Length, ..feed("lengths", listen, Some("lengths")) },
        feed("socket", Source::Unix("/run/feed.sock".into()), Some("socket")),
        Feed { topics: strings(&["prices.>", "news.*.eu"]), start: Start::Sequence(17), tls: Some(tls), ..nats },
        Feed { topics: strings(&["trades"]), start: Start::First, ..redis },
        Feed {
            topics: strings(&["sensors/+/heat", "alarms/#"]),
            replay: Replay { messages: 1, bytes: 16 << 20, ..replay },
            ..mqtt
        },
        Feed {
            last_values: LastValues { keys: 1000, bytes: 1 << 20, age: Duration::from_secs(24 * 3600) },
            channels_max: 100,
            prefix_linger: Duration::from_secs(60),
            prefixes_idle: 10,
            ..feed("published", Source::Http, Some("news.*"))
        },
        feed("demo", Source::Demo, Some("demo")),
    ];
    assert_eq!(feeds, expected);
}

/// A broadcast route of which nothing is written but what it must.
fn broadcast(feeds: &[usize], channel_in_path: bool) -> Broadcast {
    Broadcast {
        feeds: feeds.to_vec(),
        channel_in_path,
        channels: vec![],
        channel_roles: vec![],
        subscribe: !channel_in_path,
        subscriptions_max: 64,
        subscription_changes: 256,
        order_bytes: 64 << 10,
        snapshot: false,
        envelope: Body::Plain,
        poll_timeout: Duration::from_secs(25),
        poll_gone: true,
        keep_alive: Duration::from_secs(20),
        retry: Duration::from_secs(3),
        gap_event: "gap".into(),
        slow_client: SlowClient { policy: Policy::Close, max_pending: 256 << 10, max_age: Duration::from_secs(10) },
    }
}

/// Nothing is written of addresses.
fn no_addresses() -> ClientAddresses {
    ClientAddresses {
        proxy_protocol: ProxyProtocol::Off,
        from: vec![],
        timeout: Duration::from_secs(5),
        trusted_proxies: vec![],
        field: ForwardedField::XForwardedFor,
    }
}

fn full_addresses() -> ClientAddresses {
    let networks = |texts: [&str; 2]| texts.map(|it| it.parse::<Network>().expect("a network")).to_vec();
    ClientAddresses {
        proxy_protocol: ProxyProtocol::Required,
        from: networks(["192.0.2.0/24", "2001:db8::7"]),
        timeout: Duration::from_secs(2),
        trusted_proxies: networks(["198.51.100.0/24", "::1"]),
        field: ForwardedField::Forwarded,
    }
}

/// Nothing is written of pages.
fn no_cors() -> Cors {
    Cors { max_age: Duration::from_secs(600), ..Cors::default() }
}

fn full_cors() -> Cors {
    Cors {
        allow_origin: Some(strings(&["https://example.org", "http://localhost:3000", "https://*.example.net"])),
        credentials: true,
        methods: strings(&["GET", "POST"]),
        headers: strings(&["Authorization"]),
        expose: strings(&["ETag"]),
        max_age: Duration::from_secs(3600),
    }
}

fn full_broadcast(routes: &[Route], limits: &Limits) {
    let expected = Broadcast {
        feeds: vec![4, 0, 7],
        channel_in_path: true,
        channels: strings(&["ticker", "prices.*", "prices.{user}"]),
        channel_roles: vec![ChannelRoles {
            channels: strings(&["prices.inner.*"]),
            roles: strings(&["trader", "clerk"]),
        }],
        subscribe: true,
        subscriptions_max: 10,
        subscription_changes: 20,
        order_bytes: 4096,
        snapshot: true,
        envelope: Body::Json,
        poll_timeout: Duration::from_secs(50),
        poll_gone: false,
        keep_alive: Duration::from_secs(15),
        retry: Duration::from_millis(500),
        gap_event: "edgehold-gap".into(),
        slow_client: SlowClient { policy: Policy::Conflate, max_pending: 1 << 20, max_age: Duration::from_secs(60) },
    };
    let feed = Route {
        path: "/feed/".into(),
        host: None,
        limits: Limits { message_bytes: 4096, ..limits.clone() },
        deflate: Deflate { on: false, takeover: false, min_bytes: 0 },
        cors: full_cors(),
        auth: None,
        roles: vec![],
        shares: full_shares(),
        service: Service::Broadcast(Box::new(expected)),
    };
    assert_eq!(routes[0], feed);
    let least = broadcast(&[1, 2, 3, 5, 6, 8], false);
    let slow_client = SlowClient { policy: Policy::Gap, ..least.slow_client };
    assert_eq!(routes[1].cors.allow_origin, Some(strings(&["*"])));
    let all = Broadcast { slow_client, ..least };
    assert_eq!(routes[1].service, Service::Broadcast(Box::new(all)));
    assert_eq!(routes[1].deflate, Deflate { on: true, takeover: true, min_bytes: 512 });
    assert_eq!(routes[2].service, Service::Broadcast(Box::new(broadcast(&[8], true))));
    assert_eq!(routes[2].path, "/");
    let below: Vec<bool> = routes.iter().map(Route::below).collect();
    assert_eq!(below, [true, false, true]);
}

fn full_routes(routes: &[Route], limits: &Limits) {
    let expected = Route {
        path: "/stomp".into(),
        host: Some("chat.example.org".into()),
        limits: Limits { head_bytes: 4096, message_bytes: 1 << 20, ..limits.clone() },
        deflate: Deflate { on: true, takeover: false, min_bytes: 512 },
        cors: no_cors(),
        auth: None,
        roles: vec![],
        shares: Shares::default(),
        service: Service::Proxy {
            upstreams: vec![
                Upstream::Tcp { host: "broker-1".into(), port: 61613, tls: None },
                Upstream::Tcp { host: "::1".into(), port: 61613, tls: None },
                Upstream::Unix("/run/broker.sock".into()),
            ],
            frames: Frames::Lines,
            subprotocols: vec!["v12.stomp".into(), "v11.stomp".into()],
            connect_timeout: Duration::from_millis(250),
            end_code: 1013,
            proxy_protocol: Some(Tells { identity: true, tls: true, ..Tells::default() }),
        },
    };
    assert_eq!(routes[0], expected);
    assert!(matches!(&routes[1].service, Service::Proxy { frames: Frames::Text, .. }));
    let files = |name: &str| folder("good").join("tls").join(name);
    let identity = CertificateFiles { certificate: files("edge.pem"), key: files("edge.key"), ..Default::default() };
    let files = ClientFiles { ca: Some(files("clients.pem")), identity: Some(identity) };
    let tls = UpstreamTlsSettings { files, server_name: Some("irc.example".into()), alpn: strings(&["irc"]) };
    let irc = |port, tls| Upstream::Tcp { host: "localhost".into(), port, tls };
    assert_eq!(routes[1].service.upstreams(), [irc(6667, None), irc(6697, Some(Box::new(tls)))]);
    assert_eq!(routes[1].limits, *limits);
    let (cache_control, charset) = ("max-age=60".into(), String::new());
    assert_eq!(routes[2].service, Service::Files { root: folder("good").join("www"), cache_control, charset });
    assert_eq!(routes[3].service, Service::Echo { subprotocols: vec!["chat".into()] });
    assert_eq!(routes[4].service, Service::Page);
    let below: Vec<bool> = routes.iter().map(Route::below).collect();
    assert_eq!(below, [false, false, true, true, false, false, false, false, false]);
    full_auth(&routes[5..]);
    offload::full_offload(&routes[7].service);
    offload::full_broker_auth(routes[7].auth.as_deref());
    offload::full_mqtt(&routes[8].service);
}

fn full_forward(ca: Option<PathBuf>) -> ForwardSettings {
    let seconds = Duration::from_secs;
    ForwardSettings {
        url: HttpUrl::of("http://127.0.0.1:9000/").unwrap(),
        ca,
        fields: strings(&["cookie", "x-api-key"]),
        keys: strings(&["x-api-key", "host"]),
        remember: seconds(60),
        refused_remember: seconds(5),
        parallel: 4,
        timeout: Duration::from_millis(500),
        open: true,
        name_field: "remote-user".into(),
        roles_field: String::new(),
        claims_fields: strings(&["x-tenant"]),
    }
}

fn full_auth(routes: &[Route]) {
    let file = |name: &str| folder("good").join(name);
    let seconds = Duration::from_secs;
    let ca = Some(file("tls/clients.pem"));
    let text = |it: &str| Some(it.to_owned());
    let jwt = JwtSettings {
        keys: KeySource::Url(HttpUrl::of("https://id.example/jwks?a=b").unwrap()),
        ca: ca.clone(),
        refresh: seconds(60),
        algorithms: ["ES256", "EdDSA"].map(|it| Algorithm::of(it).unwrap()).to_vec(),
        issuer: strings(&["https://id.example"]),
        audience: strings(&["edge", "all"]),
        leeway: seconds(5),
        remember: seconds(60),
        allow_without_expiry: true,
        name_claim: "email".into(),
        roles_claim: "realm_access.roles".into(),
        claims: strings(&["tenant"]),
        from: TokenPlaces { header: true, cookie: text("session"), query: text("token"), subprotocol: text("token.") },
        token_bytes: 4096,
    };
    let basic = BasicSettings { users: file("auth/users"), realm: "Example".into(), remember: Duration::ZERO };
    let certificate = CertificateSettings { name: CertificateName::Uri, roles: strings(&["agent"]) };
    let auth = AuthSettings {
        basic: Some(basic),
        jwt: Some(jwt),
        forward: Some(full_forward(ca)),
        broker: None,
        client_certificate: Some(certificate),
        timeout: seconds(2),
        expired_code: 4001,
    };
    assert_eq!(routes[0].auth.as_deref(), Some(&auth));
    assert_eq!(routes[0].roles, ["reader", "writer"]);
    let least = JwtSettings {
        keys: KeySource::File(file("auth/keys.pem")),
        ca: None,
        refresh: seconds(300),
        algorithms: vec![],
        issuer: vec![],
        audience: vec![],
        leeway: seconds(30),
        remember: seconds(300),
        allow_without_expiry: false,
        name_claim: "sub".into(),
        roles_claim: "roles".into(),
        claims: vec![],
        from: TokenPlaces { header: true, ..TokenPlaces::default() },
        token_bytes: 8192,
    };
    let auth = AuthSettings {
        basic: None,
        jwt: Some(least),
        forward: None,
        broker: None,
        client_certificate: None,
        timeout: seconds(5),
        expired_code: 1008,
    };
    assert_eq!(routes[1].auth.as_deref(), Some(&auth));
    assert!(routes[1].roles.is_empty());
}

#[test]
fn a_forward_that_writes_only_its_url_is_told_what_a_login_needs() {
    let text = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:8080\"\n\
                [[route]]\npath = \"/\"\nservice = \"page\"\nauth = { forward = { url = \"http://a/\" } }\n";
    let config = config::read(text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let auth = config.routes[0].auth.as_deref().unwrap();
    let forward = auth.forward.as_ref().unwrap();
    assert_eq!(forward.fields, ["authorization", "cookie"]);
    assert_eq!(forward.keys, ["host", "target", "method", "authorization", "cookie"]);
    assert_eq!((forward.open, forward.parallel), (false, 32));
}

/// A key that is added to the table is added to the full file, below the same head.
#[test]
fn the_full_file_has_every_key() {
    let text = fs::read_to_string(folder("good").join("full.toml")).unwrap();
    let page = config::reference();
    let mut count = 0;
    for section in page.split("\n## ").skip(1) {
        let (head, cards) = section.split_once('\n').unwrap();
        let written: String = tables(&text, head);
        for card in cards.lines().filter(|line| line.starts_with("### ") || line.starts_with("#### ")) {
            let key = card.rsplit([' ', '.']).next().unwrap();
            let lead = if card.starts_with("####") { ' ' } else { '\n' };
            assert!(written.contains(&format!("{lead}{key} = ")), "{head} {card}");
            count += 1;
        }
    }
    assert!(count > 60, "{count} cards");
}

/// What stands below a head, wherever it stands.
fn tables(text: &str, head: &str) -> String {
    let parts = text.split("\n[").filter_map(|part| part.strip_prefix(&head[1..]));
    parts.collect()
}

#[test]
fn the_demo_is_feeds_echo_and_page_on_the_loopback() {
    let demo = config::demo();
    assert_eq!(demo.listeners[0].name, "demo");
    assert_eq!(demo.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(demo.server.admin, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(demo.server.admin_allow_origin, ["http://127.0.0.1:8080", "http://localhost:8080"]);
    let replay = Replay { messages: 1000, bytes: 1 << 20, age: Duration::from_secs(600) };
    let counter = Feed { replay, ..feed("demo", Source::Demo, Some("ticker")) };
    assert_eq!(demo.feeds, [counter, Feed { replay, ..feed("http", Source::Http, None) }]);
    let paths: Vec<&str> = demo.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/feed/", "/echo", "/"]);
    let least = broadcast(&[0, 1], true);
    let slow_client = SlowClient { policy: Policy::Conflate, ..least.slow_client };
    assert_eq!(demo.routes[0].service, Service::Broadcast(Box::new(Broadcast { slow_client, ..least })));
    assert_eq!(demo.routes[1].service, Service::Echo { subprotocols: vec![] });
    assert_eq!(demo.routes[2].service, Service::Page);
    assert!(!demo.routes[2].below());
}

/// The example that everybody copies.
#[test]
fn a_ticker_from_datagrams() {
    let text = r#"
[[listener]]
name = "public"
address = "127.0.0.1:8080"

[[feed]]
name = "ticker"
source = "udp://127.0.0.1:9999"
channel = "ticker"            # or taken from the message
replay = { messages = 1000, age = "10m", bytes = "16MiB" }

[[route]]
path = "/feed/{channel}"
service = "broadcast"
feeds = ["ticker"]
slow_client = { policy = "conflate", max_pending = "256KiB", max_age = "10s" }
"#;
    let config = config::read(text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let udp = Source::Udp("127.0.0.1:9999".parse().unwrap());
    let replay = Replay { messages: 1000, bytes: 16 << 20, age: Duration::from_secs(600) };
    assert_eq!(config.feeds, [Feed { replay, ..feed("ticker", udp, Some("ticker")) }]);
    let least = broadcast(&[0], true);
    let slow_client = SlowClient { policy: Policy::Conflate, ..least.slow_client };
    assert_eq!(config.routes[0].service, Service::Broadcast(Box::new(Broadcast { slow_client, ..least })));
}

#[test]
fn the_page_in_docs_is_fresh() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let found = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        found == config::reference(),
        "docs/configuration.md is old: cargo run -- reference > docs/configuration.md"
    );
}

/// A folder for the files of one test, emptied.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn refusal(path: &Path) -> Problem {
    let problems = config::load(path).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].file, path.display().to_string());
    problems[0].clone()
}

#[test]
fn files_that_cannot_be_read_are_problems() {
    let folder = scratch("unreadable");
    assert!(refusal(&folder.join("absent.toml")).words.starts_with("there is no such file"));
    assert!(refusal(&folder).words.starts_with("cannot be read"));
    let binary = folder.join("binary.toml");
    fs::write(&binary, b"# \xC3\xA9\n[server]\nlog = \"\xFF\"\n").unwrap();
    let problem = refusal(&binary);
    assert_eq!((problem.line, problem.column), (3, 8));
    assert!(problem.words.starts_with("is not UTF-8"));
}

#[test]
fn a_file_without_end_is_refused() {
    assert!(refusal(Path::new("/dev/zero")).words.starts_with("is larger than 4 MiB"));
}

#[test]
fn more_tables_than_there_may_be() {
    let listener = |n: usize| format!("[[listener]]\nname = \"l{n}\"\naddress = \"127.0.0.1:{}\"\n", 1000 + n);
    let route = |n: usize| format!("[[route]]\npath = \"/{n}\"\nservice = \"echo\"\n");
    let text = |listeners: usize, routes: usize| -> String {
        (0..listeners).map(listener).chain((0..routes).map(route)).collect()
    };
    let config = config::read(&text(64, 4096), "x", Path::new("")).unwrap();
    assert_eq!((config.listeners.len(), config.routes.len()), (64, 4096));
    let problems = config::read(&text(65, 4097), "x", Path::new("")).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|p| (p.key.as_str(), p.line)).collect();
    assert_eq!(keys, [("listener[65]", 193), ("route[4097]", 196 + 4096 * 3)]);
}

#[test]
fn more_feeds_than_there_may_be() {
    let feed = |n: usize| format!("[[feed]]\nname = \"f{n}\"\nsource = \"demo\"\nchannel = \"c\"\n");
    let text = |feeds: usize| -> String {
        let names: Vec<String> = (0..feeds.min(256)).map(|n| format!("\"f{n}\"")).collect();
        let route = format!("[[route]]\npath = \"/\"\nservice = \"broadcast\"\nfeeds = [{}]\n", names.join(","));
        let listener = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n";
        [listener.into(), route].into_iter().chain((0..feeds).map(feed)).collect()
    };
    assert_eq!(config::read(&text(256), "x", Path::new("")).unwrap().feeds.len(), 256);
    let problems = config::read(&text(257), "x", Path::new("")).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|p| (p.key.as_str(), p.line)).collect();
    assert_eq!(keys, [("feed[257]", 8 + 256 * 4)]);
}

/// Marsaglia's xorshift: chance that comes back the same, named by its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Pieces that mean something to the parser, or to a key.
const PIECES: [&str; 29] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "\"",
    "\"\"\"",
    "'",
    "=",
    ".",
    ",",
    "\n",
    "\r",
    "#",
    "\\u",
    "é",
    "\u{0}",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "[[route]]\n",
    "[[feed]]\n",
    "[feed.replay]\n",
    "replay = { messages = 1 }",
    "feeds = [\"ticker\"]\n",
    "{channel}",
    "true",
];

/// One change: up to 20 characters cut out or doubled, or a piece put in.
fn change(text: &str, chance: &mut Chance) -> String {
    let spots: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let index = chance.below(spots.len());
    let from = spots[index];
    let to = spots[(index + chance.below(20)).min(spots.len() - 1)];
    match chance.below(4) {
        0 => [&text[..from], &text[to..]].concat(),
        1 => [&text[..to], &text[from..]].concat(),
        _ => [&text[..from], PIECES[chance.below(PIECES.len())], &text[from..]].concat(),
    }
}

/// Changed texts made from each file: some 40 000 in all, two seconds in a debug build.
const EACH: usize = 2000;

/// Whatever the text: no panic, and problems that can be shown.
#[test]
fn changed_files_give_a_configuration_or_problems() {
    let mut chance = Chance(0x5EED_ED6E);
    let (mut taken, mut refused) = (0, 0);
    let seeds: Vec<PathBuf> = [files("bad"), files("good")].concat();
    for path in &seeds {
        let text = fs::read_to_string(path).unwrap();
        for _ in 0..EACH {
            let mut changed = text.clone();
            for _ in 0..=chance.below(3) {
                changed = change(&changed, &mut chance);
            }
            match config::read(&changed, "changed.toml", &folder("good")) {
                Ok(config) => taken += usize::from(sound(&config)),
                Err(problems) => refused += usize::from(showable(&problems, &changed)),
            }
        }
    }
    assert_eq!(taken + refused, seeds.len() * EACH);
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

fn sound(config: &Config) -> bool {
    let limits = || config.routes.iter().map(|route| &route.limits);
    assert!(!config.listeners.is_empty() && !config.routes.is_empty());
    assert!(limits().all(|l| l.head_bytes <= config.limits.head_bytes && l.max_pending >= 4096));
    assert!(limits().all(|l| !l.idle_timeout.is_zero() && !l.head_timeout.is_zero()));
    for route in &config.routes {
        if let Service::Broadcast(broadcast) = &route.service {
            assert!(!broadcast.feeds.is_empty() && broadcast.feeds.iter().all(|place| *place < config.feeds.len()));
            assert!(broadcast.slow_client.max_pending >= 4096 && !broadcast.poll_timeout.is_zero());
        }
    }
    true
}

fn showable(problems: &[Problem], text: &str) -> bool {
    let last = text.matches('\n').count() + 1;
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(problem.line <= last, "{problem}");
        assert_eq!(problem.to_string().lines().count(), 1, "{problem}");
    }
    true
}

#[test]
fn deep_nesting_is_a_problem() {
    for piece in ["[", "{a=", "a."] {
        let text = format!("x = {}", piece.repeat(50_000));
        assert!(config::read(&text, "x", Path::new("")).is_err());
        let text = format!("{}x = 1", "a.".repeat(50_000));
        assert!(config::read(&text, "x", Path::new("")).is_err());
    }
}

// The command line.

fn parse(arguments: &[&str]) -> Result<Command, i32> {
    let all = ["edgehold"].iter().chain(arguments);
    cli::parse_from(all).map(cli::Cli::task).map_err(|error| error.exit_code())
}

#[test]
fn without_a_command_it_serves() {
    assert!(matches!(parse(&[]), Ok(Command::Serve(file)) if file.config.is_none()));
    assert!(matches!(parse(&["--config", "x"]), Ok(Command::Serve(file)) if file.config == Some("x".into())));
    assert!(matches!(parse(&["serve", "-c", "x"]), Ok(Command::Serve(file)) if file.config == Some("x".into())));
}

#[test]
fn commands_are_told_apart() {
    assert!(matches!(parse(&["check", "--config", "x"]), Ok(Command::Check(file)) if file.config == Path::new("x")));
    assert!(matches!(parse(&["doctor"]), Ok(Command::Doctor(_))));
    assert!(matches!(parse(&["man"]), Ok(Command::Man)));
    assert!(matches!(parse(&["reference"]), Ok(Command::Reference { page: cli::Page::Configuration })));
    assert!(matches!(parse(&["reference", "metrics"]), Ok(Command::Reference { page: cli::Page::Metrics })));
}

#[test]
fn usage_errors_exit_with_two_and_help_with_zero() {
    for wrong in [&["check"][..], &["serve", "x"], &["nonsense"], &["completions", "tcsh"], &["--config", "x", "man"]] {
        assert_eq!(parse(wrong).err(), Some(2), "{wrong:?}");
    }
    assert_eq!(parse(&["--help"]).err(), Some(0));
    assert_eq!(parse(&["--version"]).err(), Some(0));
}

#[test]
fn completions_and_manual_know_every_command() {
    let mut pages = vec![Vec::new()];
    cli::man(&mut pages[0]).unwrap();
    let manual = String::from_utf8(pages[0].clone()).unwrap();
    for section in ["\"EXIT STATUS\"", "SIGNALS", "FILES", "EXAMPLES"] {
        assert!(manual.contains(&format!(".SH {section}\n")), "{section}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let Ok(Command::Completions { shell }) = parse(&["completions", shell]) else { panic!("{shell}") };
        let mut script = Vec::new();
        cli::completions(shell, &mut script).unwrap();
        pages.push(script);
    }
    for page in pages {
        let page = String::from_utf8(page).unwrap().to_lowercase();
        for command in ["serve", "check", "doctor", "completions", "man", "reference"] {
            assert!(page.contains(command), "{command} in {page:.60}");
        }
    }
}
