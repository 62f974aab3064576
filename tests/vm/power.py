"""What runs in the machine whose power is cut: work, told as it is done, and the proof after it.

    python -m tests.vm.power work ACKS BOOT     pull, import, commit, start, collect, until it goes
    python -m tests.vm.power verify ACKS        all that was told is there and whole

The data root is on a disk at /mnt/s/d, all else in memory, as on a machine that restarts. A line of
ACKS, which is a file outside, is written after an answer: `image NAME`, `container NAME`; before an
image is removed it is `going NAME`. A random file /data in an image is known by the image's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.barque import Stack
from tests.support.crash import check_blobs
from tests.support.engine_api import Answer, ask
from tests.support.our_registry import OurRegistry, our_registry

HOME = Path("/mnt/s")
BASE = Path("/run/vm/base.tar")
IMAGES = tuple(f"image{number}" for number in range(6))
MADE = "made"
IMPORTED = "imported"
DATA_BYTES = 300_000


def data_of(name: str) -> bytes:
    return random.Random(name).randbytes(DATA_BYTES)


class Client:
    def __init__(self, barque: Stack, acks: Path) -> None:
        self.barque = barque
        self.acks = acks

    def must(
        self,
        method: str,
        target: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        **query: str,
    ) -> Answer:
        where = f"{target}?{urlencode(query)}" if query else target
        answer = ask(self.barque.socket, method, where, body, document=document)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return answer

    def told(self, *words: str) -> None:
        fd = os.open(self.acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, " ".join(words).encode() + b"\n")
        os.close(fd)

    # work

    def pull(self, registry: OurRegistry, name: str, tag: str) -> None:
        source = f"{registry.address}/{name}"
        answer = self.must("POST", "/images/create", fromImage=source, tag="latest")
        assert b"errorDetail" not in answer.body, answer.body
        self.must("POST", f"/images/{quote(source, safe='')}:latest/tag", repo=name, tag=tag)
        self.told("image", f"{name}:{tag}")

    def imported(self, archive: bytes, tag: str) -> None:
        answer = self.must(
            "POST", "/images/create", body=archive, fromSrc="-", repo=IMPORTED, tag=tag
        )
        assert b"errorDetail" not in answer.body, answer.body
        self.told("image", f"{IMPORTED}:{tag}")

    def create(self, name: str, image: str, *command: str) -> None:
        body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
        self.must("POST", "/containers/create", body, name=name)
        self.told("container", name)

    def run(self, name: str) -> int:
        self.must("POST", f"/containers/{name}/start")
        return int(self.must("POST", f"/containers/{name}/wait").json()["StatusCode"])

    def commit(self, name: str) -> None:
        self.must("POST", "/commit", {}, container=name, repo=MADE, tag=name)
        self.told("image", f"{MADE}:{name}")

    def remove(self, image: str) -> None:
        self.told("going", image)
        self.must("DELETE", f"/images/{quote(image, safe='')}")


def work(client: Client, boot: int) -> None:
    """Four at once, without end: the power ends them."""
    archive = BASE.read_bytes()
    with our_registry(root=Path("/run/vm/registry")) as registry:

        def pulls() -> None:
            number = 0
            while True:
                for name in IMAGES:
                    number += 1
                    client.pull(registry, name, f"b{boot}n{number}")
                    if number % 2:
                        client.remove(f"{name}:b{boot}n{number}")

        def containers() -> None:
            number = 0
            while True:
                number += 1
                name = f"c{boot}n{number}"
                client.create(name, "base", "sh", "-c", f"echo {name} > /made; cat /data > /copy")
                assert client.run(name) == 0
                client.commit(name)

        def imports() -> None:
            number = 0
            while True:
                number += 1
                client.imported(archive, f"b{boot}n{number}")
                if number % 2:
                    client.remove(f"{IMPORTED}:b{boot}n{number}")

        def collects() -> None:
            while True:
                client.must("POST", "/images/prune", filters=json.dumps({"dangling": ["true"]}))

        threads = [threading.Thread(target=job) for job in (pulls, containers, imports, collects)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


# the proof


def told(acks: Path) -> tuple[set[str], set[str]]:
    """The names of images and of containers that must be there."""
    images, containers = set[str](), set[str]()
    for line in acks.read_text().splitlines():
        what, name = line.split()
        if what == "image":
            images.add(name)
        elif what == "container":
            containers.add(name)
        elif what == "going":  # whether it went was not told
            images.discard(name)
    return images, containers


def verify(client: Client) -> None:
    images, containers = told(client.acks)
    there = {
        name: image["Id"]
        for image in client.must("GET", "/images/json").json()
        for name in image["RepoTags"]
    }
    assert images
    assert containers
    assert images <= set(there), images - set(there)
    for name in {identity: name for name, identity in sorted(there.items())}.values():
        check_image(client, name)
    listed = client.must("GET", "/containers/json", all="1").json()
    names = {container["Names"][0][1:] for container in listed}
    assert containers <= names, containers - names
    for name in sorted(names)[-3:]:
        assert client.run(name) == 0, name
    check_blobs(HOME / "d/containerd/content")


def check_image(client: Client, name: str) -> None:
    """It can be run, and its file system is whole."""
    repository, _, tag = name.rpartition("/")[2].rpartition(":")
    source = repository if repository in IMAGES else "base"
    digest = hashlib.sha256(data_of(source)).hexdigest()
    test = f"test $(busybox sha256sum /data | busybox cut -c 1-64) = {digest}"
    if repository == MADE:
        test += f" && test $(cat /made) = {tag} && busybox cmp /data /copy"
    body = {"Image": name, "Cmd": ["sh", "-c", test], "HostConfig": {"NetworkMode": "none"}}
    client.must("POST", "/containers/create", body, name="proof")
    assert client.run("proof") == 0, name
    client.must("DELETE", "/containers/proof")


def main(what: str, acks: str, boot: str = "0") -> None:
    data = HOME / "d"
    data.mkdir(parents=True, exist_ok=True)
    for module in ("virtio_blk", "ext4"):
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["mount", "/dev/vda", data], check=True)
    (HOME / "daemon.json").write_text("{}")
    barque = Stack(HOME, "power", ())
    barque.start()
    client = Client(barque, Path(acks))
    if what == "verify":
        verify(client)
        return
    if not client.acks.exists():
        barque.docker("import", "-c", "ENV PATH=/bin", "-", "base", stdin=BASE.read_bytes())
    work(client, int(boot))


if __name__ == "__main__":
    main(*sys.argv[1:])
