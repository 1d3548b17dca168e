"""The limit of a fan-out: bench/micro's fan_limit, which is both ends itself, so that no server is started for it.

Its lines become an outcome of the form that edgehold-bench writes, as far as it measures the same. It has no times of
receipts, and its processor time is that of the sending alone, without any waiting.
"""

import json
import subprocess

from place import Failure
from peers import BUILT

FAN_LIMIT = BUILT / "fan_limit"
CHECKED = ("--subscribers", "100", "--rounds", "10")
CHECK_LIMIT = 20  # seconds
BUSY = 0.8  # of a core: above it edgehold-bench calls itself the limit, and so it is said of the far end here


def command(options, *arguments):
    cores = ("--core", options.server_core, "--sink-core", options.client_core)
    return [str(word) for word in (FAN_LIMIT, *arguments, *cores)]


def values(text):
    """What it printed: values by name."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 3}


def run(options, arguments, limit):
    try:
        done = subprocess.run(command(options, *arguments), capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failure(f"no end after {limit} s") from None
    if done.returncode != 0:
        raise Failure(f"fan_limit ended with {done.returncode}", done.stderr + done.stdout)
    return values(done.stdout)


def check(options):
    """It compares every byte itself, and ends with 0 only where all have come."""
    run(options, CHECKED, CHECK_LIMIT)


def outcome(found, arguments, rate, seconds):
    """A fan-out as edgehold-bench would tell it."""
    share = found["deliveries"] * found["sink_processor"] / 1e6
    rounds = found["sent"] / found["subscribers"]
    fanout = {
        "published": rounds,
        "published_per_second": found["deliveries"] / found["subscribers"],
        "subscribers": found["subscribers"],
        "delivered": found["received"],
        "missing": found["sent"] - found["received"],
        "doubled": 0,  # a message too many would be bytes too many, and those end it with a failure
        "per_second": found["deliveries"],
        "server_cpu_us_per_delivery": found["sender_processor"],
        "client_cpu_share": share,
    }
    return {
        "tool": "fan_limit",
        "command": ["fan_limit", *arguments],
        "asked": {"rate": rate, "duration_s": seconds},
        "fanout": fanout,
        "client": {"cpu_share": share, "bottleneck": share > BUSY},
    }


def measure(work, options, file):
    """The outcome of a work, also written to `file`."""
    seconds = work.span(options)
    arguments = [str(word) for word in ("--subscribers", work.connections, "--bytes", work.frame_bytes, "--rate",
                                        work.rate, "--rounds", work.rate * seconds)]
    result = outcome(run(options, arguments, work.limit), arguments, work.rate, seconds)
    file.write_text(json.dumps(result, indent=2) + "\n")
    return result
