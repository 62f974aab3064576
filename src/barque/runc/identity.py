"""What a process is before it becomes the container's: limits, user, groups, capabilities.

config.md, "User", "Linux Process". All of it is done by the process itself, last.
"""

from __future__ import annotations

import os
import resource
import stat

from barque.errors import InvalidArgument
from barque.linux import capabilities
from barque.linux.fs import open_in_root, read_fd_bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Process
    from barque.runc.log import Log

UNLIMITED = (1 << 64) - 1
LARGEST_LIMIT = (1 << 63) - 1  # what the interpreter takes
MOST_GROUPS = 65536  # NGROUPS_MAX
LONGEST_PASSWD = 1 << 20  # bytes read of a container's /etc/passwd
RLIMITS = {
    f"RLIMIT_{name}": getattr(resource, f"RLIMIT_{name}")
    for name in (
        *("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC"),
        *("RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
    )
    if hasattr(resource, f"RLIMIT_{name}")
}
RLIMITS.setdefault("RLIMIT_LOCKS", 10)
RLIMITS.setdefault("RLIMIT_RTTIME", 15)


class Identity:
    """The checked numbers of a process: nothing of it can fail for being out of range."""

    __slots__ = ("bits", "gid", "groups", "limits", "uid")

    def __init__(self, process: Process, log: Log) -> None:
        self.uid = process.uid
        self.gid = process.gid
        self.groups = list(process.additional_gids)
        if len(self.groups) > MOST_GROUPS:
            raise InvalidArgument(f"process.user.additionalGids: more than {MOST_GROUPS}")
        self.limits = [_limit(*limit) for limit in process.rlimits]
        self.bits = _capability_bits(process, log)

    def set_limits(self) -> None:
        for kind, soft, hard in self.limits:
            try:
                resource.setrlimit(kind, (soft, hard))
            except (OSError, ValueError) as error:
                text = "operation not permitted" if "not allowed" in str(error) else str(error)
                raise InvalidArgument(
                    f"error setting rlimits for ready process: "
                    f"error setting rlimit type {kind}: {text}"
                ) from error

    def become(self, *, in_user_namespace: bool) -> None:
        """Leave root's ids and all capabilities but the config's."""
        bounding, effective, permitted, inheritable, ambient = self.bits
        capabilities.drop_bounding(bounding)
        capabilities.keep_over_setuid(True)
        try:
            os.setgroups(self.groups)
        except PermissionError:
            if not in_user_namespace or self.groups:
                text = "cannot set any additional groups in a rootless container"
                raise InvalidArgument(text) from None
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        capabilities.keep_over_setuid(False)
        capabilities.capset(effective=effective, permitted=permitted, inheritable=inheritable)
        capabilities.set_ambient(ambient)


def _limit(kind: str, soft: int, hard: int) -> tuple[int, int, int]:
    if kind not in RLIMITS:
        raise InvalidArgument(f"wrong rlimit value: {kind}")
    return RLIMITS[kind], _bound(kind, soft), _bound(kind, hard)


def _bound(kind: str, value: int) -> int:
    if value == UNLIMITED:
        return resource.RLIM_INFINITY
    if value > LARGEST_LIMIT:
        raise InvalidArgument(f"{kind}: {value} is not in the range 0 to {LARGEST_LIMIT}")
    return value


def _capability_bits(process: Process, log: Log) -> tuple[int, int, int, int, int]:
    """Bounding, effective, permitted, inheritable, ambient; unknown names are left out, aloud."""
    sets = process.capabilities or {}
    unknown = sorted(
        {name for names in sets.values() for name in names} - capabilities.NUMBERS.keys()
    )
    if unknown:
        log.warning(f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")

    def bits(name: str) -> int:
        known = [item for item in sets.get(name, ()) if item in capabilities.NUMBERS]
        return capabilities.mask(known)

    bounding, effective, permitted = bits("bounding"), bits("effective"), bits("permitted")
    inheritable, ambient = bits("inheritable"), bits("ambient")
    if effective & ~permitted:
        raise InvalidArgument("process.capabilities: effective has what permitted has not")
    for name in sets.get("ambient", ()):  # runc raises one by one; its words are known to tools
        if name in capabilities.NUMBERS and capabilities.mask([name]) & ~(permitted & inheritable):
            log.warning(f"can't raise ambient capability {name}: operation not permitted")
    return bounding, effective, permitted, inheritable, ambient & permitted & inheritable


def home_of(root: int, uid: int) -> str:
    """The home directory of `uid` in the container's own /etc/passwd; "/" when it has none.

    The file is the container's: it is read as bytes, bounded, and only when it is a plain file.
    """
    try:
        fd = open_in_root(root, "/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return "/"
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        return _home(read_fd_bounded(fd, LONGEST_PASSWD), uid)
    except OSError:
        return "/"
    finally:
        os.close(fd)


def _home(passwd: bytes, uid: int) -> str:
    wanted = str(uid).encode()
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2] == wanted:
            return os.fsdecode(fields[5]) or "/"
    return "/"
