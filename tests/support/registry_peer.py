"""Debian's docker-registry on a loopback port, with a temporary root; and skopeo to fill it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BINARY = "/usr/bin/docker-registry"
START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class RegistryPeer:
    """`address` is what comes before the repository in a reference: `127.0.0.1:PORT`."""

    address: str
    root: Path

    def push(self, source: str, repository: str) -> None:
        """Copies an image to `repository` (`name:tag`); `source` is skopeo's: `oci:DIR:TAG`, ..."""
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--insecure-policy",
                "--dest-tls-verify=false",
                source,
                f"docker://{self.address}/{repository}",
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob: tests damage it there."""
        algorithm, _, encoded = digest.partition(":")
        blobs = self.root / "docker/registry/v2/blobs"
        return blobs / algorithm / encoded[:2] / encoded / "data"


def free_port() -> int:
    """A loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(
    root: Path, address: str, htpasswd: Path | None, deletes: bool, auth: str, tls: str
) -> str:
    lines = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: {root}}}, "
        f"delete: {{enabled: {str(deletes).lower()}}}}}",
        f"http: {{addr: '{address}'{', tls: ' + tls if tls else ''}}}",
    ]
    if htpasswd is not None:
        auth = f"{{htpasswd: {{realm: test, path: {htpasswd}}}}}"
    lines += [f"auth: {auth}"] if auth else []
    return "\n".join(lines) + "\n"


def _wait(process: subprocess.Popen[bytes], address: str, log: Path, inside: list[str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    asked = [*inside, "curl", "-s", "-o", "/dev/null", f"http://{address}/v2/"]
    while time.monotonic() < deadline:
        assert process.poll() is None, f"docker-registry ended: {log.read_text()}"
        if subprocess.run(asked, check=False).returncode == 0:
            return
        time.sleep(0.02)
    raise AssertionError(f"docker-registry does not answer: {log.read_text()}")


@contextmanager
def registry_peer(
    htpasswd: str = "", netns: str = "", *, deletes: bool = True, auth: str = "", tls: str = ""
) -> Iterator[RegistryPeer]:
    """`htpasswd` is the content of such a file (bcrypt lines): the registry then asks who it is.

    `auth` and `tls` are the members of its configuration that are named so, as JSON.
    `netns` names the network namespace whose loopback it listens on.
    """
    root = Path(tempfile.mkdtemp(prefix="bq-registry-", dir="/tmp"))
    address = f"127.0.0.1:{free_port()}"
    log = root / "log"
    passwords = None
    if htpasswd:
        passwords = root / "htpasswd"
        passwords.write_text(htpasswd)
    storage = root / "storage"
    configuration = root / "config.yml"
    configuration.write_text(_configuration(storage, address, passwords, deletes, auth, tls))
    inside = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*inside, BINARY, "serve", str(configuration)],
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait(process, address, log, inside)
        yield RegistryPeer(address, storage)
    finally:
        process.terminate()
        process.wait(timeout=20)
        shutil.rmtree(root)
