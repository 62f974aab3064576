"""Contexts: which daemon a command speaks to, by name, in docker's own store of them."""
