from __future__ import annotations

import pytest

from barque.errors import InvalidArgument
from barque.oci.id_maps import IdMap, IdMaps


def test_ids_go_out_and_in() -> None:
    ids = IdMap("0:100000:1000,1000:5:1,1001:101001:64535")
    assert [ids.to_host(n) for n in (0, 999, 1000, 1001, 65535)] == [
        *(100000, 100999, 5, 101001, 165535),
    ]
    assert [ids.to_container(n) for n in (100000, 5, 165535)] == [0, 1000, 65535]
    assert (ids.to_host(65536), ids.to_container(0), ids.to_container(101000)) == (-1, -1, -1)
    assert ids.lines() == "0 100000 1000\n1000 5 1\n1001 101001 64535\n"


def test_who_is_root() -> None:
    assert IdMaps("0:7:10", "0:8:10").root == (7, 8)
    assert IdMaps("1:7:10", "0:8:10").root == (-1, 8)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0:1", "0:1:0", "0:1:2:3", "-1:0:1", "a:b:c", "0:0:4294967296", " 0:1:1"),
        *("0:4294967290:9", "0:1:5,4:100:1", "0:1:5,10:3:9", "0:1:1,", "\u0663:1:1"),
        ",".join(f"{n}:{n}:1" for n in range(341)),
        "9" * 5000 + ":1:1",
    ],
)
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        IdMap(text)
