"""Containers whose ids are others on the machine (`userns-remap`), beside dockerd's."""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.subordinate_ids import COUNT, FIRST, subordinate_ids

pytestmark = [pytest.mark.root, pytest.mark.peer]

Engine = Stack | Peer
RUNTIMES = ("--add-runtime", f"debian-runc={which('runc')}")


class Engines:
    """Both daemons, each started when first asked for; the range is theirs together."""

    def __init__(self, undo: ExitStack, user: str) -> None:
        self._undo = undo
        self._user = user
        self._made: dict[str, Engine] = {}

    def get(self, name: str) -> Engine:
        if name not in self._made:
            flags = ["--userns-remap", self._user]
            if name == "dockerd":
                self._made[name] = self._undo.enter_context(docker_peer(flags))
            else:
                self._made[name] = self._undo.enter_context(stack(*flags, *RUNTIMES))
        return self._made[name]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with ExitStack() as undo:
        user = undo.enter_context(subordinate_ids())
        yield Engines(undo, user)


@pytest.fixture(params=["barque", "dockerd"])
def engine(engines: Engines, request: pytest.FixtureRequest) -> Engine:
    return engines.get(request.param)


@pytest.fixture
def barque(engines: Engines) -> Stack:
    found = engines.get("barque")
    assert isinstance(found, Stack)
    return found


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    word = f"u{secrets.token_hex(4)}"
    yield word
    engine.docker("rm", "-f", "-v", word, check=False)


def out(engine: Engine, *words: str, stdin: bytes = b"") -> str:
    return engine.docker(*words, stdin=stdin).stdout.decode()


def shell(engine: Engine, script: str, *flags: str) -> str:
    return out(engine, "run", "--rm", *flags, "busybox", "sh", "-c", script)


def test_the_engine_says_so(engine: Engine) -> None:
    info = json.loads(out(engine, "info", "--format", "json"))
    assert "name=userns" in info["SecurityOptions"]
    assert info["DockerRootDir"].endswith(f"/{FIRST}.{FIRST}")
    assert Path(info["DockerRootDir"]).is_dir()


def test_ids_are_mapped(engine: Engine) -> None:
    found = shell(engine, "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g").split()
    assert found == [*(["0", str(FIRST), str(COUNT)] * 2), "0", "0"]


def test_root_owns_its_files_and_may_change_them(engine: Engine) -> None:
    script = """
        stat -c '%u %g' / /bin/busybox /etc/hosts /etc/resolv.conf /etc/hostname /dev/shm /t
        stat -c '%u %g' /.dockerenv
        echo 10.0.0.1 x >>/etc/hosts && touch /new /dev/shm/new /t/new && chown 7:8 /new
        stat -c '%u %g' /new
        echo told >/dev/stdout && mknod /dev/own c 1 3 2>/dev/null || echo no device
    """
    lines = shell(engine, script, "--tmpfs", "/t").splitlines()
    assert lines == [*(["0 0"] * 8), "7 8", "told", "no device"]


def test_its_processes_are_nobody_special_on_the_machine(engine: Engine, name: str) -> None:
    out(engine, "run", "-d", "--name", name, "-u", "1000", "busybox", "sleep", "600")
    pid = out(engine, "inspect", "-f", "{{.State.Pid}}", name).strip()
    assert os.stat(f"/proc/{pid}").st_uid == FIRST + 1000
    assert out(engine, "exec", "-u", "0", name, "id", "-u").strip() == "0"
    assert out(engine, "exec", name, "id", "-u").strip() == "1000"


def test_a_terminal_is_its_users(engine: Engine) -> None:
    found = shell(engine, "stat -c %u $(tty); echo there", "-t").split()
    assert found == ["0", "there"]


def test_its_network_is_its_own_to_configure(engine: Engine) -> None:
    script = """
        ip link set lo down && ip link set lo up && cat /proc/sys/net/ipv4/ip_forward
        ls /sys/class/net | sort
    """
    flags = ("--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.ip_forward=0")
    assert shell(engine, script, *flags).split() == ["0", "eth0", "lo"]


def test_pings_without_rights(barque: Stack) -> None:
    """dockerd leaves it at that: no user may."""
    found = shell(barque, "cat /proc/sys/net/ipv4/ping_group_range", "--cap-drop", "ALL")
    assert found.split() == ["0", str(COUNT - 1)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--privileged",), "privileged mode is incompatible with user namespaces"),
        (("--network", "host"), "cannot share the host's network namespace when user namespaces"),
        (("--pid", "host"), "cannot share the host PID namespace when user namespaces"),
    ],
)
def test_what_would_lead_out_is_refused(engine: Engine, flags: tuple[str, ...], words: str) -> None:
    done = engine.docker("run", "--rm", *flags, "busybox", "true", check=False)
    assert done.returncode == 125
    assert words in done.stderr.decode()


def test_one_may_have_the_machines_ids(engine: Engine) -> None:
    flags = ("--userns=host", "--network=host", "--pid=host")
    found = shell(engine, "cat /proc/self/uid_map; touch /new; stat -c %u /new", *flags)
    assert found.split() == ["0", "0", "4294967295", "0"]


def test_with_the_machines_ids_it_has_a_network_of_its_own(engine: Engine) -> None:
    script = "readlink /proc/self/ns/user; ip link set lo down; ls /sys/class/net | sort"
    found = shell(engine, script, "--userns=host", "--cap-add", "NET_ADMIN").split()
    assert found == [os.readlink("/proc/self/ns/user"), "eth0", "lo"]


def test_a_volume_is_roots_and_gets_what_the_image_has(engine: Engine) -> None:
    volume = f"v{secrets.token_hex(4)}"
    try:
        script = "chown 7:8 /etc/group && touch /etc/new /data/new; "
        script += "stat -c '%u %g' /etc /etc/new /etc/passwd /etc/group /data /data/new"
        flags = ("-v", f"{volume}:/etc", "-v", "/data")
        owners = shell(engine, script, *flags).splitlines()
        assert sorted(set(owners)) == ["0 0", "7 8"]
        place = Path(out(engine, "volume", "inspect", "-f", "{{.Mountpoint}}", volume).strip())
        assert (place.stat().st_uid, place.stat().st_gid) == (FIRST, FIRST)
        assert (place / "passwd").stat().st_uid == FIRST
        assert (place / "group").stat().st_gid == FIRST + 8
    finally:
        engine.docker("volume", "rm", "-f", volume)


def test_a_missing_source_is_made_for_root(engine: Engine, tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o711)
    source = tmp_path / "made" / "deep"
    shell(engine, "touch /m/new", "-v", f"{source}:/m")
    for path in (source, source.parent, source / "new"):
        assert path.stat().st_uid == FIRST
    assert tmp_path.stat().st_uid == 0


@pytest.mark.parametrize("running", [True, False])
def test_copies_in_and_out(engine: Engine, name: str, running: bool) -> None:
    out(engine, "create", "--name", name, "busybox", "sleep", "600")
    if running:
        out(engine, "start", name)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.uid, entry.gid, entry.size = 7, 8, 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    engine.docker("cp", "-a", "-", f"{name}:/root", stdin=buffer.getvalue())
    packed = engine.docker("cp", f"{name}:/root/file", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        (entry,) = archive.getmembers()
        assert (entry.name, entry.size) == ("file", 3)
        if isinstance(engine, Stack):  # dockerd 20.10 tells the machine's ids here
            assert (entry.uid, entry.gid) == (7, 8)
    if not running:
        out(engine, "start", name)
    found = out(engine, "exec", name, "stat", "-c", "%u %g", "/root/file")
    assert found.strip() == "7 8"


def test_an_image_and_an_archive_have_the_containers_ids(engine: Engine, name: str) -> None:
    script = "touch /root/new; chown 7:8 /root/new; chown 9 /tmp"
    out(engine, "run", "--name", name, "busybox", "sh", "-c", script)
    changed = out(engine, "diff", name).splitlines()
    assert sorted(changed) == ["A /root/new", "C /root", "C /tmp"]
    packed = engine.docker("export", name).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        owners = {m.name.rstrip("/"): (m.uid, m.gid) for m in archive.getmembers()}
    assert owners["root/new"] == (7, 8)
    assert owners["tmp"] == (9, 0)
    assert owners["bin/busybox"] == (0, 0)
    image = f"i{secrets.token_hex(4)}"
    out(engine, "commit", name, image)
    try:
        found = out(engine, "run", "--rm", image, "stat", "-c", "%u %g", "/root/new", "/tmp")
        assert found.splitlines() == ["7 8", "9 0"]
    finally:
        engine.docker("rmi", image)


def test_containers_share_namespaces(engine: Engine, name: str) -> None:
    flags = ("-d", "--name", name, "--ipc", "shareable", "--cap-add", "NET_ADMIN")
    out(engine, "run", *flags, "busybox", "sleep", "600")
    shell(engine, "touch /dev/shm/shared", "--ipc", f"container:{name}")
    assert out(engine, "exec", name, "ls", "/dev/shm").split() == ["shared"]
    shell(
        engine, "ip link set eth0 mtu 1234", "--network", f"container:{name}", "--cap-add=NET_ADMIN"
    )
    assert out(engine, "exec", name, "cat", "/sys/class/net/eth0/mtu").strip() == "1234"
    found = shell(engine, "cat /proc/1/cmdline", "--pid", f"container:{name}")
    assert found.split("\0")[:2] == ["sleep", "600"]


@pytest.fixture(params=["one layer", "two layers"])
def owned(barque: Stack, request: pytest.FixtureRequest) -> Iterator[str]:
    """An image with a file of user 7."""
    word = f"i{secrets.token_hex(4)}"
    if request.param == "one layer":
        barque.docker("import", "-", word, stdin=own_tar())
    else:
        script = "mkdir /d; echo it >/d/file; chown 7:8 /d/file; chmod 600 /d/file"
        out(barque, "run", "--name", word, "busybox", "sh", "-c", script)
        out(barque, "commit", word, word)
        out(barque, "rm", word)
    yield word
    out(barque, "rmi", word)


def own_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("d/file")
        entry.size, entry.uid, entry.gid, entry.mode = 3, 7, 8, 0o600
        archive.addfile(entry, io.BytesIO(b"it\n"))
    return buffer.getvalue()


@pytest.mark.parametrize("part", ["", "d", "d/file"])
def test_an_image_is_mounted_with_its_own_ids(barque: Stack, owned: str, part: str) -> None:
    """Docker 29 mounts what its remapped store has; here one store serves all."""
    mount = f"type=image,src={owned},dst=/m" + (f",image-subpath={part}" if part else "")
    file = "/m" + "/d/file".removeprefix(f"/{part}" if part else "")
    script = f"stat -c '%u %g' {file}; cat {file}; (echo x >{file}) 2>/dev/null || echo kept"
    assert shell(barque, script, "--mount", mount) == "7 8\nit\nkept\n"
    assert shell(barque, f"cat {file}", "--mount", mount, "-u", "7") == "it\n"
    assert shell(barque, f"stat -c %u {file}", "--mount", mount, "--userns=host") == "7\n"


def test_the_memory_of_the_machine_is_shared(barque: Stack) -> None:
    word = f"u{secrets.token_hex(4)}"
    try:
        shell(barque, f"echo it >/dev/shm/{word}", "--ipc", "host")
        assert Path("/dev/shm", word).stat().st_uid == FIRST
    finally:
        Path("/dev/shm", word).unlink(missing_ok=True)


def test_it_goes_on_after_the_daemons_end(engines: Engines) -> None:
    """And shares with what starts later; no namespace is left when all have ended."""
    barque = engines.get("barque")
    assert isinstance(barque, Stack)
    word = f"u{secrets.token_hex(4)}"
    out(barque, "run", "-d", "--name", word, "--ipc=shareable", "busybox", "sleep", "600")
    try:
        barque.kill("barqued")
        barque.start()
        assert out(barque, "exec", word, "id", "-u").strip() == "0"
        shell(barque, "touch /dev/shm/x", "--ipc", f"container:{word}", "--network=none")
        shell(barque, "ip link", "--network", f"container:{word}")
    finally:
        barque.docker("rm", "-f", word)
    (place,) = (barque.root / "r" / "userns").iterdir()
    assert os.path.ismount(place)


def test_another_runtime_joins_the_namespace(barque: Stack) -> None:
    found = shell(barque, "id -u; cat /proc/self/uid_map; touch /new", "--runtime", "debian-runc")
    assert found.split() == ["0", "0", str(FIRST), str(COUNT)]
