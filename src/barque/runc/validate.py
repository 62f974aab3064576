"""What a config.json asks that cannot be, or is not there yet, found before anything is made."""

from __future__ import annotations

import os

from barque.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Namespace, Process, Spec

IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        *("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"),
        *("msg_next_id", "sem_next_id", "shm_next_id", "auto_msgmni"),
    )
)
PERSONALITY_DOMAINS = ("", "LINUX", "LINUX32")
PROC_NAMES = {"network": "net", "ipc": "ipc", "user": "user", "uts": "uts"}
UNCONFINED = "unconfined"
TREES_OF_MOUNTS_SINCE = (6, 15)  # that may grow without being in a mount namespace
LONGEST_NAME = 64  # bytes of a host or domain name, __NEW_UTS_LEN


def check_spec(spec: Spec) -> None:
    """Raise InvalidArgument or Unsupported with the member's name."""
    namespaces = spec.linux.namespaces
    if "mount" not in namespaces:
        check_shared_mounts(spec)
    if spec.linux.time_offsets and ("time" not in namespaces or namespaces["time"].path):
        raise InvalidArgument(
            "time namespace offsets specified, but time namespace isn't enabled in the config"
        )
    if spec.linux.net_devices and "network" not in namespaces:
        raise InvalidArgument("unable to move network devices without a private NET namespace")
    if spec.linux.mount_label and not has_selinux():
        raise Unsupported(
            "linux.mountLabel is specified in config, but selinux is disabled or not supported"
        )
    if spec.linux.personality not in PERSONALITY_DOMAINS:
        raise InvalidArgument(f"linux.personality.domain: {spec.linux.personality!r} is unknown")
    for name in ("hostname", "domainname"):
        value = getattr(spec, name)
        if value and "uts" not in namespaces:
            raise InvalidArgument(f"unable to set {name} without a private UTS namespace")
        if len(value.encode()) > LONGEST_NAME:
            raise InvalidArgument(f"{name} is longer than {LONGEST_NAME} bytes")
    mapped = spec.linux.uid_mappings or spec.linux.gid_mappings
    if mapped and "user" not in namespaces:
        raise InvalidArgument("user namespace mappings specified, but user namespace isn't enabled")
    check_sysctls(spec)
    check_process(spec.process)


def check_shared_mounts(spec: Spec) -> None:
    """What goes with the runtime's own mount namespace: see `barque.runc.rootfs.detached`."""
    release = os.uname().release.split(".")
    if (int(release[0]), int(release[1])) < TREES_OF_MOUNTS_SINCE:
        raise Unsupported("a container without a mount namespace of its own takes Linux 6.15")
    if "user" in spec.linux.namespaces:
        raise Unsupported("a user namespace takes a mount namespace of its own")
    if spec.linux.rootfs_propagation:
        raise InvalidArgument("unable to set rootfsPropagation without a private MNT namespace")


def check_process(process: Process) -> None:
    if not process.args:
        raise InvalidArgument("args must not be empty")
    if not process.cwd.startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    if process.selinux_label and not has_selinux():
        raise Unsupported(
            "selinux label is specified in config, but selinux is disabled or not supported"
        )
    if process.apparmor_profile not in ("", UNCONFINED) and not has_apparmor():
        raise Unsupported(
            f"apparmor profile {process.apparmor_profile} is specified in config, "
            "but the kernel has no apparmor"
        )


def has_apparmor() -> bool:
    """Whether this kernel applies AppArmor profiles."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


def has_selinux() -> bool:
    """Whether this kernel labels by a policy: asked by who names a label, which few do."""
    from barque.linux import selinux

    return selinux.enabled()


def check_sysctls(spec: Spec) -> None:
    """Only what belongs to a namespace that the container does not share with the host."""
    namespaces = spec.linux.namespaces
    for name, value in spec.linux.sysctl.items():
        dotted = name.replace("/", ".")
        parts = name.split("/") if "/" in name else name.split(".")
        if any(part in ("", ".", "..") for part in parts):
            raise InvalidArgument(f"sysctl {name!r} is not a name")
        if "\n" in value or "+" in value:
            raise InvalidArgument(f"sysctl {name}: the value has a new line or a plus sign")
        kind = namespace_of_sysctl(dotted)
        if kind not in namespaces or is_own(namespaces[kind]):
            raise InvalidArgument(f'sysctl "{name}" is not in a separate kernel namespace')


def namespace_of_sysctl(dotted: str) -> str:
    """The kind of namespace that has this one for itself; empty: none."""
    if dotted.startswith("net."):
        return "network"
    if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return "ipc"
    if dotted.startswith("user."):
        return "user"
    return "uts" if dotted == "kernel.domainname" else ""


def is_own(namespace: Namespace) -> bool:
    """Whether the namespace to join is the runtime's own: a path may lead to the host's."""
    if not namespace.path:
        return False
    try:
        joined = os.stat(namespace.path)
        own = os.stat(f"/proc/self/ns/{PROC_NAMES[namespace.type]}")
    except OSError:
        return False  # joining it will fail
    return os.path.samestat(joined, own)
