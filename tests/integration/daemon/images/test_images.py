"""Images come in, are found, renamed, listed, saved and removed; and nothing stays of them."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from barque import errors
from barque.daemon.images.progress import run
from barque.daemon.images.remove import User
from barque.oci import digest as digests
from tests.support.images import Bench, on, pieces, tar
from tools.busybox_image import docker_archive, image_config

pytestmark = pytest.mark.root

LAYER = tar(("etc/hello", b"hello\n"), ("big", bytes(2 << 20)))
ARCHIVE = docker_archive("busybox:latest", LAYER)
ID = digests.sha256(image_config(LAYER))


def test_a_docker_archive_is_loaded(address: str) -> None:
    async def body(b: Bench) -> None:
        lines = await b.load(ARCHIVE)
        assert lines[-1] == {"stream": "Loaded image: busybox:latest\n"}
        assert {"Loading layer"} == {line["status"] for line in lines[:-1]}
        image = await b.images.resolve("busybox")
        assert image.id == ID
        assert image.raw_config == image_config(LAYER)
        assert image.config["Cmd"] == ["sh"]
        assert image.chain_id == digests.sha256(LAYER)
        assert image.size >= 2 << 20
        snapshot = await b.containerd.snapshots.stat(image.chain_id)
        assert snapshot.kind == "committed"
        assert b.actions() == ["load"]

    on(address, body)


def test_every_way_to_name_an_image(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        digits = ID.removeprefix("sha256:")
        names = ["busybox", "busybox:latest", "docker.io/library/busybox", ID, digits, digits[:5]]
        assert {(await b.images.resolve(name)).id for name in names} == {ID}
        for name in ("nope", "busybox:1", "sha256:" + "0" * 64, "0" * 64, "beef", f"x@{ID}"):
            with pytest.raises(errors.NotFound, match="No such image: "):
                await b.images.resolve(name)
        for name in ("", "Upper", "a b", "../x", "busybox:"):
            with pytest.raises(errors.InvalidArgument):
                await b.images.resolve(name)

    on(address, body)


def test_a_second_question_asks_containerd_nothing(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        first = await b.images.resolve("busybox")
        b.containerd.close()  # the connection is made again by whoever asks
        assert await b.images.resolve("busybox") is first
        assert (await b.images.resolve(ID)).id == ID

    on(address, body)


def test_import_with_changes(address: str) -> None:
    async def body(b: Bench) -> None:
        changes = ['CMD ["/x"]', "ENV A=1"]
        (line,) = await b.import_(gzip.compress(LAYER), "imported", "1", changes)
        image = await b.images.resolve("imported:1")
        assert line == {"status": image.id}
        assert image.config == {"Cmd": ["/x"], "Env": ["A=1"]}
        assert image.diff_ids == (digests.sha256(LAYER),)
        assert (await b.images.inspect("imported:1", (1, 47)))["Comment"] == "Imported from -"
        assert b.actions() == ["import"]

    on(address, body)


def test_import_without_a_name_is_dangling(address: str) -> None:
    async def body(b: Bench) -> None:
        (line,) = await b.import_(LAYER)
        (summary,) = await b.images.list({"dangling": ["true"]})
        assert (summary["Id"], summary["RepoTags"]) == (line["status"], [])
        assert await b.images.remove(line["status"], force=False) == [{"Deleted": line["status"]}]

    on(address, body)


def test_an_unknown_change_is_refused_before_anything_is_read(address: str) -> None:
    async def body(b: Bench) -> None:
        with pytest.raises(errors.InvalidArgument, match="run is not a valid change"):
            await b.import_(LAYER, "x", "1", ["RUN id"])
        assert await b.remains() == {}

    on(address, body)


def test_a_name_that_moves_leaves_the_old_image_dangling(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.import_(LAYER, "a", "1")
        old = await b.images.resolve("a:1")
        await b.load(docker_archive("a:1", LAYER))
        new = await b.images.resolve("a:1")
        assert new.id != old.id
        (dangling,) = await b.images.list({"dangling": ["1"]})
        assert dangling["Id"] == old.id
        await b.images.tag(old.id, "b", "2")  # with a name again, it is not dangling any more
        assert await b.images.list({"dangling": ["true"]}) == []
        assert b.images.count() == 2

    on(address, body)


def test_tag_and_remove(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        await b.images.tag("busybox", "r.example:5000/x/y", "v1")
        assert (await b.images.names_of(ID)).tags == ("busybox:latest", "r.example:5000/x/y:v1")
        assert await b.images.remove("busybox", force=False) == [{"Untagged": "busybox:latest"}]
        with pytest.raises(errors.NotFound):
            await b.images.resolve("busybox")
        lines = await b.images.remove("r.example:5000/x/y:v1", force=False)
        assert lines == [{"Untagged": "r.example:5000/x/y:v1"}, {"Deleted": ID}]
        assert b.actions() == ["load", "tag", "untag", "untag", "delete"]
        assert await b.remains() == {}  # freed when the call returns

    on(address, body)


@pytest.mark.parametrize(
    ("repository", "tag"), [("UPPER", "1"), ("a", "-x"), ("", "1"), ("a:b:c", "")]
)
def test_malformed_tags_are_refused(address: str, repository: str, tag: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        with pytest.raises(errors.InvalidArgument):
            await b.images.tag("busybox", repository, tag)

    on(address, body)


def test_an_image_in_use_is_kept(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        short = ID.removeprefix("sha256:")[:12]
        b.users[ID] = [User("c" * 64, running=False)]
        with pytest.raises(errors.Conflict) as refused:
            await b.images.remove("busybox", force=False)
        assert str(refused.value) == (
            'conflict: unable to remove repository reference "busybox:latest" (must force) - '
            f"container cccccccccccc is using its referenced image {short}"
        )
        with pytest.raises(
            errors.Conflict, match=r"must be forced.*stopped container cccccccccccc"
        ):
            await b.images.remove(ID, force=False)
        b.users[ID] = [User("c" * 64, running=True)]
        with pytest.raises(errors.Conflict, match=r"cannot be forced.*running container"):
            await b.images.remove(ID, force=True)
        assert await b.images.remove("busybox", force=True) == [{"Untagged": "busybox:latest"}]
        (summary,) = await b.images.list({})
        assert (summary["Id"], summary["RepoTags"]) == (ID, [])
        assert (await b.images.prune({"dangling": ["false"]}))["ImagesDeleted"] is None
        b.users.clear()
        pruned = await b.images.prune({})
        assert pruned["ImagesDeleted"] == [{"Deleted": ID}]
        assert pruned["SpaceReclaimed"] >= 2 << 20

    on(address, body)


def test_an_id_with_several_repositories_needs_force(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        await b.images.tag("busybox", "other", "1")
        with pytest.raises(errors.Conflict, match="referenced in multiple repositories"):
            await b.images.remove(ID[:19], force=False)
        lines = await b.images.remove(ID[:19], force=True)
        assert lines[-1] == {"Deleted": ID}
        assert len(lines) == 3

    on(address, body)


def test_filters_of_the_list(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        await b.import_(tar(("f", b"1")), "labelled", "1", ["LABEL a=b c=d"])

        async def tags(**filters: str) -> list[str]:
            wanted = {key.rstrip("_"): [value] for key, value in filters.items()}
            return [tag for found in await b.images.list(wanted) for tag in found["RepoTags"]]

        assert await tags() == ["labelled:1", "busybox:latest"]  # newest first
        assert await tags(label="a") == ["labelled:1"]
        assert await tags(label="a=x") == []
        assert await tags(reference="busy*") == ["busybox:latest"]
        assert await tags(before="labelled:1") == ["busybox:latest"]
        assert await tags(since="busybox") == ["labelled:1"]
        assert await tags(until="2024-01-01T00:00:00Z") == ["busybox:latest"]
        assert await tags(dangling="false") == ["labelled:1", "busybox:latest"]
        assert [tag for f in await b.images.list({"label!": ["a"]}) for tag in f["RepoTags"]] == [
            "busybox:latest"
        ]
        for wrong in ({"bogus": ["1"]}, {"dangling": ["maybe"]}, {"until": ["soon"]}):
            with pytest.raises(errors.InvalidArgument):
                await b.images.list(wrong)
        with pytest.raises(errors.NotFound):
            await b.images.list({"before": ["nope"]})

    on(address, body)


def test_save_and_load_give_the_same_digests(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        await b.import_(gzip.compress(tar(("f", b"1" * 2_000_000))), "imported", "1")
        before = {n: await b.images.resolve(n) for n in ("busybox", "imported:1")}
        archive = await b.save("busybox", "imported:1")
        for name in before:
            await b.images.remove(name, force=False)
        assert await b.remains() == {}
        lines = await b.load(gzip.compress(archive, 1))
        loaded = [line["stream"] for line in lines if "stream" in line]
        assert loaded == ["Loaded image: busybox:latest\n", "Loaded image: imported:1\n"]
        for name, image in before.items():
            again = await b.images.resolve(name)
            assert (again.id, again.target.digest) == (image.id, image.target.digest)

    on(address, body)


def test_save_of_what_is_not_there_fails_before_the_first_byte(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        with pytest.raises(errors.NotFound):
            await b.save("busybox", "nope")

    on(address, body)


def test_names_that_others_make_are_seen(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        record = await b.containerd.images.get("docker.io/library/busybox:latest")

        await b.containerd.images.create(
            replace(record, name="docker.io/library/theirs:1", labels={})
        )
        await b.containerd.images.delete("docker.io/library/busybox:latest")
        for _ in range(200):
            if (await b.images.names_of(ID)).tags == ("theirs:1",):
                break
            await asyncio.sleep(0.02)
        assert (await b.images.names_of(ID)).tags == ("theirs:1",)
        assert (await b.images.resolve("theirs:1")).id == ID
        with pytest.raises(errors.NotFound):
            await b.images.resolve("busybox")

    on(address, body)


def test_snapshots_that_are_missing_are_made_again(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        image = await b.images.resolve("busybox")
        await b.containerd.snapshots.remove(image.chain_id)
        await b.images.ensure_unpacked(image)
        assert (await b.containerd.snapshots.stat(image.chain_id)).kind == "committed"

    on(address, body)


def test_what_others_brought_stays_unpacked(address: str) -> None:
    """The snapshots outlive a collection, and the list tells their size."""

    async def size(b: Bench) -> int:
        (found,) = await b.images.list({})
        return int(found["Size"])

    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        image = await b.images.resolve("busybox")
        whole = await size(b)
        label = "containerd.io/gc.ref.snapshot.overlayfs"
        await b.containerd.content.set_labels(image.id, {label: ""})
        await b.containerd.snapshots.remove(image.chain_id)
        record = await b.containerd.images.get("docker.io/library/busybox:latest")
        await b.containerd.images.update(replace(record, labels={}))
        for _ in range(1000):
            if not await size(b):
                break
            await asyncio.sleep(0.02)
        await b.images.ensure_unpacked(await b.images.resolve("busybox"))
        lease = await b.containerd.leases.create()
        await b.containerd.leases.delete(lease.id, sync=True)
        assert (await b.containerd.snapshots.stat(image.chain_id)).kind == "committed"
        assert await size(b) == whole

    on(address, body)


def test_many_loads_of_one_image_at_once(address: str) -> None:
    async def body(b: Bench) -> None:
        loads = await asyncio.gather(
            *(b.load(docker_archive(f"busybox:{number}", LAYER)) for number in range(6))
        )
        assert [lines[-1] for lines in loads if "error" in lines[-1]] == []
        assert len((await b.images.names_of(ID)).tags) == 6
        assert b.images.count() == 1

    on(address, body)


def test_a_client_that_goes_leaves_nothing(address: str) -> None:
    async def body(b: Bench) -> None:
        async def slow() -> AsyncIterator[bytes]:
            async for chunk in pieces(ARCHIVE):
                yield chunk
                await asyncio.sleep(0.01)

        stream = await run(lambda progress: b.images.load(slow(), progress))
        assert json.loads((await anext(stream)).splitlines()[0])["status"] == "Loading layer"
        await stream.aclose()
        assert await b.remains() == {}

    on(address, body)


def test_an_image_that_lost_its_documents_can_be_removed(address: str) -> None:
    async def body(b: Bench) -> None:
        await b.load(ARCHIVE)
        await b.containerd.content.delete(ID)
        with pytest.raises(errors.NotFound, match="No such image: busybox:latest: content"):
            await b.images.resolve("busybox")
        (summary,) = await b.images.list({})
        assert summary["Id"] == ID
        lines = await b.images.remove("busybox", force=False)
        assert lines == [{"Untagged": "busybox:latest"}, {"Deleted": ID}]

    on(address, body)
