#!/usr/bin/env python3
"""What clients of a broker cost it and the edge: see run."""

import json
import os
import shutil
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
LOGS = OUT / "logs"
QUICK = os.environ.get("QUICK") == "1"


def setting(name, usual, quick):
    return int(os.environ.get(name) or (quick if QUICK else usual))


CLIENTS, TOPICS = setting("CLIENTS", 10000, 200), setting("TOPICS", 100, 10)
RATE, SECONDS, ROUNDS = setting("RATE", 10, 5), setting("DURATION", 3, 1), setting("ROUNDS", 3, 1)
# (clients, topics, messages a second on each): what the broker carries with a connection for each client, too.
LESS = {"stomp": (2000, 20, 2), "mqtt": (10000, 100, 2)}
# (clients, messages a second) on one topic, with which all keep up; and as many deliveries a second as CLIENTS have.
LOADS = [(2000, 2), (5000, 20)] if not QUICK else [(200, 5)]
# Where little is done, RabbitMQ is begun no more often than it must be.
BOTH = ("stomp", "mqtt") if not QUICK else ("mqtt",)
IDLE, RETURNING = setting("IDLE", 15000, 600), setting("RETURNING", 15000, 200)
CONNECT_RATE = setting("CONNECT_RATE", 2000, 2000)
EDGE_CORE, TOOL_CORE = "0", "1"
BROKER_CORES = os.environ.get("BROKER_CORES", "1")
EDGE, ADMIN = "127.0.0.1:8080", "127.0.0.1:9180"
# A shard's table of direct descriptors has as many entries as the process may have files open (20 000 here).
SLOTS = 19000

SERVER = """
[server]
shards = {shards}
slots_per_shard = {slots}
admin = "{admin}"
park_after = "1s"

[[listener]]
name = "public"
address = "{edge}"

[[feed]]
name = "bench"
source = "http"

[[route]]
path = "/feed/{{channel}}"
service = "broadcast"
feeds = ["bench"]
"""

ROUTES = """
[[route]]
path = "/{protocol}"
service = "{protocol}"
upstream = ["tcp://127.0.0.1:{port}"]
share = ["{share}"]
{more}
[[route]]
path = "/proxy-{protocol}"
service = "proxy"
upstream = "tcp://127.0.0.1:{port}"
"""

CREDENTIALS = 'credentials = { user = "guest", password_file = "broker.pw" }\n'

RABBIT = """
listeners.tcp.1 = 127.0.0.1:5672
stomp.listeners.tcp.1 = 127.0.0.1:61613
stomp.tcp_listen_options.backlog = 8192
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = 15674
web_stomp.tcp.backlog = 8192
web_stomp.ws_opts.idle_timeout = 3600000
loopback_users = none
log.console = true
log.console.level = warning
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
    """RabbitMQ (STOMP) or Mosquitto (MQTT), begun anew; ended by its process number."""

    def __init__(self, protocol):
        self.protocol = protocol
        rabbit = protocol == "stomp"
        self.port, self.web, self.path = (61613, 15674, "/ws") if rabbit else (1883, 9001, "/mqtt")
        self.login = ["--user", "guest", "--password", "guest"] if rabbit else []
        command, env = self.rabbit() if rabbit else self.mosquitto()
        log = open(LOGS / f"{command[0].split('/')[-1]}.log", "ab")
        command = ["taskset", "-c", BROKER_CORES, *command]
        self.child = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        until(lambda: listening(self.port) and listening(self.web), f"{protocol}: the broker listens")
        self.pid = next(iter(listeners(self.port)))
        if rabbit:
            # It listens before it has settled.
            time.sleep(3)

    def mosquitto(self):
        (OUT / "mosquitto.conf").write_text(MOSQUITTO)
        return ["mosquitto", "-c", str(OUT / "mosquitto.conf")], {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}

    def rabbit(self):
        (OUT / "rabbitmq.conf").write_text(RABBIT)
        self.home = tempfile.TemporaryDirectory()
        home = Path(self.home.name)
        for folder in ("mnesia", "log"):
            (home / folder).mkdir()
        (home / "enabled_plugins").write_text("[rabbitmq_stomp,rabbitmq_web_stomp].\n")
        settings = {
            "RABBITMQ_CONFIG_FILE": OUT / "rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": home / "enabled_plugins",
            "RABBITMQ_MNESIA_BASE": home / "mnesia", "RABBITMQ_LOG_BASE": home / "log",
            "RABBITMQ_NODENAME": "bench@localhost", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
            "HOME": home, "LC_ALL": "C.UTF-8", "RABBITMQ_PID_FILE": home / "pid", "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"], {**os.environ, **{k: str(v) for k, v in settings.items()}}

    def connections(self):
        return sum(len(ss("state", "established", f"sport = :{port}")) for port in (self.port, self.web))

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        self.child.wait(timeout=60)
        # It leaves Erlang's name server behind, in this namespace alone.
        for pid in listeners(4369) if self.protocol == "stomp" else ():
            os.kill(pid, signal.SIGTERM)


class Edge:
    """The server, with routes to these brokers."""

    def __init__(self, brokers, shards=1):
        password = OUT / "broker.pw"
        password.write_text("guest\n")
        password.chmod(0o600)
        text = SERVER.format(shards=shards, slots=SLOTS, admin=ADMIN, edge=EDGE)
        for broker in brokers:
            share, more = ("/topic/#", CREDENTIALS) if broker.protocol == "stomp" else ("#", "")
            text += ROUTES.format(protocol=broker.protocol, port=broker.port, share=share, more=more)
        file = OUT / f"{'-'.join(broker.protocol for broker in brokers)}-{shards}.toml"
        file.write_text(text)
        log = open(LOGS / "edgehold.log", "ab")
        command = ["taskset", "-c", EDGE_CORE, os.environ["EDGEHOLD"], "serve", "--config", str(file)]
        self.child = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.child.pid
        until(self.ready, "the edge is ready (logs/edgehold.log says why not)")

    def ready(self):
        if self.child.poll() is not None:
            raise RuntimeError("the edge has ended; logs/edgehold.log says why")
        try:
            return urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=1).status == 200
        except OSError:
            return False

    def end(self):
        self.child.terminate()
        self.child.wait(timeout=60)


def ss(*words):
    return subprocess.run(["ss", "-Htn", *words], capture_output=True, text=True).stdout.splitlines()


def listening(port):
    return bool(ss("-l", f"sport = :{port}"))


def listeners(port):
    return {int(part.split(",")[0]) for line in ss("-lp", f"sport = :{port}") for part in line.split("pid=")[1:]}


def until(done, words, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s: {words}")
        time.sleep(0.1)


class Connections(threading.Thread):
    """The most connections that a broker has had."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.most, self.over = broker, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.2 if QUICK else 1.5):
            self.most = max(self.most, self.broker.connections())

    def end(self):
        self.over.set()
        self.join()
        return self.most


failures = []


def tool(name, mode, url, *flags):
    """One run of the tool; what it found, or None where it has found nothing. What it failed in is told at the end."""
    file = OUT / "raw" / f"{name}.json"
    command = ["taskset", "-c", TOOL_CORE, os.environ["EDGEHOLD_BENCH"], mode, "--url", url, "--json", str(file),
               "--cores", TOOL_CORE, *map(str, flags)]
    begun = time.monotonic()
    with open(OUT / "raw.txt", "a") as raw:
        raw.write(f"\n$ {' '.join(command[3:])}\n".replace(str(OUT), "OUT"))
        raw.flush()
        code = subprocess.run(command, stdout=raw, stderr=raw, timeout=400).returncode
    became = "measured" if code == 0 else f"exit code {code}, see raw.txt"
    print(f"{name}: {became}, {time.monotonic() - begun:.0f} s", flush=True)
    if code:
        failures.append(f"{name}: exit code {code}")
    if not file.exists() or not file.stat().st_size:
        return None
    # The folder is the machine's, not the run's.
    text = file.read_text().replace(f"{OUT}/", "")
    file.write_text(text)
    return json.loads(text)


def offload(name, way, broker, edge, clients, topics, rate, *flags):
    """Clients of a broker, through `stomp` or `mqtt` ("offload"), through `proxy`, or at its own WebSocket ("direct")."""
    path = {"offload": broker.protocol, "proxy": f"proxy-{broker.protocol}"}.get(way)
    url = f"ws://{EDGE}/{path}" if path else f"ws://127.0.0.1:{broker.web}{broker.path}"
    pids = [f"broker={broker.pid}"] + ([f"edge={edge.pid}"] if path else [])
    found = tool(name, "offload", url, "--protocol", broker.protocol, "--connections", clients, "--topics", topics,
                 "--rate", rate, "--connect-rate", CONNECT_RATE, "--publishers", 2, "--size", 100, "--duration",
                 f"{SECONDS}s", "--label", f"{broker.protocol} {way}", "--publish", f"tcp://127.0.0.1:{broker.port}",
                 *broker.login, *(word for pid in pids for word in ("--pid", pid)), *flags)
    return found if found and found.get("fanout") else None


def part(found, name, what, of="cpu_seconds"):
    """CPU or memory of a process (broker, edge) in or after a part (before, joined, fanout, storm, again)."""
    process = next((it for it in found["processes"] if it["name"] == name), None)
    return next((it[of] for it in process["parts"] if it["name"] == what), None) if process else None


def per_second(count, seconds):
    return count / max(seconds, 1e-3) if seconds is not None else None


def carried(found):
    """What became of the messages."""
    it = found["fanout"]
    return {
        "delivered": it["delivered"], "missing": it["missing"], "doubled": it["doubled"],
        "out of order": it.get("disordered") or 0, "strange": it.get("strange") or 0, "took, s": it["seconds"],
        "p50, ms": it["latency"]["p50_us"] / 1e3, "p99, ms": it["latency"]["p99_us"] / 1e3,
        "the tool, of a core": it["client_cpu_share"],
    }


def table(title, columns, goals=()):
    """columns: {name: [figures of a round, …]}; medians, with the smallest and the largest. goals: lines below it."""
    lines = [f"## {title}", "", "| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    names = dict.fromkeys(name for rounds in columns.values() for run in rounds for name in run)
    for name in names:
        cells = []
        for rounds in columns.values():
            values = [run[name] for run in rounds if run.get(name) is not None]
            spread = f" ({figure(min(values))} to {figure(max(values))})" if len(set(values)) > 1 else ""
            cells.append(f"{figure(statistics.median(values))}{spread}" if values else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    with open(OUT / "summary.md", "a") as out:
        out.write("\n".join([*lines, "", *goals]) + "\n\n")


def figure(value):
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def goal(words, value, asked, at_most):
    """A line that says what was found, what was asked, and whether the one is good enough for the other."""
    if value is None:
        return f"- {words}: **not measured**"
    reached = value <= asked if at_most else value >= asked
    return f"- {words}: {figure(value)}, asked: {'at most' if at_most else 'at least'} {figure(asked)}" \
           f"{'' if reached else ', **missed**'}"


# ---- 1: what the broker notices of so many clients ----

def noticed(protocol, way, clients, topics, rate):
    """A broker and an edge anew. Behind `proxy` a client takes two slots of a shard."""
    broker = Broker(protocol)
    shards = -(-(2 * clients + 100) // SLOTS) if way == "proxy" else 1
    edge, counted = None, Connections(broker)
    try:
        edge = Edge([broker], shards)
        counted.start()
        found = offload(f"{protocol}-{way}-{clients}x{rate}", way, broker, edge, clients, topics, rate)
        most = counted.end()
        return found and {
            "broker connections": most,
            "broker CPU while they came, s": part(found, "broker", "joined"),
            "broker CPU for the messages, s": part(found, "broker", "fanout"),
            "broker memory grown, MiB":
                (part(found, "broker", "fanout", "rss_bytes") - part(found, "broker", "before", "rss_bytes")) / 2**20,
            "edge CPU for the messages, s": part(found, "edge", "fanout"),
            **carried(found),
        }
    finally:
        if edge:
            edge.end()
        broker.end()


def ratio(columns, one, other, name):
    both = [columns[column][0][name] if columns[column] else None for column in (one, other)]
    return max(both[0], 0) / both[1] if None not in both and both[1] > 0 else None


def broker(protocol):
    for clients, topics, rate in ((CLIENTS, TOPICS, RATE), LESS[protocol])[:1 if QUICK else 2]:
        columns = {}
        for way in ("offload", "proxy"):
            found = noticed(protocol, way, clients, topics, rate)
            columns[way] = [found] if found else []
        goals = [goal(f"{words} of the broker, offload over proxy", ratio(columns, "offload", "proxy", name), asked, True)
                 for name, words, asked in (("broker connections", "connections", 1 / 100),
                                            ("broker CPU for the messages, s", "CPU", 1 / 20),
                                            ("broker memory grown, MiB", "growth of the memory", 1 / 50))]
        words = f"{protocol}: {clients} clients on {topics} topics, {rate} messages a second on each, {SECONDS} s"
        table(words, columns, [*goals, *followed(columns)])


def followed(columns):
    """Lines about ways that have lost messages, or did not keep up."""
    for way, rounds in columns.items():
        wrong = [run["missing"] + run["doubled"] + run["out of order"] + run["strange"] for run in rounds]
        yield goal(f"{way}: messages missing, doubled, out of order or strange", max(wrong, default=None), 0, True)
        if "direct" not in way and any(wrong):
            failures.append(f"{way}: {max(wrong)} messages went wrong")
        took = max((run["took, s"] for run in rounds), default=0)
        if took > SECONDS * 1.2:
            words = f"{SECONDS} s of messages took {figure(took)} s; its CPU is that of the same messages"
            yield f"- {way} **did not keep up**: {words}"


# ---- 2: deliveries for a second of CPU ----

WAYS = ["broadcast", "stomp offload", "mqtt offload", "stomp direct", "mqtt direct"]
ASKED = [("stomp offload", "broadcast", 0.8), ("mqtt offload", "broadcast", 0.8), ("stomp offload", "stomp direct", 3),
         ("mqtt offload", "mqtt direct", 3)]


def turns(clients, rate):
    """All ways in turns, in front of the same two brokers and through the same edge."""
    brokers = [Broker("stomp"), Broker("mqtt")]
    columns = {way: [] for way in WAYS}
    edge = None
    try:
        edge = Edge(brokers)
        for number in range(1, ROUNDS + 1):
            for way in WAYS:
                run = one_turn(way, f"{way.replace(' ', '-')}-{clients}-{number}", brokers, edge, clients, rate)
                columns[way].extend([run] if run else [])
    finally:
        if edge:
            edge.end()
        for it in brokers:
            it.end()
    name = "deliveries for a CPU second"
    medians = {way: statistics.median(run[name] for run in runs) for way, runs in columns.items() if runs}
    goals = [goal(f"{one} over {other}", medians[one] / medians[other] if {one, other} <= medians.keys() else None, least, False)
             for one, other, least in ASKED]
    goals.extend(followed(columns))
    table(f"{clients} clients on one topic, {rate} messages a second, {SECONDS} s, {ROUNDS} rounds", columns, goals)


def one_turn(way, name, brokers, edge, clients, rate):
    if way == "broadcast":
        found = tool(name, "fanout", f"ws://{EDGE}/feed/bench", "--publish", f"http://{ADMIN}/v1/publish/bench", "--connections",
                     clients, "--rate", rate, "--connect-rate", CONNECT_RATE, "--server-pid", edge.pid, "--size", 100,
                     "--duration", f"{SECONDS}s", "--label", "broadcast")
        if not found or not found.get("fanout"):
            return None
        cpu = found["fanout"]["server_cpu_seconds"]
    else:
        protocol, kind = way.split()
        broker = brokers[0 if protocol == "stomp" else 1]
        found = offload(name, kind, broker, edge, clients, 1, rate)
        if not found:
            return None
        cpu = part(found, "broker" if kind == "direct" else "edge", "fanout")
    return {"deliveries for a CPU second": per_second(found["fanout"]["delivered"], cpu), "CPU, s": cpu, **carried(found)}


def cpu():
    for clients, rate in LOADS:
        turns(clients, rate)


# ---- 3: what an idle client costs ----

def idle():
    columns = {}
    brokers = [Broker(protocol) for protocol in BOTH]
    try:
        for it in brokers:
            edge = Edge([it])
            try:
                found = tool(f"idle-{it.protocol}", "idle", f"ws://{EDGE}/{it.protocol}", "--protocol", it.protocol, *it.login,
                             "--topics", TOPICS, "--connections", IDLE, "--rate", CONNECT_RATE, "--hold", "2s", "--server-pid",
                             edge.pid, "--admin", f"http://{ADMIN}", "--label", f"{it.protocol}, idle")
            finally:
                edge.end()
            memory = (found or {}).get("memory") or {}
            columns[it.protocol] = [{"user memory (RSS), B a client": memory.get("user_rss_bytes"),
                                     "user memory (PSS), B a client": memory.get("user_pss_bytes"),
                                     "kernel, the edge's end, B": memory.get("kernel_server_bytes"),
                                     "edge CPU while idle, cores for 1 000": memory.get("idle_cpu_cores_per_thousand")}]
    finally:
        for it in brokers:
            it.end()
    goals = [goal(f"{name}: user memory (RSS), B", runs[0]["user memory (RSS), B a client"], 256, True)
             for name, runs in columns.items()]
    table(f"{IDLE} clients that are subscribed and hear nothing", columns, goals)


# ---- 4: all come back at once ----

def reconnect():
    columns = {}
    for protocol in BOTH:
        broker = Broker(protocol)
        edge = None
        try:
            edge = Edge([broker])
            runs = [it for number in range(ROUNDS) if (it := returned(f"{protocol}-back-{number + 1}", broker, edge))]
        finally:
            if edge:
                edge.end()
            broker.end()
        columns[protocol] = runs
    goals = []
    for name, runs in columns.items():
        worst = {of: max((run[of] for run in runs), default=None) for of in runs[0]} if runs else {}
        goals.append(goal(f"{name}: all subscribed again after, s", worst.get("all subscribed after, s"), 10, True))
        wrong = runs and max(run["not back"] + run["missing"] + run["doubled"] + run["out of order"] for run in runs)
        if wrong:
            failures.append(f"{name}: {wrong} clients or messages went wrong in the return of all")
        goals.append(goal(f"{name}: not back, or missing, doubled, out of order afterwards", wrong if runs else None, 0, True))
        goals.append(goal(f"{name}: connections of the broker", worst.get("broker connections"), 4, True))
    table(f"{RETURNING} clients on {TOPICS} topics are cut at once, and subscribe again", columns, goals)


def returned(name, broker, edge):
    counted = Connections(broker)
    counted.start()
    found = offload(name, "offload", broker, edge, RETURNING, TOPICS, 1, "--storm")
    most = counted.end()
    if not found or not found.get("storm") or not found.get("fanout_again"):
        return None
    storm, again = found["storm"], found["fanout_again"]
    return {
        "cut": storm["cut"], "not back": storm["cut"] - storm["back"], "all subscribed after, s": storm["seconds"],
        "broker CPU meanwhile, s": part(found, "broker", "storm"), "edge CPU meanwhile, s": part(found, "edge", "storm"),
        # Two publishers of the tool's among them.
        "broker connections": most, "delivered afterwards": again["delivered"], "missing": again["missing"],
        "doubled": again["doubled"], "out of order": again["disordered"],
    }


HEAD = """# Connection offloading

`bench/offload/run`: medians, with the smallest and the largest; the machine is in machine.txt, each command with what the tool
said in raw.txt, its results in raw. How to read them: [bench/offload](../../offload/README.md).

"""
STEPS = {"stomp": lambda: broker("stomp"), "mqtt": lambda: broker("mqtt"), "cpu": cpu, "idle": idle, "reconnect": reconnect}
MACHINE = "{ uname -sr; lscpu | grep 'Model name'; nproc; free -h | grep Mem; git rev-parse HEAD; uptime; dpkg-query -W " \
          "rabbitmq-server erlang-base mosquitto; ulimit -n; }"


def main():
    (OUT / "raw").mkdir(exist_ok=True)
    LOGS.mkdir(exist_ok=True)
    (OUT / "raw.txt").unlink(missing_ok=True)
    with open(OUT / "machine.txt", "w") as machine:
        subprocess.run(["bash", "-c", MACHINE], stdout=machine, check=False)
    with open(OUT / "summary.md", "w") as out:
        out.write(HEAD)
    wanted = sys.argv[2:] or list(STEPS)
    if unknown := [name for name in wanted if name not in STEPS]:
        sys.exit(f"bench/offload: {unknown[0]} is none of {', '.join(STEPS)}")
    for name in wanted:
        begun = time.monotonic()
        try:
            STEPS[name]()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {error}")
        print(f"-- {name}: {time.monotonic() - begun:.0f} s", flush=True)
    (OUT / "broker.pw").unlink(missing_ok=True)
    if not failures:
        shutil.rmtree(LOGS)
    print((OUT / "summary.md").read_text())
    for words in failures:
        print(f"FAILED {words}")
    sys.exit(bool(failures))


main()
