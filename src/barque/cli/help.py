"""Help pages, made from the tables that the commands are parsed with."""

from __future__ import annotations

from barque.cli import flags, main, terminal
from barque.cli.session import PROGRAM, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from barque.cli.session import Session

MIN_TEXT = 24  # columns; a narrower rest of the line is not used
ORPHAN = 5  # letters that a line may be longer, where that saves another line
COMMON = ("run", "exec", "ps", "pull", "images", "version", "info")
DEFAULT_COLUMNS = 80
TYPE_NAMES = {"bool": "", "bytes-or-unlimited": "bytes"}
HIDDEN_NAMES = ("list", "remove", "ps", "dial-stdio")  # second names, and what people do not type
ABOUT = "The Docker Engine stack, whole, in Python"


def page(path: str, session: Session | None = None) -> str:
    """The page of a command, of a group of commands, or with "" of the program.

    With a session the program's page has the user's plugins too.
    """
    if path in main.COMMANDS:
        return _command(path)
    if path in main.GROUPS:
        return _group(path)
    return _program(_of_plugins(session) if session else [])


def columns() -> int:
    return terminal.size(terminal.STDOUT)[1] or DEFAULT_COLUMNS


def _command(path: str) -> str:
    command = main.load(path)
    text = f"Usage:  {PROGRAM} {path} {command.USAGE}\n\n{command.SUMMARY}\n"
    if command.ALIASES:
        names = ", ".join(f"{PROGRAM} {name}" for name in command.ALIASES)
        text += f"\nAliases:\n  {names}\n"
    if rows := [row for row in command.OPTIONS if row[3] != flags.HIDDEN]:
        if any(row[1] == "h" for row in rows):
            rows = sorted([*rows, flags.HELP])
        text += "\nOptions:\n" + options(rows, columns() - 1)
    return text


def options(rows: Iterable[flags.Row], width: int) -> str:
    """The lines of a table of flags, the descriptions wrapped beside the names."""
    entries = []
    for row in rows:
        short = f"-{row[1]}, " if row[1] else "    "
        kind = TYPE_NAMES.get(row[2], row[2])
        name = f"  {short}--{row[0]}" + (f" {kind}" if kind else "")
        default = f" (default {row[4]})" if len(row) > 4 else ""
        entries.append((name, row[3] + default))
    column = max(len(name) for name, _ in entries) + 3
    return "".join(
        name.ljust(column) + ("\n" + " " * column).join(wrapped(text, width - column)) + "\n"
        for name, text in entries
    )


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`, except where a short word would stand alone."""
    if width < MIN_TEXT:
        return [text]
    lines, limit = [], width - ORPHAN
    while len(text) > width:
        cut = text.rfind(" ", 0, limit)
        if cut <= 0:
            break
        lines.append(text[:cut])
        text = text[cut + 1 :]
    return [*lines, text]


def _group(path: str) -> str:
    names = sorted(
        {name.split()[1]: name for name in main.COMMANDS if name.startswith(f"{path} ")}.items()
    )
    shown = [(short, name) for short, name in names if short not in HIDDEN_NAMES]
    return (
        f"Usage:  {PROGRAM} {path} COMMAND\n\n{main.GROUPS[path]}\n\nCommands:\n"
        + _listed((short, main.load(name).SUMMARY) for short, name in shown)
        + f"\nRun '{PROGRAM} {path} COMMAND --help' for more information on a command.\n"
    )


def _listed(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f"  {name:<11} {text}\n" for name, text in entries)


def _of_plugins(session: Session) -> list[tuple[str, str]]:
    """Docker marks what is another program's with a star."""
    from barque.cli import plugins

    builtin = {name.split()[0] for name in main.COMMANDS}
    return [
        (f"{plugin.name}*", plugin.summary)
        for plugin in plugins.all_of(session, builtin)
        if not plugin.error and not plugin.metadata.get("Hidden")
    ]


def _program(of_plugins: list[tuple[str, str]]) -> str:
    names = sorted(name for name in main.COMMANDS if " " not in name and name not in COMMON)
    names.remove("__complete")
    if variable("DOCKER_HIDE_LEGACY_COMMANDS"):
        grouped = {module for path, module in main.COMMANDS.items() if " " in path}
        names = [name for name in names if main.COMMANDS[name] not in grouped]
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n{ABOUT}\n\nCommon Commands:\n"
        + _listed((name, main.load(name).SUMMARY) for name in COMMON)
        + "\nManagement Commands:\n"
        + _listed(sorted([*main.GROUPS.items(), *of_plugins]))
        + "\nCommands:\n"
        + _listed((name, main.load(name).SUMMARY) for name in names)
        + "\nGlobal Options:\n"
        + options(main.GLOBAL_OPTIONS, columns() - 1)
        + f"\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )
