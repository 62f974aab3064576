"""`barque update`: other limits, another restart policy, while the container runs."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session
    from barque.client.client import Reply

USAGE = "[OPTIONS] CONTAINER [CONTAINER...]"
SUMMARY = "Change limits and the restart policy of containers"
ALIASES = ("container update", "update")
OPTIONS: tuple[Row, ...] = (
    ("blkio-weight", "", "uint16", "Block I/O weight, 10 to 1000; 0 for none", "0"),
    ("cpu-period", "", "int", "Period of the CPU quota in microseconds"),
    ("cpu-quota", "", "int", "CPU quota in microseconds a period"),
    ("cpu-rt-period", "", "int", "Period of real-time scheduling in microseconds"),
    ("cpu-rt-runtime", "", "int", "Real-time runtime in microseconds a period"),
    ("cpu-shares", "c", "int", "Share of the CPUs (relative weight)"),
    ("cpus", "", "decimal", "Number of CPUs"),
    ("cpuset-cpus", "", "string", "CPUs to run on (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "Memory nodes to use (0-3, 0,1)"),
    ("health-on-failure", "", "string", "Once unhealthy: none, kill, restart or stop"),
    ("memory", "m", "bytes", "Memory limit"),
    ("memory-reservation", "", "bytes", "Memory soft limit"),
    ("memory-swap", "", "bytes-or-unlimited", "Memory and swap together; -1 for no limit"),
    ("pids-limit", "", "int", "Limit of processes and threads (-1 for none)"),
    ("restart", "", "string", "What to do when the container exits"),
)
ARGUMENTS = (1, -1)

NUMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}
TEXTS = {
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "health-on-failure": "HealthOnFailure",
}


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque import errors

    body: dict[str, Any] = {k: options.number(n) for n, k in NUMBERS.items() if n in options}
    body.update({key: options.text(name) for name, key in TEXTS.items() if name in options})
    if "restart" in options or "health-on-failure" in options:
        from barque.cli.creating.extras import refuse_elsewhere, restart_policy

        refuse_elsewhere(session, options)
        if "restart" in options:
            body["RestartPolicy"] = restart_policy(options.text("restart"))
    if not body:
        raise errors.InvalidArgument("you must provide one or more flags when using this command")
    warnings: list[str] = []

    def send(name: str) -> Callable[[], Reply]:
        sent = session.client.containers.begin_update(name, body)

        def finish() -> Reply:
            reply = sent()
            warnings.extend(reply.json().get("Warnings") or ())
            return reply

        return finish

    code = each(arguments, send)
    terminal.err("".join(f"{warning}\n" for warning in warnings))
    return code
