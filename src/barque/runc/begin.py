"""`create` in the process of a caller with its own loop, who goes on while the container is made.

A process for it costs more than its part of the work: the fork, the end of it, and a copy of each
page that it writes to. What does more than such a process may (hooks, systemd, namespaces that are
entered before the container's process is made) is left to the command.
"""

from __future__ import annotations

import os

from barque.errors import BarqueError
from barque.runc import main
from barque.runc.birth import intermediary_needed
from barque.runc.commands import create
from barque.runc.create import Host, Making, Options, read_spec
from barque.runc.flags import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from barque.oci.runtime import Spec


def begin(argv: Sequence[str], host: Host) -> Making | None:
    """See `barque.runc.main.begin`."""
    try:
        given = parse(argv, main.GLOBAL_FLAGS)
        if given.words[:1] != ["create"]:
            return None
        wanted = parse(given.words[1:], create.FLAGS)
        if len(wanted.words) != 1 or not wanted.get("bundle").startswith("/"):
            return None
        options = create.filled(Options(os.path.realpath(wanted.get("bundle"))), wanted)
        if options.preserved or options.pidfd_socket:
            return None
        config = read_spec(options.bundle)
        if not is_plain(config[1]) or given.on("systemd-cgroup"):
            return None
        log = main.make_log(given)
        return Making(main.paths_of(given), wanted.words[0], config, options, log, host)
    except (BarqueError, OSError):
        return None


def is_plain(spec: Spec) -> bool:
    """Whether nobody is asked, and no process but the container's is made or enters anything."""
    linux = spec.linux
    pid = linux.namespaces.get("pid")
    return not (
        os.geteuid()
        or os.environ.get("NOTIFY_SOCKET")
        or spec.hooks
        or linux.net_devices
        or linux.rdt is not None
        or (linux.seccomp is not None and linux.seccomp.get("listenerPath"))
        or (pid is not None and pid.path)
        or intermediary_needed(linux)
    )
