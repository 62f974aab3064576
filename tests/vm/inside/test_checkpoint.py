"""checkpoint and restore through criu: ours and runc, and each with the images of the other."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import RUNTIMES, Runtime, wait_for

pytestmark = [
    *(pytest.mark.root, pytest.mark.peer),
    pytest.mark.runtimes("warm", "runc"),
]
LISTENED = "until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0063 '; do sleep 0.1; done"
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done"
SENT = f"sleep 100000 | nc -l -p 99 & {LISTENED}; {{ {COUNT}; }} | nc 127.0.0.1 99"


class Pipe:
    """Standard output of a container, read as it comes: criu takes pipes, not files outside."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.null = os.open("/dev/null", os.O_RDWR)
        self.text = ""

    def read(self) -> str:
        try:
            self.text += os.read(self.reader, 65536).decode()
        except BlockingIOError:
            pass
        return self.text

    def close(self) -> None:
        for fd in (self.reader, self.writer, self.null):
            os.close(fd)


def call(case: Case, pipe: Pipe, *arguments: str, runtime: Runtime | None = None) -> None:
    runtime = runtime or case.runtime
    fds = [pipe.null, pipe.writer, pipe.writer]
    assert runtime.execute(arguments, str(case.bundle), fds) == 0, (arguments, pipe.read())


def counting(case: Case, script: str = COUNT) -> Pipe:
    pipe = Pipe()
    spec = case.configure("sh", "-c", script)
    for kind in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][kind].append("CAP_NET_ADMIN")
    spec["linux"]["resources"]["pids"] = {"limit": 77}
    case.write(spec)
    call(case, pipe, "create", "--bundle", str(case.bundle), case.id)
    call(case, pipe, "start", case.id)
    wait_for(lambda: len(pipe.read().split()) > 3)
    return pipe


def numbers_of(pipe: Pipe) -> list[int]:
    text = pipe.read()
    return [int(word) for word in text[: text.rfind("\n") + 1].split()]


def images(case: Case) -> str:
    return str(case.place / "images")


def restored(
    case: Case, pipe: Pipe, runtime: Runtime | None = None, flags: tuple[str, ...] = ()
) -> None:
    before = numbers_of(pipe)[-1]
    paths = ("--image-path", images(case), "--work-path", str(case.place / "work"))
    where = ("--bundle", str(case.bundle), case.id)
    call(case, pipe, "restore", "--detach", *paths, *flags, *where, runtime=runtime)
    wait_for(lambda: numbers_of(pipe)[-1] > before + 2)
    counted = numbers_of(pipe)
    assert counted == list(range(1, len(counted) + 1))


def test_a_container_goes_on_where_it_was(case: Case) -> None:
    pipe = counting(case)
    work = str(case.place / "work")
    case.call("checkpoint", "--image-path", images(case), "--work-path", work, case.id).check()
    assert case.call("state", case.id).code == 1
    assert not Path("/sys/fs/cgroup", case.id).exists()
    assert Path(images(case), "descriptors.json").exists()
    assert Path(work, "dump.log").exists()
    restored(case, pipe)
    assert case.runtime.status(case.id) == "running"
    assert Path("/sys/fs/cgroup", case.id, "pids.max").read_text() == "77\n"
    assert case.call("exec", case.id, "echo", "inside").check().out == "inside\n"
    case.call("kill", case.id, "KILL").check()
    case.runtime.wait_stopped(case.id)
    case.call("delete", case.id).check()
    pipe.close()


@pytest.mark.runtimes("warm")  # Debian's runc fails to restore it
def test_an_established_connection(case: Case) -> None:
    """Its two ends are in the container, and what is counted goes from one to the other."""
    pipe = counting(case, f"ifconfig lo up; {SENT}")
    refused = case.call("checkpoint", "--image-path", images(case), case.id)
    assert refused.code == 1
    assert case.runtime.status(case.id) == "running"
    flags = ("--tcp-established", "--image-path", images(case))
    case.call("checkpoint", *flags, case.id).check()
    restored(case, pipe, flags=("--tcp-established",))
    pipe.close()


def test_leave_running(case: Case) -> None:
    pipe = counting(case)
    pid = case.runtime.pid(case.id)
    case.call("checkpoint", "--leave-running", "--image-path", images(case), case.id).check()
    assert (case.runtime.pid(case.id), case.runtime.status(case.id)) == (pid, "running")
    before = numbers_of(pipe)[-1]
    wait_for(lambda: numbers_of(pipe)[-1] > before)
    pipe.close()


def test_pre_dump_and_parent(case: Case) -> None:
    pipe = counting(case)
    parent = str(case.place / "parent")
    result = case.call("checkpoint", "--pre-dump", "--image-path", parent, case.id)
    if "MemTrack" in result.err:
        pytest.skip("this kernel does not track memory")
    assert result.code == 0, result
    assert case.runtime.status(case.id) == "running"
    flags = ("--parent-path", "../parent", "--image-path", images(case))
    case.call("checkpoint", *flags, case.id).check()
    restored(case, pipe)
    pipe.close()


@pytest.mark.runtimes("warm")
@pytest.mark.parametrize("direction", ["from runc", "to runc"])
def test_images_are_exchangeable_with_runc(case: Case, direction: str) -> None:
    runc = RUNTIMES["runc"](case.place / "runc")
    ours = case.runtime
    maker, taker = (runc, ours) if direction == "from runc" else (ours, runc)
    case.runtime = maker
    pipe = counting(case)
    case.call("checkpoint", "--image-path", images(case), case.id).check()
    restored(case, pipe, taker)
    taker.call("delete", "--force", case.id).check()
    case.runtime = ours
    pipe.close()


@pytest.mark.runtimes("warm")
def test_a_failure_is_one_line_with_the_log(case: Case) -> None:
    """Standard streams that are files of the host cannot be saved."""
    case.started("sleep", "1000")
    result = case.call("checkpoint", "--image-path", images(case), case.id)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "criu failed: type DUMP" in result.err
    assert "dump.log" in result.err
    assert case.runtime.status(case.id) == "running"
    (case.place / "empty").mkdir()
    wrong = case.call(
        *("restore", "--image-path", str(case.place / "empty"), "--bundle", str(case.bundle)),
        f"{case.id}-two",
    )
    assert wrong.code == 1
    assert "descriptors.json" in wrong.err
    assert case.call("state", f"{case.id}-two").code == 1


@pytest.mark.runtimes("warm")
def test_the_kernel_and_criu_fit(case: Case) -> None:
    checked = subprocess.run(["criu", "check"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    created = case.create("true").check()
    assert created.code == 0
    refused = case.call("checkpoint", "--image-path", images(case), case.id)
    assert refused.code == 1
    assert "cannot be checkpointed in created state" in refused.err
