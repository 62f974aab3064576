from __future__ import annotations

import pytest

from barque import errors
from barque.linux import mount as m
from barque.volume import options


def test_no_options_are_a_directory() -> None:
    assert options.parse("v", {}) is None
    assert options.parse("v", {"o": "", "type": ""}) is None


def test_words_become_flags_and_data() -> None:
    found = options.parse(
        "v", {"type": "tmpfs", "device": "tmpfs", "o": "size=10m,ro,nosuid,suid,nodev,uid=3"}
    )
    assert found == options.MountPlan("tmpfs", "tmpfs", m.MS_RDONLY | m.MS_NODEV, "size=10m,uid=3")


def test_a_bind_with_propagation() -> None:
    found = options.parse("v", {"type": "none", "device": "/srv", "o": "rbind,rslave"})
    assert found is not None
    assert found.flags == m.MS_BIND | m.MS_REC
    assert found.propagation == (m.MS_SLAVE | m.MS_REC,)


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({"type": "nfs", "o": "addr=10.0.0.1,rw", "device": ":/x"}, "10.0.0.1"),
        ({"type": "nfs4", "o": "rw,addr=files.lan", "device": ":/x"}, "files.lan"),
        ({"type": "tmpfs", "o": "addr=1.2.3.4", "device": "x"}, ""),
        ({"type": "nfs", "o": "rw", "device": "h:/x"}, ""),
    ],
)
def test_the_server_of_a_network_file_system(given: dict[str, str], server: str) -> None:
    found = options.parse("v", given)
    assert found is not None
    assert found.server == server


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "red"}, 'create v: invalid option: "colour"'),
        ({"type": "tmpfs"}, 'create v: missing required option: "device"'),
        ({"device": "/x", "o": "bind"}, 'create v: missing required option: "type"'),
        ({"type": "tmpfs", "device": "a\0b"}, "create v: an option contains NUL"),
    ],
)
def test_what_is_wrong_is_refused_in_dockers_words(given: dict[str, str], words: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        options.parse("v", given)
    assert str(caught.value) == words
