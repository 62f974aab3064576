"""Instructions that change an image's config."""

from __future__ import annotations

from typing import Any

import pytest

from barque import errors
from barque.daemon.images.changes import apply


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["sh", "-c", "x"]'], {"Cmd": ["sh", "-c", "x"]}),
        (["CMD echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (["CMD [1"], {"Cmd": ["/bin/sh", "-c", "[1"]}),
        (['ENTRYPOINT ["/e"]'], {"Entrypoint": ["/e"]}),
        (["ENV A=1 B='two words'"], {"Env": ["A=1", "B=two words"]}),
        (["ENV A 1 2"], {"Env": ["A=1 2"]}),
        (["ENV A=1", "ENV B=2", "ENV A=3"], {"Env": ["A=3", "B=2"]}),
        (["LABEL a=b c=d"], {"Labels": {"a": "b", "c": "d"}}),
        (["EXPOSE 80 53/udp"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        (["EXPOSE 80-82"], {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "82/tcp": {}}}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["USER 1000:1000"], {"User": "1000:1000"}),
        (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["ONBUILD RUN x"], {"OnBuild": ["RUN x"]}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["USER a\nWORKDIR /w\n# no\n"], {"User": "a", "WorkingDir": "/w"}),
        (["ENV A=1", "ENV B=$A:${A}2 A=3 C='$A'"], {"Env": ["A=3", "B=1:12", "C=$A"]}),
        (["ENV A=1 \\\n B=2", "USER $A"], {"Env": ["A=1", "B=2"], "User": "1"}),
        (
            ["ENV P=80", "EXPOSE $P 1:2:81"],
            {"Env": ["P=80"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}}},
        ),
        ([], {}),
    ],
)
def test_known_instructions(changes: list[str], expected: dict[str, Any]) -> None:
    assert apply({}, changes) == expected


@pytest.mark.parametrize(
    "change",
    [
        "RUN rm -rf /",
        "FROM x",
        "COPY a b",
        "bogus",
        "CMD",
        "ENV",
        "ENV A",
        "ENV A=1 B",
        "ENV A='x",
        "EXPOSE x",
        "cmd [1]",
        "VOLUME []",
        "STOPSIGNAL nope",
        "USER ${A",
        "USER ${A:?why}",
        "# nothing",
        "EXPOSE 65536",
        "EXPOSE 90-80",
        "EXPOSE 80/icmp",
        "ONBUILD FROM x",
        "ONBUILD ONBUILD RUN x",
    ],
)
def test_others_are_refused(change: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        apply({}, [change])


def test_the_config_given_is_not_changed() -> None:
    config = {"Env": ["A=1"], "Labels": {"a": "b"}}
    apply(config, ["ENV A=2", "LABEL a=c"])
    assert config == {"Env": ["A=1"], "Labels": {"a": "b"}}
