#!/usr/bin/env python3
"""What clients of a broker cost it and the edge: see run."""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

OUT = Path(sys.argv[1])
CLIENTS, TOPICS = int(os.environ.get("CLIENTS", 10000)), int(os.environ.get("TOPICS", 100))
RATE, SECONDS = int(os.environ.get("RATE", 10)), int(os.environ.get("SECONDS", 20))
ROUNDS, RETURNING = int(os.environ.get("ROUNDS", 3)), int(os.environ.get("RETURNING", 15000))
EDGE_CORE, TOOL_CORE, CONNECT_RATE = "0", "1", "1000"
BROKER_CORES = os.environ.get("BROKER_CORES", "0")
EDGE, ADMIN = "127.0.0.1:8080", "127.0.0.1:9180"

CONFIG = """
[server]
shards = 1
slots_per_shard = {slots}
admin = "{admin}"

[[listener]]
name = "public"
address = "{edge}"

[[route]]
path = "/proxy"
service = "proxy"
upstream = "tcp://127.0.0.1:{port}"

[[feed]]
name = "bench"
source = "http"

[[route]]
path = "/feed/{{channel}}"
service = "broadcast"
feeds = ["bench"]
"""

SERVICE = """
[[route]]
path = "/offload"
service = "{protocol}"
upstream = ["tcp://127.0.0.1:{port}"]
share = ["{share}"]
"""

CREDENTIALS = 'credentials = { user = "guest", password_file = "broker.pw" }\n'

RABBIT = """
listeners.tcp.1 = 127.0.0.1:5672
stomp.listeners.tcp.1 = 127.0.0.1:61613
stomp.tcp_listen_options.backlog = 8192
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = 15674
web_stomp.tcp.backlog = 8192
loopback_users = none
log.console = true
log.file = false
"""

MOSQUITTO = """
listener 1883 127.0.0.1
listener 9001 127.0.0.1
protocol websockets
allow_anonymous true
persistence false
max_queued_messages 0
"""


class Broker:
    """RabbitMQ or Mosquitto, begun anew for each run; ended by its process number."""

    def __init__(self, protocol):
        self.protocol, self.log = protocol, open(OUT / f"{protocol}.log", "ab")
        rabbit = protocol == "stomp"
        self.port, self.web, self.path = (61613, 15674, "/ws") if rabbit else (1883, 9001, "/mqtt")
        self.login = ["--user", "guest", "--password", "guest"] if rabbit else []
        self.others = []
        command, env = self.rabbit() if rabbit else self.mosquitto()
        command = ["taskset", "-c", BROKER_CORES, *command]
        self.child = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)
        until(lambda: listening(self.port) and listening(self.web), f"{protocol}: the broker listens")
        # It still settles when it listens already.
        time.sleep(5)
        self.pid = beam(self.child.pid) if rabbit else self.child.pid

    def mosquitto(self):
        (OUT / "mosquitto.conf").write_text(MOSQUITTO)
        return ["mosquitto", "-c", str(OUT / "mosquitto.conf")], {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}

    def rabbit(self):
        home = Path(tempfile.mkdtemp())
        for folder in ("mnesia", "log"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "rabbitmq.conf").write_text(RABBIT)
        (home / "enabled_plugins").write_text("[rabbitmq_stomp,rabbitmq_web_stomp].\n")
        settings = {
            "RABBITMQ_CONFIG_FILE": home / "rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": home / "enabled_plugins",
            "RABBITMQ_MNESIA_BASE": home / "mnesia", "RABBITMQ_LOG_BASE": home / "log",
            "RABBITMQ_NODENAME": "bench@localhost", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
            "HOME": home, "LC_ALL": "C.UTF-8", "RABBITMQ_PID_FILE": home / "pid", "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"], {**os.environ, **{k: str(v) for k, v in settings.items()}}

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        self.child.wait(timeout=60)
        # It leaves Erlang's name server behind, in our namespace alone.
        for pid in listeners(4369):
            os.kill(pid, signal.SIGTERM)


class Edge:
    """The server, with one shard; with the service for this broker, or without it."""

    def __init__(self, broker, with_service):
        stomp = broker.protocol == "stomp"
        password = OUT / "broker.pw"
        password.write_text("guest\n")
        password.chmod(0o600)
        text = CONFIG.format(edge=EDGE, admin=ADMIN, port=broker.port, slots=max(CLIENTS, RETURNING) * 2 + 1000)
        if with_service:
            share = "/topic/#" if stomp else "#"
            text += SERVICE.format(protocol=broker.protocol, port=broker.port, share=share) + CREDENTIALS * stomp
        file = OUT / f"{broker.protocol}{'' if with_service else '-proxy'}.toml"
        file.write_text(text)
        log = open(OUT / "edgehold.log", "ab")
        command = ["taskset", "-c", EDGE_CORE, os.environ["EDGEHOLD"], "serve", "--config", str(file)]
        self.child = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.ready, "the edge is ready (edgehold.log says why not)")

    def ready(self):
        if self.child.poll() is not None:
            raise RuntimeError("the edge has ended; edgehold.log says why")
        try:
            return urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=1).status == 200
        except OSError:
            return False

    def end(self):
        self.child.terminate()
        self.child.wait(timeout=60)


def ss(*words):
    return subprocess.run(["ss", "-Htnp", *words], capture_output=True, text=True).stdout.splitlines()


def listening(port):
    return bool(ss("-l", f"sport = :{port}"))


def listeners(port):
    return {int(part.split(",")[0]) for line in ss("-l", f"sport = :{port}") for part in line.split("pid=")[1:]}


def beam(launcher):
    return next(iter(listeners(61613)), launcher)


def until(done, words, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s: {words}")
        time.sleep(0.1)


class Connections(threading.Thread):
    """The most connections that the broker has had, looked at once a second."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.ports, self.most, self.over = ports, 0, threading.Event()

    def run(self):
        while not self.over.wait(1):
            count = sum(len(ss("state", "established", f"sport = :{port}")) for port in self.ports)
            self.most = max(self.most, count)


def tool(name, mode, url, *flags):
    """One run of the tool; what it found, or None where it failed."""
    file = OUT / f"{name}.json"
    command = ["taskset", "-c", TOOL_CORE, os.environ["EDGEHOLD_BENCH"], mode, "--url", url, "--json", str(file),
               "--cores", TOOL_CORE, "--size", "100", "--duration", f"{SECONDS}s", *flags]
    with open(OUT / "raw.txt", "a") as raw:
        raw.write("$ " + " ".join(command[3:]) + "\n")
        raw.flush()
        code = subprocess.run(command, stdout=raw, stderr=raw).returncode
    print(f"{name}: {'measured' if code == 0 else f'exit code {code}, see raw.txt'}", flush=True)
    return json.loads(file.read_text()) if file.exists() and file.stat().st_size else None


def offload(name, way, protocol, clients, topics, rate, *flags):
    """A fresh broker, and a fresh edge where one takes part; one run of the tool."""
    broker = Broker(protocol)
    edge, counted = None, Connections([broker.port, broker.web])
    try:
        edge = Edge(broker, way == "offload") if way != "direct" else None
        url = f"ws://127.0.0.1:{broker.web}{broker.path}" if way == "direct" else f"ws://{EDGE}/{way}"
        pids = ["--pid", f"broker={broker.pid}"] + (["--pid", f"edge={edge.child.pid}"] if edge else [])
        counted.start()
        found = tool(name, "offload", url, "--protocol", protocol, "--connections", str(clients), "--topics", str(topics),
                     "--rate", str(rate), "--connect-rate", CONNECT_RATE, "--publishers", "4",
                     "--label", f"{protocol} {way}", "--publish", f"tcp://127.0.0.1:{broker.port}", *broker.login, *pids,
                     *flags)
        return found and {**found, "broker_connections": counted.most}
    except RuntimeError as error:
        print(f"{name}: not measured: {error}", flush=True)
        return None
    finally:
        counted.over.set()
        if edge:
            edge.end()
        broker.end()


def part(found, name, what):
    """CPU and memory of a process (broker, edge) at a part (before, joined, fanout, storm, again)."""
    process = next((it for it in found["processes"] if it["name"] == name), None)
    return next((it for it in process["parts"] if it["name"] == what), None) if process else None


def figures(found):
    fanout, broker = found["fanout"], part(found, "broker", "fanout")
    before, edge = part(found, "broker", "before"), part(found, "edge", "fanout")
    return {
        "broker connections": found["broker_connections"],
        "broker CPU, s": broker["cpu_seconds"],
        "broker memory grown, MiB": (broker["rss_bytes"] - before["rss_bytes"]) / 2**20,
        "edge CPU, s": edge and edge["cpu_seconds"],
        "delivered": fanout["delivered"],
        "missing": fanout["missing"], "doubled": fanout["doubled"],
        "out of order": fanout["disordered"], "strange": fanout["strange"],
        "deliveries per CPU second of the edge": edge and fanout["delivered"] / max(edge["cpu_seconds"], 1e-3),
        "deliveries per CPU second of the broker": fanout["delivered"] / max(broker["cpu_seconds"], 1e-3),
        "p50, ms": fanout["latency"]["p50_us"] / 1e3, "p99, ms": fanout["latency"]["p99_us"] / 1e3,
        "the tool, of a core": found["client"]["cpu_share"],
    }


def table(title, rounds):
    """rounds: {way: [figures, …]}; medians, with the smallest and the largest."""
    lines = [f"## {title}", "", "| | " + " | ".join(rounds) + " |", "|---|" + "---|" * len(rounds)]
    names = next((runs[0] for runs in rounds.values() if runs), {})
    for name in names:
        cells = []
        for runs in rounds.values():
            values = [run[name] for run in runs if run.get(name) is not None]
            spread = f" ({min(values):.4g} to {max(values):.4g})" if len(set(values)) > 1 else ""
            cells.append(f"{statistics.median(values):.6g}{spread}" if values else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    with open(OUT / "summary.md", "a") as out:
        out.write("\n".join(lines) + "\n\n")


def in_turns(protocol):
    rounds = {"offload": [], "proxy": [], "direct": []}
    for number in range(ROUNDS):
        for way, runs in rounds.items():
            found = offload(f"{protocol}-{way}-{number + 1}", way, protocol, CLIENTS, TOPICS, RATE)
            runs.extend([figures(found)] if found and "fanout" in found else [])
    table(f"{protocol}: {CLIENTS} clients on {TOPICS} topics, {RATE} messages a second on each, {SECONDS} s", rounds)


def broadcast_once(name):
    broker = Broker("mqtt")
    edge = Edge(broker, False)
    try:
        return tool(name, "fanout", f"ws://{EDGE}/feed/bench", "--publish", f"http://{ADMIN}/v1/publish/bench",
                    "--connections", str(CLIENTS), "--rate", str(RATE), "--connect-rate", CONNECT_RATE, "--server-pid",
                    str(edge.child.pid), "--label", "broadcast")
    finally:
        edge.end()
        broker.end()


def broadcast():
    rounds = {"broadcast": [], "stomp": [], "mqtt": []}
    for number in range(ROUNDS):
        found = broadcast_once(f"broadcast-{number + 1}")
        if found:
            fanout = found["fanout"]
            per_second = fanout["delivered"] / fanout["server_cpu_seconds"]
            rounds["broadcast"].append({"deliveries per CPU second of the edge": per_second, "missing": fanout["missing"],
                                        "p99, ms": fanout["latency"]["p99_us"] / 1e3})
        for protocol in ("stomp", "mqtt"):
            found = offload(f"one-{protocol}-{number + 1}", "offload", protocol, CLIENTS, 1, RATE)
            rounds[protocol].extend([figures(found)] if found and "fanout" in found else [])
    table(f"{CLIENTS} clients of one topic, {RATE} messages a second", rounds)


def reconnect():
    for protocol in ("stomp", "mqtt"):
        runs = []
        for number in range(ROUNDS):
            found = offload(f"reconnect-{protocol}-{number + 1}", "offload", protocol, RETURNING, TOPICS, 1, "--storm")
            if not found or "storm" not in found:
                continue
            runs.append({
                "cut": found["storm"]["cut"], "back": found["storm"]["back"], "all subscribed after, s": found["storm"]["seconds"],
                "broker CPU meanwhile, s": part(found, "broker", "storm")["cpu_seconds"],
                "edge CPU meanwhile, s": part(found, "edge", "storm")["cpu_seconds"],
                "missing afterwards": found["fanout_again"]["missing"], "doubled": found["fanout_again"]["doubled"],
            })
        table(f"{protocol}: {RETURNING} clients cut at once, and subscribed again", {"offload": runs})


def main():
    subprocess.run(["bash", "-c", "{ uname -sr; lscpu | grep 'Model name'; nproc; git rev-parse HEAD; uptime; }"],
                   stdout=open(OUT / "machine.txt", "w"), check=False)
    (OUT / "summary.md").write_text(f"# Connection offloading ({platform.node() and platform.release()})\n\n")
    steps = {"stomp": lambda: in_turns("stomp"), "mqtt": lambda: in_turns("mqtt"), "broadcast": broadcast,
             "reconnect": reconnect}
    wanted = sys.argv[2:] or list(steps)
    if unknown := [name for name in wanted if name not in steps]:
        sys.exit(f"bench/offload: {unknown[0]} is none of {', '.join(steps)}")
    for name in wanted:
        steps[name]()
    print((OUT / "summary.md").read_text())


main()
