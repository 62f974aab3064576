"""`resume`: every process of a paused container goes on."""

from __future__ import annotations

from barque.runc import lifecycle
from barque.runc.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.flags import Arguments, Flag
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS: tuple[Flag, ...] = ()
USAGE = "resume <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    lifecycle.resume(load(paths, given.words[0]))
    return 0
