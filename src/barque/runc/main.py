"""`barque-runc`: runc's command line. `main` is what the shim calls in a forked child.

`preload` loads what the commands of a container's life need, so that next to nothing is imported
after a fork. `barque.runc.command` is the way in for a process of its own.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError, InvalidArgument, NotFound
from barque.runc import at_once as quick
from barque.runc import commands
from barque.runc.flags import FALSE, SWITCH, TRUE, VALUE, Arguments, Flag, Usage, parse
from barque.runc.log import Log, reason
from barque.runc.paths import DEFAULT_ROOT, Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barque.runc.create import Making

FAILED = 1
USAGE_FAILED = 3
GLOBAL_FLAGS = (
    Flag("debug", SWITCH, "enable debug logging"),
    Flag("log", VALUE, "file to write the log to (default: standard error)"),
    Flag("log-format", VALUE, "text (default) or json"),
    Flag("root", VALUE, f"directory of the containers' state (default: {DEFAULT_ROOT})"),
    Flag("criu", VALUE, "path of criu (default: that of PATH)"),
    Flag("systemd-cgroup", SWITCH, "cgroups through systemd, as units"),
    Flag("rootless", VALUE, "true, false or auto: ignore cgroup permission errors"),
    Flag("help,h", SWITCH, "show this"),
    Flag("version,v", SWITCH, "show the version"),
)


def preload() -> None:
    """Load what commands load late and often; for a process that will fork."""
    commands.load_often_used()


def main(argv: Sequence[str]) -> int:
    """Run one command; `argv` is without the program's name. Returns the exit code."""
    log = Log()
    code = FAILED
    try:
        given = read_line(argv)
        wanted = make_log(given)
        wanted.begin()
        log = wanted
        if given.on("version"):
            return commands.show_version()
        asked = bool(given.words) and given.words[0] in ("help", "h")
        words = given.words[1:] if asked else given.words
        if given.on("help") or not words:
            return commands.show_help(GLOBAL_FLAGS)
        name = words[0]
        if name not in commands.NAMES:
            log.failure(f"No help topic for '{name}'")
            return USAGE_FAILED
        if asked:
            return commands.show_usage(name)
        code = commands.failure_code(name)
        return commands.dispatch(name, given.words[1:], paths_of(given), log)
    except Usage as error:
        code = FAILED
        log.failure(str(error))
    except NotFound as error:
        log.failure(str(error))
    except BarqueError as error:
        log.failure(with_notes(error))
    except OSError as error:
        log.failure(reason(error))
    except Exception as error:  # a bug of ours: the caller reads one line of the log, no traceback
        if log.debugging:
            raise
        log.failure(f"{type(error).__name__}: {error}")
    return code


def at_once(argv: Sequence[str]) -> bool:
    """Run `argv` in the caller's own process, if that takes no time and leaves nothing behind in
    it: `start` and `delete` of most containers. False: it is not done, and `main` has to do it.
    """
    try:
        given = parse(argv, GLOBAL_FLAGS)
        if len(given.words) != 2 or given.words[0] not in quick.NAMES:
            return False
        name, identifier = given.words
        return quick.run(name, identifier, paths_of(given))
    except InvalidArgument:
        return False


def begin(
    argv: Sequence[str],
    streams: tuple[int, int, int],
    *,
    parent_reaps: bool,
    forked: Callable[[], None],
    network: int,
) -> Making | None:
    """Begin the `create` of `argv` in the caller's own process, which has one thread and makes the
    steps. `streams` become the container's 0, 1 and 2; its process is the caller's child or, with
    `parent_reaps`, the caller's sibling. `forked` is called when that is at work by itself.
    `network`: a descriptor of a new network namespace, for a container that wants one, or -1; it
    stays the caller's. None, or a step that raises BarqueError or OSError: it is not done and
    nothing is left of it; `main` has to do it, and says what is wrong.
    """
    from barque.runc import begin
    from barque.runc.create import Host

    host = Host(streams, parent_reaps=parent_reaps, forked=forked, network=network)
    return begin.begin(argv, host)


def paths_of(given: Arguments) -> Paths:
    """Where the state is, by the global flags."""
    root = given.path("root", default_root())
    systemd, rootless = given.on("systemd-cgroup"), is_rootless(given)
    return Paths(root, given.get("criu"), systemd=systemd, rootless=rootless)


def read_line(argv: Sequence[str]) -> Arguments:
    try:
        return parse(argv, GLOBAL_FLAGS)
    except Usage as error:
        commands.show_help(GLOBAL_FLAGS, f"Incorrect Usage. {error}")
        raise


def default_root() -> str:
    """A user's state is in the directory of his session."""
    session = os.environ.get("XDG_RUNTIME_DIR", "") if os.geteuid() else ""
    return f"{session}/barque/runc" if session.startswith("/") else DEFAULT_ROOT


def is_rootless(given: Arguments) -> bool:
    """--rootless: true, false, or auto: who is not root is."""
    word = given.get("rootless", "auto")
    if word in ("auto", ""):
        return os.geteuid() != 0
    if word not in (*TRUE, *FALSE):
        raise Usage(f'invalid value "{word}" for flag -rootless: parse error')
    return word in TRUE


def make_log(given: Arguments) -> Log:
    form = given.get("log-format", "text")
    if form not in ("text", "json"):
        raise InvalidArgument(f"invalid log-format: {form}")
    return Log(given.path("log"), as_json=form == "json", debugging=given.on("debug"))


def with_notes(error: BarqueError) -> str:
    """The failure and, after it, what could not be undone."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])
