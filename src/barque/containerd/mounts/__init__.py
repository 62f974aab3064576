"""Mounts that the server makes for its clients, and remembers."""
