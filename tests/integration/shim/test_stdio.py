"""Standard streams: fifos, files, logging programs, the stdio socket and its clients."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from barque import errors
from tests.support import rootfs
from tests.support.shim import Attached, Shim, Shims, eventually

pytestmark = pytest.mark.root

LARGE = 8 << 20


def running(it: Shims, *args: str, query: str = "") -> Shim:
    """A started container whose streams are at `io`."""
    shim = it.start("one", rootfs.config(*args))
    shim.create(stdout=f"barque://{it.root}/io?{query}")
    shim.call("Start")
    return shim


def finish(shim: Shim) -> None:
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()


def test_fifos_as_containerd_gives_them(it: Shims) -> None:
    names = {name: str(it.root / name) for name in ("stdin", "stdout", "stderr")}
    for name in names.values():
        os.mkfifo(name)
    shim = it.start("one", rootfs.config("sh", "-c", "cat; echo end >&2"))
    shim.create(**names)
    shim.call("Start")
    said: dict[str, bytes] = {}
    readers = [
        threading.Thread(
            target=lambda name=name: said.update({name: Path(names[name]).read_bytes()})
        )
        for name in ("stdout", "stderr")
    ]
    for reader in readers:
        reader.start()
    Path(names["stdin"]).write_bytes(b"x" * 300_000)
    for reader in readers:
        reader.join(20)
    assert said == {"stdout": b"x" * 300_000, "stderr": b"end\n"}
    assert shim.call("Wait")["exit_status"] == 0
    shim.end()


def test_nobody_holds_the_fifos_of_an_exec_that_is_not_started(ours: Shims) -> None:
    """Its client may lose containerd between the two calls: it reads them to their end then."""
    stdout = str(ours.root / "stdout")
    os.mkfifo(stdout)
    shim = running(ours, "sleep", "1000")
    shim.exec("ex", "echo", "here", stdout=stdout)
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 100) == b""  # BlockingIOError: somebody may write yet
    shim.call("Start", exec_id="ex")
    os.set_blocking(reader, True)
    assert os.read(reader, 100) == b"here\n"
    assert os.read(reader, 100) == b""
    os.close(reader)
    assert shim.call("Wait", exec_id="ex")["exit_status"] == 0
    shim.call("Delete", exec_id="ex")
    finish(shim)


def test_an_exec_whose_addresses_are_bad_fails_at_its_start(ours: Shims) -> None:
    shim = running(ours, "sleep", "1000")
    path = ours.root / "late"
    shim.exec("ex", "echo", "here", stdout=str(path))
    with pytest.raises(errors.BarqueError, match="stdio cannot be opened"):
        shim.call("Start", exec_id="ex")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    shim.call("Start", exec_id="ex")
    assert shim.call("Wait", exec_id="ex")["exit_status"] == 0
    assert os.read(reader, 100) == b"here\n"
    assert os.read(reader, 100) == b""
    os.close(reader)
    shim.call("Delete", exec_id="ex")
    finish(shim)


def test_an_exec_is_started_again_after_it_failed(ours: Shims) -> None:
    shim = running(ours, "sleep", "1000")
    stdout = str(ours.root / "stdout")
    os.mkfifo(stdout)
    shim.exec("ex", "/made/later", stdout=stdout)
    for _ in range(2):
        with pytest.raises(errors.BarqueError, match="no such file or directory"):
            shim.call("Start", exec_id="ex")
    shim.call("Delete", exec_id="ex")
    finish(shim)


def test_close_io_ends_stdin(it: Shims) -> None:
    stdin, stdout = str(it.root / "stdin"), str(it.root / "stdout")
    os.mkfifo(stdin)
    os.mkfifo(stdout)
    shim = it.start("one", rootfs.config("cat"))
    shim.create(stdin=stdin, stdout=stdout)
    shim.call("Start")
    holder = os.open(stdin, os.O_RDWR)
    os.write(holder, b"text")
    reader = os.open(stdout, os.O_RDONLY)
    assert os.read(reader, 100) == b"text"
    shim.call("CloseIO", stdin=True)
    assert shim.call("Wait")["exit_status"] == 0
    assert os.read(reader, 100) == b""
    os.close(holder)
    os.close(reader)
    shim.end()


def test_a_file_address_gets_both_streams(ours: Shims) -> None:
    path = ours.root / "deep" / "er" / "out"
    shim = ours.start("one", rootfs.config("sh", "-c", "echo out; echo err >&2"))
    shim.create(stdout=f"file://{path}")
    assert shim.run_to_end() == 0
    assert sorted(path.read_text().splitlines()) == ["err", "out"]


def test_a_logging_program(ours: Shims) -> None:
    program = ours.root / "logger"
    program.write_text(
        "#!/bin/sh\nexec 5>&-\n"
        'echo "$CONTAINER_NAMESPACE/$CONTAINER_ID $*" >"$2"\ncat <&3 >>"$2"\ncat <&4 >>"$2"\n'
        'echo end >>"$2"\n'
    )
    program.chmod(0o755)
    shim = ours.start("one", rootfs.config("sh", "-c", "echo out; echo err >&2"))
    shim.create(stdout=f"binary://{program}?to={ours.root}/got%20it")
    assert shim.run_to_end() == 0
    got = ours.root / "got it"
    eventually(lambda: got.read_text().endswith("end\n"), "the program has ended")
    assert got.read_text() == f"test/one to {got}\nout\nerr\nend\n"


def test_a_logging_program_that_fails_fails_create(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("true"))
    with pytest.raises(errors.BarqueError, match="logging program /no/program cannot be started: "):
        shim.create(stdout="binary:///no/program")
    shim.shutdown()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("relative", errors.InvalidArgument),
        ("ftp:///x", errors.Unsupported),
        ("barque:///x?log=syslog", errors.InvalidArgument),
        ("barque:///x?log=json-file", errors.InvalidArgument),
        ("barque:///x?unknown=1", errors.InvalidArgument),
        ("barque:///x?log=json-file&path=/x&max-size=-1", errors.InvalidArgument),
        ("barque:///x?labels=%5B1%5D", errors.InvalidArgument),
        ("barque:///no/such/directory/io", errors.BarqueError),
        ("/no/such/fifo", errors.BarqueError),
    ],
)
def test_bad_addresses_fail_create_and_leave_nothing(
    ours: Shims, address: str, kind: type[errors.BarqueError]
) -> None:
    shim = ours.start("one", rootfs.config("true"))
    shim.call("Connect")  # it is up
    before = set(os.listdir(f"/proc/{shim.pid}/fd"))
    with pytest.raises(kind):
        shim.create(stdout=address)
    # a worker that comes or goes has some of its own for a moment
    eventually(lambda: set(os.listdir(f"/proc/{shim.pid}/fd")) <= before, "descriptors are left")
    shim.shutdown()


def test_several_clients_see_the_same_and_late_ones_what_comes_later(ours: Shims) -> None:
    script = "read a; echo $a; read a; echo $a; read a"
    shim = running(ours, "sh", "-c", script, query="stdin=1")
    path = f"{ours.root}/io"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    first = Attached(path, stdin=True, stdout=True)
    first.socket.sendall(b"one\n")
    first.read_until(b"one\n")
    second = Attached(path, stdin=True, stdout=True)
    second.socket.sendall(b"two\n")
    second.read_until(b"two\n")
    first.read_until(b"two\n")
    second.socket.shutdown(1)  # its own half only: without stdin-once the process's stays open
    first.socket.sendall(b"end\n")
    assert first.streams() == (b"", b"")
    assert second.streams() == (b"", b"")
    assert shim.call("Wait")["exit_status"] == 0
    late = Attached(path, stdout=True)
    assert late.read_raw() == b""
    shim.end()
    assert not os.path.exists(path)


def test_stdin_once_ends_with_the_first_writer_that_goes(ours: Shims) -> None:
    shim = running(ours, "cat", query="stdin=1&stdin-once=1")
    path = f"{ours.root}/io"
    reader = Attached(path, stdout=True)
    writer = Attached(path, stdin=True)
    writer.socket.sendall(b"text")
    writer.close()
    assert reader.streams() == (b"text", b"")
    assert shim.call("Wait")["exit_status"] == 0
    shim.end()


def test_without_stdin_the_process_reads_nothing(ours: Shims) -> None:
    shim = running(ours, "cat")
    assert shim.call("Wait")["exit_status"] == 0
    shim.end()


def test_a_slow_client_holds_the_process_back_and_gets_everything(ours: Shims) -> None:
    script = f"head -c {LARGE} /dev/zero; echo done >&2"
    shim = ours.start("one", rootfs.config("sh", "-c", script))
    shim.create(stdout=f"barque://{ours.root}/io")
    slow = Attached(f"{ours.root}/io", stdout=True, stderr=True)
    shim.call("Start")
    waiting = shim.client.send("Wait", id="one")
    rss = Path(f"/proc/{shim.pid}/statm")
    before = int(rss.read_text().split()[1])
    threading.Event().wait(0.3)
    assert shim.call("State")["status"] == 2  # held back, still running
    assert (int(rss.read_text().split()[1]) - before) * 4096 < 4 << 20
    out, err = slow.streams()
    assert out == bytes(LARGE)
    assert err == b"done\n"
    assert shim.client.answer(waiting, "Wait")["exit_status"] == 0
    shim.end()


def test_a_lossy_client_is_dropped_and_holds_nobody_back(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("head", "-c", str(LARGE), "/dev/zero"))
    shim.create(stdout=f"barque://{ours.root}/io")
    lossy = Attached(f"{ours.root}/io", stdout=True, stderr=True, lossy=True)
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 0
    out, err = lossy.streams()
    assert 0 < len(out) < LARGE
    assert b"output is lost" in err
    shim.end()


def test_output_queued_for_a_slow_client_outlives_the_task(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("head", "-c", "200000", "/dev/zero"))
    shim.create(stdout=f"barque://{ours.root}/io")
    client = Attached(f"{ours.root}/io", stdout=True)
    shim.call("Start")
    shim.call("Wait")
    shim.call("Delete")
    shim.call("Shutdown")
    assert client.streams()[0] == bytes(200_000)
    eventually(lambda: not Path(f"/proc/{shim.pid}").exists(), "the shim has gone")
    ours.started.remove(shim)


def test_much_input_to_a_slow_process(ours: Shims) -> None:
    shim = running(ours, "sh", "-c", "sleep 0.3; wc -c", query="stdin=1&stdin-once=1")
    client = Attached(f"{ours.root}/io", stdin=True, stdout=True)
    reader = Attached(f"{ours.root}/io", stdout=True)  # what comes before it is in the log only
    client.socket.sendall(bytes(LARGE))
    client.close()
    assert reader.streams()[0].strip() == str(LARGE).encode()
    assert shim.call("Wait")["exit_status"] == 0
    shim.end()


def test_hostile_clients_do_no_harm(ours: Shims) -> None:
    import socket

    shim = running(ours, "sh", "-c", "read x; echo fine", query="stdin=1")
    path = f"{ours.root}/io"
    for hello in (b"\n", b"[]\n", b"{}x\n", b'{"stdin": 1}\n', b'{"x": true}\n', b"x" * 5000):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(path)
            client.sendall(hello)
            assert b'"error"' in client.recv(4096)
            assert client.recv(4096) == b""
    mute = [socket.socket(socket.AF_UNIX) for _ in range(300)]
    for client in mute:  # more than are let in
        client.connect(path)
    for client in mute:
        client.close()

    def attach() -> Attached | None:
        try:
            return Attached(path, stdin=True, stdout=True)
        except (OSError, ConnectionError):
            return None

    attached: list[Attached] = []

    def attaches() -> bool:
        client = attach()
        if client is not None:
            attached.append(client)
        return client is not None

    eventually(attaches, "clients are let in again")
    attached[0].socket.sendall(b"\n")
    assert attached[0].streams()[0] == b"fine\n"
    shim.call("Wait")
    shim.end()


def test_a_full_disk_loses_lines_and_notes_it_and_the_container_goes_on(ours: Shims) -> None:
    import subprocess

    disk = ours.root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        script = "read x; for i in $(seq 0 1999); do echo line $i; done; read x; echo after"
        query = f"stdin=1&log=json-file&path={disk}/log"
        shim = running(ours, "sh", "-c", script, query=query)
        client = Attached(f"{ours.root}/io", stdin=True, stdout=True)
        log = disk / "log"
        client.socket.sendall(b"\n")
        client.read_until(b"line 1999\n")  # all of it has come, and not all has found room
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        eventually(lambda: len(Path(shim.bundle, "log").read_text()) > 0, "the loss is logged")
        client.socket.sendall(b"\n")
        shim.call("Wait")
        lines = log.read_text().splitlines()
        assert '"log":"after\\n"' in lines[-1]
        assert "lines of this log are lost" in lines[-2]
        assert all(line.startswith('{"log":"') and line.endswith('Z"}') for line in lines)
        shim.end()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_log_rotates(ours: Shims) -> None:
    script = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"
    query = f"log=json-file&path={ours.root}/log&max-size=2000&max-file=3"
    shim = running(ours, "sh", "-c", script, query=query)
    shim.call("Wait")
    shim.end()
    names = ["log.2", "log.1", "log"]
    assert sorted(name for name in os.listdir(ours.root) if name.startswith("log")) == sorted(names)
    kept = [line for name in names for line in (ours.root / name).read_text().splitlines()]
    numbers = [int(line.split('"')[3].split()[1].removesuffix("\\n")) for line in kept]
    assert numbers == list(range(100 - len(numbers), 100))
    assert 2000 <= (ours.root / "log.1").stat().st_size < 2200


def test_background_processes_of_an_exec_do_not_hold_its_clients(ours: Shims) -> None:
    shim = running(ours, "sleep", "100")
    shim.exec("ex", "sh", "-c", "sleep 50 & echo now", stdout=f"barque://{ours.root}/x")
    client = Attached(f"{ours.root}/x", stdout=True)
    shim.call("Start", exec_id="ex")
    assert client.streams()[0] == b"now\n"
    shim.call("Wait", exec_id="ex")
    shim.call("Delete", exec_id="ex")
    finish(shim)
