"""What the gate costs and what it holds off: see run."""

import base64
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

OUT = Path(sys.argv[1])
PORT, PLAIN_PORT, PROXY_PORT, ADMIN = 18480, 18481, 18482, 19480
ROUNDS, BATCH = 24, 4000
INSIDE, RATE, SECONDS = 200, 2000, 12
RST = struct.pack("ii", 1, 0)

CONFIG = """
[server]
shards = 1
slots_per_shard = 18000
admin = "127.0.0.1:{admin}"

[[listener]]
name = "public"
address = "127.0.0.1:{port}"
{addresses}

{more}
[limits]
head_timeout = "5s"

[[route]]
path = "/echo"
service = "echo"

[[route]]
path = "/gated"
service = "echo"
allow_origin = ["https://app.example", "https://*.app.example"]
auth = {{ jwt = {{ keys = "{key}", algorithms = ["ES256"], issuer = "https://id.example", audience = "edge" }} }}
roles = ["reader"]
"""

PROXIED = """
[[listener]]
name = "behind"
address = "127.0.0.1:{port}"
proxy_protocol = {{ mode = "required", from = ["127.0.0.0/8"], timeout = "3s" }}
"""


# ---- tokens ----

KEY = ec.generate_private_key(ec.SECP256R1())


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = b64(b'{"alg":"ES256","typ":"JWT"}')


def token(number, key=KEY):
    claims = {
        "iss": "https://id.example",
        "aud": "edge",
        "sub": f"user-{number}",
        "roles": ["reader"],
        "iat": int(time.time()),
        "exp": int(time.time()) + 36000,
    }
    text = f"{HEADER}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


# ---- servers ----


class Server:
    """An edgehold on core 0, with its listener at `port`."""

    def __init__(self, folder, name, port, admin, addresses="", more=""):
        key = folder / "key.pem"
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        key.write_bytes(KEY.public_key().public_bytes(*form))
        config = folder / f"{name}.toml"
        config.write_text(CONFIG.format(admin=admin, port=port, addresses=addresses, more=more, key=key))
        (OUT / f"{name}.toml").write_text(config.read_text().replace(str(folder), "."))
        log = open(OUT / f"{name}.log", "w")
        self.admin = admin
        command = ["taskset", "-c", "0", os.environ["EDGEHOLD"], "serve", "--config", str(config)]
        self.process = subprocess.Popen(command, stderr=log, stdout=log)
        self.wait(port)

    def wait(self, port):
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
        sys.exit("the server does not answer")

    def cpu(self):
        """Seconds on a processor so far: of the shard, of all other threads."""
        shard = other = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            if (task / "comm").read_text().startswith("shard-"):
                shard += nanoseconds
            else:
                other += nanoseconds
        return shard / 1e9, other / 1e9

    def rss(self):
        """Bytes of user memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024

    def metrics(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5).read().decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


# ---- clients ----


def opening(path, shown):
    # Without a gate of its own a route takes pages of its own host.
    origin = "https://a.app.example" if path == "/gated" else "https://edge.example"
    return (
        f"GET {path} HTTP/1.1\r\nHost: edge.example\r\nOrigin: {origin}\r\n"
        f"Authorization: Bearer {shown}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def open_one(port, head):
    """The socket of an opening that was answered, and the status."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    client.connect(("127.0.0.1", port))
    client.sendall(head)
    return client, client.recv(512)[9:12]


def handshakes(port, heads):
    for head in heads:
        client, status = open_one(port, head)
        if status != b"101":
            sys.exit(f"{status} in answer to an opening")
        client.close()


# ---- what is measured ----


def handshake(folder):
    limits = 'addresses = { connections = 5000, connects_per_second = { rate = 1000000, burst = 1000000 } }'
    gated = Server(folder, "gated", PORT, ADMIN, limits)
    plain = Server(folder, "plain", PLAIN_PORT, ADMIN + 1)
    known = token(0)
    fresh = [opening("/gated", token(number + 1)) for number in range(ROUNDS * BATCH // 4)]
    same = {
        "plain": (plain, PLAIN_PORT, lambda _: [opening("/echo", known)] * BATCH),
        "known": (gated, PORT, lambda _: [opening("/gated", known)] * BATCH),
        "limits": (gated, PORT, lambda _: [opening("/echo", known)] * BATCH),
        "fresh": (gated, PORT, lambda turn: fresh[turn * BATCH // 4 : (turn + 1) * BATCH // 4]),
    }
    rows = []
    for turn in range(ROUNDS):
        for name, (server, port, heads) in same.items():
            these = heads(turn)
            before = server.cpu()
            handshakes(port, these)
            time.sleep(0.05)
            shard, other = (b - a for a, b in zip(before, server.cpu()))
            row = {"shard_us": shard / len(these) * 1e6, "other_us": other / len(these) * 1e6}
            rows.append({"name": name, "turn": turn, **row})
    (OUT / "handshake.json").write_text(json.dumps(rows, indent=1))
    for server in (gated, plain):
        server.stop()
    lines = ["| | shard, µs | spread | other threads, µs |", "|---|---|---|---|"]
    for name in same:
        shard = sorted(row["shard_us"] for row in rows if row["name"] == name)
        other = statistics.median(row["other_us"] for row in rows if row["name"] == name)
        low, high = shard[len(shard) // 4], shard[3 * len(shard) // 4]
        lines.append(f"| {name} | {statistics.median(shard):.1f} | {low:.1f}–{high:.1f} | {other:.1f} |")
    by = {(row["name"], row["turn"]): row["shard_us"] for row in rows}
    for name in ("known", "limits", "fresh"):
        more = statistics.median(by[name, turn] - by["plain", turn] for turn in range(ROUNDS))
        lines.append(f"\n{name} − plain, median of {ROUNDS} turns: {more:.2f} µs")
    return lines


def memory(folder):
    lines, count = ["| | bytes of user memory for each idle connection |", "|---|---|"], 15000
    shown = {
        "nobody asked": lambda number: opening("/echo", "x"),
        "one token": lambda number, known=token(0): opening("/gated", known),
        "a token for each": lambda number: opening("/gated", token(number)),
    }
    for name, head in shown.items():
        server = Server(folder, "memory", PORT, ADMIN)
        held = [open_one(PORT, head(number)) for number in range(200)]
        time.sleep(1)
        before = server.rss()
        held += [open_one(PORT, head(number + 1000)) for number in range(count)]
        # Behind park_after, so that all are idle.
        time.sleep(8)
        lines.append(f"| {name} | {(server.rss() - before) / count:.0f} |")
        for client, _ in held:
            client.close()
        server.stop()
    return lines


# ---- attacks ----


def connects(stop):
    """From 200 addresses, as fast as they come."""
    while not stop.is_set():
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        client.settimeout(0.5)
        try:
            client.bind((f"127.0.1.{random.randrange(1, 201)}", 0))
            client.connect(("127.0.0.1", PORT))
        except OSError:
            pass
        client.close()


def dribble(port, begin):
    """Many clients that send a byte a second of something that never ends."""

    def attack(stop):
        crowd = []
        while not stop.is_set():
            while len(crowd) < 3000 and not stop.is_set():
                try:
                    client = socket.create_connection(("127.0.0.1", port), 1)
                    client.setblocking(False)
                    client.sendall(begin)
                    crowd.append(client)
                except OSError:
                    break
            for client in list(crowd):
                try:
                    client.send(b"a")
                    if client.recv(512, socket.MSG_PEEK) == b"":
                        raise OSError
                except BlockingIOError:
                    pass
                except OSError:
                    client.close()
                    crowd.remove(client)
            stop.wait(0.5)
        for client in crowd:
            client.close()

    return attack


def noise(stop):
    """Random bytes, as fast as they come."""
    while not stop.is_set():
        try:
            client = socket.create_connection(("127.0.0.1", PORT), 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            client.sendall(random.randbytes(512))
            client.recv(512)
            client.close()
        except OSError:
            pass


def forgeries(stop):
    """Tokens that somebody else has signed, each another one, as fast as they come."""
    other = ec.generate_private_key(ec.SECP256R1())
    signed = token(0, other).split(".")
    while not stop.is_set():
        claims = {"iss": "https://id.example", "aud": "edge", "sub": f"{random.random()}", "exp": int(time.time()) + 60}
        shown = f"{signed[0]}.{b64(json.dumps(claims).encode())}.{signed[2]}"
        try:
            client, _ = open_one(PORT, opening("/gated", shown))
            client.close()
        except OSError:
            pass


def crowd(stop):
    """15 000 clients that come and say nothing."""
    held = []
    while not stop.is_set():
        if len(held) < 15000:
            try:
                held.append(socket.create_connection(("127.0.0.1", PORT), 1))
            except OSError:
                stop.wait(0.01)
        else:
            stop.wait(0.1)
    for client in held:
        client.close()


ATTACKS = {
    "connects above the limit": connects,
    "slow PROXY headers": dribble(PROXY_PORT, b"PROXY TCP4 "),
    "slow heads": dribble(PORT, b"GET / HTTP/1.1\r\nX: "),
    "random bytes": noise,
    "wrong tokens": forgeries,
    "clients that say nothing": crowd,
}


LENIENT = "addresses = { connections = 17000, connects_per_second = { rate = 50000, burst = 50000 }, unauthenticated = 16000 }"
STRICT = "addresses = { connections = 250, connects_per_second = { rate = 5, burst = 300 } }"


def attacks(folder):
    lines = ["| | p50, µs | p99, µs | p99 ÷ quiet | refused or ended, by reason |", "|---|---|---|---|---|"]
    for name, attack in [("quiet", None), *ATTACKS.items()]:
        limits = STRICT if attack is connects else LENIENT
        server = Server(folder, "attacks", PORT, ADMIN, limits, PROXIED.format(port=PROXY_PORT))
        lines.append(under(server, name, attack))
        server.stop()
    return lines


QUIET = []


def under(server, name, attack):
    stop = threading.Event()
    path = OUT / f"attack-{name.replace(' ', '-')}.json"
    # Before the attackers on their core: what is measured is the server, not who gets that core next.
    command = ["chrt", "-f", "1", "taskset", "-c", "1", os.environ["EDGEHOLD_BENCH"], "echo", "--url", f"ws://127.0.0.1:{PORT}/echo"]
    command += ["--connections", str(INSIDE), "--rate", str(RATE), "--duration", f"{SECONDS}s", "--json", str(path)]
    before = server.metrics()
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(1.5)
    attackers = os.fork() if attack else 0
    if attack and not attackers:
        os.sched_setaffinity(0, {1})
        threading.Timer(SECONDS - 2, stop.set).start()
        attack(stop)
        os._exit(0)
    tool.wait()
    if attackers:
        os.waitpid(attackers, 0)
    # What the attackers have left is ended in time.
    time.sleep(6)
    after = server.metrics()
    grown = {key: after[key] - before.get(key, 0) for key in after}
    named = {key: value for key, value in grown.items() if value and ("refus" in key or "closes" in key or "denied" in key)}
    left = sum(value for key, value in after.items() if key.startswith("edgehold_connections{") and "admin" not in key)
    (OUT / f"{path.stem}-metrics.json").write_text(json.dumps({"grown": named, "left": left, "rss": server.rss()}, indent=1))
    result = json.loads(path.read_text())
    p50, p99 = latency(result)
    if not attack:
        QUIET.append(p99)
    shown = ", ".join(f"{key.split('edgehold_')[1]} {value:.0f}" for key, value in sorted(named.items()))
    return f"| {name} | {p50:.0f} | {p99:.0f} | {p99 / QUIET[0]:.1f} | {shown}; left {left:.0f} |"


def latency(result):
    """p50 and p99 of the echoes, in µs."""
    its = result["load"][0]["latency"]
    return its["p50_us"], its["p99_us"]


def main():
    chosen = sys.argv[2:] or ["handshake", "memory", "attacks"]
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            lines = {"handshake": handshake, "memory": memory, "attacks": attacks}[name](Path(folder))
            text = "\n".join(lines) + "\n"
            (OUT / f"{name}.md").write_text(text)
            print(f"## {name}\n\n{text}")


main()
