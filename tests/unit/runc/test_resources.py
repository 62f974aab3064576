"""linux.resources as writes, for both versions of cgroups."""

from typing import Any

import pytest

from barque.errors import InvalidArgument, Unsupported
from barque.oci.fields import Fields
from barque.runc.resources import plan, swap_alone, weight_of_shares


def writes(document: dict[str, Any], *, unified: bool) -> dict[str, str]:
    found = plan(Fields(document, "linux.resources"), unified=unified)
    return {write.file: write.value for write in found}


ORDINARY = {
    "memory": {"limit": 100, "swap": 300, "reservation": 50},
    "cpu": {"shares": 1024, "quota": 20000, "period": 50000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 7},
    "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
}


def test_version_1() -> None:
    assert writes(ORDINARY, unified=False) == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "50000",
        "cpu.cfs_quota_us": "20000",
        "memory.limit_in_bytes": "100",
        "memory.memsw.limit_in_bytes": "300",
        "memory.soft_limit_in_bytes": "50",
        "pids.max": "7",
        "blkio.throttle.read_bps_device": "8:0 5",
        "hugetlb.2MB.limit_in_bytes": "9",
    }


def test_version_2() -> None:
    assert writes(ORDINARY, unified=True) == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "cpu.weight": "39",
        "cpu.max": "20000 50000",
        "memory.max": "100",
        "memory.swap.max": "200",
        "memory.low": "50",
        "pids.max": "7",
        "io.max": "8:0 rbps=5",
        "hugetlb.2MB.max": "9",
    }


def test_zero_is_not_set_and_less_is_unlimited() -> None:
    empty = {"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}, "pids": {"limit": 0}}
    for unified in (False, True):
        assert writes(empty, unified=unified) == {}
    assert writes({"pids": {"limit": -1}}, unified=False) == {"pids.max": "max"}
    assert writes({"memory": {"limit": -1}}, unified=True) == {"memory.max": "max"}
    assert writes({"cpu": {"quota": -1}}, unified=True) == {"cpu.max": "max 100000"}
    assert plan(None, unified=True) == ()


def test_unified_keys() -> None:
    assert writes({"unified": {"memory.high": "5"}}, unified=True) == {"memory.high": "5"}
    with pytest.raises(Unsupported):
        writes({"unified": {"memory.high": "5"}}, unified=False)
    for name in ("../x", "memory.high/..", "nodot"):
        with pytest.raises(InvalidArgument):
            writes({"unified": {name: "5"}}, unified=True)


@pytest.mark.parametrize(
    ("document", "unified"),
    [
        ({"memory": {"kernel": 1}}, False),
        ({"memory": {"swappiness": 1}}, True),
        ({"memory": {"disableOOMKiller": True}}, True),
        ({"cpu": {"realtimeRuntime": 1}}, True),
        ({"network": {"classID": 1}}, True),
        ({"blockIO": {"leafWeight": 1}}, True),
    ],
)
def test_what_a_version_cannot_do_is_refused(document: dict[str, Any], unified: bool) -> None:
    with pytest.raises(Unsupported):
        writes(document, unified=unified)


def test_numbers() -> None:
    assert [weight_of_shares(n) for n in (2, 1024, 262144, 10**9)] == [1, 39, 10000, 10000]
    assert swap_alone(10, 30) == 20
    assert swap_alone(10, -1) == -1
    for limit, swap in ((0, 5), (10, 5)):
        with pytest.raises(InvalidArgument):
            swap_alone(limit, swap)
    for value in (1 << 70, "1", -2):
        with pytest.raises(InvalidArgument):
            writes({"memory": {"limit": value}}, unified=False)
