"""The runtime as an ordinary user: with his own id alone, with ranges, with a delegated cgroup."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import CGROUPS, RUNTIMES, Result, Runtime, wait_for

pytestmark = [
    *(pytest.mark.root, pytest.mark.peer),
    pytest.mark.runtimes("ours", "runc"),
]
USER, NAME, RANGE = 4711, "bqtest", 300000
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")


def as_user(kind: type[Runtime], place: Path) -> Runtime:
    """That runtime, whose commands a user gives who has nothing of root's."""

    class OfUser(kind):  # type: ignore[misc, valid-type]
        def argv(self, *arguments: str) -> list[str]:
            session = f"XDG_RUNTIME_DIR={self.root.parent}"
            return [*AS_USER, "env", "HOME=/tmp", session, *kind.argv(self, *arguments)]

        def execute(self, arguments: Sequence[str], cwd: str, fds: list[int]) -> int:
            return kind.execute(self, arguments, cwd, fds)

    made: Runtime = OfUser(place / "root")
    return made


@pytest.fixture(autouse=True)
def account() -> None:
    make_account()


def make_account() -> None:
    """The user, with a range of ids; the interpreter of the tests may be in root's home."""
    Path("/root").chmod(0o755)
    for file, line in (
        ("/etc/passwd", f"{NAME}:x:{USER}:{USER}::/tmp:/bin/sh"),
        ("/etc/group", f"{NAME}:x:{USER}:"),
        ("/etc/subuid", f"{NAME}:{RANGE}:65536"),
        ("/etc/subgid", f"{NAME}:{RANGE}:65536"),
    ):
        path = Path(file)
        text = path.read_text() if path.exists() else ""
        if line not in text:
            path.write_text(f"{text}{line}\n")


@pytest.fixture
def user(case: Case) -> Case:
    """The case of an ordinary user: his are the files, his the state."""
    case.runtime = as_user(RUNTIMES[case.runtime.name], case.place)
    (case.place / "root").mkdir(exist_ok=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(case.place)], check=True)
    return case


def rootless(case: Case, *args: str) -> dict[str, Any]:
    """What `spec --rootless` says, with other arguments."""
    spec: dict[str, Any] = json.loads(default_config(case))
    spec["process"].update(args=list(args), terminal=False)
    spec["root"]["readonly"] = False
    return spec


def default_config(case: Case) -> str:
    config = case.bundle / "config.json"
    config.unlink(missing_ok=True)
    case.runtime.call("spec", "--rootless", "--bundle", str(case.bundle)).check()
    return config.read_text()


def run(case: Case, spec: dict[str, Any]) -> Result:
    return case.runtime.call("run", "--bundle", written(case, spec), case.id)


def written(case: Case, spec: dict[str, Any]) -> str:
    case.write(spec)
    os.chown(case.bundle / "config.json", USER, USER)
    return str(case.bundle)


def test_the_default_config_is_runcs(user: Case) -> None:
    ours = json.loads(default_config(user))
    other = as_user(RUNTIMES["runc"], user.place)
    (user.bundle / "config.json").unlink()
    other.call("spec", "--rootless", "--bundle", str(user.bundle)).check()
    theirs = json.loads((user.bundle / "config.json").read_text())
    for name in ("uidMappings", "gidMappings"):
        assert ours["linux"][name] == theirs["linux"][name]
    kinds = [{one["type"] for one in spec["linux"]["namespaces"]} for spec in (ours, theirs)]
    assert kinds[0] == kinds[1]
    places = [[one["destination"] for one in spec["mounts"]] for spec in (ours, theirs)]
    assert places[0] == places[1]
    assert "resources" not in ours["linux"]


def test_own_id_is_root_inside(user: Case) -> None:
    script = "id -u; id -g; echo here >/tmp/file; cat /proc/self/uid_map; hostname"
    result = run(user, rootless(user, "sh", "-c", script)).check()
    assert result.out.split() == ["0", "0", "0", str(USER), "1", "runc"]
    assert (user.rootfs / "tmp/file").stat().st_uid == USER


def test_create_start_exec_kill_delete(user: Case) -> None:
    bundle = written(user, rootless(user, "sleep", "1000"))
    user.runtime.call("create", "--bundle", bundle, user.id).check()
    user.call("start", user.id).check()
    assert user.runtime.status(user.id) == "running"
    result = user.call("exec", user.id, "sh", "-c", "id -u; echo $$; cat /proc/1/comm").check()
    uid, pid, first = result.out.split()
    assert (uid, first) == ("0", "sleep")
    assert int(pid) < 100
    assert user.call("exec", user.id, "false").code == 1
    user.call("kill", user.id, "KILL").check()
    user.runtime.wait_stopped(user.id)
    user.call("delete", user.id).check()


def test_exec_before_start_and_the_end_of_all(user: Case) -> None:
    bundle = written(user, rootless(user, "sleep", "1000"))
    user.runtime.call("create", "--bundle", bundle, user.id).check()
    assert user.call("exec", user.id, "id", "-u").check().out == "0\n"
    user.call("start", user.id).check()
    if user.runtime.name == "ours":
        user.call("kill", "--all", user.id, "KILL").check()
    user.call("delete", "--force", user.id).check()


def test_the_listener_of_a_filter(user: Case) -> None:
    spec = rootless(user, "true")
    path = user.place / "listener"
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "syscalls": [rule],
    }
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        os.chown(path, USER, USER)
        agent.listen()
        agent.settimeout(60)
        run(user, spec).check()
        connection, _ = agent.accept()
        with connection:
            message, fds, _, _ = socket.recv_fds(connection, 65536, 1)
    assert json.loads(message)["state"]["id"] == user.id
    os.close(fds[0])


def test_ranges_by_newuidmap(user: Case) -> None:
    spec = rootless(user, "sh", "-c", "cat /proc/self/uid_map; id -u; id -G")
    for name in ("uidMappings", "gidMappings"):
        spec["linux"][name].append({"containerID": 1, "hostID": RANGE, "size": 65536})
    spec["process"]["user"] = {"uid": 33, "gid": 33}
    result = run(user, spec).check()
    assert result.out.split()[:6] == ["0", str(USER), "1", "1", str(RANGE), "65536"]
    assert result.out.splitlines()[2:] == ["33", "33"]


def test_a_range_of_others_is_refused(user: Case) -> None:
    spec = rootless(user, "true")
    spec["linux"]["uidMappings"].append({"containerID": 1, "hostID": 1, "size": 10})
    result = run(user, spec)
    assert result.code == 1
    assert "newuidmap" in result.err


@pytest.mark.runtimes("ours")
def test_groups_of_a_range(user: Case) -> None:
    spec = rootless(user, "id", "-G")
    for name in ("uidMappings", "gidMappings"):
        spec["linux"][name].append({"containerID": 1, "hostID": RANGE, "size": 65536})
    spec["process"]["user"] = {"uid": 33, "gid": 33, "additionalGids": [34]}
    assert run(user, spec).check().out == "33 34\n"


@pytest.mark.runtimes("ours")
def test_what_a_user_cannot_have(user: Case) -> None:
    spec = rootless(user, "true")
    spec["linux"]["resources"] = {"pids": {"limit": 5}}
    assert "could not join or create cgroup" in run(user, spec).err
    spec = rootless(user, "true")
    spec["process"]["user"] = {"uid": 0, "gid": 0, "additionalGids": [0]}
    assert "additional groups" in run(user, spec).err
    spec = rootless(user, "true")
    kinds = [one for one in spec["linux"]["namespaces"] if one["type"] != "user"]
    spec["linux"]["namespaces"] = kinds
    del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
    assert "rootless container requires user namespaces" in run(user, spec).err
    assert user.runtime.call("list", "-q").check().out == ""


@pytest.fixture
def delegated(user: Case) -> Iterator[Path]:
    """A cgroup that is the user's, whose commands are given in a leaf of it."""
    top = Path(CGROUPS, f"{user.id}-user")
    Path(CGROUPS, "cgroup.subtree_control").write_text("+memory +pids +cpu")
    (top / "leaf").mkdir(parents=True)
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "leaf"):
        os.chown(top / name, USER, USER)
    os.chown(top / "leaf/cgroup.procs", USER, USER)
    kind = type(user.runtime)
    inner = kind.argv

    def argv(self: Runtime, *arguments: str) -> list[str]:
        join = f'echo $$ >{top}/leaf/cgroup.procs && exec "$@"'
        return ["sh", "-c", join, "sh", *inner(self, *arguments)]

    kind.argv = argv  # type: ignore[method-assign]
    yield top
    user.call("delete", "--force", user.id)
    for directory in (top / "leaf", top):
        directory.rmdir()


def test_limits_in_a_delegated_cgroup(user: Case, delegated: Path) -> None:
    spec = rootless(user, "sleep", "1000")
    spec["linux"]["resources"] = {"pids": {"limit": 50}, "memory": {"limit": 1 << 26}}
    bundle = written(user, spec)
    user.runtime.call("create", "--bundle", bundle, user.id).check()
    user.call("start", user.id).check()
    group = delegated / user.id
    assert (group / "pids.max").read_text() == "50\n"
    assert (group / "memory.max").read_text() == f"{1 << 26}\n"
    assert (group / "cgroup.procs").read_text().split() == [str(user.runtime.pid(user.id))]
    user.call("pause", user.id).check()
    assert user.runtime.status(user.id) == "paused"
    user.call("resume", user.id).check()
    user.call("exec", user.id, "true").check()
    user.call("delete", "--force", user.id).check()
    wait_for(lambda: not group.exists())
