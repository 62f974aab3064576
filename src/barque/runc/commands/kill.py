"""`kill`: a signal for the first process, or with --all for every process."""

from __future__ import annotations

from barque.runc import lifecycle
from barque.runc.container import load
from barque.runc.flags import SWITCH, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (Flag("all,a", SWITCH, "send the signal to all processes inside the container"),)
USAGE = "kill [command options] <container-id> [signal]"
WORDS = (1, 2)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    container = load(paths, given.words[0])
    signal = lifecycle.parse_signal(given.words[1] if len(given.words) > 1 else "TERM")
    lifecycle.kill(container, signal, every=given.on("all"))
    return 0
