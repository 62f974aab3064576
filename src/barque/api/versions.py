"""The versions of the Engine API that this engine speaks, and where it listens."""

API_VERSION = "1.55"
MIN_API_VERSION = "1.24"
PRUNE_ANONYMOUS = "1.42"  # before this version a prune of volumes meant every unused one
DEFAULT_SOCKET = "/run/barque/barque.sock"
ON_DEMAND_LOG = "/run/barque/barqued.log"  # what a daemon started by the command tells
DEFAULT_HOST = "unix://" + DEFAULT_SOCKET


def version_tuple(text: str) -> tuple[int, int]:
    """ "1.41" as (1, 41), to compare. Raises ValueError for anything else."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)
