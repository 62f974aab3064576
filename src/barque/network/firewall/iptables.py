"""Other programs' iptables: a FORWARD chain that drops by default shuts our networks too.

A packet must be accepted by every table. Docker sets the policy DROP and documents the chain
DOCKER-USER for rules of others, so there, and only there, our bridges are let through; our own
table still decides what reaches a container. Where that chain is missing it is the administrator's
to allow, and we say so.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from barque.linux.netlink import NETLINK_NETFILTER, Netlink
from barque.linux.nfnetlink import drops_by_default
from barque.linux.nfrules import NFPROTO_IPV4

log = logging.getLogger(__name__)

PROGRAMS = ("iptables-nft", "iptables-legacy")
USER_CHAIN = "DOCKER-USER"
LEGACY_TABLES = Path("/proc/net/ip_tables_names")
TIMEOUT_S = 30.0


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def _drops(program: str) -> bool:
    """Whether forwarding is dropped by default. Looks without making any table."""
    if program == "iptables-legacy":
        try:
            if "filter" not in LEGACY_TABLES.read_text().split():
                return False
        except OSError:
            return False
        return "-P FORWARD DROP" in _run(program, "-w", "-S", "FORWARD").stdout
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        return drops_by_default(netlink, NFPROTO_IPV4, "filter", "FORWARD")
    finally:
        netlink.close()


def _rules(bridge: str) -> Sequence[tuple[str, ...]]:
    return (("-i", bridge, "-j", "ACCEPT"), ("-o", bridge, "-j", "ACCEPT"))


def _programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program)]


def let_through(bridges: Iterable[str]) -> list[str]:
    """Let `bridges` through where forwarding is dropped by default; warnings where we must not."""
    names = list(bridges)
    warnings: list[str] = []
    for program in _programs() if names else ():
        if not _drops(program):
            continue
        if _run(program, "-w", "-S", USER_CHAIN).returncode:
            warnings.append(
                f"the FORWARD chain of {program} drops by default: containers on "
                f"{', '.join(names)} reach nothing outside until it accepts these bridges"
            )
            continue
        for rule in (rule for name in names for rule in _rules(name)):
            if _run(program, "-w", "-C", USER_CHAIN, *rule).returncode:
                _run(program, "-w", "-I", USER_CHAIN, *rule)
    return warnings


def forget(bridge: str) -> None:
    """Undo `let_through` for a bridge. Safe to run twice."""
    for program in _programs():
        if not _drops(program) or _run(program, "-w", "-S", USER_CHAIN).returncode:
            continue
        for rule in _rules(bridge):
            while not _run(program, "-w", "-D", USER_CHAIN, *rule).returncode:
                pass
