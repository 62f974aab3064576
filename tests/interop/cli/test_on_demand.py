"""With no daemon on its socket the command starts one; in namespaces, for the default paths."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.cli.conftest import BARQUE
from tests.support import cgroups
from tests.support.docker_peer import busybox_tar

pytestmark = pytest.mark.root

PARENT = f"bq{secrets.token_hex(4)}"
ISOLATED = (
    *("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc"),
    *("--propagation", "private", "sh", "-ec"),
)
# No namespace hides groups: that of the daemon has a name of its own.
PREPARE = (
    "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; mkdir /run/upper /run/work; "
    "mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc; "
    f'mkdir /etc/barque; echo \'{{"cgroup-parent": "/{PARENT}"}}\' >/etc/barque/daemon.json; '
    "ip link set lo up; unset DOCKER_HOST; "
    f'barque() {{ {" ".join(BARQUE)} "$@"; }}; '
)


@pytest.fixture(autouse=True)
def leaves_no_group() -> Iterator[None]:
    yield
    assert cgroups.remove(PARENT) == []


def isolated(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script where /run and /var/lib are empty and no other process is seen; it ends with all."""
    return subprocess.run(
        [*ISOLATED, PREPARE + script, "sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_daemon_is_started_and_serves(tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(busybox_tar())
    done = isolated(
        "barque import -c 'ENV PATH=/bin' $1 busybox >/dev/null; "
        "barque run --rm busybox echo from inside; barque ps -aq; grep -c . /run/barque/*.pid",
        str(archive),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "from inside\n1\n"


def test_several_commands_at_once_share_one_daemon() -> None:
    done = isolated(
        "for n in 1 2 3; do barque ps -q & done; wait; barque ps -q; "
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'py barqued --on-dem[a]nd' | wc -l"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1\n"


def test_a_daemon_that_cannot_start_is_told() -> None:
    done = isolated("touch /var/lib/barque; barque ps")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("barqued did not become ready: ")
    assert done.stderr.count("\n") == 1


def test_an_explicit_host_is_never_started(tmp_path: Path) -> None:
    done = isolated(f"barque -H unix://{tmp_path}/s ps")
    assert done.returncode == 1
    assert "Is the docker daemon running?" in done.stderr
