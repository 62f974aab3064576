"""What users rely on of volumes and mounts; everything here is true of Debian's dockerd too."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out

pytestmark = [pytest.mark.root, pytest.mark.peer]


def name(kind: str = "v") -> str:
    return f"{kind}{secrets.token_hex(4)}"


def shell(engine: Any, script: str, *options: str) -> str:
    return out(engine, "run", "--rm", *options, "busybox", "sh", "-c", script)


def listed(engine: Any, *filters: str) -> set[str]:
    flags = [word for text in filters for word in ("--filter", text)]
    return set(out(engine, "volume", "ls", "-q", *flags).split())


def test_filters_of_volume_ls(engine: Any) -> None:
    stem, user = name("filter"), name("c")
    red, blue, plain = f"{stem}-red", f"{stem}-blue", f"{stem}-plain"
    out(engine, "volume", "create", "--label", f"{stem}=red", "--label", "only", red)
    out(engine, "volume", "create", "--label", f"{stem}=blue", blue)
    out(engine, "volume", "create", plain)
    out(engine, "create", "--name", user, "-v", f"{red}:/v", "busybox", "true")
    try:
        ours = f"name={stem}"
        assert listed(engine, ours) == {red, blue, plain}
        assert listed(engine, ours, "dangling=true") == {blue, plain}
        assert listed(engine, ours, "dangling=false") == {red}
        assert listed(engine, f"label={stem}") == {red, blue}
        assert listed(engine, f"label={stem}=blue") == {blue}
        assert listed(engine, f"label={stem}", "label=only") == {red}
        assert listed(engine, ours, "driver=local") == {red, blue, plain}
        assert listed(engine, ours, "driver=other") == set()
        assert listed(engine, f"name={red}", f"name={blue}") == {red, blue}
        wrong = fails(engine, "volume", "ls", "--filter", "colour=red")
        assert "invalid filter" in wrong.lower()
        assert (
            f"volume is in use - [{out(engine, 'ps', '-aq', '--no-trunc', '-f', f'name={user}')}]"
            in (fails(engine, "volume", "rm", red))
        )
    finally:
        engine.docker("rm", "-f", user, check=False)
        out(engine, "volume", "rm", red, blue, plain)


def test_inspect_tells_what_was_asked_for(engine: Any) -> None:
    volume = name()
    out(engine, "volume", "create", "--label", "a=b", "-o", "type=tmpfs", "-o", "device=x", volume)
    found = json.loads(out(engine, "volume", "inspect", volume))[0]
    assert (found["Name"], found["Driver"], found["Scope"]) == (volume, "local", "local")
    assert found["Labels"] == {"a": "b"}
    assert found["Options"] == {"type": "tmpfs", "device": "x"}
    assert found["Mountpoint"].endswith(f"/volumes/{volume}/_data")
    assert found["CreatedAt"][:2] == "20"
    assert "no such volume" in fails(engine, "volume", "inspect", f"{volume}-not").lower()
    out(engine, "volume", "rm", volume)
    assert "no such volume" in fails(engine, "volume", "rm", volume).lower()
    out(engine, "volume", "rm", "-f", volume)


def test_prune_by_label_leaves_the_others_and_what_is_used(engine: Any) -> None:
    label, user = name("prune"), name("c")
    gone, kept, used = name(), name(), name()
    out(engine, "volume", "create", "--label", label, gone)
    out(engine, "volume", "create", kept)
    out(engine, "volume", "create", "--label", label, used)
    out(engine, "create", "--name", user, "-v", f"{used}:/v", "busybox", "true")
    answer = subprocess.run(  # API 1.41: prune is of all unused ones, for both engines
        ["curl", "-sf", "--unix-socket", str(engine.socket), "-X", "POST", "-G", "--data-urlencode",
         f'filters={{"label":["{label}"]}}', "http://d/v1.41/volumes/prune"],
        capture_output=True,
        check=True,
    )  # fmt: skip
    assert json.loads(answer.stdout)["VolumesDeleted"] == [gone]
    assert listed(engine, f"name={kept}") == {kept}
    assert listed(engine, f"name={used}") == {used}
    out(engine, "rm", user)
    out(engine, "volume", "rm", kept, used)


def test_a_data_volume_container_keeps_its_volumes_for_others(engine: Any) -> None:
    data, volume = name("data"), name()
    out(engine, "create", "--name", data, "-v", f"{volume}:/one", "-v", "/two", "busybox", "true")
    shell(engine, "echo 1 > /one/f; echo 2 > /two/f", "--volumes-from", data)
    look = "cat /one/f /two/f; touch /two/x 2>/dev/null || echo read-only"
    assert shell(engine, look, "--volumes-from", f"{data}:ro").split() == ["1", "2", "read-only"]
    anonymous = [
        point["Name"]
        for point in json.loads(out(engine, "inspect", data))[0]["Mounts"]
        if point["Destination"] == "/two"
    ]
    assert shell(engine, "cat /two/f", "--volumes-from", data) == "2"  # --rm took nothing away
    out(engine, "rm", "-v", data)
    assert not listed(engine, f"name={anonymous[0]}")
    assert listed(engine, f"name={volume}") == {volume}
    out(engine, "volume", "rm", volume)


@pytest.mark.parametrize("word", ["cached", "z", "ro,Z"])
def test_words_that_change_nothing_here(engine: Any, tmp_path: Path, word: str) -> None:
    """Consistency is of other systems; a label is of SELinux, which is not on."""
    (tmp_path / "file").write_text("seen")
    assert shell(engine, "cat /m/file", "-v", f"{tmp_path}:/m:{word}") == "seen"


def test_a_bind_source_is_made_by_v_and_wanted_by_mount(engine: Any, tmp_path: Path) -> None:
    made, missing = tmp_path / "made" / "deep", tmp_path / "missing"
    shell(engine, "touch /m/x", "-v", f"{made}:/m")
    assert (made / "x").exists()
    mount = ("--mount", f"type=bind,src={missing},dst=/m")
    said = fails(engine, "run", "--rm", *mount, "busybox", "true")
    assert "bind source path does not exist" in said
    assert not missing.exists()


def test_what_is_mounted_in_a_volume_is_not_deleted_with_it(engine: Any, tmp_path: Path) -> None:
    """Removal never crosses a mount: not the host's, not one that a container made."""
    volume, precious = name(), tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("still here")
    out(engine, "volume", "create", volume)
    shell(engine, "mkdir -p /v/sub/deep", "-v", f"{volume}:/v")
    point = json.loads(out(engine, "volume", "inspect", volume))[0]["Mountpoint"]
    if isinstance(engine, Stack):  # dockerd is in a mount namespace of its own
        subprocess.run(["mount", "--bind", precious, f"{point}/sub/deep"], check=True)
        try:
            assert "mounted on" in fails(engine, "volume", "rm", volume)
            assert (precious / "file").read_text() == "still here"
        finally:
            subprocess.run(["umount", f"{point}/sub/deep"], check=True)
    nested = ("-v", f"{volume}:/v", "-v", f"{precious}:/v/sub/deep")
    assert shell(engine, "cat /v/sub/deep/file", *nested) == "still here"
    out(engine, "volume", "rm", volume)
    assert (precious / "file").read_text() == "still here"


def test_an_image_fills_an_empty_volume_once(engine: Any) -> None:
    image, container, volume = name("i"), name("c"), name()
    script = "mkdir /seed; echo first > /seed/file; chmod 1777 /seed; chown 5:6 /seed"
    out(engine, "run", "--name", container, "busybox", "sh", "-c", script)
    out(engine, "commit", container, image)
    out(engine, "rm", container)

    def seen(*options: str) -> str:
        look = "cat /seed/file 2>/dev/null; stat -c %a:%u:%g /seed"
        return out(engine, "run", "--rm", *options, image, "sh", "-c", look)

    assert seen("-v", f"{volume}:/seed").split() == ["first", "1777:5:6"]
    shell(engine, "echo second > /v/file", "-v", f"{volume}:/v")
    assert seen("-v", f"{volume}:/seed").split() == ["second", "1777:5:6"]
    assert seen("-v", f"{name()}:/seed:nocopy").split() == ["755:0:0"]
    assert seen("--mount", f"src={name()},dst=/seed,volume-nocopy").split() == ["755:0:0"]
    out(engine, "volume", "rm", volume)
    out(engine, "rmi", image)
