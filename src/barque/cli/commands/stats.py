"""`barque stats`: what containers use, as it changes."""

from __future__ import annotations

from barque.cli import tables, terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session
    from barque.client.client import Client
    from barque.client.connection import Connection

    Document = dict[str, Any]

USAGE = "[OPTIONS] [CONTAINER...]"
SUMMARY = "Show what containers use, as it changes"
ALIASES = ("container stats", "stats")
OPTIONS: tuple[Row, ...] = (
    ("all", "a", "bool", "Show all containers, not only those that run"),
    ("format", "", "string", "Print with this template, as a 'table' of one, or as 'json'"),
    ("no-stream", "", "bool", "Show one result, then end"),
    ("no-trunc", "", "bool", "Print everything in full"),
)
ARGUMENTS = (0, -1)

COLUMNS = ("Container", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
REFRESH_MS = 500
LIST_S = 2.0
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
UNKNOWN = "--"


def run(session: Session, options: Options, arguments: list[str]) -> int:
    format = options.text("format") or str(session.settings.get("statsFormat") or "")
    board = Board(session.client, arguments, everything=options.flag("all"))
    full = options.flag("no-trunc")
    if options.flag("no-stream"):
        board.once()
        _show(board.rows(), format, full)
        return 0
    redraw = terminal.is_terminal(terminal.STDOUT) and format in ("", "table")
    while board.follow():
        if redraw:
            text = _table(board.rows(), full).replace("\n", f"{REST_OF_LINE}\n")
            terminal.out(HOME + text + REST_OF_SCREEN)
        else:
            _show(board.rows(), format, full)
    return 0


class Board:
    """The newest sample of every container; one connection for each that is followed."""

    def __init__(self, client: Client, names: list[str], *, everything: bool) -> None:
        self._client = client
        self._names = names
        self._everything = everything
        self._samples: dict[str, Document | None] = {}
        self._open: dict[str, tuple[Connection, bytes]] = {}
        self._listed_at = 0.0

    def rows(self) -> list[Document]:
        return [{**(sample or {}), "asked": name} for name, sample in self._samples.items()]

    def once(self) -> None:
        """A sample of each, all asked for at the same time."""
        sent = {
            name: self._client.containers.begin_stats(name, stream=False) for name in self._wanted()
        }
        self._samples = {name: finish().json() for name, finish in sent.items()}

    def _wanted(self) -> list[str]:
        if self._names:
            return self._names
        found = self._client.containers.list(all=self._everything)
        return [item["Id"][: units.SHORT_ID] for item in found]

    def follow(self) -> bool:
        """Take what comes in half a second; False once nothing more can come."""
        import time

        if not self._listed_at or (not self._names and time.monotonic() - self._listed_at > LIST_S):
            self._listed_at = time.monotonic()
            self._adopt(self._wanted())
        if self._names and not self._open:
            return False
        end = time.monotonic() + REFRESH_MS / 1000
        while (left := end - time.monotonic()) > 0:
            self._receive(left)
        return True

    def _adopt(self, wanted: list[str]) -> None:
        for name in [name for name in self._samples if name not in wanted]:
            del self._samples[name]
            if name in self._open:
                self._open.pop(name)[0].close()
        for name in wanted:
            if name not in self._samples:
                reply = self._client.containers.begin_stats(name, stream=True)()
                self._samples[name] = None
                self._open[name] = (reply.connection, b"")

    def _receive(self, wait_s: float) -> None:
        import select
        import time

        if not self._open:
            time.sleep(wait_s)
            return
        waiting = select.poll()
        by_fd = {}
        for name, (connection, _) in self._open.items():
            by_fd[connection.fileno()] = name
            waiting.register(connection.fileno(), select.POLLIN)
            if connection.answer.rest or connection.answer.done:
                self._take(name)
        for fd, _ in waiting.poll(int(wait_s * 1000) + 1):
            name = by_fd[fd]
            if name in self._open:
                self._open[name][0].pump()
                self._take(name)

    def _take(self, name: str) -> None:
        from barque.client import json

        connection, early = self._open[name]
        *lines, rest = (early + connection.answer.take()).split(b"\n")
        for line in lines:
            if line.strip():
                self._samples[name] = json.loads(line)
        self._open[name] = (connection, rest)
        if connection.answer.done:
            connection.close()
            del self._open[name]


def _table(rows: list[Document], full: bool) -> str:
    fields = _fields(full)
    lines = [[fields[name][0] for name in COLUMNS]]
    lines += [[fields[name][1](row) for name in COLUMNS] for row in rows]
    return tables.table(lines)


def _show(rows: list[Document], format: str, full: bool) -> None:
    tables.show(rows, _fields(full), COLUMNS, format, kind="container.statsContext")


def _fields(full: bool) -> tables.Fields:
    def id(row: Document) -> str:
        found = str(row.get("id") or row["asked"])
        return found if full else units.short_id(found)

    return {
        "Container": ("CONTAINER ID", lambda row: str(row["asked"])),
        "ID": ("CONTAINER ID", id),
        "Name": ("NAME", lambda row: str(row.get("name") or UNKNOWN).removeprefix("/")),
        "CPUPerc": ("CPU %", _known(lambda row: f"{cpu_percent(row):.2f}%")),
        "MemUsage": ("MEM USAGE / LIMIT", lambda row: _memory(row)),
        "MemPerc": ("MEM %", _known(lambda row: f"{_memory_percent(row):.2f}%")),
        "NetIO": ("NET I/O", _known(_network)),
        "BlockIO": ("BLOCK I/O", _known(_blocks)),
        "PIDs": ("PIDS", _known(lambda row: str(row["pids_stats"].get("current", 0)))),
    }


def _known(text: Any) -> Any:
    return lambda row: text(row) if "cpu_stats" in row else UNKNOWN


def cpu_percent(sample: Document) -> float:
    """Of one CPU: 200 is two of them busy."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    count = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ())
    return float(used / passed * count * 100) if used > 0 and passed > 0 else 0.0


def used_memory(memory: Document) -> int:
    """Without the cache that the kernel can drop at once."""
    usage, counted = int(memory.get("usage") or 0), memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):
        if name in counted and counted[name] < usage:
            return usage - int(counted[name])
    return usage


def _memory(row: Document) -> str:
    if "memory_stats" not in row:
        return f"{UNKNOWN} / {UNKNOWN}"
    memory = row["memory_stats"]
    limit = units.binary_size(memory.get("limit") or 0)
    return f"{units.binary_size(used_memory(memory))} / {limit}"


def _memory_percent(row: Document) -> float:
    memory = row["memory_stats"]
    limit = memory.get("limit") or 0
    return float(used_memory(memory) / limit * 100) if limit else 0.0


def _network(row: Document) -> str:
    counters = (row.get("networks") or {}).values()
    received = sum(item["rx_bytes"] for item in counters)
    sent = sum(item["tx_bytes"] for item in counters)
    return f"{units.size(received)} / {units.size(sent)}"


def _blocks(row: Document) -> str:
    entries = (row.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    read, written = (
        sum(entry["value"] for entry in entries if entry["op"][:1].lower() == letter)
        for letter in "rw"
    )
    return f"{units.size(read)} / {units.size(written)}"
