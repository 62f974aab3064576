"""Mount options, sorted."""

import pytest

import barque.linux.mount as kernel
from barque.errors import InvalidArgument, Unsupported
from barque.oci.runtime import Mount
from barque.runc.options import Options, parse_options


def options(*words: str, kind: str = "tmpfs") -> Options:
    return parse_options(
        Mount(
            destination="/x", source="s", type=kind, options=words, uid_mappings=(), gid_mappings=()
        )
    )


def test_attributes_and_data() -> None:
    found = options("nosuid", "noexec", "ro", "size=1m", "mode=755", "huge")
    expected = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC | kernel.MOUNT_ATTR_RDONLY
    assert found.attr_set == expected
    assert found.data == (("size", "1m"), ("mode", "755"), ("huge", None))
    assert not found.bind


def test_the_last_word_wins() -> None:
    assert options("ro", "rw").attr_set == 0
    assert options("ro", "rw").attr_clr == kernel.MOUNT_ATTR_RDONLY
    found = options("rw", "ro")
    assert (found.attr_set, found.attr_clr) == (kernel.MOUNT_ATTR_RDONLY, 0)
    assert options("noatime", "strictatime").attr_set == kernel.MOUNT_ATTR_STRICTATIME
    assert options("noatime").attr_clr == kernel.MOUNT_ATTR__ATIME


def test_bind_mounts() -> None:
    assert options("rbind", kind="none").recursive
    assert options("bind", kind="none").bind
    assert options(kind="bind").bind
    assert not options("bind", kind="bind").recursive
    assert options("rbind", "sync", kind="bind").data == ()


def test_recursive_attributes_and_propagation() -> None:
    found = options("rbind", "rro", "rnosuid", "rslave", "private", kind="bind")
    assert found.rec_set == kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID
    assert found.propagation == ((kernel.MS_SLAVE, True), (kernel.MS_PRIVATE, False))


def test_read_only_filesystems_with_a_device() -> None:
    assert ("ro", None) in options("ro", kind="ext4").data
    assert ("ro", None) not in options("ro", kind="sysfs").data


@pytest.mark.parametrize("word", ["iversion"])
def test_words_that_are_not_there_yet(word: str) -> None:
    with pytest.raises(Unsupported, match=word):
        options(word)


def test_words_that_cannot_be() -> None:
    with pytest.raises(InvalidArgument):
        options("=x")
    with pytest.raises(InvalidArgument):
        options("tmpcopyup", kind="proc")
