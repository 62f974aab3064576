"""`checkpoint`: a running container as images on disk."""

from __future__ import annotations

import os
import stat

from barque.errors import InvalidArgument
from barque.runc import criu, lifecycle
from barque.runc.checkpoint import EMPTY_NAMESPACES, Options, checkpoint
from barque.runc.container import load
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

LARGEST_PORT = 65535
LARGEST_FD = 1 << 20
# flags that criu_opts knows by the same words
TAKEN = {
    "tcp-established": "allow established TCP connections",
    "ext-unix-sk": "allow connections of unix sockets to the outside",
    "shell-job": "allow shell jobs",
    "file-locks": "allow file locks",
    "auto-dedup": "remove what later images of the memory repeat",
    "lazy-pages": "bring the memory when it is used",
}
ONLY_DUMP = {
    "link-remap": "allow files that are open and unlinked",
    "tcp-skip-in-flight": "leave out TCP connections that are being made",
}
COMMON = (
    Flag("image-path", VALUE, "directory of the images (default: ./checkpoint)"),
    Flag("work-path", VALUE, "directory of criu's log and other files"),
    Flag("manage-cgroups-mode", VALUE, "soft, full, strict or ignore"),
    Flag("empty-ns", VALUE, "do not save this namespace (network)"),
    *(Flag(name, SWITCH, text) for name, text in TAKEN.items()),
)
FLAGS = (
    *COMMON,
    Flag("parent-path", VALUE, "images of an earlier pre-dump, relative to the image path"),
    Flag("leave-running", SWITCH, "let the container go on"),
    Flag("pre-dump", SWITCH, "only the memory, and let the container go on"),
    Flag("page-server", VALUE, "ADDRESS:PORT of a page server"),
    Flag("status-fd", VALUE, "descriptor that gets a zero byte when the page server is ready"),
    *(Flag(name, SWITCH, text) for name, text in ONLY_DUMP.items()),
)
USAGE = "checkpoint [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    container = load(paths, given.words[0])
    options = options_of(given, paths.criu)
    options.leave_running = given.on("leave-running")
    options.pre_dump = given.on("pre-dump")
    options.parent_path = parent_path(given.get("parent-path"), options.image_path)
    options.flags |= {name.replace("-", "_"): given.on(name) for name in ONLY_DUMP}
    options.page_server = page_server(given.get("page-server"))
    options.status_fd = status_fd(given)
    checkpoint(container, options)
    if not (options.leave_running or options.pre_dump):
        lifecycle.delete(container, force=True, log=log)
    return 0


def options_of(given: Arguments, program: str) -> Options:
    """The flags that checkpoint and restore have in common."""
    options = Options(os.path.abspath(given.get("image-path") or "checkpoint"), criu.find(program))
    if given.get("work-path"):
        options.work_path = os.path.abspath(given.get("work-path"))
    options.flags = {name.replace("-", "_"): given.on(name) for name in TAKEN}
    options.manage_cgroups = given.get("manage-cgroups-mode")
    if options.manage_cgroups not in criu.CGROUP_MODES:
        raise InvalidArgument("invalid manage-cgroups-mode value")
    for name in given.all("empty-ns"):
        if name not in EMPTY_NAMESPACES:
            raise InvalidArgument(f'namespace "{name}" is not supported')
        options.empty_ns |= EMPTY_NAMESPACES[name]
    return options


def parent_path(path: str, image_path: str) -> str:
    if not path:
        return ""
    if os.path.isabs(path):
        raise InvalidArgument("--parent-path must be relative")
    if not os.path.isdir(os.path.normpath(os.path.join(image_path, path))):
        raise InvalidArgument(f"invalid --parent-path: {path} is not a directory in {image_path}")
    return path


def page_server(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    if not address or not (port.isascii() and port.isdigit() and 0 < int(port) <= LARGEST_PORT):
        raise InvalidArgument("Use --page-server ADDRESS:PORT to specify page server")
    return address.strip("[]"), int(port)


def status_fd(given: Arguments) -> int:
    fd = given.number("status-fd", 0, LARGEST_FD, -1)
    if fd < 0:
        return fd
    try:
        writable = stat.S_IFMT(os.fstat(fd).st_mode) and os.write(fd, b"") == 0
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise InvalidArgument(f"invalid --status-fd argument {fd}: {text}") from None
    if not writable:
        raise InvalidArgument(f"invalid --status-fd argument {fd}: not writable")
    return fd
