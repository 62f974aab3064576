"""The `barque` command: find the command, parse its flags, run it, turn failures into exit codes.

Each command is a module of `cli.commands`, imported only when it is the one that runs:

    USAGE      what follows the command's name on its usage line
    SUMMARY    one line
    ALIASES    all its names, for the help page; empty when there is one
    OPTIONS    rows for `cli.flags`
    ARGUMENTS  (least, most) positional arguments; most is -1 where any number will do
    run(session, options, arguments) -> exit code
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from barque import errors
from barque.cli import flags, terminal
from barque.cli.session import NO_TRUST, PROGRAM, Failure, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Command(Protocol):
        """A module of `cli.commands`."""

        USAGE: str
        SUMMARY: str
        ALIASES: tuple[str, ...]
        OPTIONS: tuple[flags.Row, ...]
        ARGUMENTS: tuple[int, int]

        def run(self, session: Session, options: flags.Options, arguments: list[str], /) -> int: ...


USAGE_EXIT = 125
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal", "panic", "trace", "warning")


def _words(text: str) -> list[str]:
    return text.split()


# Commands whose flags end at the first argument: the rest is another program's command line.
COMMAND_LINES = frozenset(("run", "create", "exec", "top", "complete"))
# Commands whose words may be paths of this machine, which are bytes: taken as they come.
OF_FILES = frozenset(
    (
        *("cp", "export", "import_", "load", "save", "volume.backup", "volume.restore"),
        *("context.export", "context.import_"),
    )
)
GROUPS = {
    "checkpoint": "Manage checkpoints of containers",
    "container": "Manage containers",
    "context": "Manage contexts",
    "image": "Manage images",
    "manifest": "Manage lists of the manifests of several platforms",
    "network": "Manage networks",
    "registry": "Run a registry of images",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}
_ALONE = _words(
    "attach commit completion cp create diff doctor events exec export history images info inspect "
    "kill load login logout logs pause port ps pull push rename restart rm rmi run save search "
    "start stats stop tag top unpause update version wait"
)
# Those of them that are typed behind the name of their group too.
_ALSO_GROUPED = {
    "container": _words(
        "attach commit cp create diff exec export kill logs pause port ps rename restart rm run "
        "start stats stop top unpause update wait"
    ),
    "image": _words("history load pull push save tag"),
    "system": _words("events info"),
}
_GROUPED = {
    "checkpoint": _words("create ls rm"),
    "container": _words("execs inspect kill-exec prune"),
    "context": _words("create export inspect ls rm show update use"),
    "image": _words("diff inspect prune show verify"),
    "manifest": _words("annotate create inspect push referrers rm"),
    "network": _words("connect create disconnect inspect ls prune rm"),
    "registry": _words("gc serve"),
    "system": _words("df migrate prune"),
    "volume": _words("backup clone create inspect ls prune restore rm snapshot"),
}
# What is typed -> the module of `cli.commands` that does it.
COMMANDS = {
    **{name: name for name in _ALONE},
    **{f"{group} {name}": name for group, names in _ALSO_GROUPED.items() for name in names},
    **{f"{group} {name}": f"{group}.{name}" for group, names in _GROUPED.items() for name in names},
    "__complete": "complete",
    "checkpoint list": "checkpoint.ls",
    "checkpoint remove": "checkpoint.rm",
    "container kill-exec": "container.kill_exec",
    "container list": "ps",
    "container ls": "ps",
    "container remove": "rm",
    "context import": "context.import_",
    "context list": "context.ls",
    "context remove": "context.rm",
    "image import": "import_",
    "image list": "images",
    "image ls": "images",
    "image remove": "rmi",
    "image rm": "rmi",
    "import": "import_",
    "network list": "network.ls",
    "network remove": "network.rm",
    "system dial-stdio": "system.dial_stdio",
    "volume list": "volume.ls",
    "volume remove": "volume.rm",
}
# Docker has them; here they wait for their turn, and say so.
NOT_YET = frozenset(
    (
        *_words("build builder config node plugin secret service stack swarm"),
        "image build",
        "volume update",
    )
)

# Docker has them; here they are not to be.
LEFT_OUT = {"trust": NO_TRUST}

# Programs of their own, in docker too: the command, and the plugin that has it.
PLUGINS = {"bake": "buildx", "buildx": "buildx", "compose": "compose"}

GLOBAL_OPTIONS: tuple[flags.Row, ...] = (
    ("config", "", "string", "Directory of the client's settings", '"~/.docker"'),
    ("context", "c", "string", "Context to use (overrides DOCKER_HOST)"),
    ("debug", "D", "bool", "Show more of what goes wrong"),
    ("host", "H", "list", "Address of the daemon"),
    (
        "log-level",
        "l",
        "string",
        'Level of logging ("debug", "info", "warn", "error", "fatal")',
        '"info"',
    ),
    ("tls", "", "bool", "Use TLS; implied by --tlsverify"),
    ("tlscacert", "", "string", "CA that the daemon's certificate must be signed by"),
    ("tlscert", "", "string", "Certificate of the client"),
    ("tlskey", "", "string", "Key of the client"),
    ("tlsverify", "", "bool", "Use TLS and verify the daemon"),
    ("version", "v", "bool", "Print the version and quit"),
)


def main(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    _open_standard_streams()
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        options, rest = flags.parse(
            GLOBAL_OPTIONS, [_utf8(word) for word in arguments], interspersed=False
        )
    except flags.UsageError as error:
        return _misused("", "[OPTIONS] COMMAND [ARG...]", str(error))
    if options.flag("version"):
        from barque import __version__

        terminal.out(f"Barque version {__version__}\n")
        return 0
    level = options.text("log-level", "info")
    if level not in LOG_LEVELS:
        terminal.err(f"Unable to parse logging level: {level}\n")
        return 1
    session = Session(options)
    path, words = find(rest)
    if path in COMMANDS:
        if COMMANDS[path] in OF_FILES and words:
            words = arguments[-len(words) :]
        return _run(path, session, words, options.flag("help"))
    code = _page_of(session, path, words)
    if code is None:
        given = arguments[: len(arguments) - len(rest)]  # the global flags
        code = _of_plugin(session, given, path, words)
    return _no_command(path, words) if code is None else code


def _open_standard_streams() -> None:
    """Where one is closed, the next socket or file would take its number, and be written to."""
    for fd in (terminal.STDIN, terminal.STDOUT, terminal.STDERR):
        try:
            posix.fstat(fd)
        except OSError:
            posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)


def _utf8(word: str) -> str:
    """Text that JSON can carry, from whatever bytes the caller's locale let through."""
    if word.isascii():
        return word
    from os import fsencode

    return fsencode(word).decode("utf-8", "replace")


def find(words: list[str]) -> tuple[str, list[str]]:
    """The command that `words` begin with, and the words behind it."""
    if not words:
        return "", []
    if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-"):
        return f"{words[0]} {words[1]}", words[2:]
    return words[0], words[1:]


def _page_of(session: Session, path: str, words: list[str]) -> int | None:
    """Print the help page that is asked for; None where the words ask for something else."""
    if path == "help":
        found = find(words)[0]
        asked = not found or found in GROUPS or found in COMMANDS
        return _help(found, session) if asked else None
    if path and path not in GROUPS:
        return None
    try:
        flags.parse((), words)
    except flags.UsageError as error:
        return _misused(path, "", str(error))
    return _help(path, session)


def _of_plugin(session: Session, given: list[str], path: str, words: list[str]) -> int | None:
    """Become the plugin that has this command; None where there is none."""
    from barque.cli import plugins

    if path == "help":
        path, words = find(words)
        given = [*given, "help"]
    name, *inner = plugins.OF_BUILDX.get(path, (path,))
    try:
        if found := plugins.find(session, name):
            plugins.run(session, found, [*given, name, *inner, *words])
        return None
    except errors.BarqueError as error:
        return _failed(name, path, f"{PROGRAM}: {error}", 1)


def _no_command(path: str, words: list[str]) -> int:
    if path == "help":
        terminal.err(f"unknown help topic: {find(words)[0].split()[-1]}\n")
        return 1
    if path in PLUGINS:
        terminal.err(
            f"{PROGRAM}: '{PROGRAM} {path}' is done by docker's plugin {PLUGINS[path]}, "
            "which is not installed\n"
        )
        return 1
    if (group := path.split()[0]) in LEFT_OUT:
        terminal.err(f"{PROGRAM}: {LEFT_OUT[group]}\n")
        return 1
    if path in NOT_YET or path.split()[0] in NOT_YET:
        terminal.err(f"{PROGRAM}: '{PROGRAM} {path}' is not there yet\n")
        return 1
    group = path.rpartition(" ")[0]
    if "--help" in words or "-h" in words:
        return _help(group)
    shown = f"{PROGRAM} {group}".strip()
    usage = f"\nUsage:  {shown}\n" if group else ""
    terminal.err(
        f"{PROGRAM}: unknown command: {PROGRAM} {path}\n{usage}\n"
        f"Run '{shown} --help' for more information\n"
    )
    return 1


def _help(path: str, session: Session | None = None) -> int:
    from barque.cli import help

    terminal.out(help.page(path, session))
    return 0


def load(path: str) -> Command:
    """The module of a command."""
    module: Command = __import__(f"barque.cli.commands.{COMMANDS[path]}", fromlist=["run"])
    return module


def _run(path: str, session: Session, words: list[str], helped: bool) -> int:
    command = load(path)
    name = COMMANDS[path]
    try:
        options, arguments = flags.parse(
            command.OPTIONS, words, interspersed=name not in COMMAND_LINES
        )
        if helped or options.flag("help"):
            return _help(path)
        if refusal := _wrong_count(path, command, len(arguments)):
            terminal.err(refusal)
            return 1
        return command.run(session, options, arguments)
    except flags.UsageError as error:
        return _misused(path, command.USAGE, str(error))
    except Failure as failure:
        return _failed(name, path, str(failure), failure.code)
    except errors.BarqueError as error:
        return _failed(name, path, str(error), USAGE_EXIT if name == "run" else 1)
    except OSError as error:
        return _failed(name, path, _system_error(error), USAGE_EXIT if name == "run" else 1)


def _system_error(error: OSError) -> str:
    """A failure of our own system, not of the daemon: a full disk under stdout, no descriptors."""
    where = f"{error.filename}: " if error.filename else ""
    return where + (error.strerror or str(error)).lower()


def _failed(name: str, path: str, text: str, code: int) -> int:
    if text and name in ("run", "create") and code >= USAGE_EXIT:
        text = f"{PROGRAM}: {text}\n\nRun '{PROGRAM} {path} --help' for more information"
    if text:
        terminal.err(text + "\n")
    return code


def _misused(path: str, usage: str, text: str) -> int:
    shown = f"{PROGRAM} {path}".rstrip()
    terminal.err(
        f"{text}\n\nUsage:  {shown} {usage}".rstrip()
        + f"\n\nRun '{shown} --help' for more information\n"
    )
    return USAGE_EXIT


def _wrong_count(path: str, command: Command, count: int) -> str:
    """What is wrong with the number of arguments; "" when nothing is."""
    least, most = command.ARGUMENTS
    if least <= count and (most < 0 or count <= most):
        return ""
    shown, word = f"{PROGRAM} {path}", "See"
    if most == 0:
        need, word = "accepts no arguments", "Run"
    elif least == most:
        need, word = f"requires {_arguments(least)}", "Run"
    elif most < 0:
        need = f"requires at least {_arguments(least)}"
    elif count < least:
        need = f"requires at least {least} and at most {_arguments(most)}"
    else:
        need = f"requires at most {_arguments(most)}"
    return (
        f"{PROGRAM}: '{shown}' {need}\n\nUsage:  {shown} {command.USAGE}\n\n"
        f"{word} '{shown} --help' for more information\n"
    )


def _arguments(count: int) -> str:
    return f"{count} argument{'' if count == 1 else 's'}"
