"""SELinux labels: of processes at execve, of what is on new file systems, of session keyrings."""

import ctypes
import os
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case
from tests.support import selinux
from tests.support.selinux import FILE, HOST, PROCESS, label_of, set_label

pytestmark = [pytest.mark.root, pytest.mark.peer]
LABEL = f"{PROCESS}:c1,c2"
MOUNT_LABEL = f"{FILE}:c1,c2"
OTHER = "system_u:system_r:other_t:s0:c3"
CURRENT = ("cat", "/proc/self/attr/current")
KEYCTL, KEYCTL_GET_SECURITY = 250, 17


@pytest.fixture(scope="session", autouse=True)
def policy() -> None:
    selinux.load()


@pytest.fixture(autouse=True)
def labelled(case: Case) -> None:
    """The container's image, and what it writes to (new files there get the same type)."""
    set_label(case.place, FILE)


def shown(text: str) -> str:
    return text.rstrip("\n\0")


def test_the_policy_holds(case: Case) -> None:
    """For its own files, those of other categories, and the machine's."""
    for name, label in (("own", f"{FILE}:c1"), ("foreign", f"{FILE}:c7"), ("machines", HOST)):
        (case.rootfs / name).write_text(f"{name}\n")
        set_label(case.rootfs / name, label)
    script = (
        "cat /proc/self/attr/current | tr -d '\\0'; echo; cat /own; echo x >/own && cat /foreign;"
        "cat /machines; echo x >/machines"
    )
    result = case.run("sh", "-c", script, selinuxLabel=LABEL)
    assert result.out.split() == [LABEL, "own", "machines"]
    assert "can't open '/foreign': Permission denied" in result.err
    assert "can't create /machines: Permission denied" in result.err


def test_without_a_label_it_has_its_makers(case: Case) -> None:
    spec = case.configure(*CURRENT)
    spec["process"]["noNewPrivileges"] = False
    maker = Path("/proc/self/attr/current").read_text()
    assert shown(case.run(spec=spec).check().out) == shown(maker)


def test_an_exec_has_the_containers_label_or_its_own(case: Case) -> None:
    case.started("sleep", "1000", selinuxLabel=LABEL)
    document = case.place / "process.json"
    document.write_text('{"args": ["/bin/cat", "/proc/self/attr/current"], "cwd": "/"}')
    argv = ("exec", "--process", str(document), case.id)
    assert shown(case.call(*argv).check().out) == LABEL
    given = ("exec", "--process-label", OTHER, case.id)
    assert shown(case.call(*given, *CURRENT).check().out) == OTHER


def test_new_file_systems_are_labelled(case: Case) -> None:
    """procfs, sysfs and cgroups are not: the policy knows them by their kind."""
    spec = case.configure("sleep", "1000", selinuxLabel=LABEL)
    spec["linux"]["mountLabel"] = MOUNT_LABEL
    mounts = [m for m in spec["mounts"] if m["destination"] != "/dev/mqueue"]
    queues = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}
    spec["mounts"] = [*mounts, queues]
    (case.rootfs / "masked").mkdir()
    spec["linux"]["maskedPaths"] = ["/masked"]
    case.started(spec=spec)
    root = f"/proc/{case.runtime.pid(case.id)}/root"
    for place in ("/dev", "/dev/pts", "/dev/shm", "/dev/null", "/dev/mqueue", "/masked"):
        assert (place, label_of(root + place)) == (place, MOUNT_LABEL)
    for place in ("/proc", "/sys", "/sys/fs/cgroup"):
        assert (place, label_of(root + place)) == (place, HOST)


def test_a_mount_that_names_its_label_has_it(case: Case) -> None:
    spec = case.configure("sleep", "1000", selinuxLabel=LABEL)
    option = f'context="{FILE}:c1"'
    spec["mounts"].append(
        {"destination": "/own", "type": "tmpfs", "source": "tmpfs", "options": [option]}
    )
    case.started(spec=spec)
    assert label_of(f"/proc/{case.runtime.pid(case.id)}/root/own") == f"{FILE}:c1"


def test_the_session_keyring_is_labelled(case: Case) -> None:
    case.started("sleep", "1000", selinuxLabel=LABEL)
    keys = Path("/proc/keys").read_text().splitlines()
    number = next(int(line.split()[0], 16) for line in keys if case.id in line)
    label = ctypes.create_string_buffer(256)
    call = ctypes.CDLL(None, use_errno=True).syscall
    got = call(KEYCTL, KEYCTL_GET_SECURITY, number, label, len(label))
    assert got > 0, os.strerror(ctypes.get_errno())
    assert label.value.decode() == LABEL


@pytest.mark.parametrize("label", ["nobody:knows:this:s0", f"{PROCESS}:c9999"])
def test_a_label_that_the_policy_lacks_is_one_line(case: Case, label: str) -> None:
    result = case.create("true", selinuxLabel=label)
    assert result.code == 1
    assert "invalid argument" in result.err.lower()
    assert len(result.err.splitlines()) == 1


def test_a_label_that_nobody_may_take(case: Case) -> None:
    result = case.run("true", selinuxLabel="system_u:system_r:unreachable_t:s0")
    assert result.code != 0
    assert "permission denied" in result.err.lower()


@pytest.mark.runtimes("warm", "runc")
def test_the_runtime_says_that_it_can(case: Case) -> None:
    assert case.call("features").check().json["linux"]["selinux"]["enabled"] is True
