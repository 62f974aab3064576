"""Archive endpoints and `cp`: the same answers as Debian's dockerd; nothing leads out."""

import base64
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from barque import program
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import Answer, ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
Daemon = Stack | Peer

SETUP = (
    "mkdir -p /d/sub /d/empty; echo hi >/d/f; ln -s f /d/link; ln -s /d /dlink; "
    "ln -s nowhere /d/bad; ln /d/f /d/hard; ln -s ../../../../etc/passwd /esc; "
    "touch '/d/sp ace'; chown 12:34 /d/f; chmod 4755 /d/f; mknod /d/fifo p; rm /bin/stat; "
    "mkdir /bin/x; echo 1 >/vol/a; mkdir /drop; ln -s /drop /to; echo ready; exec sleep 1000"
)
PATHS = (
    *("/d", "/d/", "/d/.", "/d/f", "/d/f/", "/d/link", "/d/link/", "/dlink", "/dlink/", "/dlink/."),
    *("/d/bad", "/", "/.", ".", "d", "/d/sub/..", "/d/nosuch", "/nosuch/x", "/esc", "/d/empty"),
    *("../../etc/passwd", "/d/sp ace", "/vol", "/vol/", "/vol/a"),
)


@pytest.fixture(scope="module")
def daemons() -> Iterator[tuple[Stack, Peer]]:
    with docker_peer() as peer, stack() as barque:
        for daemon in (peer, barque):
            for name in ("runs", "ended"):
                options = ("--network", "none", "--name", name, "-v", "/vol")
                daemon.docker("run", "-d", *options, "busybox", "sh", "-c", SETUP)
                deadline = time.monotonic() + 30
                while daemon.docker("logs", name).stdout != b"ready\n":
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            daemon.docker("kill", "ended")
        yield barque, peer


def archive(daemon: Daemon, method: str, name: str, path: str, body: bytes | None = None) -> Answer:
    target = f"/v1.41/containers/{name}/archive?path={quote(path)}"
    return ask(daemon.socket, method, target, body)


def shown(answer: Answer) -> Any:
    """What of an answer must be the same: times are not, nor sizes of directories."""
    stat = answer.headers.get("x-docker-container-path-stat")
    told = json.loads(base64.b64decode(stat)) if stat else {}
    told.pop("mtime", None)
    if told.get("mode", 0) & ~0o7777:
        told.pop("size")
    if answer.status != 200:  # of a file taken for a directory the peer says 500
        return 400 if answer.status == 500 else answer.status
    if not answer.body:
        return answer.status, told
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        members = [
            (m.name, m.type, m.linkname, m.mode & 0o777, m.uid, m.gid, m.size)
            for m in sorted(tar.getmembers(), key=lambda m: m.name)
            if not m.name.lstrip("./").startswith(("dev", "proc", "sys", "etc", ".dockerenv"))
            and not m.name.lstrip("./").startswith(("dockerenv", "drop", "to"))
        ]
    return answer.status, told, members


@pytest.mark.parametrize("name", ["runs", "ended"])
@pytest.mark.parametrize("path", PATHS)
def test_what_a_path_names(daemons: tuple[Stack, Peer], name: str, path: str) -> None:
    ours, theirs = (
        [shown(archive(daemon, method, name, path)) for method in ("HEAD", "GET")]
        for daemon in daemons
    )
    assert ours == theirs


@pytest.mark.parametrize("name", ["runs", "ended"])
def test_changes(daemons: tuple[Stack, Peer], name: str) -> None:
    ours, theirs = (
        {
            (change["Path"], change["Kind"])
            for change in ask(d.socket, "GET", f"/v1.41/containers/{name}/changes").json()
            if not change["Path"].startswith(("/drop", "/to"))
        }
        for d in daemons
    )
    assert ours == theirs


def test_a_name_that_is_no_text(daemons: tuple[Stack, Peer]) -> None:
    told = []
    for daemon in daemons:
        script = "ln -sf \"$(printf '\\377')\" /tmp/odd"
        daemon.docker("exec", "runs", "sh", "-c", script)
        answer = archive(daemon, "HEAD", "runs", "/tmp/odd")
        assert answer.status == 200
        told.append(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
    ours, theirs = (json.loads(raw)["linkTarget"] for raw in told)
    assert ours == theirs == "/tmp/\ufffd"


def tar_of(*members: tuple[str, bytes, bytes | str]) -> bytes:
    """(name, type, content or link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.mode = kind, 5, 6, 0o640
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.linkname = content
                tar.addfile(entry)
    return buffer.getvalue()


FILE, DIRECTORY, SYMLINK, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
EXTRACTIONS: dict[str, tuple[str, bytes]] = {
    "a file": ("/drop", tar_of(("a", FILE, b"one"))),
    "over a file": ("/drop", tar_of(("a", FILE, b"two"))),
    "through a link": ("/to", tar_of(("b", FILE, b"b"))),
    "a tree": ("/drop/", tar_of(("t", DIRECTORY, ""), ("t/u", FILE, b"u"), ("t/l", SYMLINK, "u"))),
    "parents made": ("/drop", tar_of(("p/q/r", FILE, b"r"))),
    "a hard link": ("/drop", tar_of(("h1", FILE, b"h"), ("h2", LINK, "h1"))),
    "into a volume": ("/vol", tar_of(("v", FILE, b"v"))),
    "a directory over a file": ("/drop", tar_of(("a", DIRECTORY, ""))),
    "below a link of the archive": ("/drop", tar_of(("in", SYMLINK, "t"), ("in/w", FILE, b"w"))),
    "below a link to the root": ("/drop", tar_of(("up", SYMLINK, "/"), ("up/drop/z", FILE, b"z"))),
    "no such place": ("/nosuch", tar_of(("a", FILE, b""))),
    "a place that is a file": ("/d/f", tar_of(("a", FILE, b""))),
    "nothing": ("/drop", b""),
    "no archive": ("/drop", b"no archive" * 100),
}


@pytest.mark.parametrize("name", ["runs", "ended"])
def test_extraction(daemons: tuple[Stack, Peer], name: str) -> None:
    """The same statuses, and the same tree at the end."""
    found = []
    for daemon in daemons:
        for what, (path, body) in EXTRACTIONS.items():
            status = archive(daemon, "PUT", name, path, body).status
            # a body that is no archive is the client's fault: the peer says 500
            found.append((what, 400 if status == 500 else status))
        found.append(("tree", shown(archive(daemon, "GET", name, "/drop/."))[2]))
        found.append(("volume", shown(archive(daemon, "GET", name, "/vol"))[2]))
    half = len(found) // 2
    assert found[:half] == found[half:]


@pytest.mark.parametrize(
    "members",
    [
        [("../out", FILE, b"x")],
        [("a/../../out", FILE, b"x")],
        [("l", SYMLINK, "../../../../../../../../../../tmp"), ("l/out-of-it", FILE, b"x")],
        [("l", LINK, "../../../../etc/passwd")],
        [("../../l", SYMLINK, "/")],
    ],
)
def test_nothing_leads_out_of_the_container(
    daemons: tuple[Stack, Peer], members: list[tuple[str, bytes, bytes | str]], tmp_path: Path
) -> None:
    barque, _ = daemons
    for name in ("runs", "ended"):
        archive(barque, "PUT", name, "/drop", tar_of(*members))
    assert not Path("/tmp/out-of-it").exists()
    assert not (barque.root / "out").exists()
    assert not Path("/out").exists()


def test_a_read_only_container_takes_nothing_but_in_its_volumes(
    daemons: tuple[Stack, Peer],
) -> None:
    for daemon in daemons:
        options = ("--read-only", "--network", "none", "-v", "/w", "-v", "/etc:/ro:ro")
        daemon.docker("run", "-d", "--name", "fixed", *options, "busybox", "sleep", "1000")
        try:
            answers = [
                archive(daemon, "PUT", "fixed", path, tar_of(("a", FILE, b"a")))
                for path in ("/", "/ro", "/w")
            ]
            refused = 403 if isinstance(daemon, Stack) else 500  # the reference says 403
            assert [answer.status for answer in answers] == [refused, refused, 200]
            assert answers[0].message == "container rootfs is marked read-only"
            assert answers[1].message == "mounted volume is marked read-only"
            assert daemon.docker("exec", "fixed", "cat", "/w/a").stdout == b"a"
        finally:
            daemon.docker("rm", "-fv", "fixed")


# the command


def ours(barque: Daemon) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Our command on any daemon."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            program.command("barque", "-H", f"unix://{barque.socket}", *arguments),
            input=stdin,
            capture_output=True,
            check=False,
        )

    return run


COPIES = (
    *(("c:/d", "new"), ("c:/d", "there"), ("c:/d/.", "new2"), ("c:/d/.", "there"), ("c:/d/f", "g")),
    *(("c:/d/f", "there"), ("c:/d/f", "there/"), ("c:/d/f", "missing/"), ("c:/d", "file")),
    *(("c:/d/f", "file"), ("c:/d/link", "there"), ("-L", "c:/d/link", "there"), ("c:/nosuch", "x")),
    *(("-L", "c:/dlink", "followed"), ("c:/d/f", "no/such/place"), ("c:/dlink/", "slashed")),
    *(
        ("there", "c:/drop"),
        ("there/.", "c:/drop"),
        ("there", "c:/drop/named"),
        ("file", "c:/drop"),
    ),
    *(
        ("file", "c:/drop/other"),
        ("file", "c:/drop/missing/"),
        ("file", "c:/nosuch/x"),
        ("there", "c:/d/f"),
    ),
    *(("linked", "c:/drop"), ("-L", "linked", "c:/drop"), ("file", "c:/to"), ("nosuch", "c:/drop")),
    *(("file", "file2"), ("c:/x", "c:/y"), ("-a", "file", "c:/drop/kept"), (".", "c:/drop/dot")),
)


def local(directory: Path) -> None:
    (directory / "there").mkdir(parents=True)
    (directory / "there" / "inner").write_text("inner")
    (directory / "file").write_text("file")
    os.chown(directory / "file", 77, 88)
    (directory / "linked").symlink_to("file")


def tree(directory: Path) -> list[tuple[Any, ...]]:
    found = []
    for path in sorted(directory.rglob("*")):
        facts = path.lstat()
        content: Any = path.is_file() and not path.is_symlink() and path.read_bytes()
        link = os.readlink(path) if path.is_symlink() else ""
        found.append((str(path.relative_to(directory)), facts.st_mode, content, link))
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["barqued", "dockerd"])
def test_cp_does_what_docker_cp_does(
    daemons: tuple[Stack, Peer], which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both commands on one daemon: the same exit codes and the same trees, here and there."""
    daemon = daemons[which]
    results: list[tuple[Any, ...]] = []
    docker = partial(daemon.docker, check=False)
    for name, run in (("one", docker), ("two", ours(daemon))):
        script = SETUP.partition("echo 1 >/vol/a; ")[0] + "mkdir /drop; ln -s /drop /to"
        daemon.docker(
            "run", "--network", "none", "--name", f"c{name}", "busybox", "sh", "-c", script
        )
        local(tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        try:
            for arguments in COPIES:
                words = [word.replace("c:", f"c{name}:") for word in arguments]
                done = run("cp", *words)
                assert b"Traceback" not in done.stderr
                results.append((arguments, done.returncode))
            streamed = run("cp", f"c{name}:/d/f", "-").stdout
            with tarfile.open(fileobj=io.BytesIO(streamed)) as tar:
                results.append(("streamed", tar.getnames()))
            piped = run("cp", "-", f"c{name}:/drop", stdin=tar_of(("piped", FILE, b"p")))
            results.append(("piped", piped.returncode))
            results.append(("local", tree(tmp_path / name)))
            inside = archive(daemon, "GET", f"c{name}", "/drop/.")
            results.append(("inside", shown(inside)[2]))
        finally:
            daemon.docker("rm", "-f", f"c{name}")
    half = len(results) // 2
    assert results[half:] == results[:half]


def test_diff_prints_as_docker_does(daemons: tuple[Stack, Peer]) -> None:
    barque, _ = daemons
    real = sorted(barque.docker("diff", "ended").stdout.splitlines())
    assert sorted(ours(barque)("diff", "ended").stdout.splitlines()) == real
    assert b"D /bin/stat" in real


def test_a_copy_that_is_cut_off_leaves_nothing(daemons: tuple[Stack, Peer]) -> None:
    """A client that goes in the middle of its archive: the program that unpacks it ends."""
    barque, _ = daemons
    body = tar_of(("big", FILE, bytes(3 << 20)))
    cut = b"%x\r\n%b\r\n" % (len(body) // 2, body[: len(body) // 2])
    from tests.support.engine_api import connect

    client = connect(barque.socket)
    head = "PUT /containers/runs/archive?path=/drop HTTP/1.1\r\nHost: d\r\n"
    client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + cut)
    client.close()
    reader = connect(barque.socket)
    reader.sendall(b"GET /containers/runs/archive?path=/bin HTTP/1.1\r\nHost: d\r\n\r\n")
    reader.recv(100)
    reader.close()
    deadline = time.monotonic() + 20
    while barque.pids("barque-archive") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [p for p in all_pids() if "barque-archive" in p and str(barque.daemon) in p] == []
    assert barque.docker("exec", "runs", "true").returncode == 0


def all_pids() -> list[str]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found.append(line)
        except OSError:
            continue
    return found
