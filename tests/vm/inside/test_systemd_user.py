"""A user's own systemd makes the scopes of his containers, in the cgroup that it was given."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support.runtimes import CGROUPS, Runtime, wait_for
from tests.vm.inside.test_rootless import USER, make_account, rootless, user, written

__all__ = ["user"]
pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.runtimes("ours")]
UNIT = "bq-users-manager.service"
MANAGER = Path(CGROUPS, "user.slice/user-4711.slice", UNIT)
RUNTIME_DIRECTORY = Path(f"/run/user/{USER}")


@pytest.fixture(scope="module")
def manager() -> Iterator[Path]:
    """The user's systemd, as user@.service has it; the path is its cgroup."""
    make_account()
    RUNTIME_DIRECTORY.mkdir(parents=True, exist_ok=True)
    os.chown(RUNTIME_DIRECTORY, USER, USER)
    RUNTIME_DIRECTORY.chmod(0o700)
    settings = [f"--setenv=XDG_RUNTIME_DIR={RUNTIME_DIRECTORY}", "--setenv=HOME=/tmp"]
    properties = ["Delegate=pids memory cpu", f"Slice=user-{USER}.slice", "Type=notify"]
    command = [
        *("systemd-run", f"--uid={USER}", f"--gid={USER}", f"--unit={UNIT}", *settings),
        *(f"--property={one}" for one in properties),
        *("/lib/systemd/systemd", "--user", "--unit=basic.target"),
    ]
    subprocess.run(command, check=True, timeout=120)
    yield MANAGER
    subprocess.run(["systemctl", "kill", "--signal=KILL", UNIT], check=True, timeout=60)


@pytest.fixture
def driven(user: Case, manager: Path) -> Iterator[Case]:
    """The user's commands come from a process of his manager's, as those of a session do."""
    kind = type(user.runtime)
    inner = kind.argv

    def argv(self: Runtime, *arguments: str) -> list[str]:
        join = f'echo $$ >{manager}/init.scope/cgroup.procs && exec "$@"'
        command = inner(self, "--systemd-cgroup", *arguments)
        command[command.index(f"XDG_RUNTIME_DIR={self.root.parent}")] = (
            f"XDG_RUNTIME_DIR={RUNTIME_DIRECTORY}"
        )
        return ["sh", "-c", join, "sh", *command]

    kind.argv = argv  # type: ignore[method-assign]
    yield user
    user.call("delete", "--force", user.id)


def shown(unit: str, name: str) -> str:
    command = ["systemctl", "--user", "show", "--value", "--property", name, unit]
    own = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env"]
    own.append(f"XDG_RUNTIME_DIR={RUNTIME_DIRECTORY}")
    done = subprocess.run([*own, *command], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_a_container_is_a_scope_of_the_users_systemd(driven: Case) -> None:
    spec = rootless(driven, "sleep", "1000")
    spec["linux"]["resources"] = {"pids": {"limit": 50}, "memory": {"limit": 1 << 26}}
    bundle = written(driven, spec)
    driven.call("create", "--bundle", bundle, driven.id).check()
    driven.call("start", driven.id).check()
    unit = f"runc-{driven.id}.scope"
    group = MANAGER / "user.slice" / unit
    assert (group / "cgroup.procs").read_text().split() == [str(driven.runtime.pid(driven.id))]
    assert (group / "pids.max").read_text() == "50\n"
    assert (group / "memory.max").read_text() == f"{1 << 26}\n"
    assert shown(unit, "ActiveState") == "active"
    assert shown(unit, "TasksMax") == "50"
    driven.call("update", "--pids-limit", "40", driven.id).check()
    assert shown(unit, "TasksMax") == "40"
    assert driven.call("exec", driven.id, "echo", "in").check().out == "in\n"
    driven.call("delete", "--force", driven.id).check()
    wait_for(lambda: not group.exists())


def test_without_his_systemd_it_is_told(driven: Case) -> None:
    bundle = written(driven, rootless(driven, "true"))
    kind = type(driven.runtime)
    inner = kind.argv

    def argv(self: Runtime, *arguments: str) -> list[str]:
        return [
            word.replace(str(RUNTIME_DIRECTORY), "/nowhere") for word in inner(self, *arguments)
        ]

    kind.argv = argv  # type: ignore[method-assign]
    result = driven.call("create", "--bundle", bundle, driven.id)
    kind.argv = inner  # type: ignore[method-assign]
    assert (result.code, "no user bus is running" in result.err) == (1, True), result
    assert driven.call("list", "-q").check().out == ""
