"""`barque manifest annotate`: which platform a manifest of a list is for."""

from __future__ import annotations

from barque import errors
from barque.cli.manifest_lists import Lists, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS] MANIFEST_LIST MANIFEST"
SUMMARY = "Say which platform a manifest of a list is for"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("arch", "", "string", "Architecture"),
    ("os", "", "string", "Operating system"),
    ("os-features", "", "list", "Features of the operating system"),
    ("os-version", "", "string", "Version of the operating system"),
    ("variant", "", "string", "Variant of the architecture"),
)
ARGUMENTS = (2, 2)
MEMBERS = (
    ("arch", "architecture"),
    ("os", "os"),
    ("os-version", "os.version"),
    ("variant", "variant"),
)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    name, one = parse(arguments[0]), parse(arguments[1])
    lists = Lists(session.config_directory)
    try:
        document = lists.get(name, one)
    except errors.NotFound:
        raise errors.NotFound(
            f"manifest for image {arguments[1]} does not exist in {arguments[0]}"
        ) from None
    platform = dict(document["Descriptor"].get("platform") or {})
    for option, member in MEMBERS:
        if options.text(option):
            platform[member] = options.text(option)
    known = platform.get("os.features") or []
    added = [word for text in options.all("os-features") for word in text.split(",")]
    if added:
        platform["os.features"] = [*dict.fromkeys([*known, *added])]
    document["Descriptor"]["platform"] = platform
    lists.put(name, one, document)
    return 0
