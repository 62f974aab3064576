"""What running containers cost those that come: the same daemon with none and with many.

`python -m bench.crowd [COUNT]`, as root. The "peer" is a stack of ours in which nothing runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from bench.engine import Client, create, many
from bench.measure import Figure, heading, interleaved
from tests.support.barque import Stack, stack

COUNT = 500
ROUNDS = 25
BOUND = 1.2


def _run(connection: Client, number: int) -> None:
    command, host = ["sleep", "100000"], {"NetworkMode": "none"}  # more than a subnet has addresses
    document = {"Image": "busybox", "Cmd": command, "StopSignal": "SIGKILL", "HostConfig": host}
    connection.ask("POST", f"/containers/create?name=running{number}", document)
    connection.ask("POST", f"/containers/running{number}/start")


def _start(barque: Stack) -> Callable[[], object]:
    """Create, start, wait and remove, over one connection."""
    connection = Client(barque.socket)
    number = iter(range(10**6))

    def call() -> None:
        id = create(connection, f"one{next(number)}", ["true"])
        connection.ask("POST", f"/containers/{id}/start")
        connection.ask("POST", f"/containers/{id}/wait")
        connection.ask("DELETE", f"/containers/{id}")

    return call


def _newest(barque: Stack) -> Callable[[], object]:
    connection = Client(barque.socket)
    return lambda: connection.ask("GET", "/containers/json?all=1&limit=1")


def figures(count: int = COUNT) -> Iterator[Figure]:
    with stack() as crowded, stack() as empty:
        many(crowded, count, _run)
        create(Client(empty.socket), "kept", ["true"])
        for name, call in (("start to removal", _start), ("list of the newest", _newest)):
            found = interleaved({"ours": call(crowded), "peer": call(empty)}, ROUNDS)
            what = f"{name}, {count} running, none"
            yield Figure(what, found["ours"], found["peer"], "ms", BOUND)
        calls = {
            "ours": lambda: crowded.cli("run", "--rm", "--network", "none", "busybox", "true"),
            "peer": lambda: empty.cli("run", "--rm", "--network", "none", "busybox", "true"),
        }
        found = interleaved(calls, ROUNDS)
        what = f"`run --rm`, {count} running, none"
        yield Figure(what, found["ours"], found["peer"], "ms", BOUND)


def main(arguments: list[str]) -> int:
    print(heading())
    for figure in figures(int(arguments[0]) if arguments else COUNT):
        print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
