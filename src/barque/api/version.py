"""The versions of the Engine API that Barque speaks."""

MIN_VERSION = (1, 24)
MAX_VERSION = (1, 51)


def parse_version(text: str) -> tuple[int, int] | None:
    """`1.41` as (1, 41); None for anything else."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit() and len(text) < 16 and text.isascii()):
        return None
    return int(major), int(minor)


def render_version(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
