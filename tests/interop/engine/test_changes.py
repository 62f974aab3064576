"""`--change` of import, each instruction as Debian's dockerd takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.barque import Stack
from tests.support.docker_peer import docker_peer
from tests.support.engine_api import ask
from tests.support.images import tar

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]

LAYER = tar(("etc/hello", b"hello"))
BEFORE = "ENV PATH=/bin:/sbin ONE=1 EMPTY="


@pytest.fixture(scope="module")
def theirs() -> Iterator[Path]:
    with docker_peer(image=False) as peer:
        yield Path(peer.host.removeprefix("unix://"))


def config(socket: Path, change: str) -> dict[str, Any] | None:
    """The config of an import with a change; None where it is refused."""
    query = urlencode(
        [
            ("fromSrc", "-"),
            ("repo", "changed"),
            ("tag", "1"),
            ("changes", BEFORE),
            ("changes", change),
        ]
    )
    done = ask(socket, "POST", f"/v1.41/images/create?{query}", LAYER)
    if done.status != 200:
        assert done.status in {400, 500}
        return None
    found = ask(socket, "GET", "/v1.41/images/changed:1/json").json()["Config"]
    return {
        key: value for key, value in found.items() if value and key not in {"Hostname", "Image"}
    }


@pytest.mark.parametrize(
    "change",
    [
        *('CMD ["sh", "-c", "x"]', "CMD echo  hi  $ONE", "cmd [1]", "CMD ['a']", "CMD []"),
        *('ENTRYPOINT ["/e", "$ONE"]', "ENTRYPOINT /e a", "ENTRYPOINT []"),
        *("ENV A=1 B='two words'", "ENV A 1 $ONE", 'ENV A="q $ONE" B=a\\ b', "ENV PATH=$PATH:/x"),
        *(
            'ENV A="x y" C=$A',
            "ENV A=${NO:-word} B=${ONE:+w} C=${EMPTY:-w}",
            "ENV A='$ONE' B=\\$ONE",
        ),
        *(
            "ENV A",
            "ENV =x",
            "ENV A= B=",
            "ENV A=1 B",
            "ENV A=${ONE",
            "ENV A=1 \\\n B=2",
            "ENV A='x",
        ),
        *('LABEL a=$ONE "c d"="e f"', "LABEL a", "LABEL a b", "LABEL $ONE=x"),
        *("EXPOSE 80 53/udp", "EXPOSE 80-82", "EXPOSE 80/icmp", "EXPOSE 0", "EXPOSE 65536"),
        *("EXPOSE 8080:80", "EXPOSE $NO", "EXPOSE ${ONE}0", "EXPOSE x"),
        *("VOLUME /a /b/$ONE", 'VOLUME ["/a b"]', 'VOLUME [""]', "VOLUME []"),
        *("USER 1000:$ONE", "USER a b", "USER", "WORKDIR /a/$ONE", "WORKDIR b/../c", "WORKDIR a b"),
        *("ONBUILD RUN $ONE", "ONBUILD FROM x", "ONBUILD ONBUILD RUN x", "HEALTHCHECK NONE"),
        *("HEALTHCHECK NONE x", "HEALTHCHECK CMD $ONE", "HEALTHCHECK x", "HEALTHCHECK CMD"),
        'HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --retries=3 CMD ["a","b"]',
        *("HEALTHCHECK --retries=0 CMD x", "HEALTHCHECK --interval=1ns CMD x", "RUN x", "FROM x"),
        *("COPY a b", "ARG x", 'SHELL ["a"]', "bogus", "USER a\nWORKDIR /w\n# no\n"),
    ],
)
def test_a_change(barque: Stack, theirs: Path, change: str) -> None:
    assert config(barque.socket, change) == config(theirs, change)
