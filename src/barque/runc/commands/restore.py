"""`restore`: a container of the images that `checkpoint` made."""

from __future__ import annotations

from barque.errors import Unsupported
from barque.runc import lifecycle
from barque.runc.commands import checkpoint
from barque.runc.commands.create import options_of
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag
from barque.runc.foreground import Foreground
from barque.runc.restore import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    *checkpoint.COMMON,
    Flag("bundle,b", VALUE, "directory of config.json, default the current one"),
    Flag("console-socket", VALUE, "unix socket that gets the terminal's master"),
    Flag("detach,d", SWITCH, "detach from the container's process"),
    Flag("pid-file", VALUE, "file to write the process id to"),
    Flag("no-pivot", SWITCH, "do not use pivot_root: not supported"),
    Flag("no-subreaper", SWITCH, "do not be the reaper of the container's orphans"),
    Flag("lsm-profile", VALUE, "TYPE:LABEL to restore with"),
    Flag("lsm-mount-context", VALUE, "context of mounts to restore with"),
)
USAGE = "restore [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    wanted = checkpoint.options_of(given, paths.criu)
    wanted.lsm_profile = given.get("lsm-profile")
    wanted.lsm_mount_context = given.get("lsm-mount-context")
    options = options_of(given)
    if not options.pivot:
        raise Unsupported("restore with --no-pivot: it is criu that changes the root")
    detach = given.on("detach")
    foreground = None if detach else Foreground(subreaper=not given.on("no-subreaper"))
    container = restore(paths, given.words[0], options, wanted)
    if foreground is None:
        return 0
    try:
        return foreground.wait(container.pid)
    finally:
        lifecycle.delete(container, force=True, log=log)
