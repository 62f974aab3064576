"""A command a module, found by its words: USAGE, SUMMARY, ALIASES, OPTIONS, ARGUMENTS and `run`.

`barque pull` is `pull.py`, `barque network create` is `network/create.py`. What has a short and a
long name, as `barque image pull`, is at the short one; its ALIASES have both.
"""
