"""The peers: what each is, how it is started, and which works it can do.

All listen at the same port, since only one runs at a time. Configurations stand in configs/ as they are used.
"""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import check

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = HERE / ".cache"
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
REFERENCES = {DIRECT: "edgehold", PROXY: "edgehold-proxy", BROADCAST: "edgehold-broadcast"}


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

    @property
    def reference(self):
        """The edgehold that this peer is compared with."""
        return REFERENCES[self.kind]


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


def nchan():
    return nginx("nchan.conf")


def broadcaster(name, title, command, feed, **more):
    """A server that carries what is published to all of its subscribers."""
    return Peer(name, title, command, kind=BROADCAST, feed=feed, check=check.broadcast(feed), echoes=False, **more)


PEERS = (
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
    Peer("haproxy", "HAProxy, WebSocket proxy", (program("haproxy"), "-db", "-f", CONFIGS / "haproxy.cfg"), kind=PROXY,
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
NAMES = tuple(peer.name for peer in PEERS)
