"""Layers: archives applied onto a directory, and made from two."""
