"""What of a scheduling configuration is refused before a process exists."""

from typing import Any

import pytest

from barque.errors import InvalidArgument
from barque.oci.fields import Fields
from barque.runc import scheduling


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nice": 1}, "scheduler policy is required"),
        ({"policy": "SCHED_FOO"}, "invalid scheduler policy: SCHED_FOO"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice"),
        ({"policy": "SCHED_FIFO", "priority": -1}, "is negative"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "can only be specified for SchedFIFO"),
        ({"policy": "SCHED_OTHER", "runtime": 1}, "can only be specified for SchedDeadline"),
        ({"policy": "SCHED_OTHER", "flags": ["NO"]}, "'NO' is unknown"),
    ],
)
def test_a_scheduler(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        scheduling.scheduler(Fields(fields, "process.scheduler"))


def test_an_io_priority() -> None:
    with pytest.raises(InvalidArgument, match=r"invalid ioPriority.class: IOPRIO_CLASS_FOO"):
        scheduling.io_priority(Fields({"class": "IOPRIO_CLASS_FOO"}, "process.ioPriority"))
    bad = {"class": "IOPRIO_CLASS_BE", "priority": 8}
    with pytest.raises(InvalidArgument, match=r"process.ioPriority.priority: 8"):
        scheduling.io_priority(Fields(bad, "process.ioPriority"))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"mode": "MPOL_FOO"}, "invalid memory policy mode"),
        ({"mode": "MPOL_BIND"}, "needs nodes"),
        ({"mode": "MPOL_DEFAULT", "nodes": "0"}, "takes no nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0-"}, "linux.memoryPolicy.nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["FOO"]}, "'FOO' is unknown"),
    ],
)
def test_a_memory_policy(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        scheduling.memory(Fields(policy, "linux.memoryPolicy"))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("0", [0]), ("0-2", [0, 1, 2]), ("3,0-1, 7", [0, 1, 3, 7]), ("5-5", [5])],
)
def test_a_list_of_numbers(text: str, numbers: list[int]) -> None:
    assert sorted(scheduling.number_list(text, 10, "x")) == numbers


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "0,", "11", "99999999", "0-11", "+1", "1-"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(InvalidArgument, match="x: "):
        scheduling.number_list(text, 10, "x")
