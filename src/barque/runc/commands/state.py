"""`state`: one container's state as JSON. runtime.md, "Query State"."""

from __future__ import annotations

from barque.linux.fs import write_all
from barque.oci.document import dump_indented
from barque.runc.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.flags import Arguments, Flag
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS: tuple[Flag, ...] = ()
USAGE = "state <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    container = load(paths, given.words[0])
    write_all(1, dump_indented(container.document(container.status())).encode())
    return 0
