"""Builds the `busybox` base image from Debian's busybox-static package, the same bytes every time.

    python tools/busybox_image.py rootfs OUTPUT.tar        a root file system, for `import`
    python tools/busybox_image.py archive OUTPUT.tar       a docker-archive, for `load`

Every applet is a hard link in /bin, as in Docker's own busybox image.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
EPOCH_S = 1_700_000_000  # every file's time: the output depends on the binary alone
CREATED = "2023-11-14T22:13:20Z"  # the same instant

DIRECTORIES = {
    "bin/": 0o755,
    "dev/": 0o755,
    "etc/": 0o755,
    "etc/network/": 0o755,
    "home/": 0o755,
    "proc/": 0o755,
    "root/": 0o700,
    "sys/": 0o755,
    "tmp/": 0o1777,
    "usr/": 0o755,
    "var/": 0o755,
    "var/spool/": 0o755,
    "var/spool/mail/": 0o755,
    "var/www/": 0o755,
}
FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "bin:x:2:2:bin:/bin:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\n"
        "operator:x:37:37:Operator:/var:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:\n"
        "www-data:x:33:\noperator:x:37:\nusers:x:100:\nnogroup:x:65534:\n"
    ),
    "etc/shadow": "root:*:::::::\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
LINKS = {"usr/bin": "../bin", "usr/sbin": "../bin", "sbin": "bin"}


class MissingBusybox(SystemExit):
    """The package busybox-static is not installed."""


def applets(busybox: Path = BUSYBOX) -> list[str]:
    if not busybox.exists():
        raise MissingBusybox(f"{busybox} not found: install the package busybox-static")
    listed = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True)
    return sorted(set(listed.stdout.split()) - {"busybox"})


def _entry(name: str, kind: bytes, mode: int, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.rstrip("/"))
    entry.type, entry.mode, entry.linkname, entry.mtime = kind, mode, target, EPOCH_S
    return entry


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, tarfile.REGTYPE, mode)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def rootfs(busybox: Path = BUSYBOX) -> bytes:
    """The tar of the root file system; the same bytes for the same binary."""
    names = applets(busybox)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in DIRECTORIES.items():
            archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        _add(archive, "bin/busybox", busybox.read_bytes(), 0o755)
        for applet in names:
            archive.addfile(_entry(f"bin/{applet}", tarfile.LNKTYPE, 0o755, "bin/busybox"))
        for name, text in FILES.items():
            _add(archive, name, text.encode(), 0o640 if name == "etc/shadow" else 0o644)
        for name, target in LINKS.items():
            archive.addfile(_entry(name, tarfile.SYMTYPE, 0o777, target))
    return buffer.getvalue()


def architecture() -> str:
    import os

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def image_config(layer: bytes) -> bytes:
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    document = {
        "architecture": architecture(),
        "config": {
            "Cmd": ["sh"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": "busybox-static"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def docker_archive(tag: str, layer: bytes, config: bytes | None = None) -> bytes:
    """One image of one layer as `docker save` writes it: manifest.json, config, layer.tar."""
    config = config if config is not None else image_config(layer)
    layer_name = hashlib.sha256(layer).hexdigest() + "/layer.tar"
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [tag] if tag else None, "Layers": [layer_name]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, config_name, config, 0o644)
        archive.addfile(_entry(layer_name.split("/")[0], tarfile.DIRTYPE, 0o755))
        _add(archive, layer_name, layer, 0o644)
        _add(archive, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="busybox_image.py")
    parser.add_argument("kind", choices=["rootfs", "archive"])
    parser.add_argument("output", type=Path)
    parser.add_argument("--tag", default="busybox:latest")
    parser.add_argument("--busybox", type=Path, default=BUSYBOX)
    options = parser.parse_args(arguments)
    layer = rootfs(options.busybox)
    data = layer if options.kind == "rootfs" else docker_archive(options.tag, layer)
    options.output.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
