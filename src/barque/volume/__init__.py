"""Volumes on this machine: the local driver, plugins, parts of volumes, and copies."""
