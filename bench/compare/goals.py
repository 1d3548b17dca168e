"""What was to be reached over TLS, and what was: one line for each goal, from the figures of the works in secure.py.

A figure is the median of the rounds. Where edgehold is compared with several, the ratio to the strongest counts.
"""

from dataclasses import dataclass
from statistics import median

from peers import PEERS, TLS_DIRECT, TLS_PROXY
from secure import WORKS, echoes, edges


@dataclass(frozen=True)
class Goal:
    """A bound of a figure of one peer, or of edgehold's ratio to several."""

    words: str
    work: str
    figure: str  # the beginning of its title
    limit: float
    is_least: bool  # whether the limit is the least that was asked for; otherwise it is the most
    peer: str = None  # whose figure it is
    against: tuple = ()  # or with whom edgehold is compared

    def found(self, results):
        """The value, or None where it was not measured."""
        work = next(work for work in WORKS if work.name == self.work)
        figure = next(figure for figure in work.figures if figure.title.startswith(self.figure))
        if self.peer:
            found = [list(results.values(work, self.peer, figure).values())]
        else:
            found = [results.ratios(work, peer, figure) for peer in PEERS if peer.name in self.against]
        medians = [median(values) for values in found if values]
        return (min if self.is_least else max)(medians) if medians else None

    def is_reached(self, value):
        return value >= self.limit if self.is_least else value <= self.limit


def most(words, work, figure, limit, peer):
    return Goal(words, work, figure, limit, False, peer)


def least(words, work, figure, limit, peer):
    return Goal(words, work, figure, limit, True, peer)


def others(takes_part):
    """The names of those that edgehold is compared with."""
    kinds = (TLS_DIRECT, TLS_PROXY)
    return tuple(peer.name for peer in PEERS if peer.kind in kinds and takes_part(peer) and peer.name != peer.reference)


PER_CPU, USER, KERNEL = "handshakes per CPU second", "user memory", "kernel memory"
MESSAGES, DELIVERY = "messages per CPU second", "CPU, s per million deliveries"
EDGES, ECHOES = others(edges), others(echoes)

GOALS = (
    most("1. user memory of an idle connection, AES-128, B", "tls_idle", USER, 256, "edgehold-tls"),
    most("1. the same, AES-256, B", "tls_idle", USER, 320, "edgehold-aes256"),
    most("1. user memory of each of 200 000, AES-128, B", "tls_hold", USER, 256, "edgehold-hold"),
    Goal("1. kernel memory, over clear text's", "tls_idle", KERNEL, 1.05, False, against=("edgehold-clear",)),
    Goal("2. full handshakes, over nginx's and HAProxy's", "tls_connect-edge", PER_CPU, 1, True, against=EDGES),
    Goal("2. resumed handshakes, over nginx's and HAProxy's", "tls_resume-edge", PER_CPU, 1, True, against=EDGES),
    least("2. resumed of those who come back at once, %", "tls_storm", "resumed", 95, "edgehold-storm"),
    Goal("3. echo of 64 B, over the best server's", "tls_echo_small", MESSAGES, 1.1, True, against=ECHOES),
    Goal("3. the same through a proxy", "tls_echo_small-proxied", MESSAGES, 1.1, True, against=EDGES),
    Goal("3. echo of 16 KiB, over the best server's", "tls_echo_large", MESSAGES, 1.1, True, against=ECHOES),
    Goal("3. the same through a proxy", "tls_echo_large-proxied", MESSAGES, 1.1, True, against=EDGES),
    Goal("4. fan-out, CPU over clear text's", "tls_fanout_9k", DELIVERY, 1.35, False,
         against=("edgehold-broadcast-clear",)),
    Goal("4. fan-out, CPU over nchan's", "tls_fanout_9k", DELIVERY, 0.5, False, against=("nchan-broadcast-tls",)),
    most("5. p99 in the storm, over the quiet one", "tls_storm", "change of the p99", 5, "edgehold-storm"),
    most("5. the same with one shard", "tls_storm-one", "change of the p99", 5, "edgehold-storm-one"),
    most("5. peak of memory in the storm, over the plan", "tls_storm", "peak over the plan", 1, "edgehold-storm"),
    least("6. connections at once", "tls_hold", "connected", 200_000, "edgehold-hold"),
    most("6. pings without an answer", "tls_hold", "pongs missing", 0, "edgehold-hold"),
)


def rows(results):
    """(goal, found, asked, whether it was reached) of those that were measured."""
    for goal in GOALS:
        value = goal.found(results)
        if value is not None:
            sign = "at least" if goal.is_least else "at most"
            yield goal.words, value, f"{sign} {goal.limit:,}".replace(",", " "), goal.is_reached(value)
