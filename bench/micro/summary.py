#!/usr/bin/env python3
"""Makes the tables of summary.md from the raw output that bench/micro/run wrote into a folder.

    python3 summary.py FOLDER > FOLDER/summary.md

divan prints a tree: groups, functions, cases, and under each case a line with its throughput. The throughput of the
median sample is what is taken, since its case may have gone through many payloads. A ratio is made within each round,
then the median over the rounds is shown; the spread is the largest less the smallest, in percent of the median.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

SIZES = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20]
COLD_SIZES = SIZES[4:]
KINDS = ["Portable", "Sse2", "Avx2", "Avx512", "Neon"]
# The target: from this size on, at most so many times a copy.
TARGET_BYTES, TARGET_RATIO = 4 << 10, 1.5

BRANCH = re.compile(r"^((?:│  |   )*)[├╰]─ (\S+)\s*(.*)$")
UNITS = {"B/s": 1, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12}


def read_divan(path):
    """{name: [GB/s in each round]}, the name being group/function/case."""
    rates, names, case = defaultdict(list), [], None
    for line in path.read_text().splitlines():
        branch = BRANCH.match(line)
        if branch:
            indent, name, _ = branch.groups()
            names[len(indent) // 3 :] = [name]
            case = "/".join(names)
        elif case and "B/s" in line:
            # The column of the median is the third; bars of the tree stand before the first.
            number, unit = line.split("│")[-4].split()
            rates[case].append(float(number) * UNITS[unit] / 1e9)
    return dict(rates)


def read_tls(path):
    """{name: ([value in each round], unit)}."""
    values = defaultdict(lambda: ([], ""))
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            name, value, unit = line.split()
            values[name] = (values[name][0] + [float(value)], unit)
    return dict(values)


def read_fan(path):
    """{title: {name: ([value in each round], unit)}}."""
    runs, values = defaultdict(lambda: defaultdict(lambda: ([], ""))), None
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            values = runs[line.split(": ", 1)[1]]
        else:
            name, value, unit = line.split()
            values[name] = (values[name][0] + [float(value)], unit)
    return {title: dict(values) for title, values in runs.items()}


def spread(values):
    """In percent of the median."""
    return 100 * (max(values) - min(values)) / median(values)


def size_name(size):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def digits(value):
    """Three digits that mean something."""
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def time(rates, size):
    """Nanoseconds for one payload, with the throughput and the spread."""
    ns = [size / rate for rate in rates]
    return f"{digits(median(ns))} ns, {digits(median(rates))} GB/s (±{spread(ns) / 2:.0f} %)"


def ratios(slow, fast):
    """How many times as long `slow` takes, round by round."""
    return [b / a for a, b in zip(slow, fast, strict=True)]


def ratio(slow, fast):
    each = ratios(slow, fast)
    return f"{median(each):.2f} (±{spread(each) / 2:.0f} %)"


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines), end="\n\n")


def mask_table(rates, group, sizes):
    head = ["size", "copy", "edgehold", "fastwebsockets", "edgehold / copy", "fastwebsockets / edgehold"]
    rows = []
    for size in sizes:
        copy, ours, theirs = (rates[f"{group}/{who}/{size}"] for who in ("memcpy", "edgehold", "fastwebsockets"))
        times = [time(who, size) for who in (copy, ours, theirs)]
        rows.append([size_name(size), *times, ratio(ours, copy), ratio(theirs, ours)])
    table(head, rows)


def kind_table(rates):
    kinds = [kind for kind in KINDS if f"warm/edgehold_kind/{kind}/16" in rates]
    rows = []
    for size in SIZES:
        copy = rates[f"warm/memcpy/{size}"]
        rows.append([size_name(size), *(ratio(rates[f"warm/edgehold_kind/{kind}/{size}"], copy) for kind in kinds)])
    table(["size", *(f"{kind} / copy" for kind in kinds)], rows)


def difference_table(rates):
    """tungstenite's unmasking: frames with a mask less the same frames without."""
    rows = []
    for size in SIZES:
        masked, unmasked = (rates[f"difference/tungstenite_{how}/{size}"] for how in ("masked", "unmasked"))
        less = [size / a - size / b for a, b in zip(masked, unmasked, strict=True)]
        ours = [size / rate for rate in rates[f"warm/edgehold/{size}"]]
        theirs = f"{digits(median(less))} ns ({digits(min(less))} to {digits(max(less))})"
        rows.append([size_name(size), theirs, f"{digits(median(ours))} ns", f"{median(less) / median(ours):.1f}"])
    table(["size", "tungstenite, by difference", "edgehold", "tungstenite / edgehold"], rows)


def target(rates):
    """The sentence that says whether the target is met, and where not."""
    worst, missed = (0, "", 0), []
    for group in ("warm", "cold"):
        for size in (size for size in COLD_SIZES if size >= TARGET_BYTES):
            value = median(ratios(rates[f"{group}/edgehold/{size}"], rates[f"{group}/memcpy/{size}"]))
            worst = max(worst, (value, group, size))
            if value > TARGET_RATIO:
                missed.append(f"{size_name(size)} {group}: {value:.2f}")
    verdict = "missed at " + ", ".join(missed) if missed else "met"
    value, group, size = worst
    where = f"the largest ratio is {value:.2f}, {group}, {size_name(size)}"
    print(f"Target, at most {TARGET_RATIO} × a copy from {size_name(TARGET_BYTES)} up: **{verdict}**; {where}.\n")


def reader_table(rates, group):
    who = ["copy", "edgehold", "edgehold_128k", "tungstenite", "fastwebsockets"]
    rows = []
    for size in SIZES:
        of = {name: rates[f"{group}/{name}/{size}"] for name in who}
        times = [time(of[name], size) for name in who]
        against = [ratio(of[name], of["edgehold"]) for name in who[3:]]
        rows.append([size_name(size), *times, *against])
    table(["size", *who, "tungstenite / edgehold", "fastwebsockets / edgehold"], rows)


def check_table(rates, group):
    who = ["edgehold", "std", "simdutf8_basic"]
    rows = []
    for size in SIZES:
        of = [rates[f"{group}/{name}/{size}"] for name in who]
        rows.append([size_name(size), *(time(rate, size) for rate in of), *(ratio(other, of[0]) for other in of[1:])])
    table(["size", *who, "std / edgehold", "simdutf8_basic / edgehold"], rows)


def tls_table(values):
    rows = [[name, f"{median(each):.1f} {unit}", f"±{spread(each) / 2:.1f} %"] for name, (each, unit) in values.items()]
    table(["", "median", "spread"], rows)
    idle = median(values["full_heap_idle"][0]) + median(values["server_struct"][0])
    print(f"An idle connection, its struct and its heap together: {idle:.0f} bytes.\n")


def fan_table(runs):
    head = ["subscribers", "sender, processor", "sender, wall", "sink, processor", "deliveries"]
    rows = []
    for title in (title for title in runs if title != "memory"):
        of = [runs[title][name] for name in ("sender_processor", "sender_wall", "sink_processor", "deliveries")]
        rows.append([title, *(f"{digits(median(each))} {unit} (±{spread(each) / 2:.0f} %)" for each, unit in of)])
    table(head, rows)


def fan_memory(values):
    """What one message that lies undelivered costs; the range is over all rounds of all runs."""
    rows = []
    for name in ("slab", "tcp_memory"):
        each, unit = values[name]
        least, most = min(values[f"{name}_least"][0]), max(values[f"{name}_most"][0])
        rows.append([name, f"{digits(median(each))} {unit}", f"{digits(least)} to {digits(most)}"])
    table(["", "median", "range"], rows)


def main():
    folder = Path(sys.argv[1])
    mask, frames = read_divan(folder / "mask.txt"), read_divan(folder / "frames.txt")
    print("# Small measurements\n\n```text\n" + (folder / "machine.txt").read_text() + "```\n")
    print("Median over the rounds; in brackets half the spread. A ratio above 1: the first takes longer.\n")
    print("## Unmasking, in the cache\n")
    target(mask)
    mask_table(mask, "warm", SIZES)
    print("Each way of masking that this processor has, against a copy:\n")
    kind_table(mask)
    print("tungstenite's own, by difference (its range over the rounds):\n")
    difference_table(mask)
    print("## Unmasking, from memory\n")
    mask_table(mask, "cold", COLD_SIZES)
    for group, title in (("binary", "binary"), ("text", "text, checked for UTF-8")):
        print(f"## Reading masked frames: {title}\n\nTime for one frame, the way from the source included.\n")
        reader_table(frames, group)
    for group, title in (("check_ascii", "ASCII"), ("check_mixed", "one to four bytes per character")):
        print(f"## The check of text alone: {title}\n")
        check_table(frames, group)
    print("## TLS\n")
    tls_table(read_tls(folder / "tls.txt"))
    fan = read_fan(folder / "fan.txt")
    print("## Fan-out: 64 bytes to each subscriber\n")
    fan_table(fan)
    print("One message that lies undelivered:\n")
    fan_memory(fan["memory"])


if __name__ == "__main__":
    main()
