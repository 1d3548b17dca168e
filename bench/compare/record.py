"""What a result must name to be judged: the machine, the versions, the configurations and the command lines."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys

from peers import BENCH, CACHE, CONFIGS, EDGEHOLD, HERE, ROOT
from place import SYSCTLS, sysctl_path

SYSCTLS_READ = (*SYSCTLS, "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_tw_reuse")


def output(*command, cwd=None):
    """What a program prints, or why it prints nothing."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error.__class__.__name__})"
    return (done.stdout or done.stderr).strip()


def first_line(*command, cwd=None):
    return output(*command, cwd=cwd).partition("\n")[0]


# ---- the machine ----


def field(path, name):
    """A field of a file in /proc whose lines are `name : value`."""
    with open(path) as file:
        lines = (line.partition(":") for line in file)
        return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def sysctl(name):
    with open(sysctl_path(name)) as file:
        return " ".join(file.read().split())


def machine(files, options):
    """The lines of machine.txt; call it inside a namespace, for its settings."""
    lines = [
        ("kernel", platform.release()),
        ("processor", field("/proc/cpuinfo", "model name")),
        ("cores", os.cpu_count()),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("files a process may open", files),
        ("load average at start", " ".join(f"{value:.2f}" for value in os.getloadavg())),
        ("servers and back ends on core", options.server_core),
        ("client on core", options.client_core),
    ]
    lines += [(name, sysctl(name)) for name in SYSCTLS_READ]
    return "".join(f"{name}: {value}\n" for name, value in lines)


# ---- versions ----


def debian(package):
    return first_line("dpkg-query", "-W", "-f", "${Version}", package)


def npm(package):
    path = CACHE / "node" / "node_modules" / package / "package.json"
    return json.loads(path.read_text())["version"] if path.exists() else "not installed"


def pypi(package):
    found = re.search(rf"^{package}==(\S+)", (HERE / "python" / "requirements.txt").read_text(), re.MULTILINE)
    return found.group(1)


def crate(package):
    locked = (HERE / "echoes" / "Cargo.lock").read_text()
    return re.search(rf'name = "{package}"\nversion = "([^"]+)"', locked).group(1)


def commit():
    """The commit of the checkout, and whether its sources differ from it."""
    head = first_line("git", "rev-parse", "HEAD", cwd=ROOT)
    changed = output("git", "status", "--porcelain", "--untracked-files=no", cwd=ROOT)
    return head + (" with changes" if changed else "")


def versions():
    """The lines of versions.txt."""
    lines = [
        ("edgehold", first_line(EDGEHOLD, "--version")),
        ("edgehold-bench", first_line(BENCH, "--version")),
        ("commit", commit()),
        ("rustc", first_line("rustc", "--version")),
        *((name, crate(name)) for name in ("fastwebsockets", "hyper", "tokio", "tokio-tungstenite", "tungstenite")),
        ("node", first_line("node", "--version")),
        *((name, npm(name)) for name in ("ws", "bufferutil")),
        ("python", platform.python_version()),
        ("socketify (uWebSockets)", pypi("socketify")),
        *((name, debian(name)) for name in ("nginx", "libnginx-mod-nchan", "haproxy")),
    ]
    return "".join(f"{name}: {value}\n" for name, value in lines)


# ---- configurations ----


def relative(word):
    """A word of a command line without what only this machine knows."""
    text = str(word)
    return "python3" if text == sys.executable else text.replace(f"{ROOT}/", "")


def command_line(command, env):
    settings = [f"{name}={relative(value)}" for name, value in env.items()]
    return " ".join([*settings, *map(relative, command)])


def commands(peers):
    """The lines of configs/commands.txt."""
    lines = []
    for peer in peers:
        lines.append(f"{peer.name}: {command_line(peer.command, peer.env)}\n")
        if peer.back_end:
            lines.append(f"{peer.name}, back end: {command_line(peer.back_end.command, {})}\n")
    return "".join(lines)


def copy_configs(peers, folder):
    """Puts the configuration files that are used, and the command lines, into a folder."""
    folder.mkdir(parents=True)
    back_ends = [peer.back_end.configs for peer in peers if peer.back_end]
    for name in {name for names in [*back_ends, *(peer.configs for peer in peers)] for name in names}:
        shutil.copyfile(CONFIGS / name, folder / name)
    (folder / "commands.txt").write_text(commands(peers))
