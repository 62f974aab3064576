"""Mounts that the server makes for its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from barque.containerd.proto import mounts_pb2 as api
from barque.containerd.proto.types_pb2 import ActivationInfo, Mount
from barque.errors import (
    AlreadyExists,
    BarqueError,
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from tests.support.node import Node, node
from tests.support.pods import Pods, run
from tests.support.rootfs import mounts_below

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(120)]
SERVICE = "containerd.services.mounts.v1.Mounts"
MKDIR = "X-containerd.mkdir.path="


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        yield made
        assert mounts_below(made.root / "state/mounts") == []


async def ask(client: Pods, method: str, answer: Any = None, **values: Any) -> Any:
    request = getattr(api, f"{method}Request")(**values)
    answer = answer or getattr(api, f"{method}Response")
    return await client.channel.unary(SERVICE, method, request, answer)


async def activate(client: Pods, name: str, *mounts: Mount, **more: Any) -> ActivationInfo:
    info: ActivationInfo = (await ask(client, "Activate", name=name, mounts=mounts, **more)).info
    return info


async def deactivate(client: Pods, name: str) -> None:
    await ask(client, "Deactivate", Empty, name=name)


async def names(client: Pods, *filters: str) -> list[str]:
    request = api.ListRequest(filters=filters)
    answers = client.channel.stream(SERVICE, "List", request, api.ListMessage)
    return [one.info.name async for one in answers]


def tmpfs() -> Mount:
    return Mount(type="tmpfs", source="some", options=["size=1m", "mode=755"])


def test_what_is_not_the_systems_is_made(it: Node) -> None:
    async def check(client: Pods) -> None:
        over = Mount(type="format/bind", source="{{ mount 0 }}/sub", options=["rbind", "ro"])
        info = await activate(client, "one", tmpfs(), over, labels={"a": "b"})
        assert (info.name, dict(info.labels)) == ("one", {"a": "b"})
        (made,) = info.active
        assert made.mount == tmpfs()
        assert made.mounted_at.seconds > 1_700_000_000
        assert mounts_below(it.root / "state/mounts") == [made.mount_point]
        (left,) = info.system
        assert (left.type, left.source) == ("bind", f"{made.mount_point}/sub")
        assert (await ask(client, "Info", name="one")).info == info
        with pytest.raises(AlreadyExists, match='mount "one"'):
            await activate(client, "one", tmpfs(), over)
        await deactivate(client, "one")
        assert not mounts_below(it.root / "state/mounts")
        for method, answer in (("Info", None), ("Deactivate", Empty)):
            with pytest.raises(NotFound, match='mount "one": not found'):
                await ask(client, method, answer, name="one")

    run(it, check)


def test_a_whole_file_system_for_a_while(it: Node) -> None:
    async def check(client: Pods) -> None:
        overlay = Mount(
            type="format/mkdir/overlay",
            source="overlay",
            options=[
                f"{MKDIR}{{{{ mount 0 }}}}/up:0750:7:8",
                f"{MKDIR}{{{{ mount 0 }}}}/work",
                "lowerdir={{ mount 1 }}",
                "upperdir={{ mount 0 }}/up",
                "workdir={{ mount 0 }}/work",
            ],
        )
        info = await activate(client, "whole", tmpfs(), tmpfs(), overlay, temporary=True)
        places = [Path(one.mount_point) for one in info.active]
        assert [place.is_mount() for place in places] == [True] * 3
        (bind,) = info.system
        assert (bind.type, bind.source, list(bind.options)) == ("bind", str(places[2]), ["rbind"])
        (places[1] / "below").write_text("lower")
        (places[2] / "new").write_text("upper")
        assert (places[0] / "up/new").read_text() == "upper"
        found = (places[0] / "up").stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o750, 7, 8)
        await deactivate(client, "whole")

    run(it, check)


def test_they_outlive_the_server(it: Node) -> None:
    async def make(client: Pods) -> None:
        await activate(client, "kept", tmpfs(), temporary=True, labels={"of": "x"})
        await activate(client, "other", tmpfs(), temporary=True)

    async def look(client: Pods) -> None:
        assert sorted(await names(client)) == ["kept", "other"]
        assert await names(client, "labels.of==x") == ["kept"]
        assert await names(client, "name==other") == ["other"]
        (made,) = (await ask(client, "Info", name="kept")).info.active
        assert Path(made.mount_point).is_mount()
        for name in ("kept", "other"):
            await deactivate(client, name)
        assert await names(client) == []

    run(it, make)
    it.crash()
    half = it.root / "state/mounts/half"
    (half / "0").mkdir(parents=True)  # what a crash in the middle leaves
    it.start()
    run(it, look)
    assert not half.exists()


def test_a_failure_leaves_nothing(it: Node) -> None:
    async def check(client: Pods) -> None:
        nothing = Mount(type="format/no-such-system", source="x")
        outside = Mount(type="mkdir/bind", source="/", options=[f"{MKDIR}/var/bq-outside"])
        (it.root / "root/link").symlink_to("/var")
        link = Mount(type="mkdir/bind", source="/", options=[f"{MKDIR}{it.root}/root/link/bq"])
        (it.root / "root/file").touch()
        file = Mount(type="mkdir/bind", source="/", options=[f"{MKDIR}{it.root}/root/file"])
        for bad, kind, text in (
            (nothing, BarqueError, "no-such-system"),
            (outside, InvalidArgument, "is not below"),
            (link, BarqueError, 'mount "bad": .*symbolic links'),
            (file, Conflict, "is no directory"),
            (Mount(type="format/bind", source="{{ mount 9 }}"), InvalidArgument, "mount 9"),
            (Mount(type="mkfs/loop"), Unsupported, "mkfs"),
        ):
            with pytest.raises(kind, match=text):
                await activate(client, "bad", tmpfs(), bad, temporary=True)
            assert not mounts_below(it.root / "state/mounts")
        assert not Path("/var/bq-outside").exists()
        with pytest.raises(Unsupported, match="none of the mounts"):
            await activate(client, "bad", tmpfs())
        with pytest.raises(InvalidArgument, match="name"):
            await activate(client, "", tmpfs(), temporary=True)
        bref = {"containerd.io/gc.bref.container": "x"}
        with pytest.raises(Unsupported, match=r"gc\.bref"):
            await activate(client, "bad", tmpfs(), temporary=True, labels=bref)
        assert await names(client) == []
        await activate(client, "good", tmpfs(), temporary=True)
        with pytest.raises(Unsupported, match="updating"):
            await ask(client, "Update", info=ActivationInfo(name="good"))
        await deactivate(client, "good")

    run(it, check)
