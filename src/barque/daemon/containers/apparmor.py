"""The AppArmor profile of containers that name none: dockerd's `docker-default`, under its name.

The kernel keeps loaded profiles; who loads one of the same name replaces it. Ours is loaded once
in the daemon's life, before the first container that takes it starts. apparmor.d(5).
"""

from __future__ import annotations

import shutil
import subprocess

from barque import errors
from barque.daemon.containers import security
from barque.daemon.containers.host import Host
from barque.daemon.containers.record import Record

DEFAULT = "docker-default"
UNCONFINED = "unconfined"
PARSER_LIMIT_S = 60
# What a container needs for itself, and nothing of the machine: no mounts, no writing to what
# procfs and sysfs have of the whole system, signals and traces within the profile.
PROFILE = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer={name},
  ptrace (trace, read, tracedby, readby) peer={name},

  deny mount,

  deny /proc/* w,
  deny /proc/[a-z]*/** w,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/{{firmware,kernel/security,devices/virtual/powercap}}/** rwklx,
}}
"""


def profile_of(record: Record, machine: Host) -> str:
    """The profile a container runs under; empty where the kernel has no AppArmor."""
    if not machine.apparmor:
        return ""
    chosen = security.parse(record.host.security_opt or (), machine).apparmor
    if chosen:
        return chosen
    return UNCONFINED if record.host.privileged else DEFAULT


class Profiles:
    """Loads the default profile when it is first needed."""

    def __init__(self) -> None:
        self._loaded = False

    def need(self, profile: str) -> None:
        """Raises Unavailable, in dockerd's words, when the default profile cannot be loaded."""
        if profile != DEFAULT or self._loaded:
            return
        try:
            load(DEFAULT)
        except (OSError, errors.BarqueError) as error:
            raise errors.Unavailable(
                "AppArmor enabled on system but the docker-default profile could not be loaded: "
                f"{error}"
            ) from None
        self._loaded = True


def load(name: str) -> None:
    """Load the profile, or replace the one of that name."""
    parser = shutil.which("apparmor_parser")
    if parser is None:
        raise errors.NotFound("apparmor_parser is not installed")
    try:
        done = subprocess.run(
            [parser, "--replace", "--skip-cache"],
            input=PROFILE.format(name=name),
            capture_output=True,
            text=True,
            timeout=PARSER_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.Timeout(f"{parser} does not end within {PARSER_LIMIT_S} s") from None
    if done.returncode:
        said = "; ".join(done.stderr.split("\n")).strip("; ")
        raise errors.BarqueError(f"{parser} ended with exit code {done.returncode}: {said}")
