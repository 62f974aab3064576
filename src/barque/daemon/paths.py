"""Every path of the daemon.

<data root>/                    survives a reboot; 0710
    daemon.db                   database.py
    events.jsonl, events.jsonl.1   the ring of events
    containerd/                 the managed barque-containerd's --root
    containers/<id>/            0710: <id>-json.log or local-logs/, hostname, hosts, resolv.conf
    containers/<id>/checkpoints/<name>   criu's images
    volumes/<name>/_data
    tmp/                        uploads under way; emptied at start
<exec root>/                    gone after a reboot; 0711
    barque.sock, barqued.pid    by default
    daemon.lock                 held while a daemon owns the two roots
    containerd/                 the managed barque-containerd's --state
    containerd/containerd.sock
    io/<id>.sock                stdio sockets of containers and execs; by the id's beginning where
                                a long exec root leaves no room for all of it
    io/<id>.fifos/              their fifos, below a shim that is not ours
    netns/<id>                  bound network namespaces
    userns/<uid>.<gid>-<hash>   the bound user namespace of remapped containers: remapping.py
    dns.sock, dns.log           the name server of containers: daemon/names.py
    proxy.sock, proxy.log       the proxy of published ports: daemon/proxy_link.py
    subpaths/<id>/<hash>        parts of volumes, mounted while container <id> runs
    shm/<id>                    mount points of containers' /dev/shm
    runtimes/                   scripts that call a runtime with arguments
    copying/                    empty: where a copying program mounts, in its own namespace
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from barque.linux.inode_flags import spread_subdirectories

SOCKET_PATH_BYTES = 107  # of a unix socket: unix(7)
SHORT_ID = 22  # hexadecimal digits: 88 random bits
# What leaves room for `containerd/containerd.sock.ttrpc`, the longest name of all, as in dockerd.
EXEC_ROOT_BYTES = 74


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path
    run: Path

    @property
    def database(self) -> Path:
        return self.root / "daemon.db"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def containerd_root(self) -> Path:
        return self.root / "containerd"

    @property
    def containerd_state(self) -> Path:
        return self.run / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd" / "containerd.sock"

    @property
    def containerd_log(self) -> Path:
        return self.run / "containerd" / "containerd.log"

    @property
    def lock(self) -> Path:
        return self.run / "daemon.lock"

    @property
    def root_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def subpaths(self) -> Path:
        return self.run / "subpaths"

    @property
    def netns(self) -> Path:
        return self.run / "netns"

    @property
    def user_namespaces(self) -> Path:
        return self.run / "userns"

    @property
    def io(self) -> Path:
        return self.run / "io"

    @property
    def runtimes(self) -> Path:
        return self.run / "runtimes"

    @property
    def copying(self) -> Path:
        return self.run / "copying"

    def container(self, container_id: str) -> Path:
        return self.root / "containers" / container_id

    def checkpoints(self, container_id: str) -> Path:
        return self.container(container_id) / "checkpoints"

    def container_log(self, container_id: str, driver: str) -> Path:
        """Of the driver json-file or local."""
        if driver == "local":
            return self.container(container_id) / "local-logs" / "container.log"
        return self.container(container_id) / f"{container_id}-json.log"

    def stdio_socket(self, process_id: str) -> Path:
        """The stdio socket of a container or of an exec, by its id, which may be too long."""
        whole = self.io / f"{process_id}.sock"
        fits = len(os.fsencode(whole)) <= SOCKET_PATH_BYTES
        return whole if fits else self.io / f"{process_id[:SHORT_ID]}.sock"

    def shm(self, container_id: str) -> Path:
        return self.run / "shm" / container_id

    def make(self) -> None:
        """Make the directories that must be there before anything else runs."""
        for directory, mode in (
            (self.root, 0o710),
            (self.run, 0o711),
            (self.containerd_root, 0o700),
            (self.containerd_state, 0o711),
            (self.root / "containers", 0o710),
            (self.volumes, 0o701),
            (self.tmp, 0o700),
            (self.io, 0o700),
            (self.netns, 0o711),
            (self.subpaths, 0o700),
            (self.run / "shm", 0o700),
            (self.runtimes, 0o700),
            (self.copying, 0o700),
        ):
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
        spread_subdirectories(self.root / "containers")
