"""Each command of `ctr` on our containerd and on the real one: the same words, the same answers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.node import IMAGE, RUNC, Node, busybox_archive, node

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(300)]
NOWHERE = "localhost:1"  # nobody listens

# Times, and what is a node's own.
NOT_COMPARED = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC)?Z?( m=\S+)?", "<time>"),
    (r"\b(\d+ (seconds?|minutes?)|Less than a second|About a minute)( ago)?", "<age>"),
    (r"elapsed: *[\d.]+ *s.*", "elapsed"),
    (r"\d+(\.\d+)?(\u00b5s|ms|s)\b", "<lasted>"),
    (r"[ \t]+", " "),
)

# One script a group of commands: the lines in order, each on both.
SCRIPTS = {
    "namespaces": """
        namespaces ls
        namespaces create one
        namespaces create one
        namespaces label one a=b
        namespaces label unmade a=b
        namespaces label never a=
        namespaces ls
        namespaces rm unmade never
        namespaces rm one
        namespaces rm one
    """,
    "images": """
        images ls
        images ls -q
        images check
        images tag {image} example.com/other:1
        images tag {image} example.com/other:1
        images tag nothing:1 example.com/other:2
        images label example.com/other:1 x=y
        images ls name==example.com/other:1
        images label example.com/other:1 x=
        images export {root}/out.tar example.com/other:1
        images export {root}/out.tar nothing:1
        images import {root}/out.tar
        images import --base-name example.com/b --digests {root}/image.tar
        images ls -q
        images import {root}/nothing.tar
        images mount {image} {root}/mnt
        images convert --oci {image} example.com/converted:1
        images convert --uncompress {image} example.com/plain:1
        images convert nothing:1 example.com/plain:2
        images pull {nowhere}/nothing:1
        images push {nowhere}/nothing:1 nothing:1
        images rm --sync example.com/other:1 example.com/converted:1 example.com/plain:1
        images rm --sync example.com/other:1
    """,
    "content": """
        content ls -q
        content get {config}
        content get {none}
        content label {config} a=b
        content label {config} a=
        content label {none} a=b
        content ls labels.nothing==x
        content active
        content ingest --expected-size 5 first
        content ingest second
        content fetch {nowhere}/nothing:1
        content fetch-object {nowhere}/nothing:1 {config}
        content push-object {nowhere}/nothing:1 {config} application/x
        content rm {none}
        content prune references
    """,
    "snapshots": """
        snapshots ls
        snapshots prepare work
        snapshots prepare work
        snapshots prepare other nothing
        snapshots info work
        snapshots info nothing
        snapshots usage work
        snapshots label work a=b
        snapshots commit layer work
        snapshots commit layer work
        snapshots view look layer
        snapshots tree
        snapshots ls
        snapshots rm layer
        snapshots rm look
        snapshots rm layer
        snapshots rm layer
        snapshots unpack {manifest}
        snapshots --snapshotter native prepare work
        snapshots --snapshotter native ls
        snapshots --snapshotter native rm work
        snapshots --snapshotter nothing ls
    """,
    "leases": """
        leases ls
        leases create --id one a=b
        leases create --id one
        leases ls
        leases ls -q
        leases rm one
        leases rm one
        leases rm --sync one
    """,
    "containers": """
        containers create {image} one true
        containers create {image} one true
        containers create nothing:1 two true
        containers ls
        containers ls -q
        containers label one x=y
        containers label nothing x=y
        containers info nothing
        containers ls labels.x==y
        containers rm one
        containers rm one
        containers restore nothing nothing
        containers checkpoint nothing nothing
        install nothing:1
        install {image}
        oci spec
        pprof goroutines
        shim --id nothing state
    """,
    "tasks of nobody": """
        tasks ls
        tasks start nothing
        tasks kill nothing
        tasks rm nothing
        tasks exec --exec-id e nothing true
        tasks pause nothing
        tasks resume nothing
        tasks ps nothing
        tasks metrics nothing
        tasks attach nothing
        tasks checkpoint nothing
    """,
    "run": """
        {run} --rm {image} {id} sh -c exit$IFS"3"
        {run} --rm {image} {id} nothing
        {run} --rm nothing:1 {id} true
        {run} --rm --rootfs {root}/nothing {id} true
        {run} --rm --env A=1 --label x=y --read-only --privileged {image} {id} env
    """,
    "tasks": """
        {run} -d {image} {id} sleep 1000
        {run} -d {image} {id} sleep 1000
        tasks start {id}
        tasks exec --exec-id one {id} sh -c exit$IFS"4"
        tasks exec --exec-id two {id} nothing
        tasks pause {id}
        tasks pause {id}
        tasks exec --exec-id three {id} true
        tasks resume {id}
        tasks resume {id}
        tasks rm {id}
        containers rm {id}
        tasks kill --exec-id nothing {id}
        tasks kill -s KILL {id}
        tasks rm {id}
        containers rm {id}
        tasks ls -q
    """,
}


@dataclass
class Both:
    """The two containerds, with one image in both."""

    ours: Node
    real: Node
    words: dict[str, str]

    def answer(self, it: Node, line: str) -> tuple[int, str, str]:
        own = {"root": str(it.root), "id": it.word, "run": self.run(it)}
        done = subprocess.run(
            ["ctr", "--address", it.address, *line.format(**own, **self.words).split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        return done.returncode, comparable(it, done.stdout), comparable(it, done.stderr)

    def run(self, it: Node) -> str:
        return f"run --runtime {RUNC} --cgroup /{it.word}/{it.word}"


def comparable(it: Node, data: bytes) -> str:
    text = data.decode(errors="replace").replace(str(it.root), "<root>").replace(it.word, "<id>")
    for pattern, instead in NOT_COMPARED:
        text = re.sub(pattern, instead, text)
    # labels come in no order
    return "\n".join(",".join(sorted(line.split(","))) for line in text.splitlines())


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    archive = busybox_archive()
    with node("ours") as ours, node("real") as real:
        for it in (ours, real):
            (it.root / "image.tar").write_bytes(archive)
            it.ctr("images", "import", str(it.root / "image.tar"))
            it.ctr("images", "tag", IMAGE, "example.com/collected:1")
            it.ctr("images", "rm", "--sync", "example.com/collected:1")
        manifest = ours.ctr("images", "ls").stdout.split("sha256:")[1].split()[0]
        document = json.loads(ours.ctr("content", "get", f"sha256:{manifest}").stdout)
        words = {"image": IMAGE, "nowhere": NOWHERE, "none": f"sha256:{0:064}"}
        words.update(manifest=f"sha256:{manifest}", config=document["config"]["digest"])
        yield Both(ours, real, words)


@pytest.mark.parametrize("group", SCRIPTS)
def test_the_same_answers(both: Both, group: str) -> None:
    for line in SCRIPTS[group].strip().splitlines():
        ours, real = (both.answer(it, line) for it in (both.ours, both.real))
        assert ours == real, line.strip()
