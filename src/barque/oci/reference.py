"""Image references: `[domain[:port]/]path[:tag][@digest]`, familiar and full.

Source: distribution/reference (the grammar of Docker and containerd). People write familiar names
("busybox"), stores keep full ones ("docker.io/library/busybox:latest").

    reference  := name [":" tag] ["@" digest]
    name       := [domain "/"] path
    domain     := host [":" port]            host: names, dots, hyphens, or a bracketed IPv6 address
    path       := part *("/" part)           part: [a-z0-9]+ joined by ".", "_", "__" or hyphens
    tag        := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

A reference that was parsed holds no `..`, no empty part and no white space. No `re`: the hot
programs load this module.
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.oci import digest as digests

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
PATH_LENGTH_MAX = 255
TAG_LENGTH_MAX = 128
INVALID = "invalid reference format"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_TAG_FIRST = _ALNUM | {"_"}
_TAG_REST = _TAG_FIRST | {".", "-"}
_HOST_REST = _ALNUM | {"-"}
_IPV6 = frozenset("0123456789abcdefABCDEF:")
_SEPARATORS = frozenset("._-")


class Reference:
    """A parsed reference, always with its domain; `tag` and `digest` are "" when absent."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """Without tag and digest: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As people write it, without tag and digest: `busybox`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(OFFICIAL_PREFIX)
        # "library/a/b" and "library/x.io" written without the prefix would mean something else.
        return self.path if "/" in rest else rest

    @property
    def full(self) -> str:
        """`docker.io/library/busybox:latest`, as containerd names images."""
        return self.name + self._suffix()

    @property
    def familiar(self) -> str:
        """`busybox:latest`, as `docker` prints it."""
        return self.familiar_name + self._suffix()

    def with_default_tag(self) -> Reference:
        """This reference, tagged `latest` if it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.full == other.full

    def __hash__(self) -> int:
        return hash(self.full)

    def __repr__(self) -> str:
        return f"Reference({self.full!r})"


def parse(text: str) -> Reference:
    """The reference that `text`, familiar or full, stands for; no default tag is added.

    Raises InvalidArgument, in Docker's words.
    """
    if len(text) == 64 and digests.HEX_DIGITS.issuperset(text):
        raise InvalidArgument(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    rest, at, digest = text.partition("@")
    if at and not digests.is_valid(digest):
        raise InvalidArgument(INVALID)
    domain, remainder = _split_domain(rest)
    path, colon, tag = remainder.partition(":")
    if path != path.lower():
        raise InvalidArgument(f"{INVALID}: repository name ({path}) must be lowercase")
    if not (_is_domain(domain) and _is_path(path) and (not colon or is_tag(tag))):
        raise InvalidArgument(INVALID)
    if len(path) > PATH_LENGTH_MAX:
        raise InvalidArgument(f"repository name must not be more than {PATH_LENGTH_MAX} characters")
    return Reference(domain, path, tag, digest)


def is_tag(text: str) -> bool:
    return 0 < len(text) <= TAG_LENGTH_MAX and text[0] in _TAG_FIRST and _TAG_REST.issuperset(text)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and (
        first == "localhost" or "." in first or ":" in first or first != first.lower()
    )
    domain, remainder = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder


def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        address, bracket, port = domain[1:].partition("]")
        if not bracket or not address or not _IPV6.issuperset(address):
            return False
        return not port or (port[0] == ":" and _is_port(port[1:]))
    host, colon, port = domain.partition(":")
    if colon and not _is_port(port):
        return False
    return all(_is_host_part(part) for part in host.split("."))


def _is_port(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text)


def _is_host_part(part: str) -> bool:
    return bool(part) and part[0] in _ALNUM and part[-1] in _ALNUM and _HOST_REST.issuperset(part)


def _is_path(path: str) -> bool:
    return all(_is_path_part(part) for part in path.split("/"))


def _is_path_part(part: str) -> bool:
    """Runs of [a-z0-9] with one separator between them: ".", "_", "__" or any number of "-"."""
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER:
        return False
    separator = ""
    for character in part:
        if character in _SEPARATORS:
            separator += character
        elif character not in _LOWER:
            return False
        else:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
    return True
