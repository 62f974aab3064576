"""What may stand at the cursor of a half-typed command line, for the shells' own completion.

The candidates come from the same tables as the parser and the help pages, names of objects from
the daemon; where it does not answer there are none. The shell completes file names where told so.
"""

from __future__ import annotations

from barque import errors
from barque.cli import flags, main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from barque.cli.session import Session

    Candidates = Iterator[tuple[str, str]]  # word, description

FILES = "files"  # the shell's own completion of paths takes over
NOTHING = "nothing"
HIDDEN = ("dial-stdio", "__complete")

# What a command works on, where not every container is meant.
STATES = {
    "start": ("created", "exited"),
    "restart": (),
    **dict.fromkeys(("stop", "kill", "attach"), ("running", "paused")),
    **dict.fromkeys(("exec", "pause", "top"), ("running",)),
    "unpause": ("paused",),
}
# Flags whose value is the name of an object.
FLAG_KINDS = {
    "network": "NETWORK",
    "volumes-from": "CONTAINER",
    "link": "CONTAINER",
    "context": "CONTEXT",
    "from": "CONTEXT",
}
FLAG_WORDS = {
    "restart": ("no", "always", "on-failure", "unless-stopped"),
    "pull": ("always", "missing", "never"),
    "log-level": main.LOG_LEVELS[:5],
    "log-driver": ("json-file", "local", "none"),
    "cgroupns": ("host", "private"),
    "ipc": ("host", "none", "private", "shareable"),
    "pid": ("host",),
    "uts": ("host",),
    "userns": ("host",),
    "detach-keys": ("ctrl-p,ctrl-q",),
}


def complete(session: Session, words: Sequence[str]) -> tuple[list[tuple[str, str]], str]:
    """Candidates for the last of `words`, and whether the shell shall offer files as well."""
    found = ""
    *before, current = list(words) or [""]
    session = _session(before) or session
    before, pending = _skip_flags(main.GLOBAL_OPTIONS, before)
    if pending is not None:
        return _matching(_values(session, pending), current), _kind_of_value(pending)
    if before:
        found, before = main.find(before)
        if found in main.GROUPS and before:
            return [], NOTHING
    if found not in main.COMMANDS:
        words_there = (*_words(found, current), *(() if found else _plugins(session)))
        return _matching(iter(words_there), current), NOTHING
    return _argument(session, found, before, current)


def _session(words: list[str]) -> Session | None:
    """That of the half-typed line: it may name another daemon."""
    from barque.cli.session import Session

    try:
        options, _ = flags.parse(main.GLOBAL_OPTIONS, words, interspersed=False)
    except flags.UsageError:
        return None
    return Session(options)


def _argument(
    session: Session, path: str, before: list[str], current: str
) -> tuple[list[tuple[str, str]], str]:
    command = main.load(path)
    name = main.COMMANDS[path]
    positional, pending = _skip_flags(
        command.OPTIONS, before, interspersed=name not in main.COMMAND_LINES
    )
    if pending is not None:
        return _matching(_values(session, pending), current), _kind_of_value(pending)
    inside = name in main.COMMAND_LINES and positional  # another program's command line
    if current.startswith("-") and not inside:
        return _matching(_flag_names(command.OPTIONS), current), NOTHING
    kind = _kind(command.USAGE, len(positional))
    if kind in SOURCES:
        objects = _objects(session, kind, name)
        return [one for one in _matching(objects, current) if one[0] not in positional], NOTHING
    return [], FILES if kind else NOTHING


def _words(found: str, current: str) -> Candidates:
    """Commands, or those of a group, or global flags."""
    if current.startswith("-") and not found:
        yield from _flag_names(main.GLOBAL_OPTIONS)
        return
    prefix = f"{found} " if found else ""
    for path in main.COMMANDS:
        short = path.removeprefix(prefix)
        if path.startswith(prefix) and " " not in short and short not in HIDDEN:
            yield short, main.load(path).SUMMARY
    if not found:
        yield from main.GROUPS.items()


def _plugins(session: Session) -> Candidates:
    from barque.cli import plugins

    for plugin in plugins.all_of(session, {name.split()[0] for name in main.COMMANDS}):
        if not plugin.error and not plugin.metadata.get("Hidden"):
            yield plugin.name, plugin.summary


def _skip_flags(
    rows: Sequence[flags.Row], words: list[str], interspersed: bool = False
) -> tuple[list[str], flags.Row | None]:
    """The words that are no flags, and the flag that still wants its value."""
    known = {f"--{row[0]}": row for row in rows} | {f"-{row[1]}": row for row in rows if row[1]}
    left: list[str] = []
    pending: flags.Row | None = None
    for index, word in enumerate(words):
        if pending is not None:
            pending = None
        elif word.startswith("-") and word != "-":
            row = known.get(word)
            pending = row if row is not None and row[2] != "bool" else None
        elif interspersed:
            left.append(word)
        else:
            return words[index:], None
    return left, pending


def _kind(usage: str, position: int) -> str:
    """What the argument at `position` is, as the usage line names it; "" for no such argument."""
    words = [word for word in usage.split() if word != "[OPTIONS]"]
    if position < len(words):
        return words[position].strip("[].").partition("[")[0].partition("|")[0]
    repeated = words and words[-1].rstrip("]").endswith("...")
    return words[-1].strip("[].") if repeated else ""


def _kind_of_value(row: flags.Row) -> str:
    return NOTHING if row[0] in FLAG_KINDS or row[0] in FLAG_WORDS else FILES


def _values(session: Session, row: flags.Row) -> Candidates:
    if row[0] in FLAG_KINDS:
        yield from _objects(session, FLAG_KINDS[row[0]], "")
    for word in FLAG_WORDS.get(row[0], ()):
        yield word, ""


def _flag_names(rows: Sequence[flags.Row]) -> Candidates:
    for row in (*rows, flags.HELP):
        if row[3] != flags.HIDDEN:
            yield f"--{row[0]}", row[3]


def _matching(candidates: Candidates, current: str) -> list[tuple[str, str]]:
    return sorted({word: text for word, text in candidates if word.startswith(current)}.items())


def _objects(session: Session, kind: str, command: str) -> Candidates:
    """Names from the daemon; none when it cannot be asked."""
    try:
        yield from SOURCES[kind](session, command)
    except (errors.BarqueError, OSError):
        return


def _containers(session: Session, command: str) -> Candidates:
    states = STATES.get(command, ())
    for found in session.client.containers.list(all=True):
        if not states or found["State"] in states:
            for name in found["Names"] or [found["Id"][:12]]:
                yield name.removeprefix("/"), f"{found['Image']}, {found['Status']}"


def _images(session: Session, command: str) -> Candidates:
    for found in session.client.images.list():
        for name in found["RepoTags"] or [found["Id"].removeprefix("sha256:")[:12]]:
            yield name.removesuffix(":latest"), ""
            yield name, ""


def _networks(session: Session, command: str) -> Candidates:
    for found in session.client.networks.list():
        yield found["Name"], found["Driver"]


def _volumes(session: Session, command: str) -> Candidates:
    for found in session.client.volumes.list()["Volumes"] or []:
        yield found["Name"], found["Driver"]


def _contexts(session: Session, command: str) -> Candidates:
    from barque.cli.contexts.store import Contexts, description_of

    yield "default", ""
    for found in Contexts(session.config_directory).list():
        yield found["Name"], description_of(found)


def _any(session: Session, command: str) -> Candidates:
    yield from _containers(session, command)
    yield from _images(session, command)


SOURCES: dict[str, Callable[[Any, str], Candidates]] = {
    "CONTAINER": _containers,
    "IMAGE": _images,
    "SOURCE_IMAGE": _images,
    "TARGET_IMAGE": _images,
    "REPOSITORY": _images,
    "NAME": _any,
    "NETWORK": _networks,
    "VOLUME": _volumes,
    "CONTEXT": _contexts,
}
