"""What the engine takes and uses: df, prune, stats, update, sizes; events that outlive it."""

import json
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from barque import program
from tests.support.barque import Stack, stack
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
AGES_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def used() -> Iterator[Stack]:
    """One running and one ended container that have written, two volumes, a second image."""
    with stack() as made:
        write = "dd if=/dev/zero of=/x bs=1000 count=500 2>/dev/null; "
        made.docker("run", "--name", "ended", "busybox", "sh", "-c", write)
        made.docker("volume", "create", "idle")
        options = ("-v", "kept:/v", "--name", "runs", "--label", "a=b")
        made.docker("run", "-d", *options, "busybox", "sh", "-c", write + "exec sleep 1000")
        made.docker("exec", "runs", "sh", "-c", "echo 12345 >/v/file")
        made.docker("tag", "busybox", "other:1")
        yield made


def same(used: Stack, *arguments: str) -> bytes:
    """Our command prints what docker's prints. Ages turn between the two: then both again."""
    deadline = time.monotonic() + AGES_LIMIT_S
    real, ours = used.docker(*arguments), used.cli(*arguments)
    while ours.stdout != real.stdout and b" ago" in ours.stdout and time.monotonic() < deadline:
        real, ours = used.docker(*arguments), used.cli(*arguments)
    assert ours.stdout == real.stdout
    return real.stdout


def test_df_is_printed_as_docker_prints_it(used: Stack) -> None:
    lines = same(used, "system", "df").decode().splitlines()
    assert [line.split()[0] for line in lines] == ["TYPE", "Images", "Containers", "Local", "Build"]
    same(used, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}")
    same(used, "system", "df", "--format", "json")
    same(used, "system", "df", "-v")


def test_df_tells_sizes(used: Stack) -> None:
    found = ask(used.socket, "GET", "/v1.47/system/df").json()
    sizes = {c["Names"][0]: c["SizeRw"] for c in found["Containers"]}
    assert sizes["/ended"] >= 500_000
    assert sizes["/runs"] >= 500_000
    volumes = {v["Name"]: v["UsageData"] for v in found["Volumes"]}
    assert volumes["kept"] == {"Size": volumes["kept"]["Size"], "RefCount": 1}
    assert volumes["kept"]["Size"] >= 6
    assert volumes["idle"]["RefCount"] == 0
    (image,) = found["Images"]
    assert found["LayersSize"] == image["Size"] > 500_000
    assert image["Containers"] == 2
    only = ask(used.socket, "GET", "/v1.47/system/df?type=volume").json()
    assert set(only) == {"Volumes"}
    assert ask(used.socket, "GET", "/v1.47/system/df?type=nothing").status == 400
    assert ask(used.socket, "GET", "/v1.41/system/df").json()["BuilderSize"] == 0


def test_sizes_of_containers(used: Stack) -> None:
    line = same(used, "ps", "-s", "--format", "{{.Names}} {{.Size}}").decode()
    assert line.startswith("runs 5")
    found = json.loads(used.docker("inspect", "-s", "ended").stdout)[0]
    assert found["SizeRw"] >= 500_000
    assert found["SizeRootFs"] > found["SizeRw"]
    assert "SizeRw" not in json.loads(used.docker("inspect", "ended").stdout)[0]


def test_stats_once(used: Stack) -> None:
    template = "{{.Container}} {{.Name}} {{.PIDs}}"
    assert same(used, "stats", "--no-stream", "--format", template, "runs") == b"runs runs 1\n"
    head = used.cli("stats", "--no-stream").stdout.decode().splitlines()
    assert head[0] == used.docker("stats", "--no-stream").stdout.decode().splitlines()[0]
    assert len(head) == 2
    both = used.cli("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}}").stdout
    assert sorted(both.decode().splitlines()) == ["ended 0", "runs 1"]


def test_stats_go_on(used: Stack) -> None:
    """Lines come again and again, and end with the container that was asked for."""
    used.docker("run", "-d", "--name", "short", "busybox", "sleep", "1000")
    command = program.command("barque", "-H", used.host, "stats", "--format", "{{.Name}}", "short")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline() for _ in range(3)]
        assert b"short\n" in lines
        used.docker("rm", "-f", "short")
        following.stdout.read()
        assert following.wait(30) == 0


def test_stats_of_nobody(used: Stack) -> None:
    done = used.cli("stats", "--no-stream", "nosuch", check=False)
    assert done.returncode == 1
    assert b"No such container: nosuch" in done.stderr


def test_update(used: Stack) -> None:
    done = used.cli("update", "--pids-limit", "50", "--restart", "on-failure:3", "runs", "ended")
    assert done.stdout == b"runs\nended\n"
    template = "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy}}"
    assert used.docker("inspect", "-f", template, "runs").stdout == b"50 {on-failure 3}\n"
    limit = used.docker(
        "exec",
        "runs",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null",
        check=False,
    )
    assert limit.stdout == b"50\n"
    assert used.cli("update", "runs", check=False).returncode == 1


def events(used: Stack, **filters: list[str]) -> list[tuple[str, str, str]]:
    asked = quote(json.dumps(filters))
    target = f"/events?since=0&until={time.time():.9f}&filters={asked}"
    answer = ask(used.socket, "GET", target)
    assert answer.status == 200, answer.body
    lines = [json.loads(line) for line in answer.body.splitlines()]
    return [(e["Type"], e["Action"], e["Actor"]["Attributes"].get("name", "")) for e in lines]


def test_events_by_every_filter(used: Stack) -> None:
    assert ("container", "create", "ended") in events(used)
    assert set(events(used, container=["ended"], event=["create", "start"])) == {
        ("container", "create", "ended"),
        ("container", "start", "ended"),
    }
    assert {kind for kind, _, _ in events(used, type=["volume"])} == {"volume"}
    assert events(used, volume=["idle"]) != []
    assert {name for _, _, name in events(used, label=["a=b"])} == {"runs"}
    assert {name for _, _, name in events(used, image=["busybox"], type=["container"])} == {
        *("ended", "runs"),
        *(name for _, _, name in events(used, type=["container"]) if name == "short"),
    }
    assert events(used, scope=["swarm"]) == []
    assert events(used, daemon=["nosuch"]) == []
    unknown = quote(json.dumps({"no": ["x"]}))
    assert ask(used.socket, "GET", f"/events?filters={unknown}").status == 400


def test_events_outlive_the_daemon(used: Stack) -> None:
    before = events(used, container=["runs"])
    used.kill("barqued")
    used.start()
    assert events(used, container=["runs"])[: len(before)] == before


def test_prune(used: Stack) -> None:
    done = used.cli("container", "prune", "-f").stdout.decode()
    assert "Total reclaimed space: 5" in done
    assert used.docker("ps", "-aq").stdout.decode().split() != []
    assert used.docker("ps", "-a", "--format", "{{.Names}}").stdout == b"runs\n"


def test_system_prune(used: Stack) -> None:
    used.docker("run", "--name", "again", "-v", "/anonymous", "busybox", "true")
    used.docker("network", "create", "nobody")
    answer = used.cli("system", "prune", stdin=b"n\n", check=False)
    assert answer.returncode == 0
    assert b"all networks not used by at least one container" in answer.stdout
    done = used.cli("system", "prune", "-f", "-a", "--volumes").stdout.decode()
    assert "Deleted Containers:" in done
    assert "nobody" in done
    assert "Deleted Volumes:" in done
    assert used.docker("ps", "-a", "--format", "{{.Names}}").stdout == b"runs\n"
    assert used.docker("images", "-q").stdout != b""


def test_swarm_says_so(used: Stack) -> None:
    for method, target in (
        ("GET", "/swarm"),
        ("GET", "/nodes"),
        ("POST", "/services/create"),
        ("GET", "/tasks/x"),
        ("DELETE", "/secrets/x"),
    ):
        answer = ask(used.socket, method, target, document={} if method == "POST" else None)
        assert (answer.status, answer.message.startswith("This node is not a swarm manager.")) == (
            503,
            True,
        )
    assert ask(used.socket, "POST", "/swarm/init", document={}).status == 501
    done = subprocess.run(
        ["docker", "-H", used.host, "node", "ls"], capture_output=True, check=False
    )
    assert b"This node is not a swarm manager" in done.stderr
