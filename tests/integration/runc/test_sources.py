"""Bind mounts with mapped ids, of sources the container's root cannot reach, and remounts."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from barque.linux.fs import TMPFS_MAGIC, filesystem_magic
from tests.integration.runc.conftest import Case
from tests.integration.runc.test_namespaces import FIRST, MAPPING, holder, set_namespace

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.runtimes("warm")]


mapped = pytest.mark.skipif(
    os.uname().release.startswith(("5.", "6.0.", "6.1.", "6.2."))
    and filesystem_magic("/tmp") == TMPFS_MAGIC,
    reason="tmpfs has mapped ids since Linux 6.3",
)


@pytest.fixture(autouse=True)
def _reachable(case: Case) -> None:
    case.place.chmod(0o755)
    (case.rootfs / "m").mkdir()


@pytest.fixture
def source(place: Path) -> Path:
    """A directory with a file of root, one of user 7, and another mount inside."""
    directory = place / "source"
    (directory / "below").mkdir(parents=True)
    (directory / "root").write_text("")
    (directory / "seven").write_text("")
    os.chown(directory / "seven", 7, 8)
    return directory


def bind(source: Path, *options: str, **more: Any) -> dict[str, Any]:
    mount = {"destination": "/m", "type": "bind", "source": str(source)}
    return {**mount, "options": list(options), **more}


def with_user_namespace(spec: dict[str, Any]) -> dict[str, Any]:
    set_namespace(spec, "user")
    spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
    for mount in spec["mounts"]:
        mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]
    return spec


SHOW = "stat -c '%u:%g' /m/root /m/seven; touch /m/new && stat -c %u /m/new"


@mapped
def test_by_the_containers_own_mappings(case: Case, source: Path) -> None:
    spec = with_user_namespace(case.configure("sh", "-c", SHOW))
    spec["mounts"].append(bind(source, "bind", "idmap"))
    assert case.run(spec=spec).check().out.split() == ["0:0", "7:8", "0"]
    assert os.stat(source / "new").st_uid == 0


def test_without_them_the_files_are_nobodys(case: Case, source: Path) -> None:
    spec = with_user_namespace(case.configure("stat", "-c", "%u", "/m/root"))
    spec["mounts"].append(bind(source, "bind"))
    assert case.run(spec=spec).check().out == "65534\n"


@mapped
@pytest.mark.runtimes("warm", "crun")
def test_by_mappings_of_the_mount(case: Case, source: Path) -> None:
    spec = with_user_namespace(case.configure("sh", "-c", SHOW))
    mount = bind(source, "bind", uidMappings=MAPPING, gidMappings=MAPPING)
    if case.runtime.name == "crun":
        mount["options"].append("idmap")
    spec["mounts"].append(mount)
    assert case.run(spec=spec).check().out.split() == ["0:0", "7:8", "0"]


@mapped
def test_mappings_without_a_user_namespace(case: Case, source: Path) -> None:
    spec = case.configure("stat", "-c", "%u:%g", "/m/root", "/m/seven")
    mappings = [{"containerID": 0, "hostID": 1000, "size": 100}]
    spec["mounts"].append(bind(source, "bind", uidMappings=mappings, gidMappings=mappings))
    assert case.run(spec=spec).check().out.split() == ["1000:1000", "1007:1008"]


@mapped
def test_by_a_user_namespace_that_is_joined(case: Case, source: Path) -> None:
    with holder("--user", user=True) as pid:
        spec = with_user_namespace(case.configure("sh", "-c", SHOW))
        set_namespace(spec, "user", f"/proc/{pid}/ns/user")
        del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
        spec["mounts"].append(bind(source, "rbind", "ridmap"))
        assert case.run(spec=spec).check().out.split() == ["0:0", "7:8", "0"]


@mapped
@pytest.mark.parametrize(("option", "owner"), [("idmap", "0"), ("ridmap", "1000")])
def test_mounts_below(case: Case, source: Path, option: str, owner: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
    try:
        (source / "below/file").write_text("")
        spec = case.configure("stat", "-c", "%u", "/m/root", "/m/below/file")
        mappings = [{"containerID": 0, "hostID": 1000, "size": 100}]
        maps = {"uidMappings": mappings, "gidMappings": mappings}
        spec["mounts"].append(bind(source, "rbind", option, **maps))
        assert case.run(spec=spec).check().out.split() == ["1000", owner]
    finally:
        subprocess.run(["umount", source / "below"], check=True)


@mapped
def test_nothing_mounted_inside_comes_out(case: Case, source: Path) -> None:
    """A source that the runtime opened is a slave of the host's mount, whatever that shares."""
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        script = "mount -t tmpfs tmpfs /m/below && touch /m/below/inside; ls /m/below"
        spec = with_user_namespace(case.configure("sh", "-c", script))
        sets = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
        spec["process"]["capabilities"] = sets
        spec["mounts"].append(bind(source, "rbind", "idmap", "rslave"))
        assert case.run(spec=spec).check().out == "inside\n"
        assert list((source / "below").iterdir()) == []
    finally:
        subprocess.run(["umount", source], check=True)


@pytest.mark.runtimes("warm", "runc")
def test_a_source_only_the_host_can_reach(case: Case, place: Path, source: Path) -> None:
    secret = place / "secret"
    secret.mkdir(mode=0o700)
    source.rename(secret / "source")
    spec = with_user_namespace(case.configure("ls", "/m"))
    spec["mounts"].append(bind(secret / "source", "rbind"))
    assert case.run(spec=spec).check().out.split() == ["below", "root", "seven"]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"type": "tmpfs", "source": "x", "options": ["idmap"]}, "only bind mounts"),
        ({"options": ["bind", "idmap"]}, "idmap needs mappings"),
        ({"options": ["bind"], "uidMappings": MAPPING}, "both uidMappings and gidMappings"),
        ({"options": ["remount"], "destination": "/nothing"}, "nothing to remount"),
        ({"options": ["iversion"], "type": "tmpfs"}, "option iversion is not supported"),
    ],
)
def test_what_cannot_be(case: Case, source: Path, mount: dict[str, Any], words: str) -> None:
    spec = case.configure("true")
    spec["mounts"].append({**bind(source), **mount})
    result = case.run(spec=spec)
    assert result.code == 1
    assert words in result.err
    assert len(result.err.splitlines()) == 1


def test_remounts(case: Case, source: Path) -> None:
    script = "touch /m/x; touch /dev/shm/x; grep -E ' (/m|/dev/shm) ' /proc/mounts"
    spec = case.configure("sh", "-c", script)
    spec["mounts"] += [
        bind(source, "bind"),
        bind(source, "bind", "remount", "ro", "nosuid"),
        {"destination": "/dev/shm", "type": "tmpfs", "options": ["remount", "ro", "size=1m"]},
    ]
    result = case.run(spec=spec)
    assert result.err.count("Read-only file system") == 2
    lines = {line.split()[1]: line.split()[3].split(",") for line in result.out.splitlines()}
    assert {"ro", "nosuid"} <= set(lines["/m"])
    assert "ro" in lines["/dev/shm"]
    assert "size=1024k" in lines["/dev/shm"]
    assert os.stat(source).st_uid != FIRST
