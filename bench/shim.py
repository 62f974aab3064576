"""What a shim costs: from the zygote's request to Create and Start answered, and its memory.

`python -m bench.shim [count]`, as root; with our runtime and, for scale, with runc.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from pathlib import Path

from bench.measure import workers
from tests.support import rootfs
from tests.support.shim import Shim, Shims, shims

COUNT = 20
IDLE_S = 4.0
STEPS = ("start", "create", "run", "exit", "delete")


def pss(pid: int, field: str = "Pss:") -> int:
    """Kilobytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise AssertionError(f"no {field} of {pid}")


def one(it: Shims, name: str) -> list[float]:
    """Milliseconds of each of `STEPS`."""
    config = rootfs.config("true")
    config["linux"]["cgroupsPath"] = f"/{it.root.name}/{name}"
    bundle = rootfs.write_bundle(it.root / name, config)
    marks = [time.perf_counter()]
    shim = it.attach(name, bundle)
    marks.append(time.perf_counter())
    shim.create(stdout=f"barque://{it.root}/io-{name}?log=json-file&path={bundle}/log.txt")
    marks.append(time.perf_counter())
    shim.call("Start")
    marks.append(time.perf_counter())
    shim.call("Wait")
    marks.append(time.perf_counter())
    shim.call("Delete")
    marks.append(time.perf_counter())
    shim.shutdown()
    return [(after - before) * 1000 for before, after in itertools.pairwise(marks)]


def sizes(held: list[Shim]) -> str:
    """Of each with the worker that it may have."""
    rows = [[shim.pid, *workers(shim.pid)] for shim in held]
    totals = [sum(pss(pid) for pid in row) for row in rows]
    dirty = [sum(pss(pid, "Private_Dirty:") for pid in row) for row in rows]
    kinds = f"PSS a shim {statistics.median(totals)} kB"
    return f"{kinds} (private dirty {statistics.median(dirty)})"


def measure(runtime: str, count: int) -> None:
    with shims(runtime) as it:
        rows = [one(it, f"c{number}") for number in range(count)]
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        text = "  ".join(f"{step} {ms:.2f}" for step, ms in zip(STEPS, medians, strict=True))
        print(f"{runtime or 'ours'}: {text}  all {sum(medians):.2f} ms")
        zygote_before = pss(it.zygote.pid)
        held = [it.start(f"h{number}", rootfs.config("sleep", "1000")) for number in range(10)]
        for shim in held:
            shim.create(stdout=f"barque://{it.root}/io-{shim.id}?log=json-file&path={it.root}/l")
            shim.call("Start")
            shim.call("State")
        print(f"{runtime or 'ours'}: busy, {sizes(held)}, zygote {zygote_before} kB alone")
        time.sleep(IDLE_S)
        print(f"{runtime or 'ours'}: idle, {sizes(held)}, zygote {pss(it.zygote.pid)} kB")
        for shim in held:
            shim.call("Kill", signal=9)
            shim.call("Wait")
            shim.end()


if __name__ == "__main__":
    for name in ("", "runc"):
        measure(name, int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
