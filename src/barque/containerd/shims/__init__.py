"""Shims: bundles on disk, the processes that hold tasks, and the connections to them."""
