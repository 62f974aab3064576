"""barqued's command line: read the options, take the roots, start containerd, serve.

containerd is started before the daemon's own modules are loaded, so that both start at once.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from barque import errors
from barque.daemon.config import VERSION_LINE, Config, HelpAsked, VersionAsked, load
from barque.daemon.containerd_process import ContainerdProcess
from barque.daemon.paths import Paths
from barque.linux import lock

if TYPE_CHECKING:
    from barque.daemon.remapping import Remap


def main(arguments: list[str]) -> int:
    try:
        config = load(arguments)
    except VersionAsked:
        sys.stdout.write(f"{VERSION_LINE}\n")
        return 0
    except HelpAsked:
        from barque.daemon import help  # read by people: no start waits for it

        sys.stdout.write(f"{help.text()}\n")
        return 0
    except errors.InvalidArgument as error:
        sys.stderr.write(f"barqued: {error}\n")
        return 1
    if config.validate:
        sys.stderr.write("configuration OK\n")
        return 0
    try:
        with ExitStack() as stack:
            return run(config, stack, arguments)
    except (errors.BarqueError, OSError) as error:
        sys.stderr.write(f"barqued: failed to start daemon: {error}\n")
        return 1


def run(config: Config, stack: ExitStack, arguments: list[str]) -> int:
    """Serve until told to end. Raises what kept the daemon from starting."""
    if os.geteuid() != 0:
        raise errors.Forbidden("barqued needs to be started as root")
    os.umask(0o022)
    if config.oom_score_adjust:
        Path("/proc/self/oom_score_adj").write_text(str(config.oom_score_adjust))
    paths, remap = take_roots(config, stack)
    write_pid(stack, config.pid_path)
    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    process = None
    if not config.containerd:
        process = ContainerdProcess(paths, "debug" if config.debug else config.log_level, given)
        process.start()
    # These take about as long to load as containerd takes to start.
    from barque.daemon import own_log, serve

    own_log.to_stderr(config)
    return serve.run(config, paths, process, arguments, remap)


def take_roots(config: Config, stack: ExitStack) -> tuple[Paths, Remap | None]:
    """Make the roots and keep them from other daemons, with the ids that containers have there."""
    root, remap = Path(config.data_root), None
    if config.userns_remap:
        # Here: few remap, and loading it would keep containerd and the first answer waiting.
        from barque.daemon import remapping

        remap = remapping.resolve(config.userns_remap)
        root = remapping.prepare_roots(root, remap) if remap else root
    paths = Paths(root, Path(config.exec_root))
    paths.make()
    take_lock(stack, paths.root_lock, config.data_root)
    take_lock(stack, paths.lock, config.exec_root)
    if remap is not None:
        stack.callback(remapping.release_namespaces, paths)
        remap = remapping.bind_namespace(paths, remap)
        for directory in (paths.root, paths.root / "containers"):
            os.chown(directory, 0, remap.root[1])
    return paths, remap


def take_lock(stack: ExitStack, path: Path, what: str) -> None:
    """One daemon a root. Raises Conflict; held until the stack is closed, or we die."""
    stack.callback(os.close, lock.take(str(path), f"{what} is in use by another barqued"))


def write_pid(stack: ExitStack, path: Path) -> None:
    """The pid file; one that a living process wrote is an error, as with dockerd."""
    with suppress(OSError, ValueError):
        other = int(path.read_text())
        if other != os.getpid() and "barqued" in Path(f"/proc/{other}/cmdline").read_text():
            raise errors.Conflict(f"process with PID {other} is still running: see {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(os.getpid()))
    stack.callback(path.unlink, missing_ok=True)


def raise_descriptor_limit() -> None:
    """As many as the hard limit allows: each client is one, each stream of a container another.

    What the daemon starts gets the limit it had itself (`Supervisor`): containers inherit it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
