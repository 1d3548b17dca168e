"""The works over TLS: as those of work.py, and two that only edgehold is asked: a storm, and a crowd that is held.

Clients offer TLS 1.3 with one cipher, and take any certificate, so that their core is not spent on what no server does.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass

from peers import CONFIGS, EDGEHOLD, TLS_BROADCAST, TLS_CROWD, TLS_DIRECT, TLS_PROXY
from work import (ECHO, FANOUT, FEED_RATE, FEW_SUBSCRIBERS, LARGE, LARGE_CONNECTIONS, MEMORY, SMALL, SMALL_CONNECTIONS,
                  Figure, FanoutWork, Work, crowd_at_once, load, messages)

CONNECTIONS = {TLS_DIRECT: 15_000, TLS_PROXY: 9_000}
# Per second, where memory is read: those who wait for their handshake take memory too, and leave it in pieces.
CONNECT_RATE = 2_000
IDLE_ROUNDS = 2  # a slope through three counts differs little from round to round, and takes the most time

STORM, INSIDE, INSIDE_RATE = 20_000, 200, 2_000
STORM_OF_ONE = 18_000  # what one shard can hold beside those who stay, while those who left are not all gone yet
STORM_SECONDS = 1.5  # shorter than the storm, so that all of it is in the storm
CROWD, CROWD_RATE = 200_000, 4_000
MIB = 1 << 20
WAIT = 60.0  # seconds until those who stay must be there


def handshakes(outcome, part="connect"):
    """(full, resumed) of a part of an outcome."""
    found = outcome[part]["tls"]
    return found["full"], found["resumed"]


def per_cpu_second(outcome):
    return outcome["connect"]["connected"] / outcome["connect"]["server_cpu_seconds"]


def resumed_percent(part):
    def percent(outcome):
        full, resumed = handshakes(outcome, part)
        return 100 * resumed / (full + resumed)
    return percent


SHAKES = (
    Figure("handshakes per CPU second", per_cpu_second, lower_is_better=False),
    Figure("resumed, %", resumed_percent("connect"), divides=False),
    Figure("handshakes per second", lambda o: o["connect"]["per_second"], lower_is_better=False),
    Figure("p99, ms", lambda o: o["connect"]["latency"]["p99_us"] / 1000),
)


def p99(name):
    return lambda outcome: load(outcome, name)["latency"]["p99_us"] / 1000


STORMED = (
    Figure("cut", lambda o: o["storm"]["cut"], divides=False),
    Figure("back", lambda o: o["storm"]["back"], divides=False),
    Figure("resumed, %", resumed_percent("storm"), divides=False),
    Figure("all back after, s", lambda o: o["storm"]["seconds"], divides=False),
    Figure("those who stay: p99 quiet, ms", p99("quiet"), divides=False),
    Figure("p99 in the storm, ms", p99("during"), divides=False),
    Figure("change of the p99", lambda o: p99("during")(o) / p99("quiet")(o), divides=False),
    Figure("their messages missing", lambda o: load(o, "quiet")["missing"] + load(o, "during")["missing"],
           divides=False),
    Figure("peak of user memory, MiB (RSS)", lambda o: o["server_peak_bytes"] / MIB, divides=False),
    Figure("edgehold plan: user and TLS, MiB", lambda o: o["plan_bytes"] / MIB, divides=False),
    Figure("peak over the plan", lambda o: o["server_peak_bytes"] / o["plan_bytes"], divides=False),
)
HELD = (
    Figure("connected", lambda o: o["connect"]["connected"], divides=False),
    Figure("failed", lambda o: sum(o["connect"]["failed"].values()), divides=False),
    Figure("pongs", lambda o: load(o, "ping")["received"], divides=False),
    Figure("pongs missing", lambda o: o["connect"]["asked"] - load(o, "ping")["received"], divides=False),
    Figure("full handshakes per CPU second", per_cpu_second, divides=False),
    *(Figure(figure.title, figure.take, divides=False) for figure in MEMORY),
    Figure("server, all of it, MiB (RSS)", lambda o: o["memory"]["counts"][-1]["rss_bytes"] / MIB, divides=False),
    Figure("edgehold-bench, at its peak, MiB", lambda o: o["client"]["peak_rss_bytes"] / MIB, divides=False),
    Figure("whole machine, both ends, B per connection", lambda o: o["memory"]["machine_pair_bytes"], divides=False),
)

# ---- who takes part ----


def servers(peer):
    """Peers over TLS that open WebSockets themselves, each once."""
    return peer.kind == TLS_DIRECT and not peer.is_variant


def servers_and_variants(peer):
    return peer.kind == TLS_DIRECT


def echoes(peer):
    return servers(peer) and peer.echoes


def edges(peer):
    return peer.kind == TLS_PROXY


def broadcasts(peer):
    return peer.kind == TLS_BROADCAST


def is_named(name):
    return lambda peer: peer.kind == TLS_CROWD and peer.name == name


# ---- edgehold alone ----


@dataclass(frozen=True)
class StormWork(Work):
    """A storm beside a few who stay, and whose times are measured."""

    def beside(self, client_pid):
        """Those who stay share a core with the crowd that comes back: they are heard at once, or their times would be
        those of a client that waits for its turn."""
        end = time.monotonic() + WAIT
        while not (threads := threads_of(client_pid, "inside-")) and time.monotonic() < end and is_there(client_pid):
            time.sleep(0.05)
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))

    def amend(self, outcome, peer, process):
        outcome["server_peak_bytes"] = process.peak_bytes()
        outcome["plan_bytes"] = planned(peer, outcome["asked"]["connections"] + INSIDE)


@dataclass(frozen=True)
class CrowdWork(Work):
    """A crowd that is held."""

    def amend(self, outcome, peer, process):
        outcome["server_peak_bytes"] = process.peak_bytes()
        full, asked = outcome["connect"]["connected"], outcome["connect"]["asked"]
        missing = asked - load(outcome, "ping")["received"]
        if full < asked or missing:
            words = f"NOT ALL HELD: {full} of {asked} connected, {missing} pongs missing"
            outcome.setdefault("notes", []).append(words)


def is_there(pid):
    """Whether a process that was started here has not ended."""
    with open(f"/proc/{pid}/stat") as file:
        return ") Z " not in file.read()


def threads_of(pid, prefix):
    """The threads of a process whose names begin so."""
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as file:
            if file.read().startswith(prefix):
                found.append(int(thread))
    return found


def planned(peer, connections):
    """User memory that `edgehold plan` tells for so many clients, all over TLS; bytes."""
    words = [EDGEHOLD, "plan", "--connections", str(connections), "--tls-share", "1", "--config",
             CONFIGS / peer.configs[0], "--json"]
    told = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)["memory"]
    return told["user_bytes"] + told["tls_bytes"]


# ---- works ----


def idle(kind, **more):
    arguments = ("idle", "--connections", CONNECTIONS[kind], "--rate", CONNECT_RATE, "--counts", 3, "--settle", "8s",
                 "--hold", "1s")
    return {"arguments": arguments, "figures": MEMORY, "group": "tls_idle", "reads_memory": True, "spans": False,
            "takes": 27, "rounds": IDLE_ROUNDS, **more}


def shakes(group, kind, *words, **more):
    return {"arguments": crowd_at_once(CONNECTIONS[kind], *words), "figures": SHAKES, "group": group, "spans": False,
            "takes": 7, **more}


def echo(group, connections, size):
    return {"arguments": messages("echo", connections, size), "figures": ECHO, "group": group, "takes": 5}


def storm(name, connections, peer):
    title = (f"{connections} clients with tickets are cut and come back at once; {INSIDE} others stay and echo"
             f" {INSIDE_RATE} messages a second")
    arguments = messages("storm", connections, SMALL, "--connect-rate", 2 * CONNECT_RATE, "--hold", "2s", "--resume",
                         "--inside", INSIDE, "--inside-rate", INSIDE_RATE)
    return StormWork(name, "tls_storm", title, arguments, STORMED, is_named(peer), seconds=STORM_SECONDS, takes=22)


def page(peer):
    return peer.page


HANDSHAKES = f"{CONNECTIONS[TLS_DIRECT]} handshakes, each with the opening of a WebSocket, as fast as they go"
EDGE_HANDSHAKES = f"{CONNECTIONS[TLS_PROXY]} handshakes, each with a GET that the edge answers itself"
SMALL_ECHO = f"{SMALL} B there and back on {SMALL_CONNECTIONS} connections over TLS, as fast as it goes"
LARGE_ECHO = f"{LARGE} B there and back on {LARGE_CONNECTIONS} connections over TLS, as fast as it goes"
FAN = f"{SMALL} B to {FEW_SUBSCRIBERS} WebSocket subscribers over TLS, {FEED_RATE} messages a second"

WORKS = (
    Work("tls_idle", title=f"{CONNECTIONS[TLS_DIRECT]} idle connections over TLS", can=servers_and_variants,
         **idle(TLS_DIRECT)),
    Work("tls_idle-proxied", title=f"{CONNECTIONS[TLS_PROXY]} idle connections over TLS, each carried to a back end",
         can=edges, **idle(TLS_PROXY)),
    Work("tls_connect", title=HANDSHAKES, can=servers, **shakes("tls_connect", TLS_DIRECT)),
    Work("tls_connect-edge", title=EDGE_HANDSHAKES, can=edges, **shakes("tls_connect", TLS_PROXY, url=page)),
    Work("tls_resume", title=f"resumed: {HANDSHAKES}", can=servers, **shakes("tls_resume", TLS_DIRECT, "--resume")),
    Work("tls_resume-edge", title=f"resumed: {EDGE_HANDSHAKES}", can=edges,
         **shakes("tls_resume", TLS_PROXY, "--resume", url=page)),
    Work("tls_echo_small", title=SMALL_ECHO, can=echoes, **echo("tls_echo_small", SMALL_CONNECTIONS, SMALL)),
    Work("tls_echo_small-proxied", title=f"through the edge to a back end: {SMALL_ECHO}", can=edges,
         **echo("tls_echo_small", SMALL_CONNECTIONS, SMALL)),
    Work("tls_echo_large", title=LARGE_ECHO, can=echoes, **echo("tls_echo_large", LARGE_CONNECTIONS, LARGE)),
    Work("tls_echo_large-proxied", title=f"through the edge to a back end: {LARGE_ECHO}", can=edges,
         **echo("tls_echo_large", LARGE_CONNECTIONS, LARGE)),
    FanoutWork("tls_fanout_9k", "tls_fanout_9k", FAN,
               messages("fanout", FEW_SUBSCRIBERS, SMALL, "--rate", FEED_RATE, "--connect-rate", CONNECT_RATE), FANOUT,
               broadcasts, paced=True, seconds=15, takes=30),
    storm("tls_storm", STORM, "edgehold-storm"),
    storm("tls_storm-one", STORM_OF_ONE, "edgehold-storm-one"),
    CrowdWork("tls_hold", "tls_hold", f"{CROWD} connections over TLS at once, each pinged once",
              ("idle", "--connections", CROWD, "--rate", CROWD_RATE, "--counts", 4, "--settle", "20s", "--hold", "5s",
               "--ping"),
              HELD, is_named("edgehold-hold"), spans=False, reads_memory=True, rounds=1, limit=600, takes=180),
)
