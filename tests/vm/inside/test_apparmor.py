"""AppArmor profiles: taken at execve, by the first process and by exec."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.runc.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.peer]
PROFILE = "barque-test"
RULES = f"""
profile {PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={PROFILE},
  deny /tmp/denied w,
  deny mount,
}}
"""


@pytest.fixture(autouse=True)
def profile() -> Iterator[None]:
    load("--replace")
    yield
    load("--remove")


def load(how: str) -> None:
    command = ["apparmor_parser", how, "--skip-cache"]
    subprocess.run(command, input=RULES, text=True, check=True, timeout=60)


def test_the_process_is_confined(case: Case) -> None:
    script = "cat /proc/self/attr/current; echo x >/tmp/free && echo x >/tmp/denied"
    result = case.run("sh", "-c", script, apparmorProfile=PROFILE)
    assert result.code == 1
    assert result.out == f"{PROFILE} (enforce)\n"
    assert "/tmp/denied: Permission denied" in result.err


def test_without_new_privileges_too(case: Case) -> None:
    spec = case.configure("cat", "/proc/self/attr/current", apparmorProfile=PROFILE)
    spec["process"]["noNewPrivileges"] = False
    assert case.run(spec=spec).out == f"{PROFILE} (enforce)\n"


def test_an_exec_is_confined(case: Case) -> None:
    case.started("sleep", "1000", apparmorProfile=PROFILE)
    result = case.call("exec", case.id, "sh", "-c", "cat /proc/self/attr/current; >/tmp/denied")
    assert result.code == 1
    assert result.out == f"{PROFILE} (enforce)\n"


@pytest.mark.runtimes("ours", "warm")
def test_an_exec_that_names_no_profile_has_the_containers(case: Case) -> None:
    """With runc 1.1 it is unconfined."""
    case.started("sleep", "1000", apparmorProfile=PROFILE)
    document = case.place / "process.json"
    document.write_text('{"args": ["/bin/cat", "/proc/self/attr/current"], "cwd": "/"}')
    result = case.call("exec", "--process", str(document), case.id)
    assert result.check().out == f"{PROFILE} (enforce)\n"


def test_unconfined_by_name(case: Case) -> None:
    result = case.run("cat", "/proc/self/attr/current", apparmorProfile="unconfined")
    assert result.out == "unconfined\n"


@pytest.mark.runtimes("warm", "runc")
def test_an_unknown_profile_is_one_line_and_leaves_nothing(case: Case) -> None:
    result = case.create("true", apparmorProfile="nobody-has-loaded-this")
    assert result.code == 1
    assert "apparmor" in result.err
    assert len(result.err.splitlines()) == 1
