"""Running containers through the whole stack, driven by the real docker CLI."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


def output(barque: Stack, *arguments: str, stdin: bytes = b"") -> str:
    return barque.docker("run", "--rm", *arguments, stdin=stdin).stdout.decode()


def rows(barque: Stack) -> int:
    """Rows of containers in the daemon's database."""
    with sqlite3.connect(f"file:{barque.root}/d/daemon.db?mode=ro", uri=True) as database:
        return int(database.execute("SELECT count(*) FROM containers").fetchone()[0])


def nothing_left(barque: Stack) -> bool:
    directories = os.listdir(barque.root / "d/containers")
    return not barque.docker("ps", "-aq").stdout and not directories and not rows(barque)


def wait_until_nothing_left(barque: Stack) -> None:
    """The last of a removal is done in the background."""
    done = threading.Event()
    for _ in range(200):
        if nothing_left(barque):
            return
        done.wait(0.05)
    raise AssertionError(os.listdir(barque.root / "d/containers"))


def test_output_and_exit_code(barque: Stack) -> None:
    done = barque.docker(
        "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    wait_until_nothing_left(barque)


def test_stdin_and_its_half_close(barque: Stack) -> None:
    data = os.urandom(300_000).hex().encode()
    done = barque.docker("run", "--rm", "-i", "busybox", "cat", stdin=data)
    assert done.stdout == data


def test_every_byte_of_a_fast_process_arrives(barque: Stack) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    lines = output(barque, "busybox", "sh", "-c", script).splitlines()
    assert lines == [f"line {number}" for number in range(2000)]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["busybox", "nosuch"], 127, "executable file not found in $PATH"),
        (["busybox", "/etc"], 126, "permission denied"),
        (["-m", "1m", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
        (["-u", "nosuch", "busybox", "true"], 125, "unable to find user nosuch"),
        (["-u", "4294967296", "busybox", "true"], 125, "uids and gids must be in range"),
        (
            ["--mount", "type=bind,source=/nope/x,target=/b", "busybox", "true"],
            125,
            "bind source path does not exist: /nope/x",
        ),
        (["--cpuset-cpus", "1-4294967295", "busybox", "true"], 125, "Invalid value"),
        (["--cpus", "99", "busybox", "true"], 125, "range of CPUs is from 0.01 to"),
        (["--cap-add", "FOO", "busybox", "true"], 125, 'unknown capability: "CAP_FOO"'),
        (["--security-opt", "seccomp=/dev/null", "busybox", "true"], 125, "seccomp"),
        (["--runtime", "nope", "busybox", "true"], 125, "unknown or invalid runtime name: nope"),
        (["--network", "nope", "busybox", "true"], 125, "network nope not found"),
        (["--log-driver", "nope", "busybox", "true"], 125, "error looking up logging plugin nope"),
        (["--gpus", "all", "busybox", "true"], 125, "could not select device driver"),
        (["--device", "/dev/nope", "busybox", "true"], 127, "/dev/nope"),
        (["-v", "vv:/proc", "busybox", "true"], 125, "/proc"),
    ],
)
def test_what_cannot_run_says_why_and_leaves_nothing(
    barque: Stack, arguments: list[str], code: int, text: str
) -> None:
    done = barque.docker("run", "--rm", *arguments, check=False)
    assert done.returncode == code, done.stderr
    assert text in done.stderr.decode()
    wait_until_nothing_left(barque)


def test_a_name_in_use(barque: Stack) -> None:
    barque.docker("create", "--name", "taken", "busybox")
    done = barque.docker("create", "--name", "taken", "busybox", check=False)
    assert 'Conflict. The container name "/taken" is already in use' in done.stderr.decode()
    barque.docker("rename", "taken", "other")
    barque.docker("create", "--name", "taken", "busybox")
    barque.docker("rm", "taken", "other")


def test_user_directory_environment_and_host_name(barque: Stack) -> None:
    script = "id -u; id -g; pwd; echo $A-$HOME; hostname; cat /etc/hostname"
    text = output(
        barque, "-u", "12:34", "-w", "/new/dir", "-e", "A=b", "-h", "hh", "busybox", "sh", "-c",
        script,
    )  # fmt: skip
    assert text.split() == ["12", "34", "/new/dir", "b-/", "hh", "hh"]


def test_capabilities(barque: Stack) -> None:
    def effective(*arguments: str) -> int:
        line = output(barque, *arguments, "busybox", "grep", "CapEff", "/proc/self/status")
        return int(line.split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    assert effective("-u", "5") == 0
    status = output(barque, "busybox", "cat", "/proc/self/status")
    for name in ("CapInh", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status


def test_a_capability_that_the_daemon_lacks(barque: Stack) -> None:
    effective = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    if effective >> 24 & 1:
        pytest.skip("this machine's root has CAP_SYS_RESOURCE")
    done = barque.docker("run", "--rm", "--privileged", "busybox", "true")
    assert b"CAP_SYS_RESOURCE" in done.stderr
    done = barque.docker("run", "--rm", "--cap-add", "SYS_RESOURCE", "busybox", check=False)
    assert done.returncode == 125


def test_masked_and_read_only_paths(barque: Stack) -> None:
    script = (
        "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; "
        "echo 1 > /proc/sys/kernel/panic || echo refused; touch /sys/x || echo refused"
    )
    assert output(barque, "busybox", "sh", "-c", script).split() == ["0", "0", "refused", "refused"]


def test_read_only_root_and_tmpfs(barque: Stack) -> None:
    script = "touch /x || echo refused; touch /t/x && echo fine; grep ' /t ' /proc/mounts"
    text = output(
        barque, "--read-only", "--tmpfs", "/t:size=1m,exec", "busybox", "sh", "-c", script
    )
    assert text.startswith("refused\nfine\n")
    assert "size=1024k" in text
    assert "noexec" not in text


def test_binds_and_volumes(barque: Stack, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("data")
    bind = f"{tmp_path}:/b:ro"
    script = "cat /b/in; touch /b/x || echo refused; echo kept > /v/file"
    assert output(barque, "-v", bind, "-v", "vol-a:/v", "busybox", "sh", "-c", script) == (
        "datarefused\n"
    )
    assert output(barque, "-v", "vol-a:/v", "busybox", "cat", "/v/file") == "kept\n"
    barque.docker("volume", "rm", "vol-a")
    made = tmp_path / "not" / "there"
    output(barque, "-v", f"{made}:/m", "busybox", "touch", "/m/x")
    assert (made / "x").exists()


def test_an_anonymous_volume_goes_with_its_container(barque: Stack) -> None:
    before = barque.docker("volume", "ls", "-q").stdout
    output(barque, "-v", "/data", "busybox", "touch", "/data/x")
    barque.docker("create", "--name", "anon", "-v", "/data", "busybox")
    barque.docker("rm", "-v", "anon")
    assert barque.docker("volume", "ls", "-q").stdout == before


def test_a_new_volume_gets_the_images_content(barque: Stack) -> None:
    assert "passwd" in output(barque, "-v", "vol-copy:/etc", "busybox", "ls", "/etc")
    assert "passwd" in output(barque, "-v", "vol-copy:/v", "busybox", "ls", "/v")
    assert output(barque, "-v", "vol-empty:/etc:nocopy", "busybox", "ls", "/etc").split() == [
        "hostname",
        "hosts",
        "resolv.conf",
    ]
    barque.docker("volume", "rm", "vol-copy", "vol-empty")


def test_namespaces_of_the_host_and_of_others(barque: Stack) -> None:
    for kind, option in (("net", "--network"), ("pid", "--pid"), ("uts", "--uts")):
        mine = os.readlink(f"/proc/self/ns/{kind}")
        assert mine in output(
            barque, option, "host", "busybox", "ls", "-l", f"/proc/self/ns/{kind}"
        )
    barque.docker("run", "-d", "--name", "owner", "--ipc", "shareable", "busybox", "sleep", "1000")
    try:
        look = "ls -l /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/pid | sed 's/.*-> //'"
        seen = barque.docker("exec", "owner", "sh", "-c", look).stdout.decode()
        shared = output(
            barque, "--network", "container:owner", "--pid", "container:owner", "--ipc",
            "container:owner", "busybox", "sh", "-c", f"{look}; cat /proc/1/comm",
        )  # fmt: skip
        assert shared == f"{seen}sleep\n"
    finally:
        barque.docker("rm", "-f", "owner")


def test_init_reaps_and_is_first(barque: Stack) -> None:
    assert "docker-init" in output(barque, "--init", "busybox", "cat", "/proc/1/cmdline")


def test_limits_and_their_update(barque: Stack) -> None:
    barque.docker("run", "-d", "--name", "lim", "-m", "64m", "--pids-limit", "50", "busybox",
                  "sleep", "1000")  # fmt: skip
    try:
        inspected = json.loads(barque.docker("inspect", "lim").stdout)[0]
        assert inspected["HostConfig"]["Memory"] == 64 << 20
        assert inspected["HostConfig"]["MemorySwap"] == 128 << 20
        group = _memory_group(inspected["State"]["Pid"])
        assert group.read_text().strip() == str(64 << 20)
        barque.docker("update", "-m", "32m", "--memory-swap", "64m", "lim")
        assert group.read_text().strip() == str(32 << 20)
    finally:
        barque.docker("rm", "-f", "lim")


def _memory_group(pid: int) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
    return Path(f"/sys/fs/cgroup{path}/memory.max")


def test_out_of_memory_is_told(barque: Stack) -> None:
    script = "a=xxxxxxxxxxxxxxxx; while true; do a=$a$a; done"
    done = barque.docker(
        "run", "--name", "oom", "-m", "8m", "--memory-swap", "8m", "busybox", "sh", "-c", script,
        check=False,
    )  # fmt: skip
    assert done.returncode == 137
    barque.docker("rm", "oom")


def test_many_at_once(barque: Stack) -> None:
    def one(number: int) -> str:
        return output(barque, "busybox", "echo", str(number)).strip()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [str(number) for number in range(24)]
    wait_until_nothing_left(barque)


def test_published_port_answers_and_is_free_again(barque: Stack) -> None:
    script = "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w"
    for _ in range(2):
        barque.docker("run", "-d", "--name", "web", "-p", "80", "busybox", "sh", "-c", script)
        try:
            address = barque.docker("port", "web", "80").stdout.decode().split()[0]
            port = address.rpartition(":")[2]
            curl = ["curl", "-s", "--retry", "5", "--retry-connrefused", "--retry-delay", "1"]
            done = subprocess.run(
                [*curl, f"http://127.0.0.1:{port}/"], capture_output=True, check=True
            )
            assert done.stdout == b"page\n"
        finally:
            barque.docker("rm", "-f", "web")
