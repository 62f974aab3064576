from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from barque import errors
from barque.daemon.database import Database
from barque.daemon.events import Events
from barque.daemon.volumes.records import ANONYMOUS_LABEL, parse_create
from barque.daemon.volumes.service import Volumes
from barque.program import command
from barque.volume.local import LocalVolumes

T = TypeVar("T")


def wait(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "daemon.db")
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "volumes").mkdir()
    return tmp_path / "volumes"


@pytest.fixture
def volumes(database: Database, root: Path) -> Volumes:
    return Volumes(
        database, Events(), LocalVolumes(root, command("barque-copyup")), root.parent / "parts"
    )


def test_a_named_volume_from_creation_to_removal(volumes: Volumes, root: Path) -> None:
    made = wait(volumes.create({"Name": "vol", "Labels": {"a": "b"}}))
    assert made["Mountpoint"] == str(root / "vol" / "_data")
    assert made == wait(volumes.inspect("vol"))
    assert (made["Driver"], made["Scope"], made["Labels"]) == ("local", "local", {"a": "b"})
    assert wait(volumes.create({"Name": "vol"})) == made
    assert [v["Name"] for v in volumes.summaries({})] == ["vol"]
    wait(volumes.remove("vol"))
    assert list(root.iterdir()) == []
    with pytest.raises(errors.NotFound, match="get vol: no such volume"):
        wait(volumes.inspect("vol"))
    with pytest.raises(errors.NotFound):
        wait(volumes.remove("vol"))
    wait(volumes.remove("vol", force=True))


def test_a_volume_in_use_is_not_removed_and_says_by_whom(volumes: Volumes) -> None:
    wait(volumes.reserve("vol", "c1"))
    wait(volumes.reserve("vol", "c2"))
    wait(volumes.reserve("vol", "c2"))
    with pytest.raises(errors.Conflict) as refused:
        wait(volumes.remove("vol"))
    assert str(refused.value) == "remove vol: volume is in use - [c1, c2]"
    wait(volumes.release("c1"))
    wait(volumes.release("c2"))
    wait(volumes.release("c2"))
    wait(volumes.remove("vol"))


def test_mounting_gives_the_path_and_names_what_is_missing(volumes: Volumes, root: Path) -> None:
    wait(volumes.reserve("vol", "c1"))
    assert wait(volumes.mount("vol", "c1")) == str(root / "vol" / "_data")
    assert volumes.data_path("vol") == str(root / "vol" / "_data")
    assert volumes.data_path("nope") == ""
    with pytest.raises(errors.NotFound, match="get nope: no such volume"):
        wait(volumes.mount("nope", "c1"))


def test_prune_takes_the_anonymous_and_with_all_the_named(volumes: Volumes) -> None:
    wait(volumes.create({"Name": "named"}))
    anonymous = wait(volumes.create({}))["Name"]
    wait(volumes.reserve("f" * 64, "c1", anonymous=True))
    removed, freed = wait(volumes.prune({}))
    assert removed == [anonymous]
    assert freed >= 0
    assert wait(volumes.prune({"all": ["true"]}))[0] == ["named"]
    wait(volumes.release("c1"))
    assert wait(volumes.prune({"label!": [ANONYMOUS_LABEL]}))[0] == []
    assert wait(volumes.prune({"label": [ANONYMOUS_LABEL]}))[0] == ["f" * 64]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"name": ["al"]}, ["alpha"]),
        ({"dangling": ["true"]}, ["beta"]),
        ({"dangling": ["false"]}, ["alpha"]),
        ({"label": ["x=1"]}, ["beta"]),
        ({"label": ["x=2"]}, []),
        ({"driver": ["local"]}, ["alpha", "beta"]),
        ({"driver": ["other"]}, []),
    ],
)
def test_list_filters(volumes: Volumes, filters: dict[str, list[str]], names: list[str]) -> None:
    wait(volumes.create({"Name": "beta", "Labels": {"x": "1"}}))
    wait(volumes.reserve("alpha", "c1"))
    assert [v["Name"] for v in volumes.summaries(filters)] == names


def test_unknown_filters_are_refused(volumes: Volumes) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid filter 'foo'"):
        volumes.summaries({"foo": ["x"]})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"Name": "../x"}, errors.InvalidArgument),
        ({"Name": "x"}, errors.InvalidArgument),
        ({"Name": 1}, errors.InvalidArgument),
        ({"Labels": {"a": 1}}, errors.InvalidArgument),
        ({"Name": "ab", "DriverOpts": {"type": "tmpfs"}}, errors.InvalidArgument),
        ({"Name": "ab", "DriverOpts": {"size": "much"}}, errors.InvalidArgument),
        ({"Name": "ab", "ClusterVolumeSpec": {"Group": "x"}}, errors.Unsupported),
    ],
)
def test_bad_requests_are_refused(body: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse_create(body)


def test_a_restart_finishes_what_a_crash_broke_off(
    volumes: Volumes, database: Database, root: Path
) -> None:
    wait(volumes.create({"Name": "kept"}))
    wait(volumes.reserve("kept", "gone"))
    wait(volumes.reserve("a" * 64, "gone", anonymous=True))
    wait(volumes.reserve("b" * 64, "here", anonymous=True))
    wait(volumes.create({"Name": "half"}))
    LocalVolumes(root, []).discard("half")
    again = Volumes(database, Events(), LocalVolumes(root, []), root.parent / "parts")
    wait(again.restore(["here"]))
    assert [v["Name"] for v in again.summaries({})] == ["b" * 64, "kept"]
    assert again.users("kept") == []
    assert sorted(path.name for path in root.iterdir()) == ["b" * 64, "kept"]


def test_a_plugin_that_is_not_there(volumes: Volumes) -> None:
    with pytest.raises(errors.NotFound, match=r'create ab: .* plugin "none" not found'):
        wait(volumes.create({"Name": "ab", "Driver": "none"}))
    assert volumes.summaries({}) == []
