"""Our shim under Debian's containerd, driven by `ctr`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from barque.linux.process import parent_of
from tests.support.containerd_peer import RUN, ContainerdPeer, containerd_peer
from tests.support.shim import eventually

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def peer() -> Iterator[ContainerdPeer]:
    with containerd_peer() as peer:
        yield peer


def run(peer: ContainerdPeer, *words: str) -> list[str]:
    return ["run", "--rm", *RUN, "--rootfs", peer.rootfs, *words]


def shims(peer: ContainerdPeer) -> list[int]:
    """The shims whose bundles are this containerd's. A shim's worker is its child."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd").startswith(f"{peer.root}/state"):
                found.append(int(name))
        except OSError:
            continue
    return [pid for pid in found if parent_of(pid) not in found]


def test_run_with_output_and_exit_status(peer: ContainerdPeer) -> None:
    done = peer.ctr(*run(peer, "one", "sh", "-c", "echo out; echo err >&2; exit 7"), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert peer.status("one") == ""
    eventually(lambda: not shims(peer), "the shim ends")


def test_it_is_killed_for_memory_before_containerd(peer: ContainerdPeer) -> None:
    peer.run_detached("scored", "sleep", "1000")
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in shims(peer)]
    peer.ctr("task", "rm", "--force", "scored")
    peer.ctr("container", "rm", "scored")
    assert scores == [int(Path(f"/proc/{peer.process.pid}/oom_score_adj").read_text()) + 1]


def test_run_with_input(peer: ContainerdPeer) -> None:
    done = peer.ctr(*run(peer, "two", "sh", "-c", "read a; echo got $a"), text="word\n")
    assert done.stdout == "got word\n"


def test_a_missing_program(peer: ContainerdPeer) -> None:
    done = peer.ctr(*run(peer, "three", "/no/such"), check=False)
    assert done.returncode != 0
    assert "OCI runtime create failed" in done.stderr
    assert "no such file or directory" in done.stderr
    eventually(lambda: not shims(peer), "the shim ends")


def test_exec_kill_and_events(peer: ContainerdPeer) -> None:
    peer.run_detached("four", "sleep", "1000")
    assert peer.status("four") == "RUNNING"
    done = peer.ctr(
        "task", "exec", "--exec-id", "e1", "four", "sh", "-c", "echo in; exit 3", check=False
    )
    assert (done.returncode, done.stdout) == (3, "in\n")
    assert "sleep" in peer.ctr("task", "exec", "--exec-id", "e2", "four", "ps").stdout
    assert re.search(r"^\d+ ", peer.ctr("task", "ps", "four").stdout, re.MULTILINE)
    metrics = peer.ctr("task", "metrics", "four").stdout
    assert "memory.usage_in_bytes" in metrics or "memory.usage" in metrics
    peer.ctr("task", "pause", "four")
    assert peer.status("four") == "PAUSED"
    peer.ctr("task", "resume", "four")
    assert peer.status("four") == "RUNNING"
    peer.ctr("task", "kill", "--signal", "SIGKILL", "four")
    for _ in range(200):
        if peer.status("four") == "STOPPED":
            break
        time.sleep(0.02)
    assert peer.status("four") == "STOPPED"
    assert "non-zero exit code 137" in peer.ctr("task", "rm", "four").stderr
    peer.ctr("container", "rm", "four")


def test_a_terminal(peer: ContainerdPeer) -> None:
    words = ["run", "--rm", "-t", *RUN, "--rootfs", peer.rootfs, "five", "sh"]
    child = pexpect.spawn("ctr", ["-a", peer.address, *words], timeout=20, dimensions=(33, 101))
    child.expect("# ")
    child.sendline("tty; stty size")
    child.expect(r"/dev/pts/0\r+\n33 101\r+\n")  # ctr leaves its own terminal half cooked
    child.setwinsize(44, 99)
    child.expect("# ")
    time.sleep(0.3)
    child.sendline("stty size")
    child.expect(r"44 99\r+\n")
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5


def test_a_killed_containerd_finds_its_tasks_and_their_exits_again(peer: ContainerdPeer) -> None:
    peer.run_detached("stays", "sleep", "1000")
    peer.run_detached("ends", "sh", "-c", "sleep 0.5; exit 42")
    peer.kill()
    time.sleep(1.0)
    peer.start()
    assert peer.status("stays") == "RUNNING"
    assert peer.status("ends") == "STOPPED"
    assert "non-zero exit code 42" in peer.ctr("task", "rm", "ends").stderr
    peer.ctr("task", "exec", "--exec-id", "e", "stays", "true")
    peer.ctr("task", "rm", "-f", "stays")
    peer.ctr("container", "rm", "ends", "stays")
    eventually(lambda: not shims(peer), "the shim ends")


def test_a_killed_shim_is_cleaned_up_after(peer: ContainerdPeer) -> None:
    peer.run_detached("lost", "sleep", "1000")
    row = next(line for line in peer.ctr("task", "ls").stdout.splitlines() if "lost" in line)
    pid = int(row.split()[1])
    (shim,) = (shim for shim in shims(peer) if shim != pid)
    os.kill(shim, 9)
    for _ in range(400):
        if not Path(f"/proc/{pid}").exists() and not peer.status("lost"):
            break
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert peer.status("lost") == ""
    peer.ctr("container", "rm", "lost")


def test_members_of_a_group_share_a_shim(peer: ContainerdPeer) -> None:
    mark = ["--annotation", "io.containerd.runc.v2.group=pod"]
    for name in ("g1", "g2"):
        peer.ctr("run", "--detach", *mark, *RUN, "--rootfs", peer.rootfs, name, "sleep", "1000")
    assert len(shims(peer)) == 1
    peer.ctr("task", "rm", "--force", "g1", check=False)
    done = peer.ctr("task", "exec", "--exec-id", "e", "g2", "sh", "-c", "exit 3", check=False)
    assert done.returncode == 3
    peer.ctr("task", "rm", "--force", "g2", check=False)
    for name in ("g1", "g2"):
        peer.ctr("container", "rm", name)
    eventually(lambda: not shims(peer), "the shim ends")
