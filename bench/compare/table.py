"""What was found, as Markdown: medians with their spread, and edgehold's ratio to each peer, round by round.

A ratio is taken within a round, between two measurements that lie minutes apart; the median of those ratios is
printed, with the smallest and the largest.
"""

from statistics import median

DASH = "–"


class Results:
    """Outcomes by work, peer and round, and what failed."""

    def __init__(self):
        self.outcomes = {}
        self.failures = []

    def add(self, work, peer, turn, outcome):
        self.outcomes.setdefault((work.name, peer.name), {})[turn] = outcome

    def fail(self, words):
        self.failures.append(words)

    def of(self, work, name):
        """Outcomes by round."""
        return self.outcomes.get((work.name, name), {})

    def values(self, work, name, figure):
        """Figures by round, without those that could not be measured."""
        taken = {turn: figure.of(outcome) for turn, outcome in self.of(work, name).items()}
        return {turn: value for turn, value in taken.items() if value is not None}

    def ratios(self, work, peer, figure):
        """The reference's figure divided by the peer's, for each round that has both."""
        ours, theirs = (self.values(work, name, figure) for name in (peer.reference, peer.name))
        return [ours[turn] / theirs[turn] for turn in ours if theirs.get(turn)]


# ---- numbers ----


def digits(value):
    """A number with three places that count, or whole from a hundred up."""
    size = abs(value)
    places = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}".replace(",", " ")


def spread(values, form):
    """Median (smallest to largest)."""
    if not values:
        return DASH
    middle = form(median(values))
    return middle if len(values) == 1 else f"{middle} ({form(min(values))} to {form(max(values))})"


def ratio(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


# ---- tables ----


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return "\n".join([row(head), row(["---"] + ["---:"] * (len(head) - 1)), *map(row, rows)])


def values_table(results, work, peers):
    head = ["peer", *(figure.title for figure in work.figures)]
    lines = ([peer.name, *(cell(results, work, peer, figure) for figure in work.figures)] for peer in peers)
    return table(head, lines)


def cell(results, work, peer, figure):
    return spread(list(results.values(work, peer.name, figure).values()), digits)


def ratio_head(figure):
    return f"{figure.title} ({'below' if figure.lower_is_better else 'above'} 1 is better)"


def ratios_table(results, work, peers):
    figures = [figure for figure in work.figures if figure.divides]
    others = [peer for peer in peers if peer.name != peer.reference]
    head = [f"{others[0].reference} / peer", *map(ratio_head, figures)]
    lines = ([peer.name, *(spread(results.ratios(work, peer, figure), ratio) for figure in figures)] for peer in others)
    return table(head, lines)


# ---- remarks ----


def client_bound(results, work, peer):
    """In how many rounds the client was the limit."""
    return sum(1 for outcome in results.of(work, peer.name).values() if outcome["client"].get("bottleneck"))


def bound_remark(results, work, peers):
    bound = [(peer.name, client_bound(results, work, peer), len(results.of(work, peer.name))) for peer in peers]
    named = ", ".join(f"{name} ({count} of {rounds} rounds)" for name, count, rounds in bound if count)
    if work.reads_memory:
        return ""  # connections that are held at a modest rate: memory does not depend on the client's speed
    if not named:
        return "The client was the limit for none."
    return (f"The client's core was the limit for: {named}. Their throughput is a lower bound, and their latency holds"
            " the client's own.")


def lagging(work, outcome):
    """Whether a paced load was not followed: more than one in a hundred messages short."""
    loads = (load for load in outcome.get("load", []) if load["name"] in ("echo", "edge"))
    behind = any(load["per_second"] < 0.99 * load.get("rate", 0) for load in loads)
    return work.paced and (behind or any(late(outcome, fanout) for fanout in fanouts(outcome)))


def fanouts(outcome):
    return [outcome[name] for name in ("fanout", "fanout_slow") if name in outcome]


def late(outcome, fanout):
    """Whether fewer deliveries were made in a second than were asked for."""
    return fanout["per_second"] < 0.99 * fanout["subscribers"] * outcome["asked"]["rate"]


def voice_is_late(outcome):
    """Whether fewer messages were published in a second than were asked for."""
    return any(it["published_per_second"] < 0.99 * outcome["asked"]["rate"] for it in fanouts(outcome))


def is_not_whole(outcome):
    return any(it["missing"] or it["doubled"] for it in fanouts(outcome))


def lag_remark(results, work, peers):
    behind = [peer.name for peer in peers if any(lagging(work, o) for o in results.of(work, peer.name).values())]
    return f"Did not follow the rate: {', '.join(behind)}." if behind else ""


def named(results, work, peers, holds):
    """The peers for which something holds, and in how many of their rounds."""
    counts = [(peer.name, [holds(outcome) for outcome in results.of(work, peer.name).values()]) for peer in peers]
    return ", ".join(f"{name} ({sum(found)} of {len(found)} rounds)" for name, found in counts if any(found))


def fanout_remark(results, work, peers):
    """Where the figures of a fan-out are not those of the work that was asked for."""
    broken = named(results, work, peers, is_not_whole)
    held_up = named(results, work, [peer for peer in peers if not peer.alone], voice_is_late)
    words = [f"NOT ALL DELIVERED, OR MORE THAN ONCE: {broken}." if broken else "",
             f"Published below the rate, because the server took no more: {held_up}." if held_up else ""]
    return " ".join(filter(None, words))


def told(note):
    """Whether the table tells it already."""
    return note.startswith("the edge adds")


def notes_of(results, work, peers):
    """What edgehold-bench itself remarked, once each."""
    seen = {}
    for peer in peers:
        for outcome in results.of(work, peer.name).values():
            for note in (note for note in outcome.get("notes", []) if not told(note)):
                seen.setdefault(note, []).append(peer.name)
    return [f"- {', '.join(dict.fromkeys(names))}: {note}" for note, names in seen.items()]


# ---- the page ----


def section(results, work, peers):
    measured = [peer for peer in peers if results.of(work, peer.name)]
    parts = [f"## {work.name}: {work.title}", values_table(results, work, measured)]
    if any(peer.name != peer.reference for peer in measured):
        parts.append(ratios_table(results, work, measured))
    remarks = [bound_remark(results, work, measured), lag_remark(results, work, measured),
               fanout_remark(results, work, measured)]
    parts.append(" ".join(filter(None, remarks)))
    parts.append("\n".join(notes_of(results, work, measured)))
    return "\n\n".join(filter(None, parts))


def goals_table(rows):
    """Goals: (words, found, asked, whether it was reached)."""
    lines = [[words, digits(value), asked, "yes" if reached else "**NO**"] for words, value, asked, reached in rows]
    return "## What was to be reached over TLS\n\n" + table(["goal", "found", "asked", "reached"], lines)


def page(results, works, peers, opening, goals=()):
    """The whole summary; `goals` as for goals_table."""
    parts = ["# edgehold and its peers", opening]
    parts += [goals_table(goals)] if goals else []
    parts += [section(results, work, list(filter(work.can, peers))) for work in works if any_of(results, work)]
    if results.failures:
        parts.append("## What failed\n\n" + "\n".join(f"- {words}" for words in results.failures))
    return "\n\n".join(parts) + "\n"


def any_of(results, work):
    return any(name == work.name for name, _ in results.outcomes)
