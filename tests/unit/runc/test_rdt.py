"""What an intelRdt section asks for, and the files of a group."""

from pathlib import Path
from typing import Any

import pytest

from barque.errors import InvalidArgument, NotFound
from barque.oci.fields import Fields
from barque.runc import rdt
from barque.runc.undo import Undo


def group(**members: Any) -> rdt.Group:
    return rdt.Group(Fields(members, "linux.intelRdt"), "c1")


def test_the_schema_lines_in_their_order() -> None:
    asked = group(
        l3CacheSchema="L3:0=f\nMB:0=10",
        memBwSchema="MB:0=20",
        schemata=["L2:0=3", "MB:0=30"],
    )
    assert asked.lines == ("L3:0=f", "MB:0=20", "L2:0=3", "MB:0=30")
    assert (asked.name, asked.named, asked.monitoring) == ("c1", False, False)
    assert group(closID="x", enableMonitoring=True).monitoring


@pytest.mark.parametrize(
    "members",
    [{"closID": ".."}, {"closID": "a/b"}, {"memBwSchema": "L3:0=f"}, {"memBwSchema": "MB:0\nx"}],
)
def test_what_cannot_be(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        group(**members)


def test_a_group_that_is_there_must_agree(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/schemata").write_text("    L3:0=f\n    MB:0=10\n")
    (tmp_path / "x/tasks").write_text("")
    with Undo() as undo:
        rdt.join(group(closID="x", l3CacheSchema="L3:0=f"), 7, "c1", undo, str(tmp_path))
        assert (tmp_path / "x/tasks").read_text() == "7"
        with pytest.raises(InvalidArgument, match="another schema"):
            rdt.join(group(closID="x", l3CacheSchema="L3:0=1"), 7, "c1", undo, str(tmp_path))
        with pytest.raises(NotFound, match="closID y has no group"):
            rdt.join(group(closID="y"), 7, "c1", undo, str(tmp_path))


def test_leaving_twice(tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    rdt.leave(group(), "c1", str(tmp_path))
    rdt.leave(group(), "c1", str(tmp_path))
    (tmp_path / "x").mkdir()
    rdt.leave(group(closID="x"), "c1", str(tmp_path))
    assert (tmp_path / "x").exists()
