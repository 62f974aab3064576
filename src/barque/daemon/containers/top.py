"""`top`: the processes of a container, read from /proc outside; nothing of the container is run.

A program of the image must never answer for it (CVE-2022-1227), and what is mostly asked for needs
no `ps` on the host.
"""

from __future__ import annotations

import os
import pwd
import time
from typing import Any, NamedTuple

from barque import errors
from barque.daemon.containers import host_ps
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.state import Status

MAX_STAT_BYTES = 64 << 10
FULL = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
COLUMNS = {
    "user": "USER",
    "uid": "UID",
    "pid": "PID",
    "ppid": "PPID",
    "c": "C",
    "stime": "STIME",
    "tty": "TT",
    "time": "TIME",
    "cmd": "CMD",
    "args": "COMMAND",
    "comm": "COMMAND",
    "rss": "RSS",
    "vsz": "VSZ",
    "stat": "STAT",
}


class Process(NamedTuple):
    pid: int
    ppid: int
    uid: int
    comm: str
    command: str
    state: str
    tty: int
    ticks: int
    started_s: float
    rss_kib: int
    vsz_kib: int


async def top(engine: Engine, container: Container, options: str) -> dict[str, Any]:
    """API: ContainerTopResponse. `-ef` and `-o COLUMN,...` by itself, else by the host's ps."""
    if container.state.status is Status.RESTARTING:
        raise errors.Conflict(
            f"container {container.id} is restarting, wait until the container is running"
        )
    if not container.state.running:
        raise container.not_running()
    words = options.split()
    pids = await engine.supervisor.pids(container.id)
    columns = _columns(words)
    if columns:
        found = [process for pid in sorted(pids) if (process := read(pid)) is not None]
        titles = [COLUMNS.get(name, name) for name in columns]
        rows = [[cell(process, name) for name in columns] for process in found]
    else:
        titles, rows = await host_ps.listing(words, pids)
    engine.publish(container, "top")
    return {"Titles": titles, "Processes": rows}


def _columns(words: list[str]) -> tuple[str, ...]:
    """Empty for options that only `ps` knows."""
    if not words or words in (["-ef"], ["-e", "-f"], ["-f"]):
        return FULL
    if len(words) == 2 and words[0] in {"-o", "-eo", "o"}:
        names = tuple(words[1].lower().split(","))
        if all(name in COLUMNS for name in names):
            return names
    return ()


def read(pid: int) -> Process | None:
    """None for a process that is gone. proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read(MAX_STAT_BYTES)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read(MAX_STAT_BYTES)
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    head, _, tail = stat.rpartition(b")")
    comm = head.partition(b"(")[2].decode("utf-8", "replace")
    fields = tail.split()
    command = line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    per_second = os.sysconf("SC_CLK_TCK")
    booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        uid=uid,
        comm=comm,
        command=command or f"[{comm}]",
        state=fields[0].decode(),
        tty=int(fields[4]),
        ticks=int(fields[11]) + int(fields[12]),
        started_s=booted_s + int(fields[19]) / per_second,
        rss_kib=int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024,
        vsz_kib=int(fields[20]) // 1024,
    )


def cell(process: Process, column: str) -> str:
    cpu_s = process.ticks // os.sysconf("SC_CLK_TCK")
    ran_s = max(1.0, time.time() - process.started_s)
    values = {
        "uid": user_name(process.uid),
        "user": user_name(process.uid),
        "pid": str(process.pid),
        "ppid": str(process.ppid),
        "c": str(min(99, int(100 * cpu_s / ran_s))),
        "stime": _start_time(process.started_s),
        "tty": _tty(process.tty),
        "time": f"{cpu_s // 3600:02d}:{cpu_s // 60 % 60:02d}:{cpu_s % 60:02d}",
        "cmd": process.command,
        "args": process.command,
        "comm": process.comm,
        "rss": str(process.rss_kib),
        "vsz": str(process.vsz_kib),
        "stat": process.state,
    }
    return values[column.lower()]


def user_name(uid: int) -> str:
    """As `ps` on the host prints it: the host's name for the id, if it has one that fits."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= 8 else f"{name[:7]}+"


def _start_time(started_s: float) -> str:
    started = time.localtime(started_s)
    same_day = time.localtime()[:3] == started[:3]
    return time.strftime("%H:%M" if same_day else "%b%d", started)


def _tty(number: int) -> str:
    major = (number >> 8) & 0xFFF
    minor = (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return f"pts/{(major - 136) * 256 + minor}" if 136 <= major <= 143 else "?"
