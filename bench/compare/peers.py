"""The peers: what each is, how it is started, and which works it can do.

All listen at the same port, since only one runs at a time. Configurations stand in configs/ as they are used.
"""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import check
from place import CACHE, TLS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIGS = HERE / "configs"
BUILT = CACHE / "target" / "release"

PORT = 800
BACK_END_PORT = 900
ADDRESS = f"127.0.0.1:{PORT}"
ADMIN = "http://127.0.0.1:918"
BACK_END_ADDRESS = f"127.0.0.1:{BACK_END_PORT}"

EDGEHOLD = Path(os.environ.get("EDGEHOLD", ROOT / "target" / "release" / "edgehold")).resolve()
BENCH = Path(os.environ.get("EDGEHOLD_BENCH", ROOT / "target" / "release" / "edgehold-bench")).resolve()

DIRECT, PROXY, BROADCAST = "direct", "proxy", "broadcast"
TLS_DIRECT, TLS_PROXY, TLS_BROADCAST, TLS_CROWD = "tls-direct", "tls-proxy", "tls-broadcast", "tls-crowd"
REFERENCES = {
    DIRECT: "edgehold",
    PROXY: "edgehold-proxy",
    BROADCAST: "edgehold-broadcast",
    TLS_DIRECT: "edgehold-tls",
    TLS_PROXY: "edgehold-proxy-tls",
    TLS_BROADCAST: "edgehold-broadcast-tls",
}


@dataclass(frozen=True)
class BackEnd:
    """The process behind a proxy."""

    command: tuple
    url: str
    configs: tuple = ()


@dataclass(frozen=True)
class Feed:
    """How messages are published to a server that broadcasts them."""

    publish: str  # a URL: http is a POST for each message, ws a text message on one WebSocket
    publish_as: str = "{}"  # what is published, {} being the message
    events: str = None  # where subscribers by event stream go, if it has them


@dataclass(frozen=True)
class Peer:
    """A server that is measured."""

    name: str
    title: str
    command: tuple
    url: str = f"ws://{ADDRESS}/echo"
    kind: str = DIRECT
    configs: tuple = ()
    env: dict = field(default_factory=dict)
    back_end: BackEnd = None
    admin: str = None  # where it tells its own counters, among them how many connections are parked
    check: object = check.websocket_echo
    echoes: bool = True  # whether it sends messages back
    shakes_hands: bool = True  # whether it opens WebSockets: the bare echo does not
    feed: Feed = None  # how it is published to, where it broadcasts
    alone: bool = False  # a program that is both ends: it meets no server, and no edgehold-bench
    page: str = None  # what an edge over TLS answers itself
    cipher: str = "aes-128"  # over TLS, the one that clients offer
    is_variant: bool = False  # edgehold once more, for comparison with itself

    @property
    def reference(self):
        """The edgehold that this peer is compared with."""
        return REFERENCES.get(self.kind, self.name)

    @property
    def is_secure(self):
        return self.url.startswith("wss:")


def program(name):
    """Where a Debian package put it; the path of a plain user lacks sbin."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])) or name


def edgehold(config):
    return (EDGEHOLD, "serve", "--config", CONFIGS / config)


def echo_limit(address):
    return (BUILT / "echo_limit", address, "--connections", "19000")


# Behind edgehold's proxy lies a plain TCP echo, behind the others a WebSocket echo: what each of them carries.
TCP_BACK_END = BackEnd(echo_limit(BACK_END_ADDRESS), f"tcp://{BACK_END_ADDRESS}")
WEBSOCKET_BACK_END = BackEnd(edgehold("back-end.toml"), f"ws://{BACK_END_ADDRESS}/echo", ("back-end.toml",))

NODE_ENV = {"NODE_PATH": str(CACHE / "node" / "node_modules"), "NODE_ENV": "production"}
PYTHON_ENV = {"PYTHONPATH": str(CACHE / "python"), "PYTHONDONTWRITEBYTECODE": "1"}


def nginx(config):
    """nginx keeps its temporary files where it is started; `-e` keeps it from opening the log that is built in."""
    return (program("nginx"), "-p", ".", "-e", "stderr", "-c", CONFIGS / config)


def haproxy(config):
    return (program("haproxy"), "-db", "-f", CONFIGS / config)


def nchan():
    return nginx("nchan.conf")


def broadcaster(name, title, command, feed, **more):
    """A server that carries what is published to all of its subscribers."""
    return Peer(name, title, command, kind=BROADCAST, feed=feed, check=check.broadcast(feed), echoes=False, **more)


CERTIFICATE = (TLS / "edge.pem", TLS / "edge.key")
ECHO_TLS = f"wss://{ADDRESS}/echo"
NCHAN_TLS_FEED = Feed("http://127.0.0.1:801/pub?id=all")


def secure(name, title, command, configs=(), **more):
    """A WebSocket server over TLS."""
    settings = {"url": ECHO_TLS, "check": check.secure_echo, **more}
    return Peer(name, title, command, kind=TLS_DIRECT, configs=configs, **settings)


def secure_edge(name, title, command, config, back_end, **more):
    """A proxy that takes TLS off."""
    page = f"https://{ADDRESS}/page"
    return Peer(name, title, command, url=ECHO_TLS, kind=TLS_PROXY, configs=(config,), back_end=back_end, page=page,
                check=check.secure_edge(page), **more)


def crowd(name, title, config):
    """edgehold over TLS, for a crowd that only it is asked to hold."""
    return Peer(name, title, edgehold(config), url=ECHO_TLS, kind=TLS_CROWD, configs=(config,), admin=ADMIN,
                check=check.secure_echo)


def secure_broadcaster(name, title, command, config, feed, **more):
    """A server that carries to WebSockets over TLS what is published to it in clear text."""
    return Peer(name, title, command, kind=TLS_BROADCAST, configs=(config,), feed=feed, check=check.broadcast(feed),
                **more)


SECURE_PEERS = (
    secure("edgehold-tls", "edgehold over TLS, echo service", edgehold("edgehold-tls.toml"), ("edgehold-tls.toml",),
           admin=ADMIN),
    secure("edgehold-aes256", "the same with clients that have AES-256 only", edgehold("edgehold-tls.toml"),
           ("edgehold-tls.toml",), admin=ADMIN, cipher="aes-256", is_variant=True),
    secure("edgehold-clear", "edgehold in clear text, echo service", edgehold("edgehold.toml"), ("edgehold.toml",),
           admin=ADMIN, url=f"ws://{ADDRESS}/echo", check=check.websocket_echo, is_variant=True),
    secure("fastwebsockets-tls", "fastwebsockets on hyper and tokio-rustls",
           (BUILT / "fastwebsockets", ADDRESS, *CERTIFICATE)),
    secure("tungstenite-tls", "tokio-tungstenite on tokio-rustls, small buffers",
           (BUILT / "tungstenite", ADDRESS, *CERTIFICATE)),
    secure("ws-tls", "Node.js ws on https", ("node", CONFIGS / "ws.cjs", ADDRESS, *CERTIFICATE), ("ws.cjs",),
           env=NODE_ENV),
    secure("uwebsockets-tls", "uWebSockets with BoringSSL through Python (socketify)",
           (sys.executable, CONFIGS / "uwebsockets.py", ADDRESS, *CERTIFICATE), ("uwebsockets.py",), env=PYTHON_ENV,
           check=check.secure_echo_in_any_order),
    secure("nchan-tls", "nchan, WebSocket subscribers", nginx("nchan-tls.conf"), ("nchan-tls.conf",),
           url=f"wss://{ADDRESS}/sub?id=all", check=check.broadcast(NCHAN_TLS_FEED), echoes=False),
    secure_edge("edgehold-proxy-tls", "edgehold over TLS, proxy service", edgehold("edgehold-proxy-tls.toml"),
                "edgehold-proxy-tls.toml", TCP_BACK_END, admin=ADMIN),
    secure_edge("nginx-tls", "nginx over TLS, WebSocket proxy", nginx("nginx-tls.conf"), "nginx-tls.conf",
                WEBSOCKET_BACK_END),
    secure_edge("haproxy-tls", "HAProxy over TLS, WebSocket proxy", haproxy("haproxy-tls.cfg"), "haproxy-tls.cfg",
                WEBSOCKET_BACK_END),
    secure_broadcaster("edgehold-broadcast-tls", "edgehold over TLS, broadcast service",
                       edgehold("edgehold-broadcast-tls.toml"), "edgehold-broadcast-tls.toml",
                       Feed(f"{ADMIN}/v1/publish/ticker"), url=f"wss://{ADDRESS}/feed/ticker", admin=ADMIN),
    secure_broadcaster("edgehold-broadcast-clear", "edgehold in clear text, broadcast service",
                       edgehold("edgehold-broadcast.toml"), "edgehold-broadcast.toml",
                       Feed(f"{ADMIN}/v1/publish/ticker"), url=f"ws://{ADDRESS}/feed/ticker", admin=ADMIN,
                       is_variant=True),
    secure_broadcaster("nchan-broadcast-tls", "nchan over TLS, one channel", nginx("nchan-tls.conf"), "nchan-tls.conf",
                       NCHAN_TLS_FEED, url=f"wss://{ADDRESS}/sub?id=all"),
    crowd("edgehold-storm", "edgehold over TLS, two shards", "edgehold-storm.toml"),
    crowd("edgehold-storm-one", "edgehold over TLS, one shard", "edgehold-storm-one.toml"),
    crowd("edgehold-hold", "edgehold over TLS, twelve shards", "edgehold-hold.toml"),
)
CLEAR_PEERS = (
    Peer("edgehold", "edgehold, echo service", edgehold("edgehold.toml"), configs=("edgehold.toml",),
         admin=ADMIN),
    Peer("limit", "bare io_uring TCP echo, no WebSocket (bench/micro)", echo_limit(ADDRESS),
         url=f"tcp://{ADDRESS}", check=check.tcp_echo, shakes_hands=False),
    Peer("fastwebsockets", "fastwebsockets on hyper and tokio", (BUILT / "fastwebsockets", ADDRESS)),
    Peer("tungstenite", "tokio-tungstenite, small buffers", (BUILT / "tungstenite", ADDRESS)),
    Peer("ws", "Node.js ws", ("node", CONFIGS / "ws.cjs", ADDRESS), configs=("ws.cjs",), env=NODE_ENV),
    Peer("uwebsockets", "uWebSockets through Python (socketify)",
         (sys.executable, CONFIGS / "uwebsockets.py", ADDRESS), configs=("uwebsockets.py",), env=PYTHON_ENV),
    Peer("nchan", "nchan, WebSocket subscribers", nchan(), url=f"ws://{ADDRESS}/sub?id=all",
         configs=("nchan.conf",), check=check.subscriber, echoes=False),
    Peer("edgehold-proxy", "edgehold, proxy service", edgehold("edgehold-proxy.toml"), kind=PROXY,
         configs=("edgehold-proxy.toml",), back_end=TCP_BACK_END, admin=ADMIN),
    Peer("nginx", "nginx, WebSocket proxy", nginx("nginx.conf"), kind=PROXY, configs=("nginx.conf",),
         back_end=WEBSOCKET_BACK_END),
    Peer("haproxy", "HAProxy, WebSocket proxy", haproxy("haproxy.cfg"), kind=PROXY,
         configs=("haproxy.cfg",), back_end=WEBSOCKET_BACK_END),
    broadcaster("edgehold-broadcast", "edgehold, broadcast service", edgehold("edgehold-broadcast.toml"),
                url=f"ws://{ADDRESS}/feed/ticker", configs=("edgehold-broadcast.toml",), admin=ADMIN,
                feed=Feed(f"{ADMIN}/v1/publish/ticker", events=f"http://{ADDRESS}/feed/ticker")),
    Peer("fan-limit", "bare io_uring sends, no WebSocket (bench/micro)", (BUILT / "fan_limit",), kind=BROADCAST,
         echoes=False, shakes_hands=False, alone=True),
    broadcaster("nchan-broadcast", "nchan, one channel", nchan(), url=f"ws://{ADDRESS}/sub?id=all",
                configs=("nchan.conf",),
                feed=Feed(f"http://{ADDRESS}/pub?id=all", events=f"http://{ADDRESS}/events?id=all")),
    broadcaster("ws-broadcast", "Node.js ws, a loop over its clients", ("node", CONFIGS / "ws-broadcast.cjs", ADDRESS),
                url=f"ws://{ADDRESS}/feed", configs=("ws-broadcast.cjs",), env=NODE_ENV,
                feed=Feed(f"ws://{ADDRESS}/publish")),
    broadcaster("uwebsockets-broadcast", "uWebSockets through Python (socketify), one topic",
                (sys.executable, CONFIGS / "uwebsockets-broadcast.py", ADDRESS), url=f"ws://{ADDRESS}/feed",
                configs=("uwebsockets-broadcast.py",), env=PYTHON_ENV, feed=Feed(f"ws://{ADDRESS}/publish")),
)
PEERS = CLEAR_PEERS + SECURE_PEERS
NAMES = tuple(peer.name for peer in PEERS)
