"""The volume plugin protocol against a plugin that is a server of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import errors
from barque.volume import plugin_places, plugins
from barque.volume.plugin_places import Address
from tests.support.plugin_server import NoMethod, Request, serving
from tests.support.volume_plugin import Keeper


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def keeper(directory: Path) -> Iterator[Keeper]:
    made = Keeper(directory, directory)
    made.start()
    yield made
    made.stop()


def test_a_volume_of_a_plugin(keeper: Keeper, directory: Path) -> None:
    plugin = plugins.find(keeper.name, directory)
    plugin.create("vol", {"size": "1"})
    assert keeper.options["vol"] == {"size": "1"}
    assert plugin.mount("vol", "c1") == f"{directory}/vol"
    assert keeper.users["vol"] == ["c1"]
    assert plugin.get("vol")["Status"] == {"users": 1}
    assert plugin.path("vol") == f"{directory}/vol"
    assert plugin.scope() == "global"
    assert [volume["Name"] for volume in plugin.volumes()] == ["vol"]
    plugin.unmount("vol", "c1")
    plugin.remove("vol")
    assert keeper.options == {}
    with pytest.raises(errors.BarqueError, match=r"VolumeDriver\.Mount: no volume vol"):
        plugin.mount("vol", "c1")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("other.spec", "unix://{}\n"),
        ("other/other.spec", "unix://{}"),
        ("other.json", '{{"Name": "other", "Addr": "unix://{}"}}'),
    ],
)
def test_a_plugin_found_by_a_file(keeper: Keeper, directory: Path, file: str, text: str) -> None:
    place = directory / "specs" / file
    place.parent.mkdir(parents=True)
    place.write_text(text.format(f"{directory}/{keeper.name}.sock"))
    specs = [directory / "specs"]
    plugins.find("other", directory / "none", specs).create("v", {})
    assert "v" in keeper.options
    assert plugin_places.names(directory, specs) == sorted(["other", keeper.name])


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("nonsense", errors.InvalidArgument, "plugin other: .*other.json has no address"),
        ("[]", errors.InvalidArgument, "has no address"),
        (
            '{"Addr": "tcp://h:1", "TLSConfig": {"CAFile": "x"}}',
            errors.Unsupported,
            "needs an https",
        ),
        ('{"Addr": "https://h:1", "TLSConfig": {"Odd": 1}}', errors.Unsupported, "'Odd' = 1"),
        ('{"Addr": "https://h:1", "TLSConfig": "x"}', errors.Unsupported, "TLSConfig of"),
        ('{"Addr": "ftp://h:1"}', errors.Unsupported, "address ftp://h:1 is not supported"),
    ],
)
def test_a_file_that_leads_to_no_plugin(
    directory: Path, text: str, kind: type[Exception], words: str
) -> None:
    (directory / "other.json").write_text(text)
    with pytest.raises(kind, match=words):
        plugins.find("other", directory / "none", [directory])


@pytest.mark.parametrize("name", ["missing", "../keeper", "", "a/b", "-x"])
def test_a_plugin_that_is_not_there(directory: Path, name: str) -> None:
    with pytest.raises(errors.NotFound, match="not found"):
        plugins.find(name, directory, [])
    assert plugin_places.names(directory / name, []) == []


def test_a_plugin_of_another_kind_is_refused(keeper: Keeper, directory: Path) -> None:
    keeper.implements = ["NetworkDriver"]
    with pytest.raises(errors.NotFound, match="does not implement VolumeDriver"):
        plugins.find(keeper.name, directory)


def test_a_plugin_that_does_not_answer(keeper: Keeper, directory: Path) -> None:
    plugin = plugins.Plugin("gone", Address("unix", f"{directory}/gone.sock"))
    with pytest.raises(errors.Unavailable, match='error while calling plugin "gone"'):
        plugin.create("v", {})
    keeper.hangs.clear()
    slow = plugins.find(keeper.name, directory, timeout_s=0.2)
    with pytest.raises(errors.Unavailable, match="List: timed out"):
        slow.volumes()


def test_a_plugin_that_says_nonsense(directory: Path) -> None:
    with serving(directory / "odd.sock", lambda _: {"Volumes": {"a": 1}}):
        odd = plugins.Plugin("odd", Address("unix", f"{directory}/odd.sock"))
        with pytest.raises(errors.BarqueError, match="plugin odd gives no list"):
            odd.volumes()
    with serving(directory / "odd.sock", lambda _: {"Volumes": [1, {}, {"Name": 2}, None]}):
        assert odd.volumes() == []
    with (
        serving(directory / "odd.sock", lambda _: None),
        pytest.raises(errors.Unavailable, match='error while calling plugin "odd"'),
    ):
        odd.volumes()


def test_a_method_that_a_plugin_does_not_have(directory: Path) -> None:
    def lacks(asked: Request) -> dict[str, str]:
        raise NoMethod

    odd = plugins.Plugin("odd", Address("unix", f"{directory}/odd.sock"))
    with (
        serving(directory / "odd.sock", lacks),
        pytest.raises(errors.NotFound, match=r'plugin "odd" has no method VolumeDriver\.List'),
    ):
        odd.volumes()
