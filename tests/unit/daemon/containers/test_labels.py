"""SELinux labels: which one a container gets. That they hold is shown in the virtual machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from barque.daemon.containers.labels import RESERVED, Label, Labels, of_others, relabel_mount
from barque.daemon.containers.labels import labelled as mounts_of
from barque.daemon.containers.record import MountPoint, Record
from barque.daemon.containers.security import parse
from barque.daemon.containers.supervise import RootfsMount
from barque.errors import InvalidArgument, Unsupported
from tests.unit.daemon.containers import test_spec
from tests.unit.daemon.containers.test_spec import MACHINE

PROCESS = "system_u:system_r:container_t:s0"
FILE = "system_u:object_r:container_file_t:s0"
CONTEXTS = f"""# of containers
; and of nothing else
process = "{PROCESS}"
file = "{FILE}"
ro_file="system_u:object_r:container_ro_file_t:s0"
"""


def labelled(process_label: str) -> Record:
    record = test_spec.record({}, {})
    record.process_label = process_label
    return record


@pytest.fixture
def labels() -> Labels:
    return Labels((Label.parse(PROCESS), Label.parse(FILE)))


def test_each_container_has_categories_of_its_own(labels: Labels) -> None:
    pairs = [labels.choose(()) for _ in range(500)]
    levels = {Label.parse(pair.process).level for pair in pairs}
    assert len(levels) == 500
    for process, mount in pairs:
        level = Label.parse(process).level
        low, high = (int(part.removeprefix("c")) for part in level.removeprefix("s0:").split(","))
        assert 0 <= low < high < 1024
        assert (process, mount) == (f"{PROCESS[:-2]}{level}", f"{FILE[:-2]}{level}")


def test_levels_of_containers_that_are_there_are_theirs(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.keep([labelled(f"{PROCESS}:c1,c2"), labelled("")])
    numbers = iter([1, 2, 3, 3, 1022, 1023, 2, 1, 7, 4])
    monkeypatch.setattr("secrets.randbelow", lambda bound: next(numbers))
    assert Label.parse(labels.choose(()).process).level == "s0:c4,c7"
    labels.release(labelled(f"{PROCESS}:c1,c2"))
    numbers = iter([2, 1])
    assert Label.parse(labels.choose(()).process).level == "s0:c1,c2"


@pytest.mark.parametrize(
    ("options", "process", "mount"),
    [
        (["disable"], "", f"system_u:object_r:container_file_t:{RESERVED}"),
        (["type:x_t", "level:s0:c9"], "system_u:system_r:x_t:s0:c9", f"{FILE}:c9"),
        (
            ["user:u", "role:r", "level:s1", "filetype:f_t"],
            "u:r:container_t:s1",
            "u:object_r:f_t:s1",
        ),
    ],
)
def test_what_is_asked_for(labels: Labels, options: list[str], process: str, mount: str) -> None:
    assert labels.choose(options) == (process, mount)


def test_a_privileged_container_is_as_the_daemon(labels: Labels) -> None:
    process, mount = labels.choose(["level:s0:c5"], privileged=True)
    assert (process, mount) == ("", f"{FILE}:c5")


@pytest.mark.parametrize("option", ["x", "type", "type:", "colour:red", "Disable"])
def test_what_is_no_option(labels: Labels, option: str) -> None:
    with pytest.raises(InvalidArgument, match=f'bad label option "{option}"'):
        labels.choose([option])


def test_without_selinux_there_is_none() -> None:
    assert Labels().choose(["disable"]) == ("", "")


def test_the_policy_in_use_says_it(tmp_path: Path) -> None:
    (tmp_path / "targeted/contexts").mkdir(parents=True)
    (tmp_path / "config").write_text("# SELINUXTYPE=mls\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    with pytest.raises(InvalidArgument, match="lxc_contexts"):
        Labels.read(tmp_path)
    (tmp_path / "targeted/contexts/lxc_contexts").write_text(CONTEXTS)
    made = Labels.read(tmp_path).choose(["level:s0:c1"])
    assert made == (f"{PROCESS}:c1", f"{FILE}:c1")
    (tmp_path / "targeted/contexts/lxc_contexts").write_text('process = "x"\nfile = "y"\n')
    with pytest.raises(InvalidArgument, match="'x' is no SELinux label"):
        Labels.read(tmp_path)


def test_who_shares_processes_shares_the_label() -> None:
    label = f"{PROCESS}:c1,c2"
    words = ["user:system_u", "role:system_r", "type:container_t", "level:s0:c1,c2"]
    assert of_others(label, None) == [f"label={word}" for word in words]
    assert of_others(label, label) == of_others(None, label)
    assert of_others(None, None) == of_others("", "") == []
    with pytest.raises(InvalidArgument, match="SELinux labels aren't the same"):
        of_others(label, f"{PROCESS}:c3,c4")


def test_the_words_of_security_opt() -> None:
    asked = ("label=type:x_t", "label:level:s0:c1,c2", "no-new-privileges")
    assert parse(asked, replace(MACHINE, selinux=True)).label == ("type:x_t", "level:s0:c1,c2")
    with pytest.raises(Unsupported, match="SELinux is not enabled here"):
        parse(asked, MACHINE)
    assert parse(["label=disable"], MACHINE).label == ("disable",)


def test_the_runtime_is_told() -> None:
    made = labelled(f"{PROCESS}:c1,c2")
    made.mount_label = f"{FILE}:c1,c2"
    document = test_spec.spec(made)
    assert document["process"]["selinuxLabel"] == f"{PROCESS}:c1,c2"
    assert document["linux"]["mountLabel"] == f"{FILE}:c1,c2"
    plain = test_spec.spec(labelled(""))
    assert "selinuxLabel" not in plain["process"]
    assert "mountLabel" not in plain["linux"]


def test_the_root_file_system_is_mounted_with_the_label() -> None:
    mounts = [RootfsMount("overlay", "overlay", ("lowerdir=/l",))]
    assert mounts_of(mounts, "") == mounts
    options = ("lowerdir=/l", f'context="{FILE}:c1,c2"')
    assert mounts_of(mounts, f"{FILE}:c1,c2") == [RootfsMount("overlay", "overlay", options)]


@pytest.mark.parametrize("path", ["/", "/etc", "/usr", "/var/lib/../log"])
@pytest.mark.parametrize("mode", ["z", "ro,Z"])
def test_the_machines_own_directories_keep_their_labels(path: str, mode: str) -> None:
    point = MountPoint(type="bind", destination="/x", source=path, mode=mode)
    with pytest.raises(InvalidArgument, match=r"SELinux relabeling of .* is not allowed"):
        relabel_mount(point, path, FILE)
