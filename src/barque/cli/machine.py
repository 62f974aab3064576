"""What of this machine would keep an engine from working, seen without a daemon."""

from __future__ import annotations

import os

from barque.api.versions import DEFAULT_SOCKET

RUN = DEFAULT_SOCKET.rpartition("/")[0]
RULE_PROGRAMS = ("nft", "iptables")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def look(root: str = "/", path: str = "") -> list[str]:
    """A line for each; `root` is where /proc and /sys are, `path` where programs are."""
    found = []
    if "overlay" not in _text(f"{root}proc/filesystems").split():
        found.append("kernel overlay: this kernel has no overlay file system (yet)")
    if not _programs(path or os.environ.get("PATH", "") + ":" + SYSTEM_PATH):
        found.append("firewall: neither nft nor iptables is installed")
    if _text(f"{root}proc/sys/net/ipv4/ip_forward").strip() == "0":
        found.append("forwarding ipv4: off; a daemon that has a bridge network switches it on")
    groups = f"{root}sys/fs/cgroup"
    if not (os.path.exists(f"{groups}/cgroup.controllers") or os.path.isdir(f"{groups}/memory")):
        found.append(f"cgroup {groups}: no control groups are mounted")
    left = [point for point in _mount_points(root) if point.startswith(f"{RUN}/")]
    if left:
        found.append(f"mounts {RUN}: {len(left)} are there; a daemon that starts clears those up")
    return found


def _programs(path: str) -> bool:
    return any(
        os.access(f"{directory}/{program}", os.X_OK)
        for directory in path.split(":")
        if directory
        for program in RULE_PROGRAMS
    )


def _mount_points(root: str) -> list[str]:
    return [line.split()[4] for line in _text(f"{root}proc/self/mountinfo").splitlines()]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
