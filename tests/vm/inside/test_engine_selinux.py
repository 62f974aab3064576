"""`--selinux-enabled`: labels of containers, of their files, and of what `-v ...:z` gives them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import selinux
from tests.support.barque import Stack, stack
from tests.support.selinux import FILE, HOST, PROCESS, label_of, set_label

pytestmark = [pytest.mark.root, pytest.mark.peer]
CURRENT = ("cat", "/proc/self/attr/current")
PRIVATE = "s0:c1022,c1023"


@pytest.fixture(scope="module")
def barque() -> Iterator[Stack]:
    selinux.load()
    with stack("--selinux-enabled") as made:
        yield made


@pytest.fixture(scope="module")
def first(barque: Stack) -> str:
    cli(barque, "run", "-d", "--name", "first", "--network", "none", "busybox", "sleep", "1000")
    return "first"


def call(barque: Stack, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return barque.cli(*arguments, check=False, timeout_s=120)


def cli(barque: Stack, *arguments: str) -> str:
    return barque.cli(*arguments, timeout_s=120).stdout.decode().strip("\n\0")


def labels(barque: Stack, container: str) -> tuple[str, str]:
    document = json.loads(cli(barque, "inspect", container))[0]
    return document["ProcessLabel"], document["MountLabel"]


def run(barque: Stack, *arguments: str) -> str:
    return cli(barque, "run", "--rm", "--network", "none", *arguments)


def test_each_container_has_a_label_of_its_own(barque: Stack, first: str) -> None:
    process, mount = labels(barque, first)
    level = process.removeprefix(f"{PROCESS}:")
    assert (process, mount) == (f"{PROCESS}:{level}", f"{FILE}:{level}")
    assert cli(barque, "exec", first, *CURRENT) == process
    other = run(barque, "busybox", *CURRENT)
    assert other.startswith(f"{PROCESS}:c")
    assert other != process
    assert run(barque, "--pid", f"container:{first}", "busybox", *CURRENT) == process
    options = json.loads(cli(barque, "info", "--format", "{{json .SecurityOptions}}"))
    assert "name=selinux" in options


def test_its_files_have_the_label(barque: Stack, first: str) -> None:
    root = f"/proc/{cli(barque, 'inspect', '--format', '{{.State.Pid}}', first)}/root"
    _, mount = labels(barque, first)
    for place in ("/", "/bin/busybox", "/dev", "/dev/shm", "/etc/hosts", "/etc/resolv.conf"):
        assert (place, label_of(root + place)) == (place, mount)
    cli(barque, "exec", first, "sh", "-c", "echo mine >/made && cat /made /etc/hosts")


def test_what_is_mounted_is_its_own_when_asked_for(barque: Stack, tmp_path: Path) -> None:
    file = tmp_path / "shared/deep/file"
    file.parent.mkdir(parents=True)
    file.write_text("machine's\n")
    (tmp_path / "shared/link").symlink_to("/etc/passwd")
    set_label(tmp_path / "shared", HOST)
    write = ("busybox", "sh", "-c", "echo more >>/x/deep/file")
    refused = call(barque, "run", "--rm", "-v", f"{tmp_path}/shared:/x", *write)
    assert (refused.returncode, b"Permission denied" in refused.stderr) == (1, True)
    run(barque, "-v", f"{tmp_path}/shared:/x:z", *write)
    assert label_of(file) == FILE
    run(barque, "-v", f"{tmp_path}/shared:/x:Z", *write)
    assert label_of(file).startswith(f"{FILE}:c")
    refused = call(barque, "run", "--rm", "-v", f"{tmp_path}/shared:/x", *write)
    assert b"Permission denied" in refused.stderr
    assert label_of("/etc/passwd") == HOST
    assert file.read_text() == "machine's\nmore\nmore\n"
    refused = call(barque, "run", "--rm", "-v", "/etc:/x:Z", "busybox", "true")
    assert b"SELinux relabeling of /etc is not allowed" in refused.stderr
    run(barque, "-v", "kept:/x", "busybox", "touch", "/x/file")
    run(barque, "-v", "kept:/x", "busybox", "sh", "-c", "echo again >/x/file")


@pytest.mark.parametrize(
    ("options", "process", "mount"),
    [
        (("label=type:other_t", "label=level:s0:c9"), "system_u:system_r:other_t:s0:c9", ":s0:c9"),
        (("label=disable",), "", PRIVATE),
    ],
)
def test_what_is_asked_for(
    barque: Stack, options: tuple[str, ...], process: str, mount: str
) -> None:
    flags = [word for option in options for word in ("--security-opt", option)]
    cli(barque, "create", "--name", "asked", "--network", "none", *flags, "busybox", *CURRENT)
    told = labels(barque, "asked")
    assert (told[0], told[1].endswith(mount)) == (process, True)
    maker = Path("/proc/self/attr/current").read_text().strip("\n\0")
    assert cli(barque, "start", "-a", "asked") == (process or maker)
    cli(barque, "rm", "asked")


def test_a_privileged_container_is_as_the_daemon(barque: Stack) -> None:
    maker = Path("/proc/self/attr/current").read_text().strip("\n\0")
    assert run(barque, "--privileged", "busybox", *CURRENT) == maker


def test_what_is_no_label(barque: Stack) -> None:
    refused = call(barque, "create", "--security-opt", "label=colour:red", "busybox")
    assert b'bad label option "colour:red"' in refused.stderr
