"""The log path beside Debian's dockerd: written, read back, attached to. The same client for both.

`python -m bench.logs [MEGABYTES]`, as root. A container copies a file of lines to its output.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.measure import Figure, heading
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer, real_docker_cli

MEGABYTES = 256
BLOCK_MEGABYTES = 16
ROUNDS = 3
LIMIT_S = 600
LINE = (
    'level=info ts=2024-01-02T15:04:05.123Z caller="server.go:%d" msg="request \\"done\\"" n=%d\n'
)

Server = Stack | Peer


def lines_file(directory: Path) -> Path:
    """16 MiB of lines as a service logs them."""
    path = directory / "lines"
    if not path.exists():
        line = "".join(LINE % (n % 977, n) for n in range(10_000)).encode()
        size = BLOCK_MEGABYTES << 20
        path.write_bytes((line * (size // len(line) + 1))[: size - 1] + b"\n")
    return path


def script(megabytes: int) -> str:
    blocks = max(1, megabytes // BLOCK_MEGABYTES)
    return f"i=0; while [ $i -lt {blocks} ]; do cat /lines; i=$((i+1)); done"


def container(server: Server, name: str, megabytes: int, *flags: str) -> list[str]:
    """Arguments of `docker` that make the writer."""
    command = ["sh", "-c", script(megabytes)]
    mount = f"{lines_file(server.root)}:/lines:ro"
    return ["--name", name, "--network", "none", "-v", mount, *flags, "busybox", *command]


def rate(megabytes: int, call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return megabytes / (time.perf_counter() - before)


def swallow(server: Server, *arguments: str) -> None:
    """Run the real client; its output goes to /dev/null, through a pipe as a user's would."""
    argv = [real_docker_cli(), "-H", server.host, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        read = 0
        while data := client.stdout.read(1 << 20):
            read += len(data)
        assert client.wait(LIMIT_S) == 0
    assert read, "no output"


def written(server: Server, megabytes: int, *flags: str) -> float:
    """MB a second until a container that writes them has ended; it stays, with its log."""
    server.docker("rm", "-f", "writer", check=False)
    server.docker("create", *container(server, "writer", megabytes, *flags), timeout_s=LIMIT_S)

    def run() -> None:
        server.docker("start", "writer")
        assert server.docker("wait", "writer", timeout_s=LIMIT_S).stdout.strip() == b"0"

    return rate(megabytes, run)


def read_back(server: Server, megabytes: int) -> float:
    return rate(megabytes, partial(swallow, server, "logs", "writer"))


def attached(server: Server, megabytes: int, *flags: str) -> float:
    arguments = ["run", "--rm", *container(server, "attached", megabytes, *flags)]
    return rate(megabytes, partial(swallow, server, *arguments))


def executed(server: Server, megabytes: int) -> float:
    mount = f"{lines_file(server.root)}:/lines:ro"
    server.docker("rm", "-f", "execed", check=False)
    server.docker("run", "-d", "--name", "execed", "-v", mount, "busybox", "sleep", "600")
    try:
        return rate(
            megabytes, partial(swallow, server, "exec", "execed", "sh", "-c", script(megabytes))
        )
    finally:
        server.docker("rm", "-f", "execed")


def best(measure: partial[float], other: partial[float]) -> tuple[float, float]:
    """In turns; the best of each, since what is shared with others only ever slows."""
    pairs = [(measure(), other()) for _ in range(ROUNDS)]
    return max(one for one, _ in pairs), max(two for _, two in pairs)


def figures(megabytes: int = MEGABYTES) -> Iterator[Figure]:
    with stack() as barque, docker_peer() as peer:
        for name, call, flags, bound in (
            ("json-file: written", written, (), 5.0),
            ("json-file: `logs`", read_back, (), 5.0),
            ("json-file: `run` in the foreground", attached, (), 1.0),
            ("no log: `run` in the foreground", attached, ("--log-driver", "none"), 1.0),
            ("`exec`", executed, (), 1.0),
            ("local: written", written, ("--log-driver", "local"), None),
            ("local: `logs`", read_back, (), None),
        ):
            calls = [partial(call, server, megabytes, *flags) for server in (barque, peer)]
            ours, peers = best(calls[0], calls[1])
            yield Figure(name, ours, peers, "MB/s", bound, at_least=True)


def main(arguments: list[str]) -> int:
    print(heading())
    for figure in figures(int(arguments[0]) if arguments else MEGABYTES):
        print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
