"""`create`: the container up to its process waiting for `start`."""

from __future__ import annotations

import os

from barque.errors import InvalidArgument
from barque.runc.create import MOST_PRESERVED, Options, check_preserved
from barque.runc.create import create as make
from barque.runc.flags import SWITCH, VALUE, Arguments, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    Flag("bundle,b", VALUE, "directory of config.json, default the current one"),
    Flag("console-socket", VALUE, "unix socket that gets the terminal's master"),
    Flag("pidfd-socket", VALUE, "unix socket that gets a descriptor of the process"),
    Flag("pid-file", VALUE, "file to write the process id to"),
    Flag("no-pivot", SWITCH, "do not use pivot_root: for a root on a ramdisk"),
    Flag("no-new-keyring", SWITCH, "keep the caller's session keyring"),
    Flag("preserve-fds", VALUE, "number of descriptors from 3 on that the container gets"),
)
USAGE = "create [command options] <container-id>"
WORDS = (1, 1)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    make(paths, given.words[0], options_of(given), log)
    return 0


def options_of(given: Arguments) -> Options:
    """The flags of create and run."""
    bundle = given.get("bundle", ".")
    pid_file = given.path("pid-file")
    try:
        os.chdir(bundle)
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise InvalidArgument(f"chdir {bundle}: {text}") from None
    options = filled(Options(os.getcwd()), given)
    options.pid_file = pid_file
    return options


def filled(options: Options, given: Arguments) -> Options:
    """`options` with what the flags say."""
    options.console_socket = given.get("console-socket")
    options.pidfd_socket = given.get("pidfd-socket")
    options.pid_file = given.get("pid-file")
    options.pivot = not given.on("no-pivot")
    options.listeners = listeners()
    named = given.number("preserve-fds", 0, MOST_PRESERVED)
    options.preserved = check_preserved(options.listeners + named)
    options.keyring = not given.on("no-new-keyring")
    return options


def listeners() -> int:
    """How many sockets the caller passes on from descriptor 3. sd_listen_fds(3)."""
    text = os.environ.get("LISTEN_FDS", "")
    if not text or os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_PRESERVED):
        raise InvalidArgument(f"LISTEN_FDS={text} is not a number of descriptors")
    return int(text)
