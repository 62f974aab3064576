"""`barque commit`: an image from what a container changed."""

from __future__ import annotations

from barque.cli import terminal
from barque.cli.references import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]"
SUMMARY = "Make an image of a container's changes"
ALIASES = ("container commit", "commit")
OPTIONS: tuple[Row, ...] = (
    ("author", "a", "string", 'Author (e.g., "Jane Doe <jane@example.com>")'),
    ("change", "c", "list", "Apply this Dockerfile instruction to the image"),
    ("message", "m", "string", "Message in the history of the image"),
    ("no-pause", "", "bool", "Do not pause the container meanwhile"),
    ("pause", "p", "bool", "Pause the container meanwhile", "true"),
)
ARGUMENTS = (1, 2)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    repository = tag = ""
    if len(arguments) > 1:
        reference = Reference(arguments[1])
        repository, tag = reference.familiar_name, reference.digest or reference.tag
    done = session.client.containers.commit(
        arguments[0],
        repository=repository,
        tag=tag,
        author=options.text("author"),
        comment=options.text("message"),
        changes=options.all("change"),
        pause=options.flag("pause", True) and not options.flag("no-pause"),
    )
    terminal.out(f"{done['Id']}\n")
    return 0
