from __future__ import annotations

import os

import pytest

from barque.errors import BarqueError
from barque.linux import mount as m
from barque.shim.rootfs import Options, attributes_of, shorten


def test_options_are_sorted_into_flags_propagation_and_data() -> None:
    options = Options(["rbind", "ro", "nosuid", "exec", "rprivate", "lowerdir=/a:/b", "defaults"])
    assert options.flags == m.MS_BIND | m.MS_REC | m.MS_RDONLY | m.MS_NOSUID
    assert options.propagation == m.MS_PRIVATE | m.MS_REC
    assert options.data == ["lowerdir=/a:/b"]
    assert Options(["ro", "rw"]).flags == 0
    assert (Options(["loop", "ro"]).loop, Options(["ro"]).loop) == (True, False)


def test_mapped_ids_are_no_options_of_the_filesystem() -> None:
    options = Options(["uidmap=0:1:2", "gidmap=0:3:4", "index=off"])
    assert (options.ids, options.data) == (["0:1:2", "0:3:4"], ["index=off"])
    assert Options([]).ids == ["", ""]


def test_flags_become_attributes() -> None:
    flags = m.MS_RDONLY | m.MS_NOATIME | m.MS_RELATIME
    assert attributes_of(flags) == m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOATIME
    with pytest.raises(BarqueError, match="0x10 "):
        attributes_of(m.MS_SYNCHRONOUS)


def test_many_layers_are_named_from_their_common_directory() -> None:
    root = "/var/lib/barque/containerd/snapshots/overlayfs"
    layers = [f"{root}/{number}/fs" for number in range(120)]
    given = ["index=off", "workdir=/w", "upperdir=/u", f"lowerdir={':'.join(layers)}"]
    base, data = shorten(given)
    assert base == root
    parts = dict(part.split("=", 1) for part in data.split(","))
    assert parts["upperdir"] == "/u"
    names = parts["lowerdir"].split(":")
    assert [os.path.join(base, name) for name in names] == layers
    with pytest.raises(BarqueError, match="too long"):
        shorten([f"lowerdir={':'.join(f'/a/{n:040}' for n in range(200))}"])


def test_one_layer_is_never_the_empty_path() -> None:
    base, data = shorten([f"lowerdir=/{'x' * 200}/y"])
    assert os.path.join(base, data.removeprefix("lowerdir=")) == f"/{'x' * 200}/y"
    assert not data.endswith("=.")
