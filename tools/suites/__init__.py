"""The peers' own test suites, on the peers and on ours: `python -m tools.suites`."""
