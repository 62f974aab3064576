"""What must not be lost or left: dead shims, dead containerds, bad requests to the zygote."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from barque import errors, program
from barque.shim import messages, wire
from tests.support import rootfs
from tests.support.shim import (
    NAME,
    NAMESPACE,
    Client,
    EventTaker,
    Shim,
    Shims,
    children,
    eventually,
)

pytestmark = pytest.mark.root


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_delete_cleans_up_after_a_killed_shim(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "1000"))
    root = it.root / "lower"
    os.rename(shim.bundle / "rootfs", root)
    (shim.bundle / "rootfs").mkdir()
    bind = {"type": "bind", "source": str(root), "options": ["rbind", "rw"]}
    pid = shim.create(rootfs=[bind])
    shim.call("Start")
    os.kill(shim.pid, signal.SIGKILL)
    eventually(lambda: gone(shim.pid), "the shim is dead")
    assert not gone(pid)
    answer = it.invoke(shim.bundle, "one", "delete")
    assert answer["code"] == 0, answer
    response = wire.decode(messages.DELETE_RESPONSE, answer["stdout"].encode("latin-1"))
    assert (response["pid"], response["exit_status"]) == (pid, 137)
    assert response["exited_at"]["seconds"] > 0
    eventually(lambda: gone(pid), "the container's process is dead")
    assert not os.listdir(it.root / "s")
    assert it.invoke(shim.bundle, "one", "delete")["code"] == 0  # twice is fine
    it.started.remove(shim)
    if it.runtime != "crun":
        assert not rootfs.mounts_below(it.root)


def test_delete_before_create(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("true"))
    os.kill(shim.pid, signal.SIGKILL)
    answer = ours.invoke(shim.bundle, "one", "delete")
    assert answer["code"] == 0, answer
    ours.started.remove(shim)


def test_events_wait_for_a_containerd_that_is_away(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sh", "-c", "exit 9"))
    shim.create()
    ours.events.wait("/tasks/create")
    ours.events.close()
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 9
    taker = ours.events = EventTaker(ours.events.path)
    Client(shim.address).close()  # as a containerd that comes back does
    taker.wait("/tasks/exit", exit_status=9)
    # One whose answer was on its way when containerd went is told again; none is left out.
    assert taker.topics()[-2:] == ["start", "exit"]
    shim.end()
    taker.wait("/tasks/delete")


def test_the_shim_survives_its_zygote_and_its_clients(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sh", "-c", "read x; exit 4"))
    shim.create(stdout=f"barque://{ours.root}/io?stdin=1&stdin-once=1")
    shim.call("Start")
    ours.zygote.kill()
    ours.zygote.wait()
    shim.client.close()
    ours.zygote = ours._zygote()
    shim.client = Client(shim.address)
    assert shim.call("State")["status"] == messages.RUNNING
    assert shim.call("Connect")["shim_pid"] == shim.pid
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{ours.root}/io")
        client.sendall(b'{"stdin": true}\n\n')
    assert shim.call("Wait")["exit_status"] == 4
    again = Client(shim.address)
    assert again.call("Wait", id="one")["exit_status"] == 4  # kept for whoever asks
    again.close()
    shim.end()


def test_the_zygote_refuses_bad_requests_and_goes_on(ours: Shims) -> None:
    bad: list[bytes] = [
        b"x",
        b"[]",
        b"{}",
        b'{"argv": 1, "env": {}, "cwd": "/"}',
        b'{"argv": [1], "env": {}, "cwd": "/"}',
        b'{"argv": ["-x"], "env": {}, "cwd": "/"}',
        b'{"argv": ["start"], "env": {}, "cwd": "/"}',
        b'{"argv": ["-namespace", "n", "-id", "../x", "start"], "env": {}, "cwd": "/"}',
        b'{"argv": ["-namespace", "n", "-id", "x", "start"], "env": {}, "cwd": "/no/such"}',
        b'{"argv": ["zygote", "/x"], "env": {}, "cwd": "/"}',
        b'{"argv": [], "env": {"a\\u0000": "b"}, "cwd": "/"}',
        b"[" * 100_000,
    ]
    for packet in bad:
        answer = ours.request(packet)
        assert answer["code"] == 1, packet
        assert answer["stderr"].startswith(f"{NAME}: ")
    mute = []
    for _ in range(300):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(ours.zygote_path)
        mute.append(connection)
    assert ours.request(b"x")["code"] == 1
    for connection in mute:
        connection.close()
    assert ours.start("one", rootfs.config("true")).pid > 0
    (forker,) = children(ours.zygote.pid)
    mine = ours.started[0].pid  # and the spare one's
    eventually(lambda: len(left := children(forker)) == 2 and mine in left, "a zombie")


def test_the_zygote_runs_from_a_sealed_copy_and_so_do_its_shims(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("true"))
    for pid in (ours.zygote.pid, shim.pid):
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    environment = Path(f"/proc/{ours.zygote.pid}/environ").read_bytes()
    assert b"TTRPC_ADDRESS" not in environment


def test_requests_at_once(ours: Shims) -> None:
    started: list[str] = []

    def start(number: int) -> None:
        bundle = rootfs.write_bundle(ours.root / f"b{number}", rootfs.config("true"))
        started.append(ours.invoke(bundle, f"b{number}", "start")["stdout"])

    threads = [threading.Thread(target=start, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(started)) == 8
    for address in started:
        client = Client(address)
        client.call("Shutdown", id="x")
        client.close()
    eventually(lambda: not os.listdir(ours.root / "s"), "all shims have gone")


def test_a_shim_that_nobody_waits_for_leaves(ours: Shims) -> None:
    kept = ours.start("kept", rootfs.config("true"))
    before = sorted(os.listdir(ours.root / "s"))
    (forker,) = children(ours.zygote.pid)
    for number in range(4):
        bundle = rootfs.write_bundle(ours.root / f"b{number}", rootfs.config("true"))
        argv = ["-namespace", NAMESPACE, "-id", f"b{number}", "-address", ours.address, "start"]
        request = {"argv": argv, "env": {"TTRPC_ADDRESS": f"{ours.address}.ttrpc"}}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(ours.zygote_path)
            connection.shutdown(socket.SHUT_RD)  # gone, before there can be an answer
            connection.send(json.dumps({**request, "cwd": str(bundle)}).encode())
    eventually(lambda: len(children(forker)) <= 2, "they have left")  # kept's, and a spare one
    eventually(lambda: sorted(os.listdir(ours.root / "s")) == before, "nothing of them is left")
    kept.shutdown()


def test_bad_calls_are_answered_and_the_shim_goes_on(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sleep", "100"))
    for method, values in (
        ("State", {}),
        ("Start", {}),
        ("Delete", {}),
        ("Kill", {"signal": 9}),
        ("Wait", {}),
        ("Pids", {}),
    ):
        with pytest.raises(errors.NotFound, match="container not created"):
            shim.call(method, **values)
    with pytest.raises(errors.Unsupported):
        shim.call("Create", bundle="/x", checkpoint="/y", parent_checkpoint="/z")
    shim.create()
    with pytest.raises(errors.AlreadyExists):
        shim.create()
    with pytest.raises(errors.InvalidArgument):
        shim.call("Kill", signal=99)
    with pytest.raises(errors.InvalidArgument):
        shim.call("Kill")
    shim.call("Start")
    with pytest.raises(errors.Conflict, match="cannot start a running process"):
        shim.call("Start")
    with pytest.raises(errors.Conflict, match="cannot delete a running process"):
        shim.call("Delete")
    with pytest.raises(errors.InvalidArgument, match="task options of type other"):
        shim.call("Checkpoint", path="/x", options={"type_url": "x/other", "value": b""})
    shim.call("Shutdown")  # not while there is a container
    with socket.socket(socket.AF_UNIX) as broken:
        broken.connect(shim.address.removeprefix("unix://"))
        broken.sendall(b"\xff" * 100)
        assert broken.recv(10) == b""
    with socket.socket(socket.AF_UNIX) as malformed:
        malformed.connect(shim.address.removeprefix("unix://"))
        malformed.sendall(b"\0\0\0\2\0\0\0\1\1\0\xff\xff")
        assert malformed.recv(4096)
    shim.call("Kill", signal=9)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()


def limit_descriptors(shim: Shim, soft: int) -> None:
    """Of the keeper and of its worker, which may leave meanwhile."""
    for pid in (shim.pid, *children(shim.pid)):
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, 1024))


def answers(shim: Shim) -> bool:
    """Whether a client that comes now is answered, and not sent away."""
    client = Client(shim.address)
    try:
        return bool(client.call("State", id=shim.id)["status"] == messages.RUNNING)
    except ConnectionError:
        return False
    finally:
        client.close()


def test_out_of_descriptors_the_shim_sheds_connections_and_recovers(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    limit_descriptors(shim, 24)
    clients = []
    for _ in range(40):
        client = socket.socket(socket.AF_UNIX)
        client.connect(shim.address.removeprefix("unix://"))
        clients.append(client)
    assert shim.call("State")["status"] == messages.RUNNING
    for client in clients:
        client.close()
    limit_descriptors(shim, 1024)
    eventually(lambda: answers(shim), "who comes is answered")
    shim.call("Kill", signal=9)
    assert shim.call("Wait")["exit_status"] == 137
    shim.end()


def test_the_binary_itself_starts_and_deletes(ours: Shims) -> None:
    config = rootfs.config("sh", "-c", "exit 6")
    config["linux"]["cgroupsPath"] = f"/{ours.root.name}/direct"
    bundle = rootfs.write_bundle(ours.root / "direct", config)
    flags = ["-namespace", NAMESPACE, "-id", "direct", "-address", ours.address]

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            program.command(NAME, *flags, *words),
            cwd=bundle,
            input=b"",
            capture_output=True,
            timeout=20,
            check=False,
            env={**os.environ, "TTRPC_ADDRESS": f"{ours.address}.ttrpc"},
        )

    started = run("start")
    assert started.returncode == 0, started.stderr
    address = started.stdout.decode()
    assert (bundle / "address").read_text() == address
    client = Client(address)
    client.call("Create", id="direct", bundle=str(bundle))
    client.call("Start", id="direct")
    assert client.call("Wait", id="direct")["exit_status"] == 6
    client.call("Delete", id="direct")
    client.call("Shutdown", id="direct")
    client.close()
    deleted = run("delete")
    assert deleted.returncode == 0, deleted.stderr
    assert wire.decode(messages.DELETE_RESPONSE, deleted.stdout)["exit_status"] == 137
    assert run("-nonsense", "start").returncode == 1
    assert b"not defined: -nonsense" in run("-nonsense", "start").stderr
    assert json.dumps(run("-v").stdout.decode())


def test_a_polite_signal_does_not_end_the_shim_and_reaches_programs_as_ever(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    os.kill(shim.pid, signal.SIGTERM)
    os.kill(shim.pid, signal.SIGINT)
    assert shim.call("State")["status"] == messages.RUNNING
    status = Path(f"/proc/{shim.call('State')['pid']}/status").read_text()
    ignored = int(
        next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16
    )
    assert ignored == 0  # a program starts with nothing ignored
    shim.call("Kill", signal=signal.SIGKILL)
    shim.call("Wait")
    shim.end()


def test_a_runtime_that_sends_no_terminal_fails_create_and_nothing_is_left(ours: Shims) -> None:
    config = rootfs.config("sleep", "100")  # not terminal, but the task is told to be
    shim = ours.start("one", config)
    with pytest.raises(errors.BarqueError):
        shim.create(terminal=True)
    shim.shutdown()


def test_a_process_that_dies_before_its_start_is_told_once(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sleep", "100"))
    pid = shim.create()
    os.kill(pid, signal.SIGKILL)
    assert shim.call("Wait")["exit_status"] == 137
    with pytest.raises(errors.Conflict, match="cannot start a stopped process"):
        shim.call("Start")
    shim.end()
    assert ours.events.topics() == ["create", "exit", "delete"]


def test_an_exec_is_started_once(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("sleep", "100"))
    shim.create()
    shim.call("Start")
    shim.exec("ex", "true")
    shim.call("Start", exec_id="ex")
    shim.call("Wait", exec_id="ex")
    with pytest.raises(errors.Conflict, match="cannot start a stopped process"):
        shim.call("Start", exec_id="ex")
    shim.call("Delete", exec_id="ex")
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()
    assert ours.events.topics().count("exit") == 2
