from __future__ import annotations

import pytest

from barque import errors
from barque.daemon.containers import capabilities as caps

ALL = frozenset(caps.NAMES)
STATUS = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t0000000000000003\nCapBnd:\tff\n"


def test_numbers_are_those_of_the_kernel() -> None:
    assert caps.NAMES.index("CAP_SYS_ADMIN") == 21
    assert caps.NAMES.index("CAP_CHECKPOINT_RESTORE") == 40
    assert len(caps.NAMES) == len(set(caps.NAMES)) == 41


def test_held_reads_the_effective_set() -> None:
    assert caps.held(STATUS) == {"CAP_CHOWN", "CAP_DAC_OVERRIDE"}


def test_the_default_has_fourteen() -> None:
    assert len(caps.resolve((), (), False, ALL)) == 14


@pytest.mark.parametrize(
    ("adds", "drops", "has", "lacks"),
    [
        (["net_admin"], [], "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (["CAP_NET_ADMIN"], ["ALL"], "CAP_NET_ADMIN", "CAP_CHOWN"),
        (["ALL"], ["SYS_ADMIN"], "CAP_BPF", "CAP_SYS_ADMIN"),
        ([], ["Chown"], "CAP_KILL", "CAP_CHOWN"),
    ],
)
def test_add_and_drop(adds: list[str], drops: list[str], has: str, lacks: str) -> None:
    found = caps.resolve(adds, drops, False, ALL)
    assert has in found
    assert lacks not in found


def test_privileged_is_everything_the_daemon_has() -> None:
    available = ALL - {"CAP_SYS_RESOURCE"}
    assert set(caps.resolve((), ["ALL"], True, available)) == available
    assert caps.missing((), True, available) == ["CAP_SYS_RESOURCE"]
    assert caps.missing(["all"], False, available) == ["CAP_SYS_RESOURCE"]
    assert caps.missing(["KILL"], False, available) == []


def test_an_unheld_capability_is_refused_by_name_and_left_out_of_all() -> None:
    available = ALL - {"CAP_SYS_RESOURCE"}
    with pytest.raises(errors.InvalidArgument, match="CAP_SYS_RESOURCE"):
        caps.refuse_unheld(["sys_resource"], available)
    caps.refuse_unheld(["ALL"], available)
    assert "CAP_SYS_RESOURCE" not in caps.resolve(["ALL"], (), False, available)


def test_an_unknown_name() -> None:
    with pytest.raises(errors.InvalidArgument, match='unknown capability: "CAP_FOO"'):
        caps.normal(["foo"], "CapAdd")
