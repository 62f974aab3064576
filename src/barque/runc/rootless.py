"""What is different when the runtime is not root: ids, cgroups, the default config.

An ordinary user is root in a user namespace of his own. The kernel lets him map his own id alone;
ranges of /etc/subuid are mapped by the set-user-id programs newuidmap and newgidmap. He has a
cgroup where one was delegated to him, and none otherwise. user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import errno
import os

from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from barque.linux import memfd
from barque.linux.cgroup import Cgroup, is_unified
from barque.linux.fs import write_file
from barque.linux.namespaces import (
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    clone3,
    setns,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.oci.runtime import IdMapping, Linux, Spec
    from barque.runc.container import Container
    from barque.runc.init import Launch
    from barque.runc.resources import Write

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
HIDDEN_OPTIONS = ("gid=", "uid=")
FROM_HOST = ("/sys",)
SIGCHLD = 17
LONGEST_QUOTE = 1024  # bytes of what a program says


def check_spec(spec: Spec) -> None:
    """Raise InvalidArgument, in runc's words, for what a user cannot have."""
    namespace = spec.linux.namespaces.get("user")
    if namespace is None:
        raise InvalidArgument("rootless container requires user namespaces")
    if namespace.path:
        return
    if not spec.linux.uid_mappings:
        raise InvalidArgument("rootless containers requires at least one UID mapping")
    if not spec.linux.gid_mappings:
        raise InvalidArgument("rootless containers requires at least one GID mapping")


def map_ids(pid: int, linux: Linux) -> None:
    """Map the ids of a new user namespace."""
    if is_own(linux.gid_mappings, os.getegid()):
        write_file(f"/proc/{pid}/setgroups", "deny")
        write_file(f"/proc/{pid}/gid_map", lines(linux.gid_mappings))
    else:
        run_mapper("newgidmap", pid, linux.gid_mappings)
    if is_own(linux.uid_mappings, os.geteuid()):
        write_file(f"/proc/{pid}/uid_map", lines(linux.uid_mappings))
    else:
        run_mapper("newuidmap", pid, linux.uid_mappings)


def adjust_oom_score(pid: int, value: int | None) -> None:
    """Only raising is a user's right: what is refused stays, as with runc."""
    if value is None:
        return
    try:
        write_file(f"/proc/{pid}/oom_score_adj", str(value))
    except PermissionError:
        return


def is_own(mappings: tuple[IdMapping, ...], own: int) -> bool:
    """Whether the kernel takes these from a user without privileges."""
    return len(mappings) == 1 and (mappings[0].host_id, mappings[0].size) == (own, 1)


def lines(mappings: tuple[IdMapping, ...]) -> str:
    return "".join(f"{one.container_id} {one.host_id} {one.size}\n" for one in mappings)


def clone_into(launch: Launch, cgroup_fd: int) -> int:
    """A child in the container's user and pid namespaces, where only the first gives the right to
    join the second: a process between joins both and makes it, as a child of the caller."""
    pidfd, flags = launch.joined[0]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    between = clone3(0, exit_signal=SIGCHLD)
    if between == 0:
        answer = 0
        try:
            setns(pidfd, CLONE_NEWUSER | CLONE_NEWPID)
            answer = clone3(CLONE_PARENT, exit_signal=0, cgroup_fd=cgroup_fd)
            if answer == 0:
                launch.joined = [(pidfd, flags & ~CLONE_NEWUSER)]
                return 0
        except OSError as error:
            answer = -(error.errno or errno.EIO)
        try:
            os.write(writer, str(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        answer = int(os.read(reader, 32) or b"0")
    finally:
        os.close(reader)
        os.waitpid(between, 0)
    if answer <= 0:
        raise OSError(-answer or errno.ECHILD, os.strerror(-answer or errno.ECHILD), "setns")
    return answer


def run_mapper(name: str, pid: int, mappings: tuple[IdMapping, ...]) -> None:
    directories = os.environ.get("PATH", os.defpath).split(":")
    program = next((f"{d}/{name}" for d in directories if os.access(f"{d}/{name}", os.X_OK)), None)
    if program is None:
        raise NotFound(f"{name} is not installed: ids beyond one's own cannot be mapped")
    numbers = [(one.container_id, one.host_id, one.size) for one in mappings]
    arguments = [name, str(pid), *(str(number) for numbers_ in numbers for number in numbers_)]
    output = memfd.create(name)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
        child = os.posix_spawn(program, arguments, os.environ, file_actions=actions)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            said = os.pread(output, LONGEST_QUOTE, 0).decode(errors="replace").strip()
            raise BarqueError(
                f"{name} ended with exit code {code}: {'; '.join(said.split(chr(10)))}"
            )
    finally:
        os.close(output)


def without_cgroup(
    container: Container, spec: Spec, writes: tuple[Write, ...], error: OSError
) -> None:
    """Go on with no cgroup where none can be made; limits and a path asked for are errors."""
    if error.errno not in REFUSED or spec.linux.cgroups_path:
        raise error
    if writes:
        file = writes[0].file
        raise Unsupported(f"cannot set {file}: container could not join or create cgroup")
    container.cgroup = Cgroup({})


def to_rootless(document: dict[str, Any]) -> dict[str, Any]:
    """The default config for who calls: his id is root's, the network is the host's."""
    linux = document["linux"]
    kinds = [one for one in linux["namespaces"] if one["type"] not in ("network", "user")]
    linux["namespaces"] = [*kinds, {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del linux["resources"]
    mounts = []
    for mount in document["mounts"]:
        if mount["destination"].startswith(FROM_HOST):
            continue
        options = [o for o in mount.get("options", ()) if not o.startswith(HIDDEN_OPTIONS)]
        mounts.append({**mount, "options": options} if options else mount)
    host = {"destination": "/sys", "type": "none", "source": "/sys"}
    mounts.append({**host, "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    if is_unified():
        cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
        options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
        mounts.append({**cgroup, "options": options})
    document["mounts"] = mounts
    return document
