"""`run`: create and start; without --detach, stay until the end and remove the container."""

from __future__ import annotations

from barque.runc import lifecycle
from barque.runc.commands.create import FLAGS as CREATE_FLAGS
from barque.runc.commands.create import options_of
from barque.runc.create import create
from barque.runc.flags import SWITCH, Arguments, Flag
from barque.runc.foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    *CREATE_FLAGS,
    Flag("detach,d", SWITCH, "detach from the container's process"),
    Flag("keep", SWITCH, "do not delete the container after it exits"),
    Flag("no-subreaper", SWITCH, "do not be the reaper of the container's orphans"),
)
USAGE = "run [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    options = options_of(given)
    if given.on("detach"):
        container = create(paths, given.words[0], options, log)
        try:
            lifecycle.start(container, log)
        except Exception:
            lifecycle.delete(container, force=True, log=log)
            raise
        return 0
    foreground = Foreground(subreaper=not given.on("no-subreaper"))
    taken: list[int] = []
    if not options.console_socket:
        options.terminal_taker = taken
    container = create(paths, given.words[0], options, log)
    try:
        lifecycle.start(container, log)
        return foreground.wait(container.pid, taken[0] if taken else -1)
    finally:
        if not given.on("keep"):
            lifecycle.delete(container, force=True, log=log)
