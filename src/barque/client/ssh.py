"""A daemon on another machine, through ssh: `ssh://[user@]host[:port][/path/of/its/socket]`.

The remote command `system dial-stdio` joins its standard streams to its daemon's socket. It is
Docker's own, so the other machine may have either: its `barque` is asked first, then its `docker`.
"""

from __future__ import annotations

import _socket

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.client.connection import Stream

REMOTE = (
    "if command -v barque >/dev/null 2>&1; then exec barque {0}system dial-stdio; "
    "else exec docker {0}system dial-stdio; fi"
)


def parse(text: str) -> tuple[str, ...]:
    """The argv of ssh for a host. Raises InvalidArgument for what ssh could take for an option."""
    rest = text.removeprefix("ssh://")
    authority, slash, path = rest.partition("/")
    user, at, place = authority.rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, ""
    if not _plain(host) or (at and not _plain(user)) or (colon and port and not port.isdigit()):
        raise errors.InvalidArgument(f"unable to parse docker host `{text}`: invalid ssh URL")
    if ":" in user:
        raise errors.InvalidArgument(f"unable to parse docker host `{text}`: plain-text password")
    if any(not (c.isalnum() or c in "/._-+") for c in path):
        raise errors.InvalidArgument(f"unable to parse docker host `{text}`: invalid path")
    remote = REMOTE.format(f"--host unix:///{path} " if slash and path else "")
    login = ["-l", user] if user else []
    return ("ssh", *login, *(["-p", port] if port else []), "--", host.strip("[]"), remote)


def _plain(word: str) -> bool:
    return bool(word) and not word.startswith("-") and not any(c in word for c in " \t\n'\"\\?#")


def connect(argv: tuple[str, ...]) -> Stream:
    """A stream that ends at the other machine's daemon. Raises Unavailable without an ssh."""
    import os

    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # Its words of warning, and its questions, go to our user.
        os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
            ],
        )
    except FileNotFoundError:
        mine.close()
        raise errors.Unavailable(
            f"cannot reach {argv[-2]}: the program ssh is not installed"
        ) from None
    finally:
        theirs.close()
    return mine
