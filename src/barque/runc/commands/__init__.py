"""The commands, one module each with FLAGS, USAGE, WORDS (fewest, most) and `run`."""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound
from barque.linux.fs import read_bounded, read_fd_bounded, write_all
from barque.runc.flags import SWITCH, Flag, Usage, parse
from barque.runc.log import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from barque.runc.log import Log
    from barque.runc.paths import Paths

# name: what it does; the module of that name does it
NAMES = {
    "checkpoint": "checkpoint a running container",
    "create": "create a container",
    "delete": "delete any resources held by the container",
    "exec": "execute new process inside the container",
    "features": "show the enabled features",
    "kill": "send a signal to the container's init process",
    "list": "list containers started with the given root",
    "pause": "suspend all processes inside the container",
    "ps": "display the processes running inside a container",
    "restore": "restore a container from a previous checkpoint",
    "resume": "resume all processes that have been paused",
    "run": "create and run a container",
    "spec": "create a new specification file",
    "start": "execute the user defined process in a created container",
    "state": "output the state of a container",
    "update": "update container resource constraints",
    "events": "display container events such as OOM notifications, and statistics",
}
# what a shim calls again and again
OF_A_LIFE = ("create", "delete", "exec", "kill", "pause", "resume", "start", "update")
# what some configs need
OF_SOME = ("begin", "intermediary", "scheduling", "sources")
HELP = Flag("help,h", SWITCH, "show this")
# What runc says before the reason, and the exit code of a failure, where it is not 1.
PREFIXES = {"create": "runc create failed: ", "run": "runc run failed: ", "exec": "exec failed: "}
FAILURE_CODES = {"exec": 255}
FLAGS_FIRST = ("exec", "ps")  # what follows the container is another program's line
VERSION_TEXT = """runc version 1.2.0 (barque-runc {version})
commit: barque-runc-{version}
spec: {spec}
"""


def failure_code(name: str) -> int:
    return FAILURE_CODES.get(name, 1)


def dispatch(name: str, arguments: Sequence[str], paths: Paths, log: Log) -> int:
    """Parse the command's own line and run it."""
    command = load(name)
    prefix = PREFIXES.get(name, "")
    try:
        given = parse(arguments, (*command.FLAGS, HELP), anywhere=name not in FLAGS_FIRST)
        if given.on("help"):
            return show_usage(name)
        check_words(name, len(given.words), *command.WORDS)
        log.debug(f"{name}: begins in {os.getcwd()} with the state below {paths.root}")
        code: int = command.run(given, paths, log)
        log.debug(f"{name}: ends with {code}")
    except Usage as error:
        write_all(1, f"Incorrect Usage: {error}\n\n{usage(name, command)}".encode())
        raise
    except BarqueError as error:
        if not prefix:
            raise
        failure = type(error)(f"{prefix}{error}")
        for note in getattr(error, "__notes__", ()):
            failure.add_note(note)
        raise failure from error
    except OSError as error:
        raise BarqueError(f"{prefix}{reason(error)}") from error
    return code


def load(name: str) -> Any:
    return __import__(f"{__name__}.{name}", fromlist=["run"])


def load_often_used() -> None:
    """The rest is loaded by the command that needs it, in the runtime's own process, never in the
    container's: it would be half a megabyte of each process that is warm."""
    for name in OF_A_LIFE:
        load(name)
    for name in OF_SOME:
        __import__(f"barque.runc.{name}")


def read_document(path: str) -> Any:
    """The JSON of a file that the command line names, `-` for standard input."""
    from barque.oci.document import parse as parse_document
    from barque.runc.create import LONGEST_CONFIG

    try:
        raw = read_fd_bounded(0) if path == "-" else read_bounded(path, LONGEST_CONFIG)
        return parse_document(raw)
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    except OSError as error:
        raise InvalidArgument(f"read {path}: {reason(error)}") from error
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from None


def check_words(name: str, count: int, fewest: int, most: int | None) -> None:
    if fewest == most and count != fewest:
        raise Usage(f'runc: "{name}" requires exactly {fewest} argument(s)')
    if count < fewest:
        raise Usage(f'runc: "{name}" requires a minimum of {fewest} argument(s)')
    if most is not None and count > most:
        raise Usage(f'runc: "{name}" requires a maximum of {most} argument(s)')


def show_usage(name: str) -> int:
    write_all(1, usage(name, load(name)).encode())
    return 0


def usage(name: str, command: Any) -> str:
    lines = ["NAME:", f"   runc {name} - {NAMES[name]}", "", "USAGE:", f"   runc {command.USAGE}"]
    return "\n".join([*lines, "", "OPTIONS:", *map(flag_line, (*command.FLAGS, HELP)), ""])


def flag_line(flag: Flag) -> str:
    value = "" if flag.kind == SWITCH else " value"
    names = ", ".join(f"{'-' if len(name) == 1 else '--'}{name}{value}" for name in flag.names)
    return f"   {names:<28} {flag.text}"


def show_help(flags: Sequence[Flag], mistake: str = "") -> int:
    lines = [mistake, ""] if mistake else []
    lines += ["NAME:", "   runc - Open Container Initiative runtime", "", "USAGE:"]
    lines += ["   runc [global options] command [command options] [arguments...]", "", "COMMANDS:"]
    lines += [f"   {name:<12} {text}" for name, text in NAMES.items()]
    write_all(1, "\n".join([*lines, "", "GLOBAL OPTIONS:", *map(flag_line, flags), ""]).encode())
    return 0


def show_version() -> int:
    from barque import __version__
    from barque.oci.runtime import SPEC_VERSION

    write_all(1, VERSION_TEXT.format(version=__version__, spec=SPEC_VERSION).encode())
    return 0
