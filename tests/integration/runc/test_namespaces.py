"""Namespaces that are new, shared or joined by path. config-linux.md, "Namespaces"."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runc.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.peer]
OURS = pytest.mark.runtimes("warm")
OURS_AND_CRUN = pytest.mark.runtimes("warm", "crun")
FIRST, COUNT = 200000, 65536
MAPPING = [{"containerID": 0, "hostID": FIRST, "size": COUNT}]
HOLD = "echo ready; exec sleep 1000"


@pytest.fixture(autouse=True)
def _reachable(place: Path) -> None:
    """Root of a user namespace is nobody here: it must be able to walk to its root."""
    place.chmod(0o755)


def set_namespace(spec: dict[str, Any], kind: str, path: str = "") -> None:
    entries = [n for n in spec["linux"]["namespaces"] if n["type"] != kind]
    entry = {"type": kind, "path": path} if path else {"type": kind}
    spec["linux"]["namespaces"] = [*entries, entry]


@contextmanager
def holder(*flags: str, user: bool = False) -> Iterator[int]:
    """A process of the host in namespaces of its own (unshare's flags); its number."""
    argv = ["unshare", *flags, "sh", "-c", HOLD]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if user:
            while os.readlink(f"/proc/{process.pid}/ns/user") == os.readlink("/proc/self/ns/user"):
                pass
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{name}").write_text(f"0 {FIRST} {COUNT}\n")
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def without_gid(spec: dict[str, Any]) -> dict[str, Any]:
    for mount in spec["mounts"]:
        mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]
    return spec


class TestUserNamespaces:
    def test_joined_by_path(self, case: Case) -> None:
        script = "cat /proc/self/uid_map; id -u; grep CapEff /proc/self/status; echo x > /dev/null"
        spec = without_gid(case.configure("sh", "-c", f"{script}; readlink /proc/self/ns/user"))
        with holder("--user", user=True) as pid:
            set_namespace(spec, "user", f"/proc/{pid}/ns/user")
            if case.runtime.name == "runc":  # wants them a second time
                spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
            out = case.run(spec=spec).check().out
            assert out.split()[:4] == ["0", str(FIRST), str(COUNT), "0"]
            assert out.split()[-1] == os.readlink(f"/proc/{pid}/ns/user")

    def test_new_ones_belong_to_it(self, case: Case) -> None:
        """Root of the joined user namespace has its capabilities in the new ones."""
        spec = without_gid(case.configure("sh", "-c", "hostname changed; hostname; sleep 1000"))
        sets = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
        spec["process"]["capabilities"] = sets
        spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
        with holder("--user", user=True) as pid:
            set_namespace(spec, "user", f"/proc/{pid}/ns/user")
            case.started(spec=spec)
            out = case.call("exec", case.id, "sh", "-c", "hostname; id -u; cat /proc/self/uid_map")
            assert out.check().out.split() == ["changed", "0", "0", str(FIRST), str(COUNT)]
            outside = Path(f"/proc/{case.runtime.pid(case.id)}/status").read_text()
            assert f"Uid:\t{FIRST}" in outside

    @OURS
    def test_new_with_a_namespace_of_the_host(self, case: Case) -> None:
        """Root of the new user namespace may not enter it: the runtime does so before."""
        spec = without_gid(case.configure("sh", "-c", "readlink /proc/self/ns/net; id -u"))
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/sys"]
        spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
        set_namespace(spec, "user")
        with holder("--net", "--ipc") as pid:
            set_namespace(spec, "network", f"/proc/{pid}/ns/net")
            set_namespace(spec, "ipc", f"/proc/{pid}/ns/ipc")
            spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "mqueue"]
            out = case.run(spec=spec).check().out
            assert out.split() == [os.readlink(f"/proc/{pid}/ns/net"), "0"]

    @OURS
    def test_exec_enters_what_the_host_owns(self, case: Case) -> None:
        spec = without_gid(case.configure("sleep", "1000"))
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/sys"]
        spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
        set_namespace(spec, "user")
        with holder("--net") as pid:
            set_namespace(spec, "network", f"/proc/{pid}/ns/net")
            case.started(spec=spec)
            out = case.call("exec", case.id, "readlink", "/proc/self/ns/net").check().out
            assert out.strip() == os.readlink(f"/proc/{pid}/ns/net")

    @OURS
    def test_a_pid_namespace_within(self, case: Case) -> None:
        with holder("--user", "--pid", "--fork", "--kill-child", user=False) as pid:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST} {COUNT}\n")
            spec = without_gid(case.configure("sh", "-c", "echo $$; id -u"))
            set_namespace(spec, "user", f"/proc/{pid}/ns/user")
            set_namespace(spec, "pid", f"/proc/{children[0]}/ns/pid")
            number, user = case.run(spec=spec).check().out.split()
            assert int(number) > 1
            assert user == "0"


class TestTimeNamespaces:
    SCRIPT = "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; readlink /proc/self/ns/time"

    @pytest.mark.runtimes("ours", "warm")
    def test_offsets(self, case: Case) -> None:
        spec = case.configure("sh", "-c", self.SCRIPT)
        set_namespace(spec, "time")
        spec["linux"]["timeOffsets"] = {
            "boottime": {"secs": 7_000_000, "nanosecs": 5},
            "monotonic": {"secs": 3_000_000},
        }
        out = case.run(spec=spec).check().out.split()
        assert int(out[0]) > 7_000_000
        assert out[1:7] == ["monotonic", "3000000", "0", "boottime", "7000000", "5"]
        assert out[7] != os.readlink("/proc/self/ns/time")

    @OURS
    def test_exec_has_them_too(self, case: Case) -> None:
        spec = case.configure("sleep", "1000")
        set_namespace(spec, "time")
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 7_000_000}}
        case.started(spec=spec)
        out = case.call("exec", case.id, "cut", "-d.", "-f1", "/proc/uptime").check().out
        assert int(out) > 7_000_000

    @OURS
    def test_with_a_user_namespace(self, case: Case) -> None:
        spec = without_gid(case.configure("sh", "-c", f"{self.SCRIPT}; id -u"))
        set_namespace(spec, "time")
        set_namespace(spec, "user")
        spec["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 7_000_000}}
        out = case.run(spec=spec).check().out.split()
        assert int(out[0]) > 7_000_000
        assert out[-1] == "0"

    @OURS
    def test_joined_by_path(self, case: Case) -> None:
        with holder("--time", "--boottime", "5000000", "--fork", "--kill-child") as pid:
            spec = case.configure("sh", "-c", self.SCRIPT)
            set_namespace(spec, "time", f"/proc/{pid}/ns/time_for_children")
            assert int(case.run(spec=spec).check().out.split()[0]) > 5_000_000

    @OURS
    def test_an_offset_the_kernel_refuses(self, case: Case) -> None:
        spec = case.configure("true")
        set_namespace(spec, "time")
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": -(1 << 62)}}
        result = case.run(spec=spec)
        assert result.code == 1
        assert "linux.timeOffsets" in result.err
        assert len(result.err.splitlines()) == 1

    @OURS
    def test_offsets_need_the_namespace(self, case: Case) -> None:
        spec = case.configure("true")
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
        assert "time namespace isn't enabled" in case.run(spec=spec).err


class TestMountNamespaces:
    @OURS_AND_CRUN
    def test_joined_by_path(self, case: Case) -> None:
        """The config's paths are those of the namespace that is joined."""
        (case.place / "only").mkdir()
        with holder("--mount", "--propagation", "private") as pid:
            inside = ["nsenter", "-t", str(pid), "-m"]
            only = str(case.place / "only")
            subprocess.run([*inside, "mount", "-t", "tmpfs", "tmpfs", only], check=True)
            subprocess.run([*inside, "touch", f"{only}/file"], check=True)
            spec = case.configure("sh", "-c", "ls /seen; readlink /proc/self/ns/mnt")
            mount = {"destination": "/seen", "type": "bind", "source": only, "options": ["bind"]}
            spec["mounts"].append(mount)
            set_namespace(spec, "mount", f"/proc/{pid}/ns/mnt")
            out = case.run(spec=spec).check().out.split()
            assert out == ["file", os.readlink(f"/proc/{pid}/ns/mnt")]

    @OURS
    def test_a_path_of_another_kind(self, case: Case) -> None:
        for kind in ("mount", "network", "user", "time"):
            spec = case.configure("true")
            set_namespace(spec, kind, "/proc/self/ns/uts")
            result = case.run(spec=spec)
            assert result.code == 1
            assert len(result.err.splitlines()) == 1
