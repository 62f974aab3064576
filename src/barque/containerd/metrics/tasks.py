"""What the cgroups of running tasks count, under the names that containerd gives it.

Source: containerd, core/metrics/cgroups; the messages are those that shims answer Stats with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from barque.containerd.metrics.text import GAUGE, Family, Sample
from barque.containerd.proto import cgroups_v1_pb2, cgroups_v2_pb2

Labels = Mapping[str, str]
_MEMORY_V1 = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    **{
        name: name
        for name in (
            *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "inactive_anon"),
            *("active_anon", "inactive_file", "active_file", "unevictable"),
        )
    },
}
# Metric -> where its value is in Metrics of cgroup version 1.
VERSION_1 = {
    "container_pids_current": "pids.current",
    "container_pids_limit": "pids.limit",
    "container_cpu_total_nanoseconds": "cpu.usage.total",
    "container_cpu_kernel_nanoseconds": "cpu.usage.kernel",
    "container_cpu_user_nanoseconds": "cpu.usage.user",
    "container_cpu_throttle_periods_total": "cpu.throttling.periods",
    "container_cpu_throttled_periods_total": "cpu.throttling.throttled_periods",
    "container_cpu_throttled_time_nanoseconds": "cpu.throttling.throttled_time",
    **{f"container_memory_{name}_bytes": f"memory.{at}" for name, at in _MEMORY_V1.items()},
    **{
        f"container_memory_total_{name}_bytes": f"memory.total_{at}"
        for name, at in _MEMORY_V1.items()
    },
    "container_memory_hierarchical_memory_limit_bytes": "memory.hierarchical_memory_limit",
    "container_memory_hierarchical_memsw_limit_bytes": "memory.hierarchical_swap_limit",
    **{
        f"container_memory_{name}_{what}": f"memory.{at}.{field}"
        for name, at in {
            "usage": "usage",
            "swap": "swap",
            "kernel": "kernel",
            "kerneltcp": "kernel_tcp",
        }.items()
        for what, field in {
            "limit_bytes": "limit",
            "usage_bytes": "usage",
            "max_bytes": "max",
            "failcnt_total": "failcnt",
        }.items()
    },
}
_CPU_V2 = {
    "usage_usec_microseconds": "usage_usec",
    "user_usec_microseconds": "user_usec",
    "system_usec_microseconds": "system_usec",
    "nr_periods_total": "nr_periods",
    "nr_throttled_total": "nr_throttled",
    "throttled_usec_microseconds": "throttled_usec",
}
VERSION_2 = {
    "container_pids_current": "pids.current",
    "container_pids_limit": "pids.limit",
    **{f"container_cpu_{name}": f"cpu.{at}" for name, at in _CPU_V2.items()},
    **{
        f"container_memory_{field.name}_bytes": f"memory.{field.name}"
        for field in cgroups_v2_pb2.MemoryStat.DESCRIPTOR.fields
        if field.name not in ("max_usage", "swap_max_usage")  # containerd tells none of them
    },
    "container_memory_oom_total": "memory_events.oom",
}
KINDS: tuple[tuple[type[Message], Mapping[str, str]], ...] = (
    (cgroups_v1_pb2.Metrics, VERSION_1),
    (cgroups_v2_pb2.Metrics, VERSION_2),
)


def families(tasks: Iterable[tuple[Labels, AnyMessage]]) -> Iterator[Family]:
    """Of tasks, each with its labels and what its shim answered. Other messages are left out."""
    decoded = [(labels, metrics) for labels, data in tasks if (metrics := _decoded(data))]
    for kind, table in KINDS:
        of_kind = [(labels, metrics) for labels, metrics in decoded if isinstance(metrics, kind)]
        for name, path in table.items() if of_kind else ():
            value = attrgetter(path)
            samples = [Sample(labels, value(metrics)) for labels, metrics in of_kind]
            yield Family(name, GAUGE, f"{path} of the task's cgroup.", samples)
    yield from _lists(decoded)


def _lists(decoded: Iterable[tuple[Labels, Message]]) -> Iterator[Family]:
    """What there is several of: CPUs, devices."""
    per_cpu, read, written = [], [], []
    for labels, metrics in decoded:
        if isinstance(metrics, cgroups_v1_pb2.Metrics):
            for number, spent in enumerate(metrics.cpu.usage.per_cpu):
                per_cpu.append(Sample({**labels, "cpu": str(number)}, spent))
        elif isinstance(metrics, cgroups_v2_pb2.Metrics):
            for entry in metrics.io.usage:
                device = {**labels, "major": str(entry.major), "minor": str(entry.minor)}
                read.append(Sample(device, entry.rbytes))
                written.append(Sample(device, entry.wbytes))
    for name, text, samples in (
        ("container_per_cpu_nanoseconds", "CPU time by processor.", per_cpu),
        ("container_io_rbytes_bytes", "Bytes read by device.", read),
        ("container_io_wbytes_bytes", "Bytes written by device.", written),
    ):
        if samples:
            yield Family(name, GAUGE, text, samples)


def _decoded(data: AnyMessage) -> Message | None:
    name = data.type_url.rpartition("/")[2]
    for kind, _ in KINDS:
        if name == kind.DESCRIPTOR.full_name:
            try:
                return kind.FromString(data.value)
            except DecodeError:
                return None
    return None
