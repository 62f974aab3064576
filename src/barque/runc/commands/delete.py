"""`delete`: remove what `create` made."""

from __future__ import annotations

from barque.errors import NotFound
from barque.linux.fs import remove_tree
from barque.runc import lifecycle
from barque.runc.container import load
from barque.runc.flags import SWITCH, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (Flag("force,f", SWITCH, "kill the container first when it still runs"),)
USAGE = "delete [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    force = given.on("force")
    try:
        lifecycle.delete(load(paths, given.words[0]), force=force, log=log)
    except NotFound:
        if not force:
            raise
        remove_tree(paths.container(given.words[0]))  # of a `create` killed at its first step
    return 0
