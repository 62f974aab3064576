"""A crash test of the whole stack: random operations, a random process of ours killed in the midst.

    rounds = Rounds(stack, seed)
    rounds.run(500)

Each round starts some operations at once, kills one process a moment later, starts what does not
start itself, and compares everything with what clients were told. What was told holds; what was
not told is whole or gone. The decisions of a seed are always the same; the moments are not quite.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import random
import signal
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.barque import Stack
from tests.support.cgroups import tops
from tests.support.docker_peer import busybox_tar
from tests.support.engine_api import Answer, ask

SETTLE_LIMIT_S = 30.0
POLL_S = 0.02
DAEMON, CONTAINERD, ZYGOTE, SHIM = "barqued", "barque-containerd", "barque-zygote", "barque-shim"
VICTIMS = (DAEMON, CONTAINERD, ZYGOTE, SHIM)
CONTAINERS_MAX = 10
OPERATIONS_MAX = 4
KILL_WITHIN_S = 0.25
RECHECK_EVERY = 10  # rounds between looks at every byte that is stored
HISTORY = 8  # rounds that a failure tells of
UNSURE_ROUNDS = 2
NEVER = "0001-01-01T00:00:00Z"
FOREVER = ["sleep", "100000"]


@dataclass
class Container:
    """What is known of one container. `present` and `state` are None when nobody was told."""

    name: str
    code: int | None = None  # it ends by itself, with this
    id: str = ""
    present: bool | None = None
    state: str | None = "created"
    pid: int = 0
    shim_killed: bool = False

    ended: tuple[str, int] | None = None  # when and how; of one start, this never changes


@dataclass
class Thing:
    """A network, volume or image: there, gone, or unknown."""

    name: str
    id: str = ""
    present: bool | None = None
    sure: int = 0  # the round from which what is seen of one that is unknown is believed


class Lost(Exception):
    """The answer never came: the daemon died."""


class Told:
    """Everything clients were told, by kind and name."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.networks: dict[str, Thing] = {}
        self.volumes: dict[str, Thing] = {}
        self.images: dict[str, Thing] = {}
        self.ids: set[str] = set()

    def take_id(self, identity: str) -> None:
        assert identity not in self.ids, f"id {identity} was given out twice"
        self.ids.add(identity)


class Rounds:
    """The test. Fails with AssertionError, which names the seed, the round and what was done."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.seed = seed
        self.told = Told()
        self.number = 0
        self.done: list[str] = []
        self._history: deque[tuple[int, list[str]]] = deque(maxlen=HISTORY)
        self._random = random.Random(seed)
        self._bound: set[str] = set()  # volumes that this round's creates would make again
        self._count = 0

    def run(self, rounds: int) -> None:
        for self.number in range(rounds):
            try:
                self._round()
            except BaseException as error:
                last = "\n".join(f"{at}: {'; '.join(done)}" for at, done in self._history)
                error.add_note(f"seed {self.seed}, rounds\n{last}")
                raise
        self.finish()

    def finish(self) -> None:
        """Remove everything: the engine must know nothing any more, and nothing be left of it."""
        for kind in ("containers", "networks", "volumes", "images"):
            for name, thing in list(getattr(self.told, kind).items()):
                if thing.present:
                    flags = "?force=1&v=1" if kind == "containers" else ""
                    self.ask("DELETE", f"/{kind}/{quote(name, safe='')}{flags}", wanted=(200, 204))
                del getattr(self.told, kind)[name]
        self._settle(self._look_at_machine)

    # one round

    def _round(self) -> None:
        dice = self._random
        self.done = []
        self._history.append((self.number, self.done))
        victim = dice.choice(VICTIMS)
        delay_s = dice.random() * KILL_WITHIN_S
        operations = self._choose(dice)
        doomed = self._doomed(dice) if victim == SHIM else None
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=self._guard, args=(operation, failures), daemon=True)
            for operation in operations
        ]
        for thread in threads:
            thread.start()
        time.sleep(delay_s)
        self._kill(victim, doomed)
        if victim == DAEMON:
            self.stack.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "an operation does not end"
        if failures:
            raise failures[0]
        self._check()

    def _guard(self, operation: Callable[[], None], failures: list[BaseException]) -> None:
        try:
            operation()
        except BaseException as error:
            failures.append(error)

    def _doomed(self, dice: random.Random) -> Container | None:
        running = [c for c in self.told.containers.values() if c.state == "running"]
        return dice.choice(sorted(running, key=lambda c: c.name)) if running else None

    def _kill(self, victim: str, doomed: Container | None) -> None:
        if victim != SHIM:
            self.done.append(f"kill {victim}")
            self.stack.kill(victim)
        elif doomed is not None:
            shim = shim_of(doomed.pid)
            self.done.append(f"kill the shim of {doomed.name}: {shim}")
            doomed.shim_killed = True
            if shim:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(shim, signal.SIGKILL)

    def ask(
        self,
        method: str,
        target: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        wanted: tuple[int, ...] = (),
    ) -> Answer:
        """Raises Lost when no answer came; with `wanted` any other status fails the test."""
        try:
            answer = ask(self.stack.socket, method, target, body, document=document)
        except (OSError, http.client.HTTPException) as error:
            raise Lost(f"{method} {target}: {error!r}") from error
        if wanted:
            assert answer.status in wanted, f"{method} {target}: {answer.status} {answer.body!r}"
        return answer

    # choosing: what the operations of one round touch is touched by one of them only

    def _choose(self, dice: random.Random) -> list[Callable[[], None]]:
        chosen: list[Callable[[], None]] = []
        self._bound.clear()
        free = sorted((c for c in self.told.containers.values() if c.present), key=lambda c: c.name)
        dice.shuffle(free)
        for _ in range(dice.randint(1, OPERATIONS_MAX)):
            kind = dice.random()
            if kind < 0.3 and len(self.told.containers) < CONTAINERS_MAX:
                chosen.append(self._new_container(dice))
            elif kind < 0.75 and free:
                chosen.append(self._use_container(dice, free.pop()))
            else:
                chosen.append(self._other(dice))
        return chosen

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _new_container(self, dice: random.Random) -> Callable[[], None]:
        code = dice.choice([None, None, 0, 3, 41])
        container = Container(self._name("c"), code)
        self.told.containers[container.name] = container
        lives_s = dice.random()
        command = FOREVER if code is None else ["sh", "-c", f"sleep {lives_s:.2f}; exit {code}"]
        networks = ["none", "bridge", *(n for n, t in self.told.networks.items() if t.present)]
        volumes = [v for v, t in self.told.volumes.items() if t.present]
        host: dict[str, Any] = {"NetworkMode": dice.choice(sorted(networks))}
        if volumes and dice.random() < 0.5:
            volume = dice.choice(sorted(volumes))
            self._bound.add(volume)
            host["Binds"] = [f"{volume}:/v"]
        starts = dice.random() < 0.8
        images = ["busybox", *(i for i, t in self.told.images.items() if t.present)]
        document = {"Image": dice.choice(sorted(images)), "Cmd": command, "HostConfig": host}
        return lambda: self._create(container, document, starts)

    def _use_container(self, dice: random.Random, container: Container) -> Callable[[], None]:
        if container.state == "running" and container.code is None:
            what = dice.choice([self._exec, self._exec, self._stop, self._kill_it, self._pause])
        elif container.state == "running":
            what = dice.choice([self._wait, self._exec, self._kill_it])
        else:
            what = dice.choice([self._start, self._start, self._remove])
        if dice.random() < 0.15:
            what = self._remove
        self.done.append(f"{what.__name__} {container.name}")
        return lambda: what(container)

    def _other(self, dice: random.Random) -> Callable[[], None]:
        kind = dice.choice(["network", "volume", "image"])
        known: dict[str, Thing] = getattr(self.told, f"{kind}s")
        used = {thing for thing in known if known[thing].present} - self._bound
        if used and dice.random() < 0.35:
            thing = known[dice.choice(sorted(used))]
            self.done.append(f"remove {kind} {thing.name}")
            thing.present, thing.sure = None, self.number + UNSURE_ROUNDS
            return lambda: self._remove_thing(kind, thing)
        thing = Thing(self._name(kind[0]), sure=self.number + UNSURE_ROUNDS)
        if kind == "image":
            thing.name += ":latest"
        known[thing.name] = thing
        self.done.append(f"make {kind} {thing.name}")
        return lambda: self._make_thing(kind, thing)

    # operations

    def _create(self, container: Container, document: dict[str, Any], starts: bool) -> None:
        self.done.append(f"create {container.name} {document}{' and start' if starts else ''}")
        try:
            answer = self.ask("POST", f"/containers/create?name={container.name}", document)
        except Lost:
            return
        if answer.status != 201:
            container.present = False  # an image or network may be gone, or containerd dead
            self.done.append(f"create {container.name}: {answer.status} {answer.body!r}")
            return
        container.id, container.present = answer.json()["Id"], True
        self.told.take_id(container.id)
        if starts:
            self._start(container)

    def _change(
        self, container: Container, target: str, state: str, wanted: tuple[int, ...]
    ) -> None:
        """A call after which, if it succeeds, the container is in `state`; else nobody knows."""
        container.state = None
        try:
            answer = self.ask("POST", f"/containers/{container.name}/{target}")
        except Lost:
            return
        if answer.status in wanted:
            container.state = state
        else:
            self.done.append(f"{target} {container.name}: {answer.status} {answer.body!r}")

    def _start(self, container: Container) -> None:
        container.shim_killed = False
        container.pid, container.ended = 0, None
        self._change(container, "start", "running", (204,))

    def _stop(self, container: Container) -> None:
        self._change(container, "stop?t=0", "exited", (204, 304))

    def _kill_it(self, container: Container) -> None:
        self._change(container, "kill", "exited", (204,))

    def _pause(self, container: Container) -> None:
        container.state = None
        with contextlib.suppress(Lost):
            self.ask("POST", f"/containers/{container.name}/pause")
            self.ask("POST", f"/containers/{container.name}/unpause")

    def _wait(self, container: Container) -> None:
        try:
            answer = self.ask("POST", f"/containers/{container.name}/wait")
        except Lost:
            return
        if answer.status == 200 and not container.shim_killed:
            assert answer.json()["StatusCode"] == container.code, f"wait {container.name}"

    def _remove(self, container: Container) -> None:
        container.present = container.state = None
        try:
            answer = self.ask("DELETE", f"/containers/{container.name}?force=1&v=1")
        except Lost:
            return
        container.present = False if answer.status == 204 else None

    def _exec(self, container: Container) -> None:
        """An exec that says it has succeeded has done so."""
        with contextlib.suppress(Lost):
            document = {"Cmd": ["sh", "-c", "echo in; exit 7"], "AttachStdout": True}
            answer = self.ask("POST", f"/containers/{container.name}/exec", document)
            if answer.status != 201:
                return
            identity = answer.json()["Id"]
            self.told.take_id(identity)
            self.ask("POST", f"/exec/{identity}/start", {"Detach": False})
            seen = self.ask("GET", f"/exec/{identity}/json")
            if seen.status != 200:
                return
            state = seen.json()
            whole = not container.shim_killed and container.code is None
            if whole and not state["Running"] and state["ExitCode"] is not None:
                codes = (7, 137, 126, 128)  # or it never began: containerd was dead
                assert state["ExitCode"] in codes, f"exec in {container.name}: {state}"

    def _make_thing(self, kind: str, thing: Thing) -> None:
        try:
            if kind == "image":
                answer = self.ask(
                    "POST",
                    f"/images/create?fromSrc=-&repo={thing.name.partition(':')[0]}&tag=latest",
                    body=small_image(self.seed, thing.name),
                )
                made = answer.status == 200 and b'"error"' not in answer.body
            else:
                answer = self.ask("POST", f"/{kind}s/create", {"Name": thing.name})
                made = answer.status == 201
        except Lost:
            return
        thing.present = made or (None if kind == "image" else False)
        if made and kind == "network":
            thing.id = answer.json()["Id"]
            self.told.take_id(thing.id)
        if not made:
            self.done.append(f"make {kind} {thing.name}: {answer.status} {answer.body!r}")

    def _remove_thing(self, kind: str, thing: Thing) -> None:
        try:
            answer = self.ask("DELETE", f"/{kind}s/{quote(thing.name, safe='')}")
        except Lost:
            return
        if answer.status in (200, 204):
            thing.present = False

    # checking

    def _check(self) -> None:
        self._settle(self._look_at_containers)
        self._settle(self._look_at_things)
        self._settle(self._look_at_machine)
        if self.number % RECHECK_EVERY == RECHECK_EVERY - 1:
            check_blobs(self.stack.root / "d" / "containerd" / "content")
            self._use_images()

    def _settle(self, look: Callable[[], str]) -> None:
        """Until `look` finds nothing wrong."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while True:
            try:
                wrong = look()
            except Lost as error:
                wrong = str(error)
            if not wrong:
                return
            if time.monotonic() > deadline:
                log = self.stack.log.read_text(errors="replace")[-3000:]
                raise AssertionError(f"{wrong}\nthe daemon's log: {log}")
            time.sleep(POLL_S)

    def _look_at_containers(self) -> str:
        listed = self.ask("GET", "/containers/json?all=1", wanted=(200,)).json()
        names = {name.lstrip("/"): one["Id"] for one in listed for name in one["Names"]}
        known = self.told.containers
        if unknown := names.keys() - known.keys():
            return f"containers nobody made: {unknown}"
        for name, container in list(known.items()):
            if container.present is True and name not in names:
                return f"{name} is lost"
            if container.present is False and name in names:
                return f"{name} is listed, and its client was told that it is not there"
            if name not in names:
                del known[name]
                continue
            if container.id and container.id != names[name]:
                return f"{name} has another id: {names[name]}, not {container.id}"
            if not container.id:
                self.told.take_id(names[name])
            container.id, container.present = names[name], True
            if wrong := self._look_at(container):
                return wrong
        return ""

    def _look_at(self, container: Container) -> str:
        """One container, against what was told of it; what is seen of it is told from here on."""
        document = self.ask("GET", f"/containers/{container.id}/json", wanted=(200,)).json()
        state = document["State"]
        what = f"{container.name} is {json.dumps(state)}"
        status = state["Status"]
        if status == "paused":  # the daemon died between the two calls
            self.ask("POST", f"/containers/{container.id}/unpause")
        if status not in ("created", "running", "exited"):
            return what
        if state["Running"] and not os.path.exists(f"/proc/{state['Pid']}"):
            return f"{what}, which is dead"
        if container.shim_killed and state["Running"]:
            return f"{what}, and its shim is dead"
        if container.state == "running" and not container.shim_killed:
            ended_well = status == "exited" and state["ExitCode"] == container.code
            if not state["Running"] and not ended_well:
                return f"{what}, and should run"
            if state["Running"] and container.pid and container.pid != state["Pid"]:
                return f"{what}, and had pid {container.pid}"
        if container.state in ("exited", "created") and status != container.state:
            return f"{what}, and was {container.state}"
        if status == "exited" and (wrong := self._look_at_exit(container, state)):
            return f"{what}{wrong}"
        container.state = status
        container.pid = state["Pid"]
        return ""

    def _look_at_exit(self, container: Container, state: dict[str, Any]) -> str:
        ended = (state["FinishedAt"], state["ExitCode"])
        if state["FinishedAt"] == NEVER:
            return ", with no time"
        if container.ended and container.ended != ended:
            return f", and had ended {container.ended}"
        container.ended = ended
        return ""

    def _look_at_things(self) -> str:
        networks = self.ask("GET", "/networks", wanted=(200,)).json()
        volumes = self.ask("GET", "/volumes", wanted=(200,)).json()["Volumes"] or []
        images = self.ask("GET", "/images/json", wanted=(200,)).json()
        seen = {
            "networks": {
                n["Name"]: n["Id"] for n in networks if n["Name"][0] == "n" and n["Name"] != "none"
            },
            "volumes": {v["Name"]: "" for v in volumes},
            "images": {t: i["Id"] for i in images for t in i["RepoTags"] or () if t[0] == "i"},
        }
        for kind, names in seen.items():
            known: dict[str, Thing] = getattr(self.told, kind)
            if unknown := names.keys() - known.keys():
                return f"{kind} nobody made: {unknown}"
            for name, thing in list(known.items()):
                if thing.present is True and name not in names:
                    return f"one of the {kind} is lost: {name}"
                if thing.present is False and name in names:
                    return f"one of the {kind} is there and should not be: {name}"
                if kind == "images" and thing.present is None and self.number < thing.sure:
                    continue  # the engine asks containerd again when that is back, not before
                if name not in names:
                    del known[name]
                    continue
                if thing.id and thing.id != names[name]:
                    return f"{name} of the {kind} has another id"
                thing.present, thing.id = True, names[name]
        return ""

    def _look_at_machine(self) -> str:
        """Whether the machine has what runs and nothing else."""
        containers = self.told.containers.values()
        running = {c.id for c in containers if c.state == "running"}
        if any(c.code is not None for c in containers if c.state == "running"):
            listed = self.ask("GET", "/containers/json", wanted=(200,)).json()
            running = {one["Id"] for one in listed}
        run, data = self.stack.root / "r", self.stack.root / "d"
        tasks = run / "containerd" / "io.containerd.runtime.v2.task" / "moby"
        places = {
            "bundles": names_in(tasks),
            "states of the runtime": {
                n for n in names_in(run / "containerd" / "runc" / "moby") if n[0] != "@"
            },
            "mounts": mounted_ids(self.stack.root),
        }
        for group in tops(self.stack.cgroup):
            places[f"control groups of {group.parent.name}"] = {
                path.name for path in group.iterdir() if path.is_dir()
            }
        for what, found in places.items():
            if found != running:
                return f"{what}: too many {found - running}, missing {running - found}"
        shims = len(self.stack.shims())
        if shims != len(running):
            return f"{shims} shims for {len(running)} running containers"
        kept = {c.id for c in containers}
        if left := names_in(data / "containers") - kept:
            return f"directories of containers that are not there: {left}"
        if left := set(names_in(data / "volumes")) - self.told.volumes.keys():
            return f"directories of volumes that are not there: {left}"
        return ""

    def _use_images(self) -> None:
        """Every image can be read whole."""
        for name in [n for n, thing in self.told.images.items() if thing.present]:
            answer = self.ask("GET", f"/images/{quote(name, safe='')}/get", wanted=(200,))
            with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
                assert "manifest.json" in archive.getnames(), f"{name} is half there"


def shim_of(pid: int) -> int:
    """The parent of a container's first process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def names_in(directory: Path) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def mounted_ids(root: Path) -> set[str]:
    """The ids of containers that have mounts below `root`."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        part
        for point in points
        if point.startswith(f"{root}/")
        for part in point.split("/")
        if len(part) == 64
    }


def check_blobs(content: Path) -> None:
    """Every blob is what its name says."""
    for path in (content / "blobs" / "sha256").iterdir():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == path.name, f"blob {path} is damaged"


def small_image(seed: int, name: str) -> bytes:
    """A root file system that is another for each name: busybox and some bytes."""
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        data = random.Random(f"{seed} {name}").randbytes(100_000)
        entry = tarfile.TarInfo("data")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
