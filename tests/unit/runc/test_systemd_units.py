"""Names, places and properties of systemd's units."""

from typing import Any

import pytest

from barque.errors import InvalidArgument, Unsupported
from barque.oci.fields import Fields
from barque.runc import systemd
from barque.runc.resources import device_rules, plan


def test_the_place_of_a_path() -> None:
    assert systemd.place_of("", "c1") == ("system.slice", "runc-c1.scope")
    assert systemd.place_of("a-b.slice:docker:x", "c1") == ("a-b.slice", "docker-x.scope")
    assert systemd.place_of(":p:x", "c1") == ("system.slice", "p-x.scope")
    assert systemd.place_of("-:p:x", "c1") == ("-.slice", "p-x.scope")


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a:b:c:d", "a:b:", "a/b.slice:c:d", "a:b/c:d"])
def test_paths_of_another_form(path: str) -> None:
    with pytest.raises(InvalidArgument):
        systemd.place_of(path, "c1")


def test_a_slice_is_no_place_for_a_container() -> None:
    with pytest.raises(Unsupported):
        systemd.place_of("a.slice:p:x.slice", "c1")


def test_slices_lie_in_one_another() -> None:
    assert systemd.expand("-.slice") == ""
    assert systemd.expand("system.slice") == "/system.slice"
    assert systemd.expand("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
    for name in ("a", "a--b.slice", ".slice", "-a.slice", "../x.slice"):
        with pytest.raises(InvalidArgument):
            systemd.expand(name)


def test_sets_of_cpus_are_masks() -> None:
    assert systemd.bits("0") == b"\x01"
    assert systemd.bits("0-2,8") == b"\x07\x01"
    for text in ("", "a", "1-", "99999", "-1"):
        with pytest.raises(InvalidArgument):
            systemd.bits(text)


def properties(resources: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    writes = plan(Fields(resources, "linux.resources"), unified=True)
    return dict(systemd.properties_of(writes))


def test_limits_are_properties() -> None:
    found = properties(
        {
            "memory": {"limit": 100, "swap": -1},
            "cpu": {"quota": 33333, "period": 100000, "cpus": "1"},
            "pids": {"limit": -1},
            "unified": {"memory.high": "90"},
        }
    )
    assert found == {
        "MemoryMax": ("t", 100),
        "MemorySwapMax": ("t", systemd.UNLIMITED),
        "MemoryHigh": ("t", 90),
        "CPUQuotaPeriodUSec": ("t", 100000),
        "CPUQuotaPerSecUSec": ("t", 340000),  # a whole hundredth of a second, upwards
        "AllowedCPUs": ("ay", b"\x02"),
        "TasksMax": ("t", systemd.UNLIMITED),
    }


def test_devices_are_properties() -> None:
    rule = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"}
    rules = device_rules(Fields({"devices": [rule]}, "linux.resources"))
    found = dict(systemd.device_properties(rules))
    assert found["DevicePolicy"] == ("s", "strict")
    allowed = found["DeviceAllow"][1]
    assert ("/dev/block/7:0", "r") in allowed
    assert ("/dev/char/1:3", "rwm") in allowed
    assert ("char-pts", "rwm") in allowed
    every = device_rules(Fields({"devices": [{"allow": True, "access": "rwm"}]}, "x"))
    assert dict(systemd.device_properties(every))["DevicePolicy"] == ("s", "auto")


def test_annotations_are_properties() -> None:
    found = systemd.annotated(
        {
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.TimeoutStopSec": "uint64 5",
            "org.systemd.property.SendSIGHUP": "true",
            "other": "1",
        }
    )
    assert found == [
        ("CollectMode", ("s", "inactive")),
        ("TimeoutStopUSec", ("t", 5_000_000)),
        ("SendSIGHUP", ("b", True)),
    ]
    with pytest.raises(Unsupported):
        systemd.annotated({"org.systemd.property.X": "[1, 2]"})
