"""Image references as people write them. Source: the distribution project's reference grammar."""

from __future__ import annotations

from barque import errors

HUB = "docker.io"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-/")
_TAG = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_HEX = frozenset("0123456789abcdefABCDEF")
MAX_TAG = 128
MIN_DIGITS = 32


class Reference:
    """`registry/repository:tag@digest`, the registry and a Hub image's `library/` filled in."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, text: str) -> None:
        """Raises InvalidArgument."""
        name, _, self.digest = text.partition("@")
        head, colon, tail = name.rpartition(":")
        if colon and "/" not in tail:
            name, self.tag = head, tail
        else:
            self.tag = ""
        first, slash, rest = name.partition("/")
        if slash and (
            "." in first or ":" in first or first == "localhost" or first != first.lower()
        ):
            self.registry, self.repository = first, rest
        else:
            self.registry, self.repository = HUB, name
        if self.registry in (HUB, "index.docker.io"):
            self.registry = HUB
            if "/" not in self.repository:
                self.repository = f"library/{self.repository}"
        self._check(text, bool(colon and "/" not in tail))

    def _check(self, text: str, tagged: bool) -> None:
        bare = self.repository.removeprefix("library/")
        if bare != bare.lower():
            raise errors.InvalidArgument(
                f"invalid reference format: repository name ({self.repository}) must be lowercase"
            )
        bad_name = not bare or not set(bare) <= _NAME or bare[0] in "._-/" or bare[-1] in "._-/"
        bad_tag = tagged and (
            not self.tag
            or not set(self.tag) <= _TAG
            or self.tag[0] in ".-"
            or len(self.tag) > MAX_TAG
        )
        digits = self.digest.partition(":")[2]
        bad_digest = "@" in text and (len(digits) < MIN_DIGITS or not set(digits) <= _HEX)
        if bad_name or bad_tag or bad_digest or "//" in bare:
            raise errors.InvalidArgument("invalid reference format")

    @property
    def familiar_name(self) -> str:
        """Without what is filled in."""
        if self.registry == HUB:
            return self.repository.removeprefix("library/")
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.familiar_name + tag + (f"@{self.digest}" if self.digest else "")

    @property
    def full(self) -> str:
        """With everything filled in but the tag: "docker.io/library/busybox:latest"."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def familiar(text: str) -> str:
    """With the tag that is meant: "busybox" is "busybox:latest"."""
    reference = Reference(text)
    if not reference.tag and not reference.digest:
        reference.tag = "latest"
    return reference.familiar
