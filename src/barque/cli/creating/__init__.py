"""Flags of `run` and `create` that need more than a table, one topic a module."""
