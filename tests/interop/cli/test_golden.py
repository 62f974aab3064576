"""What the command prints, beside what the real docker CLI prints on the same daemon."""

from __future__ import annotations

import json
import re
import secrets
import time
from pathlib import Path

import pytest

from tests.interop.cli.conftest import Commands, renamed
from tests.support.docker_peer import Peer, busybox_tar

pytestmark = [pytest.mark.peer, pytest.mark.root]


# Command lines that leave nothing behind; both programs must print the same and exit alike.
ALIKE = [
    "ps",
    "ps --format json",
    "ps -a --no-trunc --filter name=nothing",
    "ps --foo",
    "ps -Z",
    "ps extra",
    "ps -n x",
    "ps --filter x",
    "ps --filter x=y",
    "ps --format {{",
    "ps --format {{foo}}",
    "ps --format",
    "container ls -q",
    "container list",
    "images",
    "images -q --no-trunc",
    "images --digests",
    "images --format json",
    "images --format {{.Repository}}:{{.Tag}}",
    "images --format raw",
    "images nothing",
    "images -f dangling=true",
    "images -f reference=busybox*",
    "image ls",
    "image inspect busybox",
    "image inspect nothing",
    "inspect busybox",
    "inspect nothing busybox --format {{.Id}}",
    "inspect --type network bridge --format {{.Driver}}",
    "inspect --type image bridge",
    "inspect --type nonsense x",
    "inspect -f {{.Foo}} busybox",
    "inspect -f {{json:.RootFS}} busybox",
    "inspect -f {{.Config.Env}} busybox",
    "inspect -f {{ busybox",
    "inspect -f {{.Id.Foo}} busybox",
    "network ls",
    "network ls --no-trunc --format {{.ID}}/{{.Driver}}",
    "network inspect nothing",
    "network inspect host none",
    "network rm nothing",
    "volume ls",
    "volume inspect nothing",
    "volume rm nothing",
    "run",
    "run --foo",
    "run nothing@x",
    "run --pull never nothing",
    "run --rm busybox nosuchprogram",
    "run --rm busybox /etc",
    "run --rm --network nothing busybox true",
    "run --rm -m 1m busybox true",
    "run --rm -v name:b busybox true",
    "run --rm -p a:b busybox true",
    "run --rm -it busybox true",
    "run --rm --restart always busybox true",
    "run -d -a stdout busybox true",
    "run --name !! busybox",
    "run --annotation a=b busybox true",
    "run --rm -e A=1 --hostname h busybox sh -c echo:$A;hostname;exit:3",
    "run --rm -w /tmp -u 1000:1000 busybox sh -c pwd;id",
    "run --rm busybox sh -c kill:-9:$$",
    "create nothing@x",
    "create --foo",
    "start nothing other",
    "start -a nothing other",
    "start -a nothing",
    "stop nothing",
    "stop -t x nothing",
    "restart nothing",
    "kill nothing",
    "pause nothing",
    "unpause nothing other",
    "rm nothing",
    "rm -f nothing",
    "rename nothing other",
    "rename one",
    "logs nothing",
    "logs",
    "logs --since nothing x",
    "attach nothing",
    "exec nothing true",
    "exec nothing",
    "exec -it nothing true",
    "top nothing",
    "port nothing",
    "wait nothing",
    "tag nothing other",
    "tag busybox Other",
    "rmi nothing",
    "pull FOO",
    "pull a:b:c",
    "load -i /nonexistent",
    "import /nonexistent",
    "events --since 1 --until 2",
    "info extra",
    "nonsense",
    "container nonsense",
    "help nonsense",
    "network --foo",
    "-l nonsense ps",
    "system prune",
]


@pytest.mark.parametrize("line", ALIKE)
def test_both_say_the_same(commands: Commands, line: str) -> None:
    words = [word.replace(":$", " $").replace("{{json:", "{{json ") for word in line.split()]
    words = [word.replace("kill:-9:", "kill -9 ").replace("exit:", "exit ") for word in words]
    try:
        commands.same(*words)
    except AssertionError:  # a list of ages, and the second has turned between the two
        if b" ago" not in commands.ours(*words)[1]:
            raise
        commands.same(*words)


def test_an_empty_name_is_refused_before_anything_is_asked(commands: Commands) -> None:
    """As `docker stop "$unset"` is: the path without the name is that of another endpoint."""
    for words in ("stop", "kill", "logs", "top", "wait", "update -m 9m", "start -a"):
        commands.same(*words.split(), "")
    for words in ("volume rm", "volume inspect", "network rm", "network inspect", "run", "create"):
        commands.same(*words.split(), "")
    commands.same("exec", "", "true")


POOLS = [
    "--gateway 10.99.0.1",
    "--subnet 10.99.0.0 --gateway 10.99.0.1",
    "--subnet 10.99.0.0/24 --subnet 10.99.0.0/28",
    "--subnet 10.99.0.0/24 --gateway 10.98.0.1",
    "--subnet 10.99.0.0/24 --gateway nothing",
    "--subnet 10.99.0.0/24 --gateway 10.99.0.1 --gateway 10.99.0.2",
    "--subnet 10.98.0.0/24 --subnet 10.99.0.0/24 --gateway 10.99.0.1 --gateway 10.99.0.2",
    "--subnet 10.99.0.0/24 --ip-range 10.98.0.0/28",
    "--subnet 10.99.0.0/24 --aux-address a=10.98.0.1",
    "--subnet 10.99.0.0/24 --aux-address a",
]


@pytest.mark.parametrize("line", POOLS)
def test_addresses_of_a_network_that_do_not_fit(commands: Commands, line: str) -> None:
    code, _, _ = commands.same("network", "create", *line.split(), "never")
    assert code != 0


@pytest.mark.parametrize(
    "device", ["", ":", "dev", ":/dev/null", "/dev/null:", "/dev/null::", "/dev/null:x", "/d:/d:q"]
)
def test_devices_that_are_none(commands: Commands, device: str) -> None:
    assert commands.same("create", "--device", device, "busybox")[0] == 125


@pytest.mark.parametrize("domain", ["", "a b", "a..b", "-a", "a-", "1.2", "../..", "x" * 255])
def test_domains_that_are_none(commands: Commands, domain: str) -> None:
    assert commands.same("create", "--dns-search", domain, "busybox")[0] == 125


@pytest.fixture
def running(commands: Commands, name: str) -> str:
    """A container that runs, has labels, ports, a volume, and has written to both streams."""
    script = "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done"
    code, _, err = commands.theirs(
        *("run", "-d", "--name", name, "-l", "b=2", "-l", "a=1", "-v", "/data", "--stop-timeout"),
        *("3", "-p", "127.0.0.1::80", "-p", "9000-9002", "busybox", "sh", "-c", script),
    )
    assert code == 0, err
    return name


def steady(text: bytes) -> bytes:
    """Without what a second changes."""
    return re.sub(
        rb"(Up )?(Less than a second|\d+ seconds?)( ago)?| +",
        lambda m: b" " if m[0][:1] == b" " else b"SOON",
        text,
    )


def test_lists_of_a_running_container(commands: Commands, running: str) -> None:
    for words in (
        ("ps", "--no-trunc"),
        ("ps", "-s", "--filter", f"name={running}"),
        ("ps", "--format", "{{.ID}} {{.Command}} {{.Labels}} {{.Mounts}} {{.LocalVolumes}}"),
        ("ps", "--format", '{{.Label "a"}} {{.Networks}} {{.State}} {{.Image}} {{.Names}}'),
        ("ps", "--format", "table {{.Names}}\t{{.Status}}\t{{.RunningFor}}"),
        ("ps", "--format", "table {{.Names}}: {{upper .State}}"),
        ("ps", "-l", "-q"),
        ("ps", "-n", "1", "--format", "{{.Size}}"),
        ("port", running, "80"),
        ("port", running, "81"),
        ("rm", running),
    ):
        ours, theirs = commands.ours(*words), commands.theirs(*words)
        assert steady(ours[1]) == steady(theirs[1]), words
        assert (ours[0], ours[2]) == (theirs[0], theirs[2]), words


TEMPLATES = [
    "{{.Name}} {{.State.Running}} {{.State.Pid}}",
    "{{.Config.Env}} {{.Config.Labels}} {{.Config.Volumes}} {{.Config.Cmd}}",
    "{{.HostConfig.Binds}} {{.HostConfig.Memory}} {{.HostConfig.CapAdd}}",
    "{{json .State}} {{json .HostConfig.PortBindings}}",
    "{{range .Config.Env}}{{println .}}{{end}}",
    "{{range $i, $e := .Config.Env}}{{$i}}={{$e}} {{end}}",
    '{{index .Config.Labels "a"}} {{index .Config.Labels "zz"}}|{{index .Config.Env 0}}',
    '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}',
    "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{(index $c 0).HostPort}} {{end}}",
    "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}",
    "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}",
    '{{if eq .State.Status "running"}}up{{else}}down{{end}}',
    '{{upper .Name}} {{title "abc def"}} {{split .Name "/"}} {{join .Config.Env ","}}',
    '{{pad "x" 1 2}}|{{truncate .Id 7}} {{len .Config.Env}} {{.Id | printf "%.5s"}}',
    "{{with .Config}}{{.Image}}{{end}} {{.RestartCount}} {{.Created}}",
    "{{- .Name -}} x {{/* c */}} y",
    "{{.State.Nothing}}",
    "{{index .Config.Env 99}}",
    "{{.Name | truncate}}",
    "{{.HostConfig.MemorySwappiness}} {{.SizeRw}}",
    "{{$x := .Name}}{{range .Config.Cmd}}{{$x}}{{end}}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_over_an_inspected_container(
    commands: Commands, template: str, templated: str
) -> None:
    commands.same("inspect", "-f", template, templated)


def test_the_processes_of_a_container(commands: Commands, templated: str) -> None:
    commands.same("top", templated)
    commands.same("top", templated, "-o", "pid,comm")


def test_a_whole_document_on_one_line(commands: Commands, templated: str) -> None:
    """All that the daemon says: Docker's client drops what it does not know."""
    _, out, _ = commands.ours("inspect", "--format", "json", templated)
    _, listed, _ = commands.theirs("inspect", templated)
    assert out.count(b"\n") == 1
    assert [json.loads(out)] == json.loads(listed)


@pytest.fixture(scope="module")
def templated(peer: Peer) -> str:
    name = f"t{secrets.token_hex(4)}"
    peer.docker(
        *("run", "-d", "--name", name, "-l", "b=2", "-l", "a=1", "-v", "/data", "-e", "X=1"),
        *("-p", "127.0.0.1::80", "busybox", "sleep", "1000"),
    )
    return name


def test_logs_in_all_their_ways(commands: Commands, running: str) -> None:
    for words in (
        (),
        ("-t",),
        ("--tail", "1"),
        ("--since", "10m"),
        ("--until", "10m"),
        ("-n", "0"),
    ):
        commands.same("logs", *words, running)


def test_names_with_a_slash(commands: Commands) -> None:
    """They are images' alone, but every kind of object is asked for them."""
    assert commands.same("inspect", "no/such:tag")[0] == 1
    for kind in ("container", "network", "volume", "image"):
        assert commands.same(kind, "inspect", "no/such:tag")[0] == 1


def test_a_life(commands: Commands, running: str) -> None:
    """What one does the other undoes, so that both print the same."""
    for ours, theirs in (("pause", "unpause"), ("stop", "start")):
        assert commands.ours(ours, running) == (0, f"{running}\n".encode(), b"")
        assert commands.theirs(theirs, running) == (0, f"{running}\n".encode(), b"")
        assert commands.theirs(ours, running)[0] == 0
        assert commands.ours(theirs, running) == (0, f"{running}\n".encode(), b"")
    assert commands.ours("restart", "-t", "1", running)[0] == 0
    assert commands.ours("kill", "-s", "TERM", running) == (0, f"{running}\n".encode(), b"")
    assert commands.ours("wait", running) == (0, b"7\n", b"")
    assert commands.ours("rename", running, f"{running}x") == (0, b"", b"")
    assert commands.ours("rm", f"{running}x") == (0, f"{running}x\n".encode(), b"")
    commands.same("inspect", running)


def test_exec_in_all_its_ways(commands: Commands, running: str) -> None:
    commands.same("exec", running, "sh", "-c", "echo a; echo b >&2; exit 5")
    commands.same(
        "exec", "-e", "A=1", "-w", "/tmp", "-u", "1000", running, "sh", "-c", "id; pwd; env"
    )
    commands.same("exec", "-i", running, "cat", stdin=b"typed")
    commands.same("exec", "-d", running, "true")
    commands.same("exec", running, "nosuchprogram")
    commands.same("exec", "--foo", running)


def test_images_come_and_go(commands: Commands, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(busybox_tar())
    word = f"i{secrets.token_hex(4)}"
    code, out, err = commands.ours(
        "import", "-c", "ENV A=b", "-m", "note", str(archive), f"{word}:1"
    )
    assert (code, err) == (0, b"")
    assert re.fullmatch(rb"sha256:[0-9a-f]{64}\n", out)
    assert commands.ours("tag", f"{word}:1", f"{word}:2") == (0, b"", b"")
    saved = tmp_path / "saved.tar"
    assert commands.theirs("save", "-o", str(saved), f"{word}:1")[0] == 0
    for words, stdin in (
        (("-i", str(saved)), b""),
        ((), saved.read_bytes()),
        (("-q",), saved.read_bytes()),
    ):
        assert commands.same("load", *words, stdin=stdin)[0] == 0
    assert commands.ours("rmi", f"{word}:2") == (0, f"Untagged: {word}:2\n".encode(), b"")
    gone = commands.ours("image", "rm", f"{word}:1", "nothing")
    assert gone[0] == 1
    assert gone[1].startswith(f"Untagged: {word}:1\nDeleted: sha256:".encode())
    assert gone[2] == b"Error response from daemon: No such image: nothing:latest\n"


def test_networks_and_volumes_come_and_go(commands: Commands) -> None:
    word = f"n{secrets.token_hex(4)}"
    create = ("--subnet", "172.31.99.0/24", "--gateway", "172.31.99.1", "--label", "a=b")
    code, out, _ = commands.ours("network", "create", *create, "--internal", word)
    assert (code, len(out)) == (0, 65)
    commands.same("network", "inspect", word)
    commands.same(
        "network", "ls", "--filter", f"name={word}", "--format", "{{.Labels}}{{.Internal}}"
    )
    assert commands.ours("network", "rm", word) == (0, f"{word}\n".encode(), b"")
    assert commands.ours("volume", "create", "--label", "a=b", word) == (
        0,
        f"{word}\n".encode(),
        b"",
    )
    commands.same("volume", "inspect", word)
    commands.same("volume", "ls", "--filter", f"name={word}")
    assert commands.ours("volume", "rm", word, "nothing")[:2] == (1, f"{word}\n".encode())


def test_events_of_a_life(commands: Commands, name: str) -> None:
    since = int(time.time())
    assert commands.ours("run", "--rm", "--name", name, "busybox", "true")[0] == 0
    ends = ("--since", str(since), "--until", str(int(time.time()) + 1))
    window = ("events", *ends, "--filter", f"container={name}")
    code, out, _ = commands.ours(*window)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()][:4] == [
        b"create",
        b"attach",
        b"start",
        b"die",
    ]
    assert out == commands.theirs(*window)[1]
    commands.same(
        *window, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.image}} {{.TimeNano}}"
    )


def test_version_and_info(commands: Commands) -> None:
    """The server's half is Docker's; the client's is our own."""
    for words in (("version",), ("info",)):
        ours, theirs = commands.ours(*words), commands.theirs(*words)
        after = b"\nServer:"
        assert (ours[0], theirs[0]) == (0, 0)
        assert _sorted_runtimes(ours[1].split(after)[1]) == _sorted_runtimes(
            theirs[1].split(after)[1]
        )
    commands.same("version", "-f", "{{.Server.Version}} {{.Server.APIVersion}}")
    commands.same("info", "-f", "{{.Driver}} {{.NCPU}} {{.ServerVersion}}")


def _sorted_runtimes(text: bytes) -> list[bytes]:
    """Docker prints them in another order each time."""
    return [
        b" ".join(sorted(line.split())) if b"Runtimes" in line else line
        for line in text.split(b"\n")
    ]


def test_no_daemon(commands: Commands, tmp_path: Path) -> None:
    commands.environment["DOCKER_HOST"] = f"unix://{tmp_path}/none.sock"
    for words in (("ps",), ("run", "busybox"), ("inspect", "x"), ("rm", "x", "y"), ("logs", "x")):
        commands.same(*words)
    code, out, err = commands.ours("version")
    theirs = commands.theirs("version")
    assert (code, err) == (theirs[0], theirs[2])
    assert b"Server" not in out


def test_the_container_id_is_written_down(commands: Commands, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    code, out, _ = commands.ours(
        "run", "-d", "--name", name, "--cidfile", str(path), "busybox", "true"
    )
    assert code == 0
    assert path.read_text() + "\n" == out.decode()
    commands.same("run", "--cidfile", str(path), "busybox", "true")


def test_the_program_has_its_own_name() -> None:
    assert renamed(b"docker: 'docker run' x") == b"barque: 'barque run' x"
