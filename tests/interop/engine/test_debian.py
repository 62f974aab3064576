"""Real input: a Debian image with nginx, through a real registry, run with all a service has."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.engine.test_terminal import command, ended, terminal
from tests.support.barque import Stack, stack
from tests.support.registry_peer import registry_peer

pytestmark = [
    pytest.mark.timeout(1200),  # the system is built first
    pytest.mark.root,
    pytest.mark.peer,
]
ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "build" / "cache"
BUILD_LIMIT_S = 600
WAIT_S = 20

__all__ = ["command"]  # the fixture of both command lines


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of a Debian with nginx in it, as a tar."""
    archive = tmp_path_factory.mktemp("debian") / "debian.tar"
    tool = str(ROOT / "tools" / "debian_image.py")
    subprocess.run(
        [sys.executable, tool, "--cache", str(CACHE), str(archive)],
        check=True,
        capture_output=True,
        timeout=BUILD_LIMIT_S,
    )
    return archive


@pytest.fixture(scope="module")
def pulled(debian: Path) -> Iterator[tuple[Stack, str]]:
    """A stack that has pulled the image from a real registry, where it had pushed it before."""
    with registry_peer() as registry, stack(busybox=False) as barque:
        name = f"{registry.address}/web/debian:nginx"
        settings = ["-c", 'CMD ["nginx", "-g", "daemon off;"]', "-c", "EXPOSE 80"]
        barque.cli("import", *settings, str(debian), name, timeout_s=200)
        before = barque.cli("inspect", "-f", "{{.Id}}", name).stdout
        barque.docker("push", name, timeout_s=200)
        barque.cli("rmi", name)
        assert barque.cli("images", "-q").stdout == b""
        out = barque.cli("pull", name, timeout_s=200).stdout.decode()
        assert f"Status: Downloaded newer image for {name}" in out
        assert barque.cli("inspect", "-f", "{{.Id}}", name).stdout == before
        again = barque.docker("pull", name).stdout.decode()
        assert "Image is up to date" in again
        yield barque, name


def fetch(address: str) -> bytes:
    return subprocess.run(
        ["curl", "-s", "--max-time", "5", f"http://{address}/"], capture_output=True, check=False
    ).stdout


def test_nginx_as_a_service(pulled: tuple[Stack, str], tmp_path: Path) -> None:
    barque, name = pulled
    tmp_path.chmod(0o755)
    (tmp_path / "index.html").write_text("a page of the host\n")
    barque.cli(
        *("run", "-d", "--name", "nginx", "-p", "127.0.0.1:0:80", "-m", "128m", "--cpus", "1"),
        *("--pids-limit", "64", "-v", f"{tmp_path}:/var/www/html:ro", "-v", "logs:/var/log/nginx"),
        name,
    )
    try:
        address = barque.cli("port", "nginx", "80").stdout.decode().strip()
        deadline = time.monotonic() + WAIT_S
        while fetch(address) != b"a page of the host\n" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert fetch(address) == b"a page of the host\n"
        access = barque.cli("exec", "nginx", "cat", "/var/log/nginx/access.log").stdout
        assert b"curl/" in access
        limit = barque.cli(
            "exec", "nginx", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        ).stdout
        assert limit == b"134217728\n"
        barque.cli("stop", "nginx")
        assert barque.cli("inspect", "-f", "{{.State.ExitCode}}", "nginx").stdout == b"0\n"
        barque.cli("rm", "nginx")
        kept = barque.cli("run", "--rm", "-v", "logs:/l", name, "cat", "/l/access.log").stdout
        assert kept == access
    finally:
        barque.cli("rm", "-f", "nginx", check=False)
        barque.cli("volume", "rm", "logs", check=False)


def test_bash_with_job_control(pulled: tuple[Stack, str], command: list[str]) -> None:
    barque, name = pulled
    arguments = ["run", "-it", "--rm", "--name", "shell", name, "bash"]
    with terminal(barque, command, *arguments, size=(30, 90)) as child:
        prompt = r"root@\w+:/# "
        child.expect(prompt)
        child.sendline("stty size; set -o | grep monitor")
        child.expect("30 90")
        child.expect(r"monitor\s+on")
        child.expect(prompt)
        child.sendline("bash -c 'echo ready; sleep 100'")
        child.expect("ready\r\n")
        child.send("\x1a")  # ctrl-z
        child.expect("Stopped")
        child.expect(prompt)
        child.sendline("bg; jobs; kill %1; wait; echo code $?")
        child.expect("Running")
        child.expect("code ")
        child.sendline("bash -c 'echo again; sleep 100'")
        child.expect("again\r\n")
        child.sendintr()
        child.expect(prompt)
        child.send("\x10\x11")  # ctrl-p ctrl-q
        assert ended(child) == 0
    with terminal(barque, command, "attach", "shell") as child:
        child.sendline("exit 12")
        assert ended(child) == 12
