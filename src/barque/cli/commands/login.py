"""`barque login`: prove who we are to a registry, and keep what proved it."""

from __future__ import annotations

import os

from barque import errors
from barque.cli import terminal
from barque.cli.session import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] [SERVER]"
SUMMARY = "Log in to a registry"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("password", "p", "string", "Password or token; seen by everyone who lists processes"),
    ("password-stdin", "", "bool", "Take the password or token from STDIN"),
    ("username", "u", "string", "Name of the user"),
)
ARGUMENTS = (0, 1)

INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
UNENCRYPTED = (
    "\nWARNING! Your credentials are stored unencrypted in '{}'.\n"
    "Configure a credential helper to remove this warning. See\n"
    "https://docs.docker.com/go/credential-store/\n\n"
)
MAX_SECRET_BYTES = 64 << 10


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.cli import logins

    server = logins.address_of(arguments[0] if arguments else "")
    user, password = _given(options)
    directory, settings = session.config_directory, session.settings
    entry = {"username": user, "password": password}
    if not user and not password and (known := logins.entry_of(settings, server)):
        terminal.out("Authenticating with existing credentials...\n")
        entry = known
    elif not user or not password:
        entry = _asked(server, user, password)
    done = session.client.system.auth({**entry, "serveraddress": server})
    if token := done.get("IdentityToken"):
        entry = {"username": entry.get("username", ""), "identitytoken": token}
    if logins.keep_entry(directory, settings, server, entry):
        terminal.err(UNENCRYPTED.format(f"{directory}/config.json"))
    terminal.out(f"{done.get('Status') or 'Login Succeeded'}\n")
    return 0


def _given(options: Options) -> tuple[str, str]:
    """User and password of the flags."""
    user, password = options.text("username"), options.text("password")
    if options.flag("password-stdin"):
        if password:
            raise errors.InvalidArgument(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
        if not user:
            raise errors.InvalidArgument(
                "the --password-stdin option requires --username to be set"
            )
        data = b""
        while len(data) <= MAX_SECRET_BYTES and (piece := os.read(terminal.STDIN, 65536)):
            data += piece
        password = data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    elif password:
        terminal.err(INSECURE)
    return user, password


def _asked(server: str, user: str, password: str) -> dict[str, str]:
    """Asks at the terminal for what is missing."""
    if not terminal.is_terminal(terminal.STDIN):
        raise Failure(1, "Error: Cannot perform an interactive login from a non TTY device")
    if not user:
        terminal.out("Username: ")
        user = _line()
        if not user:
            raise errors.InvalidArgument("username is required")
    if not password:
        terminal.out("Password: ")
        password = _unseen()
        if not password:
            raise errors.InvalidArgument("password is required")
    return {"username": user, "password": password}


def _line() -> str:
    return os.read(terminal.STDIN, 4096).decode("utf-8", "replace").strip()


def _unseen() -> str:
    """A line that the terminal does not show."""
    import _signal  # type: ignore[import-not-found]
    import termios

    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    before = termios.tcgetattr(terminal.STDIN)
    mode = termios.tcgetattr(terminal.STDIN)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(terminal.STDIN, termios.TCSADRAIN, mode)
    try:
        return _line()
    finally:
        termios.tcsetattr(terminal.STDIN, termios.TCSADRAIN, before)
        terminal.out("\n")
