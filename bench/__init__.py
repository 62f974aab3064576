"""Benchmarks: Barque and the installed peers on the same machine in the same run."""
