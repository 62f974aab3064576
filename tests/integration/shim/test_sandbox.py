"""A shim that holds a pod: a sandbox's namespaces, and the containers that join them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from barque.errors import AlreadyExists, InvalidArgument, NotFound, Unsupported
from barque.shim import messages, wire
from tests.support import rootfs
from tests.support.node import alive
from tests.support.shim import Client, Shim, Shims, eventually

pytestmark = pytest.mark.root
POD = "pod"
KINDS = ("net", "ipc", "uts")


def without_program(it: Shims, *kinds: str) -> dict[str, Any]:
    """A spec that says where its processes belong, and names no program."""
    namespaces = [{"type": kind} for kind in kinds or ("pid", "network", "ipc", "uts", "mount")]
    return {
        "hostname": "in-a-pod",
        "linux": {"namespaces": namespaces, "cgroupsPath": f"/{it.root.name}/{POD}"},
    }


def shim_of(it: Shims, spec: dict[str, Any] | None, stdin: bytes = b"") -> Shim:
    bundle = it.root / POD
    bundle.mkdir(mode=0o755)
    if spec is not None:
        (bundle / "config.json").write_text(json.dumps(spec))
    return it.attach(POD, bundle, stdin)


def ask(shim: Shim, method: str, **values: Any) -> dict[str, Any]:
    return shim.client.call(method, sandbox_id=POD, **values)


def create(it: Shims, shim: Shim, **values: Any) -> None:
    values = {"options": it.options(), **values}
    ask(shim, "CreateSandbox", bundle_path=str(shim.bundle), **values)


def started(it: Shims, spec: dict[str, Any] | None = None) -> tuple[Shim, int]:
    """A pod that is there, and the pid of its first process."""
    shim = shim_of(it, spec or without_program(it))
    create(it, shim)
    pid: int = ask(shim, "StartSandbox")["pid"]
    return shim, pid


def end(shim: Shim) -> None:
    shim.shutdown("ShutdownSandbox", sandbox_id=POD)


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def member(it: Shims, shim: Shim, name: str, pod: int, *arguments: str) -> int:
    """A container in the pod: created by the sandbox's own shim. Its pid."""
    spec = rootfs.config(*(arguments or ("sleep", "1000")))
    spec["linux"]["cgroupsPath"] = f"/{it.root.name}/{name}"
    names = {"network": "net", "ipc": "ipc", "uts": "uts"}
    for one in spec["linux"]["namespaces"]:
        if one["type"] in names:
            one["path"] = f"/proc/{pod}/ns/{names[one['type']]}"
    del spec["hostname"]
    bundle = rootfs.write_bundle(it.root / name, spec)
    it.others.append(bundle)
    answer = shim.client.call("Create", id=name, bundle=str(bundle), options=it.options())
    pid: int = answer["pid"]
    return pid


def test_from_create_to_shutdown(it: Shims) -> None:
    shim, pid = started(it)
    assert alive(pid)
    status = ask(shim, "SandboxStatus", verbose=True)
    assert (status["state"], status["pid"]) == ("SANDBOX_READY", pid)
    assert status["created_at"]["seconds"] > 1_700_000_000
    assert status["exited_at"] is None
    assert status["info"]["bundle"] == str(shim.bundle)
    ask(shim, "PingSandbox")
    platform = ask(shim, "Platform")["platform"]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert (platform["os"], platform["architecture"]) == ("linux", machine)
    metrics = ask(shim, "SandboxMetrics")["metrics"]
    assert (metrics["id"], metrics["data"]["type_url"][-7:]) == (POD, "Metrics")
    waiting = shim.client.send("WaitSandbox", sandbox_id=POD)
    ask(shim, "StopSandbox", timeout_secs=20)
    assert shim.client.answer(waiting, "WaitSandbox")["exit_status"] == 137
    assert not alive(pid)
    status = ask(shim, "SandboxStatus")
    assert status["state"] == "SANDBOX_NOTREADY"
    assert status["exited_at"]["seconds"] > 0
    ask(shim, "StopSandbox")
    end(shim)
    assert it.events.told == []  # it is no task


def test_it_has_namespaces_of_its_own_and_the_given_network(ours: Shims) -> None:
    shim = shim_of(ours, without_program(ours))
    create(ours, shim, netns_path=f"/proc/{os.getpid()}/ns/net")
    pid = ask(shim, "StartSandbox")["pid"]
    assert namespace(pid, "net") == namespace(os.getpid(), "net")
    for kind in ("ipc", "uts", "pid", "mnt"):
        assert namespace(pid, kind) != namespace(os.getpid(), kind)
    end(shim)


def test_only_the_namespaces_that_are_asked_for(ours: Shims) -> None:
    shim, pid = started(ours, without_program(ours, "ipc", "mount") | {"hostname": ""})
    assert namespace(pid, "ipc") != namespace(os.getpid(), "ipc")
    for kind in ("net", "uts", "pid"):
        assert namespace(pid, kind) == namespace(os.getpid(), kind)
    end(shim)


def test_its_containers_are_tasks_of_its_shim(ours: Shims) -> None:
    shim, pod = started(ours)
    pids = [member(ours, shim, name, pod) for name in ("web", "side")]
    for name, pid in zip(("web", "side"), pids, strict=True):
        shim.client.call("Start", id=name)
        assert [namespace(pid, kind) for kind in KINDS] == [namespace(pod, kind) for kind in KINDS]
    # one goes by itself, and neither pod nor shim does
    shim.client.call("Kill", id="web", signal=signal.SIGKILL)
    shim.client.call("Wait", id="web")
    shim.client.call("Delete", id="web")
    shim.client.call("Shutdown", id="web")
    assert ask(shim, "SandboxStatus")["state"] == "SANDBOX_READY"
    assert os.readlink(f"/proc/{shim.pid}/cwd") == str(shim.bundle)
    # the other goes with the pod, and is told of once
    end(shim)
    assert not any(map(alive, [pod, *pids]))
    ours.events.wait("/tasks/delete", container_id="side")
    ended = [values for topic, values in ours.events.told if topic == "/tasks/exit"]
    assert [(one["container_id"], one["exit_status"]) for one in ended] == [
        ("web", 137),
        ("side", 137),
    ]


def test_a_paused_container_goes_with_the_pod(ours: Shims) -> None:
    shim, pod = started(ours)
    pid = member(ours, shim, "frozen", pod)
    shim.client.call("Start", id="frozen")
    shim.client.call("Pause", id="frozen")
    end(shim)
    assert not alive(pid)


def test_a_program_of_its_own_with_a_rootfs(ours: Shims) -> None:
    spec = rootfs.config("sh", "-c", "exit 7")
    spec["linux"]["cgroupsPath"] = f"/{ours.root.name}/{POD}"
    rootfs.build(ours.root / "files")
    shim = shim_of(ours, spec)
    root = {"type": "bind", "source": str(ours.root / "files"), "options": ["rbind", "rw"]}
    create(ours, shim, rootfs=[root], annotations={"of": "the request"})
    ask(shim, "StartSandbox")
    assert ask(shim, "WaitSandbox")["exit_status"] == 7
    assert ask(shim, "SandboxStatus")["state"] == "SANDBOX_NOTREADY"
    config = json.loads((shim.bundle / "config.json").read_text())
    assert config["annotations"] == {"of": "the request"}
    end(shim)
    assert not rootfs.mounts_below(shim.bundle)


def test_one_that_does_not_end_is_killed(ours: Shims) -> None:
    spec = rootfs.config("sleep", "1000")  # the first of a pid namespace hears no SIGTERM
    spec["linux"]["cgroupsPath"] = f"/{ours.root.name}/{POD}"
    rootfs.build(ours.root / "files")
    shim = shim_of(ours, spec)
    root = {"type": "bind", "source": str(ours.root / "files"), "options": ["rbind", "rw"]}
    create(ours, shim, rootfs=[root])
    ask(shim, "StartSandbox")
    ask(shim, "StopSandbox", timeout_secs=1)
    assert ask(shim, "WaitSandbox")["exit_status"] == 137
    end(shim)


def test_shut_down_before_it_is_started(ours: Shims) -> None:
    shim = shim_of(ours, without_program(ours))
    create(ours, shim)
    end(shim)


def test_options_come_with_the_start_too(ours: Shims) -> None:
    options = wire.encode(messages.ANY, ours.options())
    shim = shim_of(ours, without_program(ours), options)
    create(ours, shim, options=None)
    ask(shim, "StartSandbox")
    assert (ours.root / "r/test" / POD).is_dir()  # the runtime's root that the options name
    end(shim)


def test_what_cannot_be_is_refused(ours: Shims) -> None:
    shim = shim_of(ours, without_program(ours))
    for method in ("StartSandbox", "SandboxStatus", "PingSandbox", "WaitSandbox", "StopSandbox"):
        with pytest.raises(NotFound, match='sandbox "pod": not found'):
            ask(shim, method)
    with pytest.raises(Unsupported, match="options of type runtime"):
        create(ours, shim, options={"type_url": "runtime.v1.PodSandboxConfig", "value": b"x"})
    with pytest.raises(InvalidArgument, match="names no program of its rootfs"):
        create(ours, shim, rootfs=[{"type": "bind", "source": "/", "options": ["rbind"]}])
    with pytest.raises(InvalidArgument, match="sandbox id"):
        shim.client.call("CreateSandbox", sandbox_id="../x", bundle_path=str(shim.bundle))
    for spec in ("[]", "{", '{"process": 1}'):
        (shim.bundle / "config.json").write_text(spec)
        with pytest.raises(InvalidArgument, match="sandbox pod: "):
            create(ours, shim)
    (shim.bundle / "config.json").write_text(json.dumps(rootfs.config("true")))
    with pytest.raises(InvalidArgument, match="there is no rootfs"):
        create(ours, shim)
    (shim.bundle / "config.json").write_text(json.dumps(without_program(ours)))
    create(ours, shim)  # none of it has left anything
    with pytest.raises(AlreadyExists):
        create(ours, shim)
    with pytest.raises(NotFound, match='sandbox "other"'):
        shim.client.call("ShutdownSandbox", sandbox_id="other")
    end(shim)


def test_a_shim_without_sandbox_leaves_when_told(ours: Shims) -> None:
    end(shim_of(ours, None))


def test_a_killed_shim_is_cleaned_up_after(ours: Shims) -> None:
    shim, pid = started(ours)
    other = member(ours, shim, "web", pid)
    os.kill(shim.pid, signal.SIGKILL)
    for identity in ("web", POD):
        assert ours.invoke(ours.root / identity, identity, "delete")["code"] == 0
    eventually(lambda: not alive(pid) and not alive(other), "its processes end")
    assert not rootfs.mounts_below(shim.bundle)


def test_the_program_reaps_who_is_left_to_it(ours: Shims) -> None:
    shim, pid = started(ours)
    spec = rootfs.config("sh", "-c", "sleep 0.2 & exit 0")
    spec["linux"]["cgroupsPath"] = f"/{ours.root.name}/orphan"
    for one in spec["linux"]["namespaces"]:
        if one["type"] == "pid":
            one["path"] = f"/proc/{pid}/ns/pid"
    bundle = rootfs.write_bundle(ours.root / "orphan", spec)
    shim.client.call("Create", id="orphan", bundle=str(bundle), options=ours.options())
    children = Path(f"/proc/{pid}/task/{pid}/children")
    shim.client.call("Start", id="orphan")
    assert shim.client.call("Wait", id="orphan")["exit_status"] == 0
    eventually(lambda: not children.read_text(), "nobody is left to the pod's first process")
    assert Client(shim.address).call("PingSandbox", sandbox_id=POD) == {}
    end(shim)


def test_one_that_ends_when_it_is_asked(ours: Shims) -> None:
    spec = rootfs.config(
        "sh", "-c", "trap 'exit 6' TERM; touch /ready; while :; do sleep 0.1; done"
    )
    spec["linux"]["cgroupsPath"] = f"/{ours.root.name}/{POD}"
    files = rootfs.build(ours.root / "files")
    shim = shim_of(ours, spec)
    root = {"type": "bind", "source": str(files), "options": ["rbind", "rw"]}
    create(ours, shim, rootfs=[root])
    ask(shim, "StartSandbox")
    eventually((files / "ready").exists, "its program runs")
    ask(shim, "StopSandbox", timeout_secs=60)
    assert ask(shim, "WaitSandbox")["exit_status"] == 6
    end(shim)
