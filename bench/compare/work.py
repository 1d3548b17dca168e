"""The works: what is asked of edgehold-bench for each, which peers can do it, and which figures its JSON gives.

A group (what --work names) has one work or several: connections that are held, and the same through proxies, which
need two files for each client; messages as fast as they go, and at a rate that every peer can follow.
"""

from dataclasses import dataclass, field

from peers import BROADCAST, DIRECT, PROXY

# One process may open 20 000 files; a proxy needs two for each client.
CONNECTIONS = {DIRECT: 15_000, PROXY: 9_000}
CONNECT_RATE = 5_000  # per second, where memory is read: no crowd at the door that the server must make room for

SMALL, LARGE = 64, 16 * 1024
SMALL_CONNECTIONS, LARGE_CONNECTIONS = 1_000, 100
# Messages per second that each peer can follow, so that all do the same.
SMALL_RATE, LARGE_RATE, PROXY_RATE = 40_000, 10_000, 10_000

MESSAGES_SECONDS = 3
# A fan-out has one last receiver for each message: 20 s at 20 a second are 400 of them, enough for a p99.
FANOUT_SECONDS = 20
FEW_SUBSCRIBERS, MANY_SUBSCRIBERS = 9_000, 15_000
FEED_RATE, GATHER_RATE = 20, 80  # messages per second
FRAME_HEAD = 2  # bytes before a server's short message (RFC 6455, section 5.2)
SLOW_PERCENT = 10
# What a reader that has stopped has not taken lies in the kernel first: with its own limits (megabytes for each end)
# all of a stretch would lie there, and no server would see that anybody is slow.
SMALL_SOCKETS = {"net.ipv4.tcp_rmem": "4096 8192 8192", "net.ipv4.tcp_wmem": "4096 8192 8192"}


# A run that only shows that everything runs has so many connections at most, and waits no longer.
TINY_CONNECTIONS = 200
TINY = {
    "--connections": lambda count: str(min(int(count), TINY_CONNECTIONS)),
    "--settle": lambda _: "1s",
    "--hold": lambda _: "200ms",
}


@dataclass(frozen=True)
class Figure:
    """A number of interest: how it is called, which way is better, and how it is taken from a result."""

    title: str
    take: object
    lower_is_better: bool = True
    divides: bool = True  # whether a ratio means anything: not where values are differences, or near to nothing

    def of(self, outcome):
        """The number, or None where it could not be measured."""
        try:
            return self.take(outcome)
        except (KeyError, TypeError, StopIteration):
            return None


@dataclass(frozen=True)
class Work:
    """One measurement of one peer."""

    name: str
    group: str
    title: str
    arguments: tuple
    figures: tuple
    can: object  # Peer -> bool
    paced: bool = False  # at a rate of messages: whoever does not follow it is named
    seconds: float = MESSAGES_SECONDS  # how long messages are measured, if nothing else is asked for
    url: object = lambda peer: peer.url
    limit: int = 180  # seconds for one run of edgehold-bench
    takes: int = 5  # seconds for one peer, about: start, check of the address, measurement
    rounds: int = 99  # it is not measured in more
    reads_memory: bool = False  # connections are held at counts, and memory is read at each
    spans: bool = True  # messages are measured, for a time
    sysctls: dict = field(default_factory=dict)  # beside those of place.py, in the namespace of this work

    def span(self, options):
        """How long messages are measured; seconds."""
        return options.seconds or self.seconds

    def command(self, peer, options, server_pid, back_end_pid):
        """The arguments of edgehold-bench."""
        words = [*self.arguments, "--url", self.url(peer), "--label", peer.name, "--server-pid", server_pid]
        words += ["--cores", options.client_core]
        if self.spans:
            words += ["--duration", f"{int(self.span(options) * 1000)}ms"]
        if self.reads_memory and peer.admin:
            words += ["--admin", peer.admin]  # so that memory is read when connections are parked
        if self.group == "proxy":
            words += ["--direct", peer.back_end.url, "--direct-pid", back_end_pid]
        if peer.feed:
            words += ["--publish", peer.feed.publish, "--publish-as", peer.feed.publish_as]
        if peer.is_secure:
            words += ["--insecure", "--tls-version", "1.3", "--tls-cipher", peer.cipher]
        words = [str(word) for word in words]
        return tiny(words) if options.tiny else words

    def beside(self, client_pid):
        """What is done while edgehold-bench runs."""

    def amend(self, outcome, peer, process):
        """Adds what edgehold-bench does not see to its outcome; the server is still there."""


def crowd_at_once(connections, *more):
    """The arguments of edgehold-bench for connections that come as fast as they go."""
    return ("idle", "--connections", connections, "--counts", 1, "--settle", "0s", "--hold", "0s", *more)


def tiny(words):
    """The same with few connections and short pauses: to see that it runs."""
    cut = list(words)
    for name, change in TINY.items():
        if name in cut:
            place = cut.index(name) + 1
            cut[place] = change(cut[place])
    return cut


@dataclass(frozen=True)
class FanoutWork(Work):
    """One message for all, again and again."""

    connections: int = FEW_SUBSCRIBERS
    rate: int = FEED_RATE
    takes: int = 30
    limit: int = 420  # a server that lags behind delivers what it owes when all has been published

    @property
    def frame_bytes(self):
        """A message as it is on the wire."""
        return SMALL + FRAME_HEAD


def load(outcome, name):
    """A measured stretch by its name."""
    return next(load for load in outcome["load"] if load["name"] == name)


# ---- figures ----

MEMORY = (
    Figure("user memory, B per connection (RSS)", lambda o: o["memory"]["user_rss_bytes"]),
    Figure("the same, PSS", lambda o: o["memory"]["user_pss_bytes"]),
    Figure("kernel memory, B per connection", lambda o: o["memory"]["kernel_server_bytes"]),
    Figure("both, B per connection", lambda o: o["memory"]["server_bytes"]),
    Figure("CPU, µs in a second for 1 000", lambda o: o["memory"]["idle_cpu_cores_per_thousand"] * 1e6, divides=False),
)
CONNECT = (
    Figure("handshakes per second", lambda o: o["connect"]["per_second"], lower_is_better=False),
    Figure("CPU, ms per 1 000 handshakes", lambda o: o["connect"]["server_cpu_ms_per_thousand"]),
    Figure("p99, ms", lambda o: o["connect"]["latency"]["p99_us"] / 1000),
)


def per_cpu_second(outcome):
    return 1e6 / load(outcome, "echo")["server_cpu_us_per_message"]


ECHO = (
    Figure("messages per second", lambda o: load(o, "echo")["per_second"], lower_is_better=False),
    Figure("messages per CPU second", per_cpu_second, lower_is_better=False),
    Figure("p50, µs", lambda o: load(o, "echo")["latency"]["p50_us"]),
    Figure("p99, µs", lambda o: load(o, "echo")["latency"]["p99_us"]),
)
PACED = (
    Figure("messages per second", lambda o: load(o, "echo")["per_second"], lower_is_better=False),
    Figure("CPU, µs per message", lambda o: load(o, "echo")["server_cpu_us_per_message"]),
    Figure("p50, µs", lambda o: load(o, "echo")["latency"]["p50_us"]),
    Figure("p99, µs", lambda o: load(o, "echo")["latency"]["p99_us"]),
)


def added(percentile):
    """What the edge adds to the back end alone."""
    return lambda o: load(o, "edge")["latency"][percentile] - load(o, "direct")["latency"][percentile]


THROUGH = (
    Figure("messages per second", lambda o: load(o, "edge")["per_second"], lower_is_better=False),
    Figure("edge CPU, µs per message", lambda o: load(o, "edge")["server_cpu_us_per_message"]),
    Figure("back end alone, CPU µs per message", lambda o: load(o, "direct")["server_cpu_us_per_message"],
           divides=False),
    Figure("back end behind the edge, CPU µs per message",
           lambda o: load(o, "edge")["back_end_cpu_us_per_message"], divides=False),
    Figure("p50, µs", lambda o: load(o, "edge")["latency"]["p50_us"]),
    Figure("added p50, µs", added("p50_us"), divides=False),
    Figure("added p99, µs", added("p99_us"), divides=False),
)

def of_fanout(name, take=lambda value: value):
    return lambda outcome: take(outcome["fanout"][name])


def of_slow(name, take=lambda value: value):
    return lambda outcome: take(outcome["fanout_slow"][name])


def milliseconds(percentile):
    return lambda latency: latency[percentile] / 1000 if latency["count"] else None


def held_bytes(place):
    """Resident memory of the server, MiB: the reading at that place."""
    return lambda outcome: outcome["memory"]["counts"][place]["rss_bytes"] / (1 << 20)


def changed(name):
    """The p99 while some do not read, over the p99 before."""
    return lambda outcome: outcome["fanout_slow"][name]["p99_us"] / outcome["fanout"][name]["p99_us"]


def costs(of):
    """What every fan-out tells, of one stretch."""
    return (
        Figure("deliveries per second", of("per_second"), lower_is_better=False),
        Figure("lost", of("missing"), divides=False),
        Figure("doubled", of("doubled"), divides=False),
        Figure("CPU, s per million deliveries", of("server_cpu_us_per_delivery")),
    )


FANOUT = (
    Figure("published per second", of_fanout("published_per_second"), lower_is_better=False, divides=False),
    *costs(of_fanout),
    Figure("each receiver: p50, ms", of_fanout("latency", milliseconds("p50_us"))),
    Figure("p99, ms", of_fanout("latency", milliseconds("p99_us"))),
    Figure("the last receiver: p50, ms", of_fanout("last", milliseconds("p50_us"))),
    Figure("the last: p99, ms", of_fanout("last", milliseconds("p99_us"))),
    Figure("the last: max, ms", of_fanout("last", milliseconds("max_us"))),
    Figure("user memory, MiB (RSS)", held_bytes(-1)),
)
FANOUT_SLOW = (
    Figure("published per second", of_slow("published_per_second"), lower_is_better=False, divides=False),
    *costs(of_slow),
    Figure("all read: p99, ms", of_fanout("latency", milliseconds("p99_us"))),
    Figure("some do not: p99, ms", of_slow("latency", milliseconds("p99_us"))),
    Figure("change of the p99", changed("latency"), divides=False),
    Figure("all read: the last, p99, ms", of_fanout("last", milliseconds("p99_us"))),
    Figure("some do not: the last, p99, ms", of_slow("last", milliseconds("p99_us"))),
    Figure("change of the last's p99", changed("last"), divides=False),
    Figure("all read: user memory, MiB (RSS)", held_bytes(1)),
    Figure("some do not: user memory, MiB (RSS)", held_bytes(2)),
)

# ---- works ----


def held(kind):
    return lambda peer: peer.kind == kind and peer.shakes_hands


def echoes(peer):
    return peer.kind == DIRECT and peer.echoes


def proxies(peer):
    return peer.kind == PROXY


def broadcasts(peer):
    return peer.kind == BROADCAST


def meets_slow_readers(peer):
    return peer.kind == BROADCAST and not peer.alone


def sends_events(peer):
    return peer.kind == BROADCAST and bool(peer.feed and peer.feed.events)


def idle(kind):
    return ("idle", "--connections", CONNECTIONS[kind], "--rate", CONNECT_RATE, "--counts", 3, "--settle", "8s",
            "--hold", "1s")


def connect(kind):
    return crowd_at_once(CONNECTIONS[kind])


def messages(mode, connections, size, *more):
    return (mode, "--connections", connections, "--size", size, *more)


def at(rate):
    return ("--rate", rate)


def fanout(name, what, connections, rate, can=broadcasts, figures=FANOUT, more=(), **others):
    arguments = messages("fanout", connections, SMALL, *at(rate), *more)
    title = f"{SMALL} B to {connections} {what}, {rate} messages a second"
    return FanoutWork(name, name, title, arguments, figures, can, paced=True, seconds=FANOUT_SECONDS,
                      connections=connections, rate=rate, **others)


HOLDS = {"reads_memory": True, "spans": False, "takes": 18}
CONNECTS = {"spans": False, "takes": 3}
SMALL_ECHO = messages("echo", SMALL_CONNECTIONS, SMALL)
LARGE_ECHO = messages("echo", LARGE_CONNECTIONS, LARGE)
THROUGH_PROXY = messages("proxy", SMALL_CONNECTIONS, SMALL, "--rounds", 1)

WORKS = (
    Work("idle", "idle", f"{CONNECTIONS[DIRECT]} idle connections", idle(DIRECT), MEMORY, held(DIRECT),
         **HOLDS),
    Work("idle-proxied", "idle", f"{CONNECTIONS[PROXY]} idle connections, each carried to a back end", idle(PROXY),
         MEMORY, proxies, **HOLDS),
    Work("echo_small", "echo_small", f"{SMALL} B there and back on {SMALL_CONNECTIONS} connections, as fast as it goes",
         SMALL_ECHO, ECHO, echoes),
    Work("echo_small-paced", "echo_small", f"{SMALL} B at {SMALL_RATE} messages a second on {SMALL_CONNECTIONS}"
         " connections", SMALL_ECHO + at(SMALL_RATE), PACED, echoes, paced=True),
    Work("echo_large", "echo_large", f"{LARGE} B there and back on {LARGE_CONNECTIONS} connections, as fast as it goes",
         LARGE_ECHO, ECHO, echoes),
    Work("echo_large-paced", "echo_large", f"{LARGE} B at {LARGE_RATE} messages a second on {LARGE_CONNECTIONS}"
         " connections", LARGE_ECHO + at(LARGE_RATE), PACED, echoes, paced=True),
    Work("connect", "connect", f"{CONNECTIONS[DIRECT]} handshakes as fast as they go", connect(DIRECT), CONNECT,
         held(DIRECT), **CONNECTS),
    Work("connect-proxied", "connect", f"{CONNECTIONS[PROXY]} handshakes as fast as they go, each carried to a back"
         " end", connect(PROXY), CONNECT, proxies, **CONNECTS),
    Work("proxy", "proxy", f"{SMALL} B through the edge to a back end and back, {SMALL_CONNECTIONS} connections,"
         " as fast as it goes", THROUGH_PROXY, THROUGH, proxies, takes=8),
    Work("proxy-paced", "proxy", f"{SMALL} B through the edge at {PROXY_RATE} messages a second, {SMALL_CONNECTIONS}"
         " connections", THROUGH_PROXY + at(PROXY_RATE), THROUGH, proxies, paced=True, takes=8),
    fanout("fanout_9k", "WebSocket subscribers", FEW_SUBSCRIBERS, FEED_RATE),
    fanout("fanout_15k", "WebSocket subscribers", MANY_SUBSCRIBERS, FEED_RATE),
    fanout("fanout_gather", "WebSocket subscribers", FEW_SUBSCRIBERS, GATHER_RATE),
    fanout("fanout_sse", "subscribers by event stream", FEW_SUBSCRIBERS, FEED_RATE, sends_events,
           url=lambda peer: peer.feed.events),
    fanout("fanout_slow", f"WebSocket subscribers, then the same while {SLOW_PERCENT} % of them do not read",
           FEW_SUBSCRIBERS, FEED_RATE, meets_slow_readers, FANOUT_SLOW, ("--slow-percent", SLOW_PERCENT),
           sysctls=SMALL_SOCKETS),
)
