"""What `state.json` said, found again when it is lost or spoilt: no container is lost.

The bytes of config.json lie beside it; they name the cgroup, and the first of the processes in that
is the container's. A container without a cgroup (a user's, who was given none) cannot be found so.
"""

from __future__ import annotations

import fcntl
import os
import time

from barque.errors import BarqueError, InvalidArgument, NotFound
from barque.linux.fs import read_bounded
from barque.oci.document import parse
from barque.oci.runtime import parse_spec
from barque.runc import seccomp
from barque.runc.container import Container, process_times
from barque.runc.create import LONGEST_CONFIG, locate_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Spec
    from barque.runc.paths import Paths

ENDED = -1  # no process: one that is being made has none yet, 0


def rebuild(paths: Paths, identifier: str, why: str) -> Container:
    """The container, its state saved anew. `why`: what is wrong with the one that was saved.

    Raises NotFound where there is nothing of one, or a command works on it, InvalidArgument where
    too little is left.
    """
    try:
        directory = os.open(paths.container(identifier), os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raw = read_bounded(paths.config(identifier), LONGEST_CONFIG)
        found = _found(paths, identifier, raw)
        found.save()
        return found
    except (BlockingIOError, FileNotFoundError):
        raise NotFound("container does not exist") from None
    except (ValueError, BarqueError, OSError) as error:
        raise InvalidArgument(
            f"state of container {identifier} is not readable ({why}) and cannot be found again: "
            f"{error}"
        ) from None
    finally:
        os.close(directory)


def _found(paths: Paths, identifier: str, raw: bytes) -> Container:
    spec = parse_spec(parse(raw))
    group, unit = locate_cgroup(paths, spec, identifier)
    if paths.rootless and not any(map(os.path.isdir, group.directories.values())):
        raise InvalidArgument("it has no cgroup to find its processes by")
    bundle = os.readlink(paths.bundle(identifier))
    made = os.stat(paths.config(identifier)).st_mtime_ns
    container = Container(
        paths,
        identifier,
        bundle=bundle,
        rootfs=os.path.normpath(os.path.join(bundle, spec.root_path)),
        annotations=spec.annotations,
        cgroup=group,
        namespaces=sorted(spec.linux.namespaces),
        filter_key="" if spec.linux.seccomp is None else seccomp.key_of(spec.linux.seccomp),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made // 10**9)),
        unit=unit,
    )
    container.pid = first_process(group.pids(), spec)
    container.start_time = process_times(container.pid) or 0
    return container


def first_process(pids: list[int], spec: Spec) -> int:
    """The container's among those of its cgroup; ENDED when it has.

    In a new pid namespace it has the number 1 (and in no namespace below that); else it is the
    oldest.
    """
    namespace = spec.linux.namespaces.get("pid")
    if namespace is not None and not namespace.path:
        levels = {pid: found for pid in pids if (found := _numbers(pid))[-1:] == ["1"]}
        return min(levels, key=lambda pid: len(levels[pid]), default=ENDED)
    started = [(since, pid) for pid in pids if (since := process_times(pid)) is not None]
    return min(started, default=(0, ENDED))[1]


def _numbers(pid: int) -> list[str]:
    """What a process is called in each pid namespace, the own first. proc_pid_status(5)."""
    try:
        for line in read_bounded(f"/proc/{pid}/status").decode(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return line.split()[1:]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return []
