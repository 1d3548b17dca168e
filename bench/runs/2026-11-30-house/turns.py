#!/usr/bin/env python3
"""Two builds of the server in turns: turns.py ROUNDS LABEL=PROGRAM LABEL=PROGRAM BENCH UPSTREAM > raw.txt

The server is pinned to core 0, the tool to core 1. Each line: measure, label, server CPU in microseconds for one
message (delivery, handshake), or bytes for one idle connection. CPU is utime + stime of /proc/PID/stat over all threads.
BENCH is edgehold-bench (the same for both), UPSTREAM a bare TCP echo. Run inside a network namespace of its own.
"""
import json, os, re, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS, BUILDS, BENCH, UPSTREAM = int(sys.argv[1]), [a.split("=", 1) for a in sys.argv[2:4]], sys.argv[4], sys.argv[5]
TICK = os.sysconf("SC_CLK_TCK")
OPENING = ("GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()

def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK

def serve(program):
    server = subprocess.Popen(["taskset", "-c", "0", program, "-c", f"{HERE}/one.toml"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", 8080)).close()
            return server
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{program} does not listen")

def stop(server):
    server.terminate()
    server.wait()

def bench(server, *arguments):
    out = "turns-bench.json"
    command = ["taskset", "-c", "1", BENCH, *arguments, "--server-pid", str(server.pid), "--cores", "1", "--json", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    return json.load(open(out))

def find(tree, name):
    """The first number of this name, wherever it is."""
    if isinstance(tree, dict):
        if name in tree and isinstance(tree[name], (int, float)):
            return tree[name]
        tree = list(tree.values())
    if isinstance(tree, list):
        for one in tree:
            found = find(one, name)
            if found is not None:
                return found
    return None

def opened():
    client = socket.create_connection(("127.0.0.1", 8080))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(OPENING)
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += client.recv(4096)
    return client

def pipelined(server, seconds=3):
    """64 messages of 64 bytes a write, 8 connections."""
    os.sched_setaffinity(0, {1})
    frame = bytes([0x82, 0x80 | 64, 1, 2, 3, 4]) + bytes(range(64))
    burst, back = frame * 64, 66 * 64
    clients, count = [opened() for _ in range(8)], 0
    begun, until = cpu(server.pid), time.monotonic() + seconds
    while time.monotonic() < until:
        for client in clients:
            client.sendall(burst)
        for client in clients:
            left = back
            while left:
                left -= len(client.recv(left))
        count += 64 * len(clients)
    spent = cpu(server.pid) - begun
    for client in clients:
        client.close()
    return spent / count * 1e6

def handshakes(server, count=20000):
    os.sched_setaffinity(0, {1})
    begun = cpu(server.pid)
    for _ in range(count):
        opened().close()
    time.sleep(0.3)
    return (cpu(server.pid) - begun) / count * 1e6

def echo(server, connections, size, path="/echo"):
    url = f"ws://127.0.0.1:8080{path}"
    found = bench(server, "echo", "--connections", str(connections), "--size", str(size), "--duration", "4s", "--url", url)
    return find(found, "server_cpu_us_per_message")

def fanout(server, rate):
    url = "ws://127.0.0.1:8080/feed/bench"
    found = bench(server, "fanout", "--publish", "http://127.0.0.1:9180/v1/publish/bench", "--connections", "5000",
                  "--rate", str(rate), "--duration", "4s", "--size", "64", "--url", url)
    return find(found, "server_cpu_us_per_delivery")

def idle(server):
    """PSS per idle connection, the slope over three counts."""
    found = bench(server, "idle", "--connections", "9000", "--hold", "1s", "--url", "ws://127.0.0.1:8080/echo")
    return found["memory"]["user_pss_bytes"]

MEASURES = {
    "echo-64-1000": lambda server: echo(server, 1000, 64),
    "echo-16384-100": lambda server: echo(server, 100, 16384),
    "pipelined-64": pipelined,
    "proxy-64-100": lambda server: echo(server, 100, 64, "/back"),
    "fanout-20": lambda server: fanout(server, 20),
    "fanout-80": lambda server: fanout(server, 80),
    "handshake": handshakes,
    "idle-bytes": idle,
}
ONLY = os.environ.get("ONLY")

def main():
    upstream = subprocess.Popen(["taskset", "-c", "1", UPSTREAM, "127.0.0.1:8081"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(ROUNDS):
            for name, measure in MEASURES.items():
                if ONLY and name not in ONLY.split(","):
                    continue
                for label, program in BUILDS:
                    server = serve(program)
                    try:
                        print(name, label, f"{measure(server):.4f}", flush=True)
                    finally:
                        stop(server)
    finally:
        upstream.terminate()

main()
