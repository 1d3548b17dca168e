"""Where a measurement happens: a network namespace of its own, a core for the servers and one for the client.

Each measurement gets a fresh namespace, so that ports never collide and what the one before left behind (sockets in
TIME_WAIT, 15 000 at a time) is gone with its namespace. Servers are processes that are started for one measurement
and ended after it, by their own process group.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path(__file__).resolve().parent / ".cache"  # what is installed, made and logged
TLS = CACHE / "tls"  # the authority, and the one certificate for all, with its key (bench/compare/install)

CLONE_NEWNET = 0x40000000  # unshare(2)

# In force in each namespace. Listeners ask for long queues, and the kernel cuts them to somaxconn; one client machine
# needs many local ports. Servers listen below 1024, out of the way of those, and need not be root for it.
SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.core.somaxconn": "65535",
    "net.ipv4.tcp_max_syn_backlog": "65535",
    "net.ipv4.ip_local_port_range": "1024 65535",
}

OWN_RIGHTS = "EDGEHOLD_COMPARE_IN_NAMESPACE"  # set for the program that was started anew

START_LIMIT = 20.0  # seconds until a server must listen
STOP_LIMIT = 10.0  # seconds until a server must be gone before it is killed
PAUSE = 0.01  # seconds between two looks at a condition


class Failure(Exception):
    """What failed, in one line; `log` holds the last lines of the log that explains it."""

    def __init__(self, words, log=""):
        super().__init__(words)
        self.log = log


def gain_rights():
    """Where it is not root: starts the program anew in a user namespace, with the right to make network namespaces.

    The user stays who it is, since servers that find themselves to be root try to become another.
    """
    if os.geteuid() != 0 and OWN_RIGHTS not in os.environ:
        os.environ[OWN_RIGHTS] = "1"
        unshare = ["unshare", "--user", "--map-current-user", "--keep-caps", sys.executable, *sys.argv]
        os.execvp("unshare", unshare)


def raise_file_limit():
    """Takes all the open files that this user may have, for every process that is started. Returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def enter_namespace():
    """Moves this process, and what it starts from now on, into a fresh network namespace with its loopback up."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Failure(f"a network namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in SYSCTLS.items():
        write_sysctl(name, value)


def sysctl_path(name):
    return "/proc/sys/" + name.replace(".", "/")


def write_sysctl(name, value):
    with open(sysctl_path(name), "w") as file:
        file.write(value)


def wait_until(condition, limit, words):
    """Looks at a condition until it holds; raises Failure with `words` after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"{words} within {limit:.0f} s")
        time.sleep(PAUSE)


def listens(port):
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One process (and its children) on one core, from start to end; a context manager."""

    def __init__(self, name, command, port, core, log, folder, env):
        self.name, self.port, self.log = name, port, log
        self.command = ["taskset", "-c", str(core), *map(str, command)]
        self.folder, self.env = folder, {**os.environ, **env}
        self.process = None

    @property
    def pid(self):
        """The server itself: taskset becomes it."""
        return self.process.pid

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self.is_up, START_LIMIT, f"{self.name} does not listen at port {self.port}")
        except Failure as failure:
            self.stop()
            raise Failure(str(failure), self.log_tail()) from None
        return self

    def __exit__(self, *_):
        self.stop()

    def is_up(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with {self.process.returncode} instead of listening")
        return listens(self.port)

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        """Asks its process group to end, and kills what is left of it after a while."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(self.is_gone, STOP_LIMIT, f"{self.name} does not end")
        except Failure:
            self.signal(signal.SIGKILL)
            wait_until(self.is_gone, STOP_LIMIT, f"{self.name} cannot be killed")

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def is_gone(self):
        """Whether no process of its group is left; the first one is reaped here, its children by init."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def peak_bytes(self):
        """The most memory that the process itself has had resident so far; bytes."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    def log_tail(self):
        return tail(self.log)


def tail(path, lines=8):
    """The last lines of a file, or nothing where there is none."""
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError:
        return ""
