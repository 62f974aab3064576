"""Every path of barque-containerd, joined here and nowhere else.

    <root>                              survives a reboot
      meta.db                           names, labels, references
      meta.db-reserve                   room for removals on a full disk
      content/blobs/sha256/<hex>        one file a blob, never changed
      content/ingest/<number>           a blob under way
      snapshots/<snapshotter>/<number>/ one directory each: fs, work; short, for mount options
      snapshots/<snapshotter>.trash/    what is being deleted
      checkpoints/<namespace>/          criu's images while they become content, or a task again
      uuid                              this server's name
      lock                              held by the one server that uses this root
    <state>                             gone after a reboot
      containerd.sock                   gRPC; containerd.sock.ttrpc for the events of shims
      lock                              held by the one server that uses this state
      zygote.sock                       the warm process that forks shims
      io.containerd.runtime.v2.task/<namespace>/<id>/   the bundle of a task
      io.containerd.sandbox.controller.v1.shim/<namespace>/<id>/   that of a sandbox
      mounts/<hash>/                    mounts that were activated for clients

Names are validated before they come here (identifiers, digests, numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barque.oci import digest as digests

DEFAULT_ROOT = "/var/lib/barque/containerd"
DEFAULT_STATE = "/run/barque/containerd"
DEFAULT_CONFIG = "/etc/barque/containerd.toml"


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path
    state: Path

    @property
    def database(self) -> Path:
        return self.root / "meta.db"

    @property
    def state_lock(self) -> Path:
        return self.state / "lock"

    @property
    def uuid(self) -> Path:
        return self.root / "uuid"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    def snapshotter(self, name: str) -> Path:
        return self.snapshots / name

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def zygote(self) -> Path:
        return self.state / "zygote.sock"

    @property
    def tasks(self) -> Path:
        return self.state / "io.containerd.runtime.v2.task"

    @property
    def mounts(self) -> Path:
        return self.state / "mounts"

    @property
    def sandboxes(self) -> Path:
        return self.state / "io.containerd.sandbox.controller.v1.shim"


@dataclass(frozen=True, slots=True)
class ContentPaths:
    """The files of the content store under `base`."""

    base: Path

    @property
    def blobs(self) -> Path:
        return self.base / "blobs"

    @property
    def ingests(self) -> Path:
        return self.base / "ingest"

    def blob(self, digest: str) -> str:
        """Where the blob lies. Raises InvalidArgument for text that is not a digest."""
        algorithm, digits = digests.parse(digest)
        return f"{self.base}/blobs/{algorithm}/{digits}"

    def ingest(self, number: int) -> str:
        return f"{self.base}/ingest/{number}"


@dataclass(frozen=True, slots=True)
class SnapshotPaths:
    """The directories of one snapshotter under `base`. Plain text: they go into mount options."""

    base: str

    @property
    def trash(self) -> str:
        return f"{self.base}.trash"

    @property
    def spare(self) -> str:
        """Of overlayfs: where the directory is that is there before a snapshot asks for it."""
        return f"{self.base}.spare"

    def directory(self, number: int) -> str:
        return f"{self.base}/{number}"

    def files(self, number: int) -> str:
        """The snapshot's own files: overlay's upper directory."""
        return f"{self.base}/{number}/fs"

    def work(self, number: int) -> str:
        return f"{self.base}/{number}/work"

    @property
    def empty(self) -> str:
        """Of erofs: what is below a snapshot that has nothing below."""
        return f"{self.base}/empty"

    def image(self, number: int) -> str:
        """The one file of a committed layer."""
        return f"{self.base}/{number}/layer.erofs"
