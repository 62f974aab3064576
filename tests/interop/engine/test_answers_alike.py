"""What two daemons answer to the same requests after the same life: ours and the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import Answer, ask, first_line

pytestmark = [pytest.mark.root, pytest.mark.peer]
VERSION = "/v1.41"
Both = tuple[Stack, Peer]

# method, target, and a document where one is sent: refused alike, in the same words.
REFUSED = """
GET /containers/nosuch/json
GET /containers/nosuch/stats?stream=0
GET /networks/nosuch
GET /volumes/nosuch
GET /exec/nosuch/json
GET /nosuch
GET /containers/long/logs
GET /containers/long/archive?path=/nosuch
GET /swarm
GET /nodes
GET /services
GET /secrets
POST /containers/nosuch/start
POST /containers/long/kill?signal=zz
POST /containers/long/rename
DELETE /containers/nosuch
DELETE /networks/bridge
DELETE /images/nosuch
POST /containers/create {"Image": "nosuch"}
POST /containers/create?name=!! {"Image": "busybox"}
POST /containers/long/exec {}
POST /containers/long/exec {"Cmd": []}
POST /exec/nosuch/start {}
POST /networks/create {"Name": "net", "CheckDuplicate": true}
POST /networks/net/connect {"Container": "nosuch"}
POST /networks/nosuch/connect {"Container": "long"}
POST /volumes/create {"Name": "!!"}
POST /containers/long/update {"Memory": 1}
POST /commit?container=nosuch {}
POST /images/nosuch/tag?repo=x
PUT /containers/long/archive?path=/nosuch
""".strip().splitlines()


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with stack() as barque, docker_peer() as peer:
        for daemon in (barque, peer):
            daemon.docker("network", "create", "net")
            run = ("run", "-d", "--name", "long", "--network", "net", "busybox")
            daemon.docker(*run, "sh", "-c", "cat /bin/busybox >/copy; exec sleep 1000")
        yield barque, peer


def answers(both: Both, method: str, target: str, document: Any = None) -> list[Answer]:
    return [ask(d.socket, method, f"{VERSION}{target}", document=document) for d in both]


@pytest.mark.parametrize("request_line", REFUSED)
def test_a_request_is_refused_alike(both: Both, request_line: str) -> None:
    method, target, *rest = request_line.split(" ", 2)
    document = json.loads(rest[0]) if rest else None
    ours, theirs = answers(both, method, target, document)
    assert ours.status == theirs.status >= 400
    assert ours.json() == theirs.json()


def test_stats_count_the_same(both: Both) -> None:
    """By name: the figures differ."""
    ours, theirs = (a.json() for a in answers(both, "GET", "/containers/long/stats?stream=0"))
    for part in ("memory_stats", "blkio_stats"):
        assert set(theirs[part]) - set(ours[part]) == set()
    wanted = set(theirs["memory_stats"]["stats"])
    assert wanted
    assert wanted - set(ours["memory_stats"]["stats"]) == set()
    assert ours["memory_stats"]["stats"]["pgfault"] > 0


def test_the_first_sample_of_a_stream_has_none_before_it(both: Both) -> None:
    """A moment of the machine without one of the container would make hundreds of percents."""
    for daemon in both:
        first = json.loads(first_line(daemon.socket, "/containers/long/stats?stream=1"))
        assert first["preread"] == "0001-01-01T00:00:00Z"
        assert first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert not first["precpu_stats"].get("system_cpu_usage")


@pytest.mark.parametrize("filter", ["health", "is-task"])
def test_a_filter_of_no_such_value(both: Both, filter: str) -> None:
    target = f'/containers/json?filters={{"{filter}":["zz"]}}'
    assert [a.status for a in answers(both, "GET", target)] == [400, 400]


def test_the_id_among_the_aliases(both: Both) -> None:
    """For clients of the time when it was there: docker-compose 1 looks for it."""
    for answer in answers(both, "GET", "/containers/long/json"):
        found = answer.json()
        assert found["NetworkSettings"]["Networks"]["net"]["Aliases"] == [found["Id"][:12]]
    newest = ask(both[0].socket, "GET", "/containers/long/json").json()
    endpoint = newest["NetworkSettings"]["Networks"]["net"]
    assert endpoint["Aliases"] is None
    assert endpoint["DNSNames"] == ["long", newest["Id"][:12]]


def test_the_file_that_says_that_it_is_a_container(both: Both) -> None:
    look = ("run", "--rm", "--network", "none", "busybox", "stat", "-c", "%F %a %s", "/.dockerenv")
    for daemon in both:
        assert daemon.docker(*look).stdout == b"regular empty file 755 0\n"
        assert b".dockerenv" not in daemon.docker("diff", "long").stdout


def test_networks_with_a_slash_at_the_end(both: Both) -> None:
    for answer in answers(both, "GET", "/networks/"):
        assert "net" in {network["Name"] for network in answer.json()}


def test_a_health_check_of_no_known_type(both: Both) -> None:
    """It is taken, and never run."""
    check = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["true"]}}
    created = answers(both, "POST", "/containers/create", check)
    assert [answer.status for answer in created] == [201, 201]
    assert "'true'" in created[0].json()["Warnings"][0]  # they say it in their log alone
    ids = [answer.json()["Id"] for answer in created]
    for daemon, name in ((both[0], ids[0]), (both[1], ids[1])):
        daemon.docker("start", name)
        found = json.loads(daemon.docker("inspect", name).stdout)[0]
        assert found["Config"]["Healthcheck"] == {"Test": ["true"]}
        assert "Health" not in found["State"]
        daemon.docker("rm", "-f", name)


def test_nothing_of_any_kind_has_the_name(both: Both) -> None:
    """The command asks for one kind after the other, managed plugins at last."""
    for daemon in both:
        said = daemon.docker("inspect", "nosuch", check=False).stderr.decode().lower()
        assert said == "error: no such object: nosuch\n"
