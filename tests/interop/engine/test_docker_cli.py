"""The real docker CLI on our socket: what a user does in the first hour."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack

pytestmark = [pytest.mark.root, pytest.mark.peer]
WAIT_S = 20


@pytest.fixture
def sleeper(barque: Stack) -> Iterator[str]:
    """A running container that ends at once on SIGTERM."""
    name = "sleeper"
    script = "trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done"
    barque.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    yield name
    barque.docker("rm", "-f", name, check=False)


def until(call: object, wanted: object) -> None:
    """Wait for a state that the daemon reaches by itself."""
    assert callable(call)
    deadline = time.monotonic() + WAIT_S
    while call() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert call() == wanted


def inspect(barque: Stack, name: str, template: str) -> str:
    return barque.docker("inspect", "-f", template, name).stdout.decode().strip()


def test_version_and_info(barque: Stack) -> None:
    version = json.loads(barque.docker("version", "--format", "json").stdout)
    assert version["Server"]["Os"] == "linux"
    info = json.loads(barque.docker("info", "--format", "json").stdout)
    assert info["Images"] >= 1
    assert info["Driver"] == "overlay2"


def test_output_and_streams(barque: Stack) -> None:
    done = barque.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_standard_input_and_half_close(barque: Stack) -> None:
    done = barque.docker(
        "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end", stdin=b"abc\n"
    )
    assert done.stdout == b"abc\nend\n"


@pytest.mark.parametrize("size", [10_000_000])
def test_nothing_is_lost_in_a_pipe(barque: Stack, size: int) -> None:
    script = f"dd if=/dev/zero bs=10000 count={size // 10000} 2>/dev/null"
    assert len(barque.docker("run", "--rm", "busybox", "sh", "-c", script).stdout) == size
    back = barque.docker("run", "--rm", "-i", "busybox", "cat", stdin=b"x" * size).stdout
    assert back == b"x" * size


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["busybox", "sh", "-c", "exit 3"], 3, ""),
        (["busybox", "sh", "-c", "sleep 9 & kill -9 $!; wait $!"], 137, ""),
        (["busybox", "nosuch"], 127, r'exec: "nosuch": executable file not found in \$PATH'),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["busybox", "/tmp"], 126, "is a directory|permission denied"),
        (["nosuchimage:x"], 125, "nosuchimage"),
        (["-m", "1k", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
        (["--cpus", "1000", "busybox"], 125, "CPUs"),
        (["--network", "nosuchnet", "busybox"], 125, "network nosuchnet not found"),
        (["--mount", "type=bind,src=/nonexistent,dst=/x", "busybox"], 125, "does not exist"),
        (["-u", "nosuchuser", "busybox"], 125, "unable to find user nosuchuser"),
        (["--cap-add", "NOSUCH", "busybox"], 125, "NOSUCH"),
        (["-w", "relative", "busybox"], 125, "absolute"),
    ],
)
def test_exit_codes_and_words(barque: Stack, arguments: list[str], code: int, said: str) -> None:
    done = barque.docker("run", "--rm", *arguments, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert re.search(said, done.stderr.decode()), done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert barque.docker("ps", "-aq").stdout == b""


def test_a_name_in_use(barque: Stack, sleeper: str) -> None:
    done = barque.docker("run", "--name", sleeper, "busybox", check=False)
    assert done.returncode == 125
    assert f'The container name "/{sleeper}" is already in use by container' in done.stderr.decode()


def test_ps_inspect_rename(barque: Stack, sleeper: str) -> None:
    line = barque.docker("ps", "--format", "{{.Names}} {{.Image}} {{.State}}").stdout.decode()
    assert line == "sleeper busybox running\n"
    barque.docker("rename", sleeper, "other")
    assert inspect(barque, "other", "{{.Name}}") == "/other"
    barque.docker("rename", "other", sleeper)


def test_stop_is_a_term_first(barque: Stack, sleeper: str) -> None:
    until(lambda: barque.docker("logs", sleeper).stdout, b"started\n")
    barque.docker("stop", sleeper)
    assert inspect(barque, sleeper, "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"
    barque.docker("start", sleeper)
    assert inspect(barque, sleeper, "{{.State.Running}}") == "true"


def test_kill_restart_pause(barque: Stack, sleeper: str) -> None:
    barque.docker("pause", sleeper)
    assert inspect(barque, sleeper, "{{.State.Status}}") == "paused"
    barque.docker("unpause", sleeper)
    before = inspect(barque, sleeper, "{{.State.Pid}}")
    barque.docker("restart", "-t", "1", sleeper)
    assert inspect(barque, sleeper, "{{.State.Pid}}") != before
    barque.docker("kill", sleeper)
    until(lambda: inspect(barque, sleeper, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137")


def test_exec(barque: Stack, sleeper: str) -> None:
    done = barque.docker("exec", "-e", "A=b", "-w", "/tmp", sleeper, "sh", "-c", "echo $A; pwd")
    assert done.stdout == b"b\n/tmp\n"
    assert barque.docker("exec", sleeper, "sh", "-c", "exit 7", check=False).returncode == 7
    assert barque.docker("exec", sleeper, "nosuch", check=False).returncode == 127
    refused = barque.docker("exec", "-u", "nosuchuser", sleeper, "true", check=False)
    assert refused.returncode == 126
    piped = barque.docker("exec", "-i", sleeper, "sh", "-c", "cat; echo end", stdin=b"in\n")
    assert piped.stdout == b"in\nend\n"
    assert barque.docker("exec", "-u", "1000:1000", sleeper, "id", "-u").stdout == b"1000\n"


def test_logs(barque: Stack) -> None:
    script = "for i in 1 2 3; do echo line $i; done; echo bad >&2"
    barque.docker("run", "--name", "logged", "busybox", "sh", "-c", script)
    try:
        done = barque.docker("logs", "logged")
        assert (done.stdout, done.stderr) == (b"line 1\nline 2\nline 3\n", b"bad\n")
        tail = barque.docker("logs", "--tail", "1", "logged")
        assert tail.stdout + tail.stderr == b"bad\n"
        stamped = (
            barque.docker("logs", "-t", "--tail", "all", "logged").stdout.decode().splitlines()
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z line 1", stamped[0])
        assert barque.docker("logs", "--since", "1h", "logged").stdout.startswith(b"line 1")
        assert barque.docker("logs", "--until", "2000-01-01T00:00:00Z", "logged").stdout == b""
    finally:
        barque.docker("rm", "logged")


def test_logs_follow_to_the_end(barque: Stack) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"
    barque.docker("run", "-d", "--name", "follow", "busybox", "sh", "-c", script)
    try:
        assert barque.docker("logs", "-f", "follow").stdout == b"1\n2\n3\n4\n5\n"
    finally:
        barque.docker("rm", "-f", "follow")


def test_published_port(barque: Stack) -> None:
    script = "mkdir /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w"
    barque.docker(
        "run", "-d", "--name", "web", "-p", "127.0.0.1:0:80", "busybox", "sh", "-c", script
    )
    try:
        address = barque.docker("port", "web", "80/tcp").stdout.decode().strip()
        assert re.fullmatch(r"127\.0\.0\.1:\d+", address)

        def page() -> bytes:
            return subprocess.run(
                ["curl", "-s", f"http://{address}/"], capture_output=True, check=False
            ).stdout

        until(page, b"page\n")
        taken = barque.docker("run", "--rm", "-p", f"{address}:81", "busybox", "true", check=False)
        assert taken.returncode == 125
        assert "port is already allocated" in taken.stderr.decode()
        direct = inspect(barque, "web", "{{.NetworkSettings.IPAddress}}")
        other = barque.docker("run", "--rm", "busybox", "wget", "-qO-", f"http://{direct}/")
        assert other.stdout == b"page\n"
    finally:
        barque.docker("rm", "-f", "web")


def test_mounts_limits_and_settings(barque: Stack, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    done = barque.docker(
        *("run", "--rm", "-v", f"{tmp_path}:/in:ro", "--tmpfs", "/t:size=1m", "--read-only"),
        *(
            "-h",
            "box",
            "-e",
            "X=y",
            "-w",
            "/in",
            "-m",
            "64m",
            "--pids-limit",
            "20",
            "--cpus",
            "0.5",
        ),
        *("busybox", "sh", "-c"),
        "cat f; hostname; echo $X; pwd; touch /t/ok && ! touch /in/x && ! touch /x && "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    )
    assert done.stdout == b"host\nbox\ny\n/in\n67108864\n"


def test_volumes(barque: Stack) -> None:
    barque.docker("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/f")
    try:
        assert (
            barque.docker("run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/f").stdout
            == b"kept\n"
        )
        assert b"data" in barque.docker("volume", "ls", "-q").stdout
        barque.docker("create", "--name", "holder", "-v", "data:/d", "busybox")
        refused = barque.docker("volume", "rm", "data", check=False)
        assert "volume is in use" in refused.stderr.decode()
    finally:
        barque.docker("rm", "-f", "holder", check=False)
        barque.docker("volume", "rm", "data")


def test_privileged_leaves_out_what_the_daemon_lacks(barque: Stack) -> None:
    done = barque.docker(
        "run", "--rm", "--privileged", "busybox", "grep", "CapEff", "/proc/self/status"
    )
    ours = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    assert ours is not None
    assert done.stdout.split()[1].decode() == ours[1]


def test_default_confinement(barque: Stack) -> None:
    script = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ls /proc/acpi /sys/firmware"
    out = barque.docker("run", "--rm", "busybox", "sh", "-c", script, check=False).stdout.decode()
    assert "00000000a80425fb" in out
    assert re.search(r"Seccomp:\s*2", out)


def test_events(barque: Stack) -> None:
    since = time.time()
    barque.docker("run", "--rm", "--name", "ev", "busybox", "true")
    until(lambda: barque.docker("ps", "-aq").stdout, b"")
    out = barque.docker(
        *("events", "--since", f"{since:.9f}", "--until", f"{time.time() + 0.3:.9f}"),
        *("--filter", "type=container", "--format", "{{.Action}}"),
    ).stdout.decode()
    assert out.split() == ["create", "attach", "start", "die", "destroy"]


def test_wait_and_auto_remove(barque: Stack) -> None:
    made = barque.docker("run", "-d", "--name", "w8", "busybox", "sh", "-c", "sleep 0.3; exit 5")
    assert len(made.stdout.strip()) == 64
    assert barque.docker("wait", "w8").stdout == b"5\n"
    barque.docker("rm", "w8")


def test_many_at_once(barque: Stack) -> None:
    words = [f"m{n}" for n in range(12)]
    argv = ["docker", "-H", barque.host, "run", "--rm"]
    running = [
        subprocess.Popen([*argv, "--name", word, "busybox", "echo", word], stdout=subprocess.PIPE)
        for word in words
    ]
    outs = [process.communicate(timeout=60)[0].decode().strip() for process in running]
    assert outs == words
    until(lambda: barque.docker("ps", "-aq").stdout, b"")
