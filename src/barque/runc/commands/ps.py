"""`ps`: the container's processes, as pids or as lines of the host's own ps."""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from barque.linux.fs import write_all
from barque.oci.document import dump
from barque.runc.container import load
from barque.runc.flags import VALUE, Arguments, Flag
from barque.runc.lifecycle import NO_CGROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (Flag("format,f", VALUE, "table (default) or json"),)
USAGE = "ps [command options] <container-id> [ps options]"
WORDS = (1, None)
DIRECTORIES = ("/usr/bin", "/bin")


def run(given: Arguments, paths: Paths, log: Log) -> int:
    form = given.get("format", "table")
    if form not in ("table", "json"):
        raise InvalidArgument("invalid format option")
    container = load(paths, given.words[0])
    if not container.cgroup.directories:
        raise Unsupported(NO_CGROUP)
    pids = container.cgroup.pids()
    if form == "json":
        write_all(1, (dump(pids) if pids else b"null") + b"\n")
        return 0
    lines = output_of_ps(given.words[1:] or ["-ef"]).splitlines()
    write_all(1, "".join(f"{line}\n" for line in select(lines, pids)).encode())
    return 0


def select(lines: list[str], pids: list[int]) -> list[str]:
    """The heading, and the lines whose PID column is one of `pids`."""
    columns = lines[0].split() if lines else []
    if "PID" not in columns:
        raise InvalidArgument("couldn't find PID field in ps output")
    index = columns.index("PID")
    wanted = {str(pid) for pid in pids}
    return [lines[0], *(line for line in lines[1:] if line.split()[index : index + 1][0] in wanted)]


def output_of_ps(options: list[str]) -> str:
    program = next((f"{d}/ps" for d in DIRECTORIES if os.access(f"{d}/ps", os.X_OK)), None)
    if program is None:
        raise NotFound("ps is not installed")
    reader, writer = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawn(program, ["ps", *options], os.environ, file_actions=actions)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as file:
        text = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise BarqueError(f"ps failed with exit code {code}")
    return text
