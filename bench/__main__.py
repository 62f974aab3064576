"""`make bench`: every benchmark, or those named: `python -m bench run runtime`."""

import importlib
import sys

from bench.measure import heading

NAMES = (
    "run",
    "runtime",
    "containerd",
    "stores",
    "network",
    "network_peer",
    "logs",
    "engine",
    "images",
)


def main(names: list[str]) -> int:
    """Print the figures as they come; 1 when a bound was missed."""
    missed = 0
    for name in names or NAMES:
        print(f"\n{name}\n{heading()}", flush=True)
        for figure in importlib.import_module(f"bench.{name}").figures():
            print(figure.line(), flush=True)
            missed += not figure.good
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
